"""The process between the app and a Ray cluster: ``python -m peft_studio.jobs.executors.ray.bridge``.

It is the only one that loads Ray, because Ray ends a process whose cluster has gone. It takes the app's commands from
a connection; when that ends, so does the bridge, and the runs go on. It tells the ``nodes`` (their free and all CPUs
and GPUs, also as a sign of life), runs that are ``settled`` (claimed, or not to be claimed any more), and the
``problem`` by which it ends.
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
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, ObjectLostError, RayError

from peft_studio.errors import StudioError
from peft_studio.files import atomic_write, read_json
from peft_studio.jobs.executors.ray.mirror import Mirror, pack, refuse
from peft_studio.jobs.executors.ray.node import News, NodeRun
from peft_studio.runs.claims import write_claim, write_exit
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.requeue import attempts
from peft_studio.runs.status import ENDS, VANISHED, last_event

NAMESPACE = "peft-studio"
TICK = 0.25  # seconds between two looks at the nodes
POLL = 0.2  # seconds between two questions to a run's actor
FETCH_SECONDS = 1.0  # for checkpoints and adapters, between two looks at the events
RETRY_PAUSE = 2.0  # seconds after a failure that may pass: a full disk, a node that does not answer
KNOCK_PATIENCE = 5.0  # seconds for a cluster to take a connection
TIDY_SECONDS = 5.0  # for the end of an earlier attempt at a run
PACKAGE = Path(__file__).resolve().parents[3]


class _CalledOffError(Exception):
    """The run was stopped, deleted or claimed by somebody else before it began, or ended before it was claimed."""


class Bridge:
    """Carries out the app's commands.

    Args:
        home: The home folder.
        threads: CPU threads of a worker.
        app: The connection to the app.
    """

    def __init__(self, home: Path, threads: int, app: "Connection[dict[str, Any], dict[str, Any] | None]") -> None:
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

    def tell(self, **message: Any) -> None:
        """Sends a message to the app."""
        with self._lock, contextlib.suppress(OSError):  # the app has gone, which `serve` learns
            self._app.send(message)

    def serve(self) -> None:
        """Takes over the runs of this home, also those that are lost, and obeys until the app has had enough."""
        runs = [RunPaths(path) for path in self._runs.glob("*")]
        claims = [read_json(paths.claim) or {} for paths in runs if not paths.exit.exists()]
        for name in sorted({*ray.util.list_named_actors(), *(str(claim.get("actor")) for claim in claims)}):
            prefix, _, rest = name.partition("/")
            if prefix == self.prefix:
                self._follow(Link(self, RunPaths(self._runs / rest.partition("/")[0]), name))
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._look_at_nodes()
                if self._app.poll(TICK):
                    command = self._app.recv()
                    if command is None:
                        break
                    self._carry_out(**command)
        self.closing = True

    def _follow(self, link: "Link") -> None:
        self._links = [*filter(Link.is_alive, self._links), link]
        link.start()

    def _carry_out(self, run: str, start: tuple[str, list[float]] | None = None, force: bool = False) -> None:
        """Starts a run, given what `Link.begin` takes, or ends its worker."""
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
                self._follow(Link(self, paths, f"{self.prefix}/{run}/{secrets.token_hex(4)}", start))

    def _look_at_nodes(self) -> None:
        free, kinds, nodes = available_resources_per_node(), ("CPU", "GPU"), []
        for node in ray.nodes():
            if node["Alive"]:
                parts = (free.get(node["NodeID"], {}), node["Resources"])
                nodes.append(tuple([part.get(kind, 0.0) for kind in kinds] for part in parts))
        self.tell(nodes=nodes)


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

    def __init__(
        self, bridge: Bridge, paths: RunPaths, name: str, start: tuple[str, list[float]] | None = None
    ) -> None:
        super().__init__(name=f"link {paths.id}", daemon=True)
        self.paths = paths
        self.force: bool | None = None
        self._bridge = bridge
        self._name = name
        self._start = start
        self._actor: Any = None  # its methods are made by Ray

    def run(self) -> None:
        """The thread's body. A run that is claimed ends with ``exit.json``, whatever happens."""
        lost = ""
        try:
            self._begin(*self._start) if self._start else self._take_over()
            mirror = Mirror(self.paths)
            while self.paths.root.is_dir() and not self.paths.exit.exists():
                self._try_step(mirror)
        except _CalledOffError:
            pass
        except Exception as exc:
            lost = self._explain(exc)
        if self._bridge.closing:
            return
        if self._actor is not None:  # and with it goes all that is left of the run on its node
            with contextlib.suppress(RayError, ValueError):
                ray.kill(self._actor, no_restart=True)
        while lost and self._is_ours() and not self.paths.exit.exists():
            try:
                write_exit(self.paths, code=None, signal=None, lost=lost)
            except (OSError, StudioError):
                time.sleep(RETRY_PAUSE)
        self._bridge.tell(settled=self.paths.id)

    def _begin(self, module: str, request: list[float]) -> None:
        options = {"lifetime": "detached", "max_restarts": 0, "num_cpus": request[0], "num_gpus": request[1]}
        actor_class: Any = ray.remote(NodeRun)
        self._actor = actor_class.options(name=self._name, **options).remote(
            f"/tmp/peft-studio-{self._bridge.prefix}", self.paths.id
        )
        files, model_folder = pack(self.paths)
        sent = {name: ray.put(file if isinstance(file, bytes) else file.read_bytes()) for name, file in files.items()}
        if refusal := self._ask("begin", module, self._bridge.threads, model_folder, sent):
            refuse(self.paths, refusal)

    def _take_over(self) -> None:
        try:
            self._actor = ray.get_actor(self._name)
        except ValueError:
            raise LookupError("it is not on the Ray cluster any more") from None

    def _try_step(self, mirror: Mirror) -> None:
        try:
            self._step(mirror)
            time.sleep(POLL)
        except (OSError, StudioError, ActorUnavailableError, ObjectLostError) as exc:
            print(f"{self.paths.id}: {_first_line(exc)}; tried again", file=sys.stderr, flush=True)
            time.sleep(RETRY_PAUSE)

    def _step(self, mirror: Mirror) -> None:
        """One look at the node."""
        flags = {flag.name: flag.read_bytes() for flag in (self.paths.stop, self.paths.pause) if flag.exists()}
        force, self.force = self.force, None
        news: News = self._ask("news", mirror.sizes(), mirror.fetched, flags, force)
        if news.claim and not self._is_ours():
            self._claim(news)
        if not news.claim and not news.ended:
            return
        mirror.append(news.grown)
        if not news.claim and not news.more:  # it ended without a claim: what it printed says why
            raise _CalledOffError
        if news.final:
            self._finish(news.exit)
        elif news.claim and not news.more:
            files = [data for _, item in news.items.values() for data in item.values()]
            if not files or not ray.wait(files, num_returns=len(files), timeout=FETCH_SECONDS)[1]:
                mirror.fetch(news.items, ray.get)

    def _is_ours(self) -> bool:
        """Whether the run is claimed for the worker that this follows."""
        return (read_json(self.paths.claim) or {}).get("actor") == self._name

    def _claim(self, news: News) -> None:
        """Claims the run for the worker on the node, unless that had it before and was done with it."""
        earlier = any(self._name in str(attempt.get("claim")) for attempt in attempts(self.paths))
        claim = {**json.loads(news.claim), "host": f"ray:{news.node}", "actor": self._name}
        if earlier or self.paths.stop.exists() or not write_claim(self.paths, claim):
            raise _CalledOffError
        self._bridge.tell(settled=self.paths.id)

    def _finish(self, exit_text: str) -> None:
        """Writes how the worker ended, last of all; a supervisor that was killed has left nothing."""
        if exit_text:
            return atomic_write(self.paths.exit, exit_text)
        said = (last_event(self.paths.events) or {}).get("kind") in ENDS
        return write_exit(self.paths, code=None, signal=None, lost="" if said else VANISHED)

    def _ask(self, method: str, *args: Any) -> Any:
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
        """Says what went wrong; in the bridge's log and, while nobody has claimed the run, in the run's, too."""
        node = str((read_json(self.paths.claim) or {}).get("host", "")).removeprefix("ray:")
        words = f"{type(exc).__name__}: {_first_line(exc)}" if not isinstance(exc, LookupError) else _first_line(exc)
        if not self._bridge.closing:
            traceback.print_exception(exc)
            if self.paths.root.is_dir() and not self.paths.claim.exists():
                with contextlib.suppress(OSError), self.paths.log.open("a", encoding="utf-8") as log:
                    log.write(f"{self.paths.id} could not be run on the Ray cluster: {words}\n")
        died = isinstance(exc, ActorDiedError)
        return f"the Ray node {node[:8]} that it ran on went down" if died else words


