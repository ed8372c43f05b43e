"""The clock is set while things go on, and process ids are given out again: nobody is taken for dead, or for alive."""

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from job_kit import make_config, plan, wait_for

from peft_studio.files import read_json
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.claims import claimant_lives, end_worker, process_mark
from peft_studio.runs.housekeeping import DAY, Housekeeper, set_star
from peft_studio.runs.paths import RunPaths
from peft_studio.settings import Settings

pytestmark = pytest.mark.faults
MakeManager = Callable[..., JobManager]
JUMPS = (3 * 365 * DAY, -3 * 365 * DAY, 7200.0, -7200.0)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Sets this process's clock by so many seconds; that of files and of other processes stays."""
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    yield lambda seconds: offset.__setitem__(0, seconds)


def test_the_clock_jumps_in_a_worker(make_manager: MakeManager) -> None:
    manager = make_manager(module="jumping_worker")
    run = manager.submit(make_config(40), plan(sleep=0.01))
    following = manager.submit(make_config(3), plan())
    while manager.library.info(run).status in ("queued", "running"):
        info = manager.library.info(run)
        assert info.eta_seconds is None or 0 <= info.eta_seconds < 60
        assert info.seconds is None or info.seconds >= 0
        steps = manager.library.series(run)["train"]["step"]
        assert steps == sorted(steps)
        time.sleep(0.02)
    assert manager.library.info(run).status == "finished" and manager.library.info(run).seconds == 1.5
    assert manager.library.series(run)["train"]["step"] == list(range(1, 41))
    assert not [
        finding
        for finding in manager.library.findings(run)
        if finding.severity == "problem" and finding.id != "damaged"
    ]
    wait_for(lambda: manager.library.info(following).status == "finished")


def test_the_clock_jumps_in_the_app(make_manager: MakeManager, set_clock: Callable[[float], None]) -> None:
    manager = make_manager(max_running=2, grace=30.0, auto_resume=True)
    run = manager.submit(make_config(5000), plan(sleep=0.01, checkpoint_every=5))
    deaf = manager.submit(make_config(5000), plan(sleep=0.01, deaf=True))
    wait_for(lambda: manager.library.info(run).checkpoint_step and manager.library.info(deaf).step)
    manager.stop(deaf)
    for jump in JUMPS:
        set_clock(jump)
        step = manager.library.info(run).step
        wait_for(lambda step=step: manager.library.info(run).step > step)
        info = manager.library.info(run)
        assert (info.status, info.attempts) == ("running", 0)
        assert info.eta_seconds is None or math.isfinite(info.eta_seconds)
        assert manager.library.info(deaf).status == "stopping"  # its grace has not passed
    time.sleep(0.1)
    manager.stop(deaf)  # some seconds later, says a clock that is hours off: a second request ends it
    wait_for(lambda: manager.library.info(deaf).status == "stopped")
    late = manager.submit(make_config(3), plan())
    wait_for(lambda: manager.library.info(late).status == "finished")
    manager.pause(run)
    wait_for(lambda: manager.library.info(run).status == "paused")


def test_interrupted_runs_are_known_whatever_the_clock_says(
    make_manager: MakeManager, set_clock: Callable[[float], None]
) -> None:
    manager = make_manager(auto_resume=True)
    for jump in JUMPS[:2]:
        set_clock(0.0)
        run = manager.submit(make_config(60), plan(sleep=0.01, checkpoint_every=5))
        wait_for(lambda run=run: manager.library.info(run).checkpoint_step)
        set_clock(jump)
        end_worker(manager.store.paths(run), force=True)
        wait_for(lambda run=run: manager.library.info(run).status == "finished")
        assert manager.library.info(run).attempts == 1


