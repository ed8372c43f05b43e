"""One run on a Ray cluster as the bridge handles it: a thread that starts it, mirrors it, and passes wishes on."""

import contextlib
import json
import queue
import secrets
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError, RayError

from peft_studio.errors import ModelError, StudioError
from peft_studio.files import read_json
from peft_studio.jobs.executors.ray.board import Board
from peft_studio.jobs.executors.ray.mirror import Mirror, pack, sizes
from peft_studio.jobs.executors.ray.node import PIECE, NodeRun
from peft_studio.runs.claims import claim_run, write_claim, write_exit
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.requeue import attempts

POLL = 0.2  # seconds between two questions to a node
FETCH_SECONDS = 1.0  # for checkpoints and adapters, between two looks at the events
RETRY_PAUSE = 2.0  # seconds after a failure that may pass: a full disk, a node that does not answer


@dataclass(frozen=True)
class Work:
    """What is the same for all runs of a bridge.

    Attributes:
        board: Where the bridge says what it knows.
        prefix: How the names of this home's actors begin.
        threads: CPU threads of a worker.
        closing: Set when the bridge ends; the runs are to go on.
    """

    board: Board
    prefix: str
    threads: int
    closing: threading.Event = field(default_factory=threading.Event)

    def folder(self, run_id: str) -> str:
        """A run's folder on every node: always the same, as it occurs in the config that a checkpoint belongs to."""
        return str(Path("/tmp") / f"peft-studio-{self.prefix}" / "runs" / run_id)


class _CalledOffError(Exception):
    """The run was stopped, deleted or claimed by somebody else before it began."""


