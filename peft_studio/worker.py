"""Runs one run: ``python -m peft_studio.worker RUN_DIR``, started cold or forked from the warm server; or
``--after-check``, which first says whether a config's model can be loaded, and then takes the rest by standard input.

Two processes. The *supervisor* claims the run, forks the *worker*, waits, and writes down how it ended, even of a
worker killed by signal 9 while no app lives. The worker trains; only it loads heavy libraries.
"""

import argparse
import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

import psutil

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import (
    ConfigError,
    OutOfMemoryError,
    StorageError,
    StudioError,
    SupervisorLostError,
    TrainingError,
    unforeseen,
)
from peft_studio.files import read_json, write_privately
from peft_studio.machine.devices import VISIBLE, restrict
from peft_studio.machine.limits import NICENESS, give_way
from peft_studio.machine.memory import be_first_to_go, oom_kills
from peft_studio.machine.path_policy import use_home
from peft_studio.runs.claims import RESERVE_BYTES, claim_run, reserve, use_reserve, write_exit
from peft_studio.runs.event_log import last_event
from peft_studio.runs.events import EventWriter, Kind
from peft_studio.runs.out_of_memory import is_low_memory, log_says_low_memory, low_memory_message, told_sizes
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.redact import redact
from peft_studio.runs.status import ENDS
from peft_studio.tasks.kept_rows import use_folder

ORPHAN_GRACE = 20.0  # seconds that a worker without a supervisor has to notice it by itself
ALREADY_CLAIMED = 3  # exit code of a supervisor that found the run taken, deleted or called off


class Train(Protocol):
    """What a worker calls: ``peft_studio.training.trainer.run``."""

    def __call__(
        self,
        *,
        resolved: ResolvedRun,
        paths: RunPaths,
        emit: Callable[..., None],
        should_stop: Callable[[], str],
        threads: int,
    ) -> None: ...


class _Terminated(BaseException):
    """SIGTERM arrived; not an Exception, so that no library swallows it."""


