"""The process between the app and a Ray cluster: ``python -m peft_studio.jobs.executors.ray.bridge``.

It is the only one that loads Ray, because Ray ends a process whose cluster has gone. It takes the app's commands from
a connection; when that ends, so does the bridge, and the runs go on. It tells the ``nodes`` (free and all CPUs and
GPUs of each, also as a sign of life), runs that are ``settled`` (no more to be claimed), and why it ends: ``problem``.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # the public function adds the nodes up
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError

from peft_studio.errors import ModelError, StudioError
from peft_studio.files import atomic_write, read_json
from peft_studio.jobs.executors.ray.mirror import Mirror, pack
from peft_studio.jobs.executors.ray.node import News, NodeRun
from peft_studio.runs.claims import claim_run, write_claim, write_exit
from peft_studio.runs.event_log import last_event
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.requeue import attempts
from peft_studio.runs.status import ENDS, VANISHED

KINDS = ("CPU", "GPU")
TICK = 0.25  # seconds between two looks at the nodes
POLL = 0.2  # seconds between two questions to a run's actor
FETCH_SECONDS = 1.0  # for checkpoints and adapters, between two looks at the events
RETRY_PAUSE = 2.0  # seconds after a failure that may pass: a full disk, a node that does not answer, or has no room
KNOCK_PATIENCE = 5.0  # seconds for a cluster to take a connection
TIDY_SECONDS = 5.0  # for the end of an earlier attempt at a run
PACKAGE = Path(__file__).resolve().parents[3]
Start = tuple[str, list[float]]  # the module that the node is to run, and the CPUs and GPUs that it takes


class _CalledOffError(Exception):
    """The run was stopped, deleted or claimed by somebody else before it began, or ended before it was claimed."""


class Bridge:
    """Carries out the app's commands.

    Args:
        home: The home folder.
        threads: CPU threads of a worker.
        app: The connection to the app.
    """

    def __init__(self, home: Path, threads: int, app: "Connection[Any, Any]") -> None:
        self._runs = home / "runs"
        self.threads = threads
        self._app = app
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self.closing = False  # the bridge ends, and the runs are to go on
        # What this home is called on clusters; made up once, as folders on other machines have the same path.
        name = home / "ray-name"
        if not name.exists():
            atomic_write(name, secrets.token_hex(6))
        self.prefix = name.read_text(encoding="ascii").strip()

    def tell(self, **message: object) -> None:
        """Sends a message to the app."""
        with self._lock, contextlib.suppress(OSError):  # the app has gone, which `serve` learns
            self._app.send(message)

    def serve(self) -> None:
        """Takes over the runs of this home, also those that are lost, and obeys until the app has had enough."""
        unended = (run for run in map(RunPaths, self._runs.glob("*")) if not run.exit.exists())
        claims = [read_json(run.claim) or {} for run in unended]
        for name in sorted({*ray.util.list_named_actors(), *(str(claim.get("actor")) for claim in claims)}):
            if name.startswith(f"{self.prefix}/"):
                self._links.append(Link(self, RunPaths(self._runs / name.split("/")[1]), name))
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._look_at_nodes()
                if self._app.poll(TICK):
                    command = self._app.recv()
                    if command is None:
                        break
                    self._carry_out(**command)
        self.closing = True
        for link in (link for link in self._links if link.paths.exit.exists()):
            link.join(TIDY_SECONDS)  # it ends the run's actor, or the run's folder would stay on the node

    def _look_at_nodes(self) -> None:
        free = available_resources_per_node()
        nodes = [(free.get(node["NodeID"], {}), node["Resources"]) for node in ray.nodes() if node["Alive"]]
        self.tell(nodes=[[[part.get(kind, 0.0) for kind in KINDS] for part in node] for node in nodes])

    def _carry_out(self, run: str, start: Start | None = None, force: bool = False) -> None:
        """Starts a run, given the module and the CPUs and GPUs, or has its worker ended."""
        paths = RunPaths(self._runs / run)
        links = [link for link in self._links if link.paths == paths and link.is_alive()]
        if start is None:
            for link in links:
                link.force = bool(link.force) or force
        elif paths.claim.exists() or paths.stop.exists():
            self.tell(settled=run)
        else:
            for link in links:
                link.join(TIDY_SECONDS)  # that of a run that was put back into the queue may still be letting go
            if not any(map(Link.is_alive, links)):
                self._links.append(Link(self, paths, f"{self.prefix}/{run}/{secrets.token_hex(4)}", start))


class Link(threading.Thread):
    """Starts a run on the cluster, or takes over one that is there; mirrors it, and passes wishes on.

    Args:
        bridge: What is the same for all runs.
        paths: The run; also an attribute.
        name: Name of its actor.
        start: The module that the node is to run, and the CPUs and GPUs that it takes; None when it was started.

    Attributes:
        force: Whether to kill the worker or to ask it to end; None for neither.
    """

    def __init__(self, bridge: Bridge, paths: RunPaths, name: str, start: Start | None = None) -> None:
        super().__init__(name=f"link {paths.id}", daemon=True)
        self.paths = paths
        self.force: bool | None = None
        self._bridge = bridge
        self._name = name
        self._begin = start
        self._actor: Any = None  # its methods are made by Ray
        self.start()

    def run(self) -> None:
        """The thread's body. A run that is claimed ends with ``exit.json``, whatever happens."""
        lost = ""
        try:
            self._prepare()
            mirror = Mirror(self.paths)
            while self.paths.root.is_dir() and not self.paths.exit.exists():
                self._step(mirror)
        except _CalledOffError:
            pass
        except Exception as exc:
            if self._bridge.closing:
                return
            lost = self._explain(exc)
        if self._actor is not None:  # and with it goes all that is left of the run on its node
            with contextlib.suppress(RayError, ValueError):
                ray.kill(self._actor)
        while lost and self._is_ours() and not self.paths.exit.exists():
            try:
                write_exit(self.paths, code=None, signal=None, lost=lost)
            except (OSError, StudioError):
                time.sleep(RETRY_PAUSE)
        self._bridge.tell(settled=self.paths.id)

    def _prepare(self) -> None:
        if self._begin is None:
            self._actor = ray.get_actor(self._name)
            return
        module, (cpus, gpus) = self._begin
        options = {"name": self._name, "lifetime": "detached", "num_cpus": cpus, "num_gpus": gpus}
        actor_class: Any = ray.remote(NodeRun)
        self._actor = actor_class.options(**options).remote(f"/tmp/peft-studio-{self._bridge.prefix}", self.paths.id)
        files, model = pack(self.paths)
        sent = {name: ray.put(file if isinstance(file, bytes) else file.read_bytes()) for name, file in files.items()}
        try:
            self._ask("begin", module, self._bridge.threads, model, sent)
        except ModelError as exc:
            refuse(self.paths, str(getattr(exc, "cause", exc)))

    def _step(self, mirror: Mirror) -> None:
        try:
            self._look(mirror)
            time.sleep(POLL)
        except ActorDiedError:
            raise
        except (OSError, StudioError, RayError) as exc:
            print(f"{self.paths.id}: {_first_line(exc)}; tried again", file=sys.stderr, flush=True)
            time.sleep(RETRY_PAUSE)

    def _look(self, mirror: Mirror) -> None:
        """One look at the node."""
        flags = {flag.name: flag.read_bytes() for flag in (self.paths.stop, self.paths.pause) if flag.exists()}
        force, self.force = self.force, None
        news: News = self._ask("news", mirror.sizes(), mirror.fetched, flags, force)
        if news.claim is not None and not self._is_ours():
            self._claim(news.claim)
        if news.claim is not None or news.ended:
            mirror.append(news.grown)
        if news.claim is None and news.ended:  # what it printed says why
            raise _CalledOffError
        files = [data for _, item in news.items.values() for data in item.values()]
        if news.claim is None or (files and ray.wait(files, num_returns=len(files), timeout=FETCH_SECONDS)[1]):
            return
        mirror.fetch(news.items, ray.get)
        if news.final and news.exit is not None:
            atomic_write(self.paths.exit, json.dumps(news.exit))
        elif news.final:  # its supervisor was killed
            said = (last_event(self.paths.events) or {}).get("kind") in ENDS
            write_exit(self.paths, code=None, signal=None, lost="" if said else VANISHED)

    def _is_ours(self) -> bool:
        """Whether the run is claimed for the worker that this follows."""
        return (read_json(self.paths.claim) or {}).get("actor") == self._name

    def _claim(self, claim: dict[str, Any]) -> None:
        """Claims the run for the worker on the node, unless that had it before and was done with it."""
        earlier = any(self._name in str(attempt.get("claim")) for attempt in attempts(self.paths))
        if earlier or self.paths.stop.exists() or not write_claim(self.paths, {**claim, "actor": self._name}):
            raise _CalledOffError
        self._bridge.tell(settled=self.paths.id)

    def _ask(self, method: str, *args: object) -> Any:
        """Calls a method of the actor, for as long as it takes unless the run is called off."""
        answer = getattr(self._actor, method).remote(*args)
        while True:
            try:
                return ray.get(answer, timeout=1.0)
            except GetTimeoutError:
                waits = self.paths.root.is_dir() and not (self.paths.stop.exists() or self.paths.claim.exists())
                if not waits and not self._is_ours():
                    raise _CalledOffError from None

    def _explain(self, exc: Exception) -> str:
        """What went wrong; also for the bridge's log and, while nobody has claimed the run, for the run's."""
        traceback.print_exception(exc)
        words = f"it could not be run on the Ray cluster: {_first_line(exc)}"
        if self._actor is None and self._begin is None:
            words = "it is not on the Ray cluster any more"
        elif isinstance(exc, ActorDiedError) and self._is_ours():
            node = str((read_json(self.paths.claim) or {}).get("host")).removeprefix("ray:")
            words = f"the Ray node {node[:8]} that it ran on went down"
        if self.paths.root.is_dir() and not self.paths.claim.exists():
            with contextlib.suppress(OSError), self.paths.log.open("a", encoding="utf-8") as log:
                log.write(f"{self.paths.id}: {words}\n")
        return words