def test_retention_does_not_trust_a_clock_that_was_set(
    make_manager: MakeManager, set_clock: Callable[[float], None]
) -> None:
    manager = make_manager()
    runs = [manager.submit(make_config(2), plan()) for _ in range(2)]
    for run in runs:
        wait_for(lambda run=run: manager.library.info(run).status == "finished")
    set_star(manager.store.paths(runs[0]), True)
    waiting = manager.submit(make_config(2), plan())
    manager.hold(waiting)
    keeper = Housekeeper(Settings(home=manager.settings.home, keep_days=30))
    for jump in (*JUMPS, 1e9):
        set_clock(jump)
        assert keeper.outdated(manager.library.list()) == []
    # Whoever starts with a wrong clock cannot know; starred and unfinished runs are safe even then.
    assert set(Housekeeper(keeper._settings).outdated(manager.library.list(), now=time.time() + 1e9)) <= {runs[1]}


def test_a_list_with_runs_of_the_future(make_manager: MakeManager, set_clock: Callable[[float], None]) -> None:
    manager = make_manager(start=False)
    ids = []
    for jump in (7200.0, 0.0, -7200.0):
        set_clock(jump)
        ids.append(manager.submit(make_config(2), plan()))
    assert [info.id for info in manager.library.list()] == ids
    manager.start(preload_engine=False)
    for run in ids:
        wait_for(lambda run=run: manager.library.info(run).status == "finished")


def claim_of(pid: int) -> dict[str, object]:
    """What a supervisor with this process id would write."""
    start = psutil.Process(pid).create_time()
    return {"pid": pid, "process_start": start, "mark": process_mark(pid), "host": socket.gethostname(), "by": "app"}


def test_a_process_id_that_was_given_out_again(make_manager: MakeManager) -> None:
    """The claim names a process that lives, but is another one: it is left alone, and the run is known to be over."""
    manager = make_manager(start=False)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        mine = claim_of(stranger.pid)
        boot, _, ticks = str(mine["mark"]).partition(":")
        others = {
            "started later": {**mine, "mark": f"{boot}:{int(ticks) - 1}"},
            "before the machine was restarted": {**mine, "mark": f"{'0' * 36}:{ticks}"},
            "of an older version": {**mine, "mark": None, "process_start": float(mine["process_start"]) - 60},  # type: ignore[arg-type]
            "damaged": {**mine, "pid": 10**400},
            "negative": {**mine, "pid": -1},
        }
        for why, claim in others.items():
            paths = manager.store.paths(manager.submit(make_config(3), plan()))
            paths.claim.write_text(json.dumps(claim))
            assert not claimant_lives(paths, claim), why
            assert (
                manager.library.info(paths.id).status == "failed"
                and "vanished" in manager.library.info(paths.id).reason
            )
            end_worker(paths, force=True)
            assert stranger.poll() is None
            assert "resume" in manager.library.info(paths.id).actions
            manager.resume(paths.id)
        manager.start(preload_engine=False)
        for info in manager.library.list():
            wait_for(lambda run=info.id: manager.library.info(run).status == "finished")
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_the_start_of_a_process_seems_to_move_with_the_clock(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux gives a process's start by the clock of now: set that, and all processes seem to be others."""
    manager = make_manager()
    run = manager.submit(make_config(2000), plan(sleep=0.01))
    wait_for(lambda: manager.library.info(run).step)
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + 7200)
    assert claimant_lives(manager.store.paths(run), read_json(manager.store.paths(run).claim) or {})
    assert manager.library.info(run).status == "running"
    manager.stop(run)
    wait_for(lambda: manager.library.info(run).status == "stopped")


def test_a_mark_is_of_one_process() -> None:
    me = process_mark(os.getpid())
    assert me and me == process_mark(os.getpid()) and me != process_mark(os.getppid())
    assert process_mark(2**22 + 1) is None


def test_a_claim_that_was_never_written(make_manager: MakeManager, set_clock: Callable[[float], None]) -> None:
    manager = make_manager(start=False)
    paths = RunPaths(manager.store.paths(manager.submit(make_config(3), plan())).root)
    paths.claim.touch()
    assert manager.library.info(paths.id).status == "running"  # this instant
    for jump in JUMPS:
        set_clock(jump)
        info = manager.library.info(paths.id)
        assert info.status == "failed" and "claim.json is damaged" in info.reason