class Link(threading.Thread):
    """Starts a run on the cluster, or takes over one that is there.

    Args:
        work: What is the same for all runs.
        paths: The run.
        name: Name of its actor when it is there already.
        start: Else the module that the node is to run, and the CPUs and GPUs that it takes.
    """

    def __init__(
        self, work: Work, paths: RunPaths, name: str = "", start: tuple[str, list[float]] = ("", [0.0, 0.0])
    ) -> None:
        super().__init__(name=f"link {paths.id}", daemon=True)
        self._work = work
        self._paths = paths
        self._module, request = start
        self._request = request
        self._is_new = not name
        self._name = name or f"{work.prefix}/{paths.id}/{secrets.token_hex(4)}"
        self._actor: Any = None
        self._node = ""
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._flags: dict[str, str] = {}
        claim = read_json(paths.claim) or {}
        self._claimed = claim.get("actor") == self._name
        told = {"claim": [claim.get("pid"), claim.get("process_start")]} if self._claimed else {}
        work.board.enter(paths.id, request=request, **told)

    def signal(self, force: bool) -> None:
        """Has the worker ended."""
        self._wishes.put(force)

    def run(self) -> None:
        """The thread's body."""
        try:
            self._begin() if self._is_new else self._take_over()
        except _CalledOffError:
            pass
        except RayActorError as exc:
            self._tell(f"The actor of {self._paths.id} has died: {_first_line(exc)}")
            if self._claimed and isinstance(exc, ActorDiedError):
                write_lost(self._paths, f"the Ray node {self._node[:8]} that it ran on went down")
        except Exception as exc:
            if self._work.closing.is_set():
                return
            traceback.print_exc()
            self._tell(f"{self._paths.id} could not be run on the Ray cluster: {_first_line(exc)}")
        finally:
            if not self._work.closing.is_set():
                self._kill()
                self._work.board.drop(self._paths.id)

    def _begin(self) -> None:
        cpus, gpus = self._request
        actor_class: Any = ray.remote(NodeRun)
        self._actor = actor_class.options(
            name=self._name, lifetime="detached", max_restarts=0, num_cpus=cpus, num_gpus=gpus
        ).remote(self._work.folder(self._paths.id))
        self._node = self._ask("node")
        self._ask("prepare")
        config, files, model_folder = pack(self._paths, self._work.folder(self._paths.id))
        self._ask("put", self._paths.config.name, config.encode())
        for name, path in files.items():
            self._send(name, path)
        base = sizes(self._paths)
        refusal = self._ask("begin", self._module, self._work.threads, model_folder, base)
        if refusal:
            self._refuse(refusal)
        else:
            self._follow(Mirror(self._paths, base))

    def _take_over(self) -> None:
        self._actor = ray.get_actor(self._name)
        self._node = self._ask("node")
        base = self._ask("base")
        if base is not None and not (self._claimed and self._paths.exit.exists()):
            self._follow(Mirror(self._paths, base))

    def _send(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            self._ask("put", name, b"")
            while data := file.read(PIECE):
                self._ask("put", name, data)

    def _follow(self, mirror: Mirror) -> None:
        while self._paths.root.is_dir():
            try:
                if self._step(mirror):
                    return
                time.sleep(POLL)
            except (OSError, StudioError, ActorUnavailableError) as exc:
                print(f"{self._paths.id}: {_first_line(exc)}; tried again", file=sys.stderr, flush=True)
                time.sleep(RETRY_PAUSE)

    def _step(self, mirror: Mirror) -> bool:
        """One look at the node; returns whether there is nothing more to see."""
        self._pass_wishes_on()
        news = self._ask("news", mirror.offsets(), mirror.fetched)
        if news["claim"] and not self._claimed and not self._claim(json.loads(news["claim"])):
            raise _CalledOffError
        if not self._claimed and not news["ended"]:
            return False
        mirror.append(news)
        if not self._claimed:  # it ended without a claim: what it printed says why
            return not news["more"]
        if news["final"]:
            mirror.finish(news["exit"])
        elif not news["more"]:
            mirror.fetch(news["items"], lambda *piece: self._ask("read", *piece), FETCH_SECONDS)
        return bool(news["final"])

    def _claim(self, claim: dict[str, Any]) -> bool:
        """Claims the run for the worker on the node; entered on the board first, so that nobody thinks it dead."""
        earlier = any(self._name in str(attempt.get("claim")) for attempt in attempts(self._paths))
        if earlier or self._paths.stop.exists():
            return False
        self._work.board.enter(self._paths.id, claim=[claim["pid"], claim["process_start"]])
        self._claimed = write_claim(self._paths, {**claim, "host": f"ray:{self._node}", "actor": self._name})
        return self._claimed

    def _pass_wishes_on(self) -> None:
        for flag in (self._paths.stop, self._paths.pause):
            try:
                text = flag.read_text(encoding="utf-8")
            except OSError:
                continue
            if self._flags.get(flag.name) != text:
                self._ask("flag", flag.name, text)
                self._flags[flag.name] = text
        while not self._wishes.empty():
            self._ask("signal", self._wishes.get())

    def _refuse(self, message: str) -> None:
        """Ends a run that the node cannot run, in words."""
        if claim_run(self._paths, by="ray", hold=False):
            self._claimed = True
            writer = EventWriter(self._paths.events)
            writer.emit("failed", error=ModelError.__name__, message=message)
            writer.close()
            write_exit(self._paths, code=1, signal=None)

    def _ask(self, method: str, *args: Any) -> Any:
        """Calls a method of the actor, for as long as it takes unless the run is called off."""
        answer = getattr(self._actor, method).remote(*args)
        while True:
            try:
                return ray.get(answer, timeout=1.0)
            except GetTimeoutError:
                if not self._paths.root.is_dir():
                    raise _CalledOffError from None
                if not self._claimed and (self._paths.stop.exists() or self._paths.claim.exists()):
                    raise _CalledOffError from None

    def _tell(self, words: str) -> None:
        print(words, file=sys.stderr, flush=True)
        if not self._claimed and self._paths.root.is_dir():
            with self._paths.log.open("a", encoding="utf-8") as log:
                log.write(f"{words}\n")

    def _kill(self) -> None:
        """Ends the actor, and with it all that is left of the run on its node."""
        if self._actor is not None:
            with contextlib.suppress(RayError, ValueError):
                ray.kill(self._actor, no_restart=True)


def write_lost(paths: RunPaths, words: str) -> None:
    """Records that a worker is gone for good, so that the run can go on elsewhere at once."""
    with contextlib.suppress(OSError, StudioError):  # it will be found out a little later
        if paths.root.is_dir() and not paths.exit.exists():
            write_exit(paths, code=None, signal=None, lost=words)


def _first_line(exc: BaseException) -> str:
    """What happened, without a stack: of an error on the node the last line, which names it."""
    cause = getattr(exc, "cause", None) or exc
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:300]