def _first_line(exc: BaseException) -> str:
    """What happened, without a stack: of an error on the node the line that names it."""
    cause = getattr(exc, "cause", None) or exc
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:300]


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
    options: dict[str, Any] = {"namespace": NAMESPACE, "runtime_env": env, "log_to_driver": False}
    try:
        ray.init(address=address or "auto", **options)
    except ConnectionError:
        if address:
            raise
        ray.init(address="local", include_dashboard=False, **options)


def main(home: str, descriptor: str, threads: str, address: str) -> None:
    """Runs the bridge.

    Args:
        home: The home folder.
        descriptor: Of the connection to the app.
        threads: CPU threads of a worker.
        address: Of the cluster; may be empty.
    """
    lock = os.open(Path(home) / "cache" / "ray.lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)  # the bridge of an app that was killed may still be on its way out
    bridge = Bridge(Path(home), int(threads), Connection(int(descriptor)))
    try:
        connect(address)
    except Exception as exc:
        traceback.print_exc()
        bridge.tell(problem=f"{address}: {_first_line(exc)}" if address else _first_line(exc))
        return
    bridge.serve()
    ray.shutdown()
    os._exit(0)  # without waiting for the links, which may be in the middle of a question


if __name__ == "__main__":
    main(*sys.argv[1:])