class _Worker:
    """One training run inside the worker process."""

    def __init__(self, paths: RunPaths, supervisor: int) -> None:
        self.paths = paths
        self._supervisor = supervisor
        self._events = EventWriter(paths.events)
        self._end_torn_line()  # of a worker that was killed before this one
        self._last_kind = ""
        self._step = 0
        self._began = time.monotonic()

    def run(self, train: Train, threads: int, placed: bool) -> int:
        """Trains and turns every way of ending into a last event; returns the exit code."""
        try:
            self._train(train, threads, placed)
        except _Terminated:
            return self._end_by_signal()
        except BaseException as exc:
            self._fail(exc)
            return 1
        return 0

    def _train(self, train: Train, threads: int, placed: bool) -> None:
        record = read_json(self.paths.config)
        if record is None:
            raise ConfigError(f"{self.paths.config} is damaged: it is not a JSON object.")
        resolved = resolve(parse_config(record.get("config")))
        if not placed:
            restrict(resolved.config.resources.device, os.environ)
        train(resolved=resolved, paths=self.paths, emit=self.emit, should_stop=self.should_stop, threads=threads)
        if self._last_kind not in ("finished", "stopped", "paused"):
            raise TrainingError("Training ended without saying whether it finished, was stopped or was paused.")

    def emit(self, kind: Kind, **fields: Any) -> None:
        """Appends an event; says for ``started`` which process this is."""
        if kind == "started":
            fields = {"pid": os.getpid(), "process_start": psutil.Process().create_time(), **fields}
        elif kind == "step":
            self._step = fields.get("step", self._step)
        self._events.emit(kind, **fields)
        self._last_kind = kind

    def should_stop(self) -> str:
        """What someone asked the run to do: "stop", "pause" or nothing; polled at every step.

        Raises:
            SupervisorLostError: The supervisor has gone, so nobody would learn how this run ends.
        """
        if os.getppid() != self._supervisor:
            raise SupervisorLostError(
                f"The run's supervisor (process {self._supervisor}) was killed, "
                f"so training ended after step {self._step}."
            )
        if self.paths.stop.exists():
            return "stop"
        return "pause" if self.paths.pause.exists() else ""

    def on_terminate(self, _signal: int, _frame: FrameType | None) -> NoReturn:
        """Handler of SIGTERM."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the last words
        raise _Terminated

    def exit_if_orphaned(self) -> None:
        """Body of a watching thread: ends a worker whose supervisor has gone and that does not poll."""
        while os.getppid() == self._supervisor:
            time.sleep(1.0)
        time.sleep(ORPHAN_GRACE)
        os._exit(1)

    def _end_by_signal(self) -> int:
        paused = self.paths.pause.exists() and self.paths.checkpoint.exists()
        if self.paths.stop.exists() or paused:
            summary = {"seconds": round(time.monotonic() - self._began, 2)}
            with contextlib.suppress(OSError):
                self.emit("stopped" if self.paths.stop.exists() else "paused", step=self._step, summary=summary)
            print("Ended by a signal: it did not react to the request in time.", flush=True)
            return 0
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return 1

    def _fail(self, exc: BaseException) -> None:
        error, message = describe_failure(exc, self.paths)
        with contextlib.suppress(OSError):
            print(redact("".join(traceback.format_exception(exc))), file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            use_reserve(self.paths, keep=RESERVE_BYTES // 2)
            self._end_torn_line()
        with contextlib.suppress(OSError):  # in a folder that became read-only the open log can still be written
            self._events.emit("failed", error=error, message=redact(message))

    def _end_torn_line(self) -> None:
        """A disk that filled up in the middle of an event leaves half a line, which must not swallow the next."""
        with self.paths.events.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            if end and file.read(1) != b"\n":
                file.write(b"\n")


def describe_failure(exc: BaseException, paths: RunPaths | None = None) -> tuple[str, str]:
    """What to tell of an exception: its class name for programs, and a sentence for people.

    ``paths`` are the run's, whose sizes are told when memory ran out.
    """
    text = str(exc)
    if is_low_memory(exc):
        return OutOfMemoryError.__name__, low_memory_message(text, told_sizes(paths) if paths else "")
    if isinstance(exc, StudioError):
        return type(exc).__name__, text
    no_space = isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
    if no_space or "No space left on device" in text:  # the second is how safetensors says it
        where = f" while writing {exc.filename}" if isinstance(exc, OSError) and exc.filename else ""
        told = f"The disk is full{where}. All steps up to here are kept. Free some space and run it again."
        return StorageError.__name__, told
    if isinstance(exc, KeyboardInterrupt):
        return TrainingError.__name__, "Interrupted from the keyboard."
    return type(exc).__name__, unforeseen(exc)


def supervise(paths: RunPaths, train: Train, threads: int, by: str = "app", gpus: Sequence[str] | None = None) -> int:
    """Claims a run, runs it in a child process and records how that ended.

    Args:
        paths: The run.
        train: What the child calls.
        threads: CPU threads for training.
        by: Who started this, for the reader of ``claim.json``.
        gpus: UUIDs of the only GPUs that the child may use; None leaves it those that the config asks for.

    Returns:
        0 when the run was worked on, whatever came of it; ``ALREADY_CLAIMED`` when it was not ours to run.

    Raises:
        StorageError: The disk is too full for the claim or the record.
    """
    if paths.stop.exists() and not paths.claim.exists():
        print(f"{paths.id} was stopped before it started.", flush=True)
        return ALREADY_CLAIMED
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the worker ends by them; this process stays to record it
    if gpus is not None:
        os.environ[VISIBLE] = ",".join(gpus)
    if not claim_run(paths, by, gpus=gpus):
        print(f"{paths.id} is claimed by another process or deleted.", flush=True)
        return ALREADY_CLAIMED
    reserve(paths)
    give_way(NICENESS)
    supervisor, kills, start = os.getpid(), oom_kills(), paths.log.stat().st_size if paths.log.exists() else 0
    pid = os.fork()
    if pid == 0:
        _run_worker(paths, train, threads, supervisor, placed=gpus is not None)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0 and log_says_low_memory(paths.log, start):
        code = _tell_low_memory(paths, code)
    killed = code == -signal.SIGKILL and oom_kills() > kills
    write_exit(paths, code=None if code < 0 else code, signal=-code if code < 0 else None, out_of_memory=killed)
    return 0


def _tell_low_memory(paths: RunPaths, code: int) -> int:
    """Says for a worker that a library ended at once, without an exception, what its log says; its exit code."""
    if (last_event(paths.events) or {}).get("kind") not in ENDS:
        with contextlib.suppress(OSError):
            writer = EventWriter(paths.events)
            writer.emit("failed", error=OutOfMemoryError.__name__, message=low_memory_message())
            writer.close()
            return 1
    return code


def _run_worker(paths: RunPaths, train: Train, threads: int, supervisor: int, placed: bool) -> NoReturn:
    """The child's whole life; leaves with ``os._exit``, so that nothing of the supervisor's runs twice."""
    code = 1
    try:
        be_first_to_go()
        worker = _Worker(paths, supervisor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, worker.on_terminate)
        threading.Thread(target=worker.exit_if_orphaned, daemon=True).start()
        code = worker.run(train, threads, placed)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _train_for_real(**kwargs: object) -> None:
    importlib.import_module("peft_studio.training.trainer").run(**kwargs)


def _after_check() -> list[str]:
    """Says whether a config's model can be loaded; the arguments of its run, none when nothing came of it."""
    loadable = importlib.import_module("peft_studio.training.estimates.loadable")
    print(json.dumps(loadable.answer(sys.stdin.readline())), flush=True)
    request = json.loads(sys.stdin.readline() or '{"log": "/dev/null", "args": []}')
    with Path(request["log"]).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return list(request["args"])


def main(argv: Sequence[str] | None = None, train: Train = _train_for_real) -> int:
    """The command line; ``train`` is what does the work."""
    if argv is None and sys.argv[1:] == ["--after-check"] and not (argv := _after_check()):
        return 0
    parser = argparse.ArgumentParser(prog="python -m peft_studio.worker", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="folder of the run, as made by RunStore.create")
    parser.add_argument("--threads", type=int, default=max(1, min(2, os.cpu_count() or 1)))
    parser.add_argument("--by", default="app", help="who starts it, for claim.json")
    parser.add_argument("--gpus", help="UUIDs of the GPUs it may use, with commas between")
    parser.add_argument("--public", action="store_true", help="read only files that visitors brought")
    options = parser.parse_args(argv)
    write_privately()
    gpus = None if options.gpus is None else list(filter(None, options.gpus.split(",")))
    folder = options.run_dir.resolve()
    use_folder(folder.parents[1] / "cache")
    use_home(folder.parents[1], options.public)
    return supervise(RunPaths(folder), train, options.threads, options.by, gpus)


if __name__ == "__main__":
    sys.exit(main())
