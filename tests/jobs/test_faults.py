"""Fifty kills at random moments, of workers, supervisors, engine, warm server and app: nothing is lost or hangs."""

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from job_kit import lives, make_config, plan, wait_for

from peft_studio.files import read_json
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.paths import RunPaths

pytestmark = pytest.mark.faults
KILLS = 50
MARK = "PEFT_STUDIO_TEST_HOME"
RUNS, STEPS = 4, 300
MakeManager = Callable[..., JobManager]


class App:
    """The app as a process that is started again whenever it was killed; it keeps asking its engine."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "app_process", str(self._home), "faults"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "up\n"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def app(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """A running app."""
    monkeypatch.setenv(MARK, str(home))
    app = App(home)
    yield app
    app.end()


def descendants(home: Path) -> list[psutil.Process]:
    """The living processes that the apps of a home have started, by the environment that they were given."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(home) and lives(process):
                found.append(process)
    return found


def kill(process: psutil.Process | None) -> None:
    """Kills a process that may have gone by itself."""
    with contextlib.suppress(psutil.Error):
        if process is not None:
            process.kill()


def claimants(home: Path) -> list[psutil.Process]:
    """The living supervisors."""
    found = []
    for path in home.glob("runs/*/claim.json"):
        claim = read_json(path) or {}
        with contextlib.suppress(psutil.Error, KeyError):
            process = psutil.Process(claim["pid"])
            if abs(process.create_time() - claim["process_start"]) < 2 and lives(process):
                found.append(process)
    return found


def strike(app: App, home: Path, chance: random.Random) -> str:
    """Kills something; returns what."""
    target = chance.choice(("worker", "worker", "supervisor", "both", "engine", "warm", "app", "all"))
    supervisors = claimants(home)
    one = chance.choice(supervisors) if supervisors else None
    with contextlib.suppress(psutil.Error):
        workers = one.children() if one is not None else []
        if target in ("supervisor", "both"):
            kill(one)
        if target in ("worker", "both"):
            for worker in workers:
                kill(worker)
    words = {"engine": "fake_engine", "warm": "peft_studio.warm"}
    with contextlib.suppress(psutil.Error):
        if target in words:
            for process in psutil.Process(app.process.pid).children(recursive=True):
                if words[target] in " ".join(process.cmdline()):
                    kill(process)
    if target == "all":
        for process in descendants(home):
            kill(process)
    if target in ("app", "all"):
        app.end()
        app.start()
    return target


def steps_of(paths: RunPaths) -> dict[int, set[float]]:
    """The losses that were logged for each step, torn lines left out."""
    found: dict[int, set[float]] = {}
    for line in paths.events.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event["kind"] == "step":
                found.setdefault(event["step"], set()).add(event["loss"])
    return found


@pytest.mark.timeout(240)
def test_fifty_kills(home: Path, make_manager: MakeManager, app: App) -> None:
    manager = make_manager(start=False, auto_resume=True)
    runs = [manager.submit(make_config(STEPS), plan(sleep=0.015, checkpoint_every=5)) for _ in range(RUNS)]
    chance = random.Random(20)
    seen: dict[str, int] = {}
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 0.4))
        target = strike(app, home, chance)
        seen[target] = seen.get(target, 0) + 1
        for run in runs:  # a finished step stays finished, and every look finds a readable folder
            assert manager.library.series(run)["id"] == run and manager.library.info(run).status
    assert len(seen) == 7
    again: set[str] = set()

    def all_over() -> bool:
        for run in runs:
            info = manager.library.info(run)
            if "resume" in info.actions and info.status == "failed" and run not in again:
                again.add(run)  # it was killed too often without getting further: somebody has a look
                manager.resume(run)
        return all(manager.library.info(run).status == "finished" for run in runs)

    wait_for(all_over, 120)
    for run in runs:
        paths = manager.store.paths(run)
        logged = steps_of(paths)
        assert sorted(logged) == list(range(1, STEPS + 1))
        assert all(losses == {2 / step} for step, losses in logged.items())
        assert manager.library.series(run)["train"]["step"][-1] == STEPS
        assert not (paths.root / "two-workers").exists()
        assert (read_json(paths.exit) or {}).get("code") == 0
    pings = (home / "pings").stat().st_mtime
    wait_for(lambda: (home / "pings").stat().st_mtime > pings)  # the engine answers
    app.end()
    wait_for(lambda: not descendants(home))
