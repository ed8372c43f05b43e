"""The warm server: a single-threaded process with the heavy libraries loaded, which forks every worker and the engine.

``python -m peft_studio.warm --fd N`` speaks JSON lines over an inherited socket. It first says
``{"ready": true, ...}``, then answers each request ``{"module": name, "args": [...], "log": path}`` with
``{"pid": n}`` or ``{"error": words}``. The forked child runs the module as ``python -m`` would, in a session of its
own, its output going to the log. When the socket closes (the app has gone, however it went) the server exits; its
children live on.
"""

import argparse
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import FrameType
from typing import Any, NoReturn

PRELOAD = (
    "torch",
    "transformers",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "peft",
    "safetensors.torch",
    "peft_studio.config.run_config",
    "peft_studio.runs.store",
    "peft_studio.training",
)


def preload(names: Iterable[str]) -> list[str]:
    """Imports modules, a package of ours with everything below it.

    Returns:
        The names that failed. That is no reason to end: what a worker really needs, it imports again and reports.
    """
    failed = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        if name.startswith("peft_studio.") and hasattr(module, "__path__"):
            failed += preload(f"{name}.{item.name}" for item in pkgutil.iter_modules(module.__path__))
    return failed


def prepare() -> list[Callable[[], object]]:
    """Makes the built-in tasks' training rows and rehearses a start: forked workers then have all that at hand.

    Returns:
        What can wait for an idle moment, in small parts: other rows of the first task, which a run counts at once.
    """
    tasks = importlib.import_module("peft_studio.tasks")
    built_in = [task for task in tasks.TASKS.values() if not task.reads_library]
    for task in built_in:
        task.load("train")
    try:
        importlib.import_module("peft_studio.training.warmup").rehearse()
    except Exception:  # a worker meets the same fault and reports it
        traceback.print_exc()
    return [partial(built_in[0].load, split) for split in ("validation", "test")]


def serve(control: socket.socket, spare: Sequence[Callable[[], object]] = ()) -> None:
    """Answers requests until the other end of the socket closes; does ``spare`` work while none is there."""
    signal.signal(signal.SIGCHLD, _reap)
    left = list(spare)
    with control.makefile("rb") as requests:
        while True:
            while left and not select.select([control], [], [], 0)[0]:  # whoever asks waits for the answer
                left.pop(0)()
                if not left:
                    gc.freeze()
            if not (line := requests.readline()):
                return
            control.sendall(json.dumps(_answer(line, control)).encode() + b"\n")


def _answer(line: bytes, control: socket.socket) -> dict[str, Any]:
    try:
        request = json.loads(line)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return {"error": f"{type(exc).__name__}: {exc}"}
    try:
        pid = os.fork()
    except OSError as exc:
        os.close(log)
        return {"error": f"No new process could be started: {exc.strerror}."}
    if pid == 0:
        _become(request["module"], request["args"], log, control)
    os.close(log)
    return {"pid": pid}


def _become(module: str, args: Sequence[str], log: int, control: socket.socket) -> NoReturn:
    """Turns the forked child into ``python -m module args``; leaves with ``os._exit``, never up the server's stack."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.close(control.detach())
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(log)
        sys.argv = [module, *args]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if exc.code is not None and not isinstance(exc.code, int):
            print(exc.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(_signal: int, _frame: FrameType | None) -> None:
    """Takes note of children that ended, so that none stays a zombie."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def main(argv: Sequence[str] | None = None) -> int:
    """Loads the libraries, says so, and serves."""
    parser = argparse.ArgumentParser(prog="python -m peft_studio.warm", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="inherited socket that requests come from")
    parser.add_argument("--preload", default=",".join(PRELOAD), help="modules to load, with commas between")
    options = parser.parse_args(argv)
    control = socket.socket(fileno=options.fd)
    began = time.monotonic()
    failed = preload(name for name in options.preload.split(",") if name)
    spare = prepare() if "peft_studio.training" in options.preload else []
    gc.collect()
    gc.freeze()  # a later collection in a child would write to, and so copy, pages that all share
    ready = {"ready": True, "seconds": round(time.monotonic() - began, 3), "failed": failed}
    try:
        control.sendall(json.dumps(ready).encode() + b"\n")
        serve(control, spare)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the app has gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