def refuse(paths: RunPaths, message: str) -> None:
    """Ends a run that a node cannot run, in words."""
    if claim_run(paths, by="ray", hold=False):
        writer = EventWriter(paths.events)
        writer.emit("failed", error=ModelError.__name__, message=message)
        writer.close()
        write_exit(paths, code=1, signal=None)


def _first_line(exc: BaseException) -> str:
    """What happened, without a stack: of an error on the node the line that names it."""
    cause = getattr(exc, "cause", None) or exc
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]


def connect(address: str) -> None:
    """Connects to a cluster: the given one, else one that runs here, else one that is started and ends with this.

    Raises:
        OSError: There is none at this address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():  # Ray would try for minutes
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_PATIENCE).close()
    # The package travels to the nodes, so that they run the code of this very app.
    env = {"py_modules": [str(PACKAGE)], "excludes": ["**/__pycache__"]}
    options: dict[str, Any] = {"namespace": "peft-studio", "runtime_env": env, "log_to_driver": False}
    try:
        ray.init(address=address or "auto", **options)
    except ConnectionError:
        if address:
            raise
        ray.init(address="local", include_dashboard=False, **options)


def main(home: Path, descriptor: int, threads: int, address: str) -> None:
    """Runs the bridge of a home, given the descriptor of the connection to the app."""
    lock = os.open(home / "cache" / "ray.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # the bridge of an app that was killed may still be on its way out
    bridge = Bridge(home, threads, Connection(descriptor))
    try:
        connect(address)
    except Exception as exc:
        traceback.print_exc()
        return bridge.tell(problem=f"{address}: {_first_line(exc)}".removeprefix(": "))
    bridge.serve()
    ray.shutdown()
    os._exit(0)  # without waiting for the links, which may be in the middle of a question


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
