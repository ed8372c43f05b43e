"""The process between the app and a Ray cluster: ``python -m peft_studio.jobs.executors.ray.bridge``.

It is the only one that loads Ray, because Ray ends a process whose cluster has gone. Commands come as lines of JSON on
its standard input; when that ends, so does the bridge, and the runs go on. What it knows is on its `Board`.
"""

import argparse
import contextlib
import fcntl
import json
import os
import queue
import secrets
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # the public function adds the nodes up

from peft_studio.files import atomic_write, read_json
from peft_studio.jobs.executors.ray.board import Board
from peft_studio.jobs.executors.ray.link import Link, Work, write_lost
from peft_studio.runs.paths import RunPaths

NAMESPACE = "peft-studio"
TICK = 0.25  # seconds
KNOCK_PATIENCE = 5.0  # seconds for a cluster to take a connection
TIDY_SECONDS = 5.0  # for the end of an earlier attempt at a run
PACKAGE = Path(__file__).resolve().parents[3]


class Bridge:
    """Carries out the app's commands.

    Args:
        home: The home folder.
        work: What is the same for all runs.
    """

    def __init__(self, home: Path, work: Work) -> None:
        self._runs = home / "runs"
        self._work = work
        self._links: dict[str, Link] = {}

    def attach(self) -> None:
        """Takes over the runs of this home that are on the cluster, and gives up those that are there no more."""
        for name in sorted(ray.util.list_named_actors()):
            prefix, _, rest = name.partition("/")
            run_id = rest.partition("/")[0]
            if prefix == self._work.prefix and run_id:
                self._take_over(name, RunPaths(self._runs / run_id))
        for folder in self._runs.glob("*"):
            paths = RunPaths(folder)
            actor = str((read_json(paths.claim) or {}).get("actor", ""))
            if actor.startswith(f"{self._work.prefix}/") and paths.id not in self._links:
                write_lost(paths, "it is not on the Ray cluster any more")

    def _take_over(self, name: str, paths: RunPaths) -> None:
        claim = paths.claim.read_text(encoding="utf-8") if paths.claim.exists() else ""
        if not paths.root.is_dir() or paths.id in self._links or (claim and name not in claim):
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(name), no_restart=True)
            return
        self._link(Link(self._work, paths, name), paths.id)

    def _link(self, link: Link, run_id: str) -> None:
        self._links[run_id] = link
        link.start()

    def close(self) -> None:
        """Lets go of the runs."""
        self._work.closing.set()

    def carry_out(self, command: dict[str, Any]) -> None:
        """``start`` or ``signal``."""
        run_id = command["run"]
        link = self._links.get(run_id)
        if command["do"] == "start" and link is not None:
            link.join(TIDY_SECONDS)  # that of a run that was put back into the queue may still be letting go
        alive = link is not None and link.is_alive()
        if command["do"] == "signal" and link is not None and alive:
            link.signal(command["force"])
        paths = RunPaths(self._runs / run_id)
        if command["do"] == "start" and not alive and not paths.claim.exists() and not paths.stop.exists():
            self._link(Link(self._work, paths, start=(command["module"], command["request"])), run_id)
        self._work.board.change(done=command["number"])

    def look_at_nodes(self) -> None:
        """Puts the free CPUs and GPUs of every node on the board."""
        free = available_resources_per_node()
        nodes = []
        for node in ray.nodes():
            if node["Alive"]:
                left, full = free.get(node["NodeID"], {}), node["Resources"]
                kinds = ("CPU", "GPU")
                nodes.append({"free": [left.get(k, 0.0) for k in kinds], "all": [full.get(k, 0.0) for k in kinds]})
        self._work.board.change(nodes=nodes)


def connect(address: str) -> None:
    """Connects to a cluster: the given one, else one that runs here, else one that is started and ends with this.

    Raises:
        ConnectionError: There is none at this address.
    """
    if address:
        _knock(address)
    # The package travels to the nodes, so that they run the code of this very app.
    env = {"py_modules": [str(PACKAGE)], "excludes": ["**/__pycache__"]}
    options: dict[str, Any] = {"namespace": NAMESPACE, "runtime_env": env, "log_to_driver": False}
    try:
        ray.init(address=address or "auto", **options)
    except ConnectionError:
        if address:
            raise
        ray.init(address="local", include_dashboard=False, **options)


def _knock(address: str) -> None:
    """Makes sure that somebody listens, as Ray would try for minutes.

    Raises:
        ConnectionError: Nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), KNOCK_PATIENCE).close()
        except (OSError, OverflowError) as exc:
            raise ConnectionError(f"nothing answers at {address} ({exc})") from exc


def home_name(home: Path) -> str:
    """What this home is called on clusters; made up once, as folders on other machines have the same path."""
    path = home / "ray-name"
    if not path.exists():
        atomic_write(path, secrets.token_hex(6))
    return path.read_text(encoding="ascii").strip()


def _read_commands(commands: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the bridge; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("board", type=Path)
    parser.add_argument("--address", default="")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args(argv)
    lock = os.open(options.board.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)  # the bridge of an app that was killed may still be on its way out
    board = Board(options.board)
    try:
        connect(options.address)
    except Exception as exc:
        traceback.print_exc()
        board.problem = str(exc).strip().splitlines()[0][:300]
        board.beat()
        return 1
    bridge = Bridge(options.home, Work(board, home_name(options.home), options.threads))
    bridge.attach()
    bridge.look_at_nodes()
    board.change(attached=True)
    _serve(bridge, board)
    bridge.close()
    ray.shutdown()
    os._exit(0)  # without waiting for the links, which may be in the middle of a question


def _serve(bridge: Bridge, board: Board) -> None:
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    while True:
        try:
            command = commands.get(timeout=TICK)
        except queue.Empty:
            bridge.look_at_nodes()
            board.beat()
            continue
        if command is None:
            return
        bridge.carry_out(command)


if __name__ == "__main__":
    sys.exit(main())
