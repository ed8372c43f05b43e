"""Back into the queue: what moves where, what a crash in the middle leaves, and who may claim the run then."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from job_kit import make_config, plan

from peft_studio.errors import InvalidStateError
from peft_studio.files import read_json
from peft_studio.runs.claims import claim_is_held, claim_run, claimant_lives, write_exit
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.requeue import (
    BY_ITSELF,
    BY_USER,
    attempts,
    checkpoint_step,
    complete_requeue,
    futile_attempts,
    may_start_by_itself,
    requeue,
)
from peft_studio.runs.status import Status, run_state
from peft_studio.runs.store import RunStore

pytestmark = pytest.mark.faults
LEFT_BY_A_WORKER = ("stop", "pause", "exit.json", "claim.json")


class Crash(BaseException):
    """The process ends here."""


def checkpoint(run: RunPaths, step: int) -> None:
    run.checkpoint.mkdir(exist_ok=True)
    (run.checkpoint / "state.json").write_text(json.dumps({"step": step, "max_steps": 20}))


def work(run: RunPaths, last: str = "paused") -> None:
    """What a worker leaves that was asked to pause."""
    assert claim_run(run, "app", hold=False)
    with run.events.open("a") as log:
        log.write(json.dumps({"v": 1, "kind": last, "message": "words"}) + "\n")
    write_exit(run, code=0, signal=None)


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """A queued run."""
    return RunStore(tmp_path).create(make_config(), plan())


@pytest.fixture
def paused(run: RunPaths) -> RunPaths:
    """A run that paused at step 7."""
    checkpoint(run, 7)
    run.pause.touch()
    work(run)
    assert run_state(run).status is Status.PAUSED
    return run


def test_the_last_attempt_is_kept(paused: RunPaths) -> None:
    claim, log = paused.claim.read_text(), paused.events.read_text()
    requeue(paused, BY_USER)
    state = run_state(paused)
    assert (state.status, state.reason) == (Status.QUEUED, "resumes at step 7")
    folder = paused.attempts / "1"
    assert {path.name for path in folder.iterdir()} == {"requeued.json", "claim.json", "exit.json", "pause"}
    assert (folder / "claim.json").read_text() == claim and paused.events.read_text() == log
    work(paused)
    requeue(paused, BY_USER)
    assert [(attempt["by"], attempt["step"]) for attempt in attempts(paused)] == [(BY_USER, 7)] * 2


@pytest.mark.parametrize("moves", range(len(LEFT_BY_A_WORKER) + 2))
def test_a_crash_in_the_middle_is_made_good(paused: RunPaths, moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    paused.stop.touch()
    real, done = Path.rename, 0

    def rename(path: Path, target: Path) -> Path:
        nonlocal done
        if path.name in LEFT_BY_A_WORKER:
            if done == moves:
                raise Crash
            done += 1
        return real(path, target)

    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if target.name == "requeued.json":
            raise Crash
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        if moves == len(LEFT_BY_A_WORKER) + 1:
            patch.setattr(Path, "replace", refuse)  # even before the first move
        try:
            requeue(paused, BY_USER)
        except Crash:
            assert paused.claim.exists() and not claim_run(paused, "too early", hold=False)
    before = run_state(paused)
    assert before.status is (Status.PAUSED if moves > len(LEFT_BY_A_WORKER) else Status.QUEUED)
    complete_requeue(paused) if before.status is Status.QUEUED else requeue(paused, BY_USER)
    assert run_state(paused).reason == "resumes at step 7" and len(attempts(paused)) == 1
    assert not any((paused.root / name).exists() for name in LEFT_BY_A_WORKER)
    assert claim_run(paused, "app", hold=False)


def test_a_late_finisher_leaves_the_next_attempt_alone(paused: RunPaths) -> None:
    requeue(paused, BY_USER)
    work(paused, "finished")
    paused.stop.touch()
    complete_requeue(paused)
    assert run_state(paused).status is Status.FINISHED and paused.stop.exists() and paused.exit.exists()


def test_many_at_once_requeue_once_and_one_claims(paused: RunPaths) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom peft_studio.runs.store import RunPaths\n"
        "from peft_studio.runs.requeue import requeue\nfrom peft_studio.runs.claims import claim_run\n"
        "run = RunPaths(Path(sys.argv[1]))\nrequeue(run, 'user')\nprint(claim_run(run, 'app', hold=False))"
    )
    argv = [sys.executable, "-c", code, str(paused.root)]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: subprocess.run(argv, capture_output=True, text=True), range(4)))
    # Whoever came after the claim found a living claimant's run, or one of a process that had just gone.
    assert sum(result.stdout.strip() == "True" for result in done) == len(attempts(paused))
    assert all(not result.stderr or "Error" in result.stderr for result in done)


def test_a_run_that_was_stopped_in_the_queue_waits_again(run: RunPaths) -> None:
    run.stop.touch()
    assert run_state(run).status is Status.STOPPED
    requeue(run, BY_USER)
    assert run_state(run).status is Status.QUEUED and not run.attempts.exists()


def test_a_living_worker_without_supervisor_keeps_its_run(run: RunPaths) -> None:
    """Its supervisor was killed: the status says "vanished", and the worker may still write."""
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom peft_studio.runs.store import RunPaths\n"
        "from peft_studio.runs.claims import claim_run\nassert claim_run(RunPaths(Path(sys.argv[1])), 'app')\n"
        "print(os.fork() or os.close(1) or time.sleep(60), flush=True)\nos._exit(0)"
    )
    argv = [sys.executable, "-c", code, str(run.root)]
    worker = psutil.Process(int(subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=20).stdout))
    try:
        assert claim_is_held(run) and run_state(run).interrupted
        with pytest.raises(InvalidStateError, match="still ending"):
            requeue(run, BY_USER)
    finally:
        worker.kill()
    end = time.monotonic() + 10
    while claim_is_held(run) and time.monotonic() < end:
        time.sleep(0.01)
    requeue(run, BY_USER)
    assert run_state(run).reason == "starts again"


def test_tries_that_lead_nowhere_are_counted(run: RunPaths) -> None:
    for step in (3, 9, 9, 9):
        checkpoint(run, step)
        assert may_start_by_itself(run)
        assert claim_run(run, "app", hold=False)
        write_exit(run, code=None, signal=9)
        assert run_state(run).interrupted
        requeue(run, BY_ITSELF)
    assert claim_run(run, "app", hold=False)
    write_exit(run, code=None, signal=9)
    assert futile_attempts(run) == 3 and "got no further" in run_state(run).reason
    requeue(run, BY_USER)
    assert may_start_by_itself(run)
    assert checkpoint_step(run) == 9


def test_a_request_to_pause_that_took_a_signal(run: RunPaths) -> None:
    run.pause.touch()
    assert claim_run(run, "app", hold=False)
    write_exit(run, code=None, signal=15)
    assert run_state(run).status is Status.FAILED and not run_state(run).interrupted
    checkpoint(run, 4)
    assert run_state(run).status is Status.PAUSED and "step 4" in run_state(run).reason
    run.stop.touch()
    assert run_state(run).status is Status.FAILED and not run_state(run).interrupted


def test_pausing_and_stopping(run: RunPaths) -> None:
    assert claim_run(run, "app", hold=False)
    run.pause.touch()
    assert run_state(run).status is Status.PAUSING
    run.stop.touch()
    assert run_state(run).status is Status.STOPPING


def test_a_claim_of_another_host_is_judged_by_its_lock(run: RunPaths) -> None:
    claim = {"pid": os.getpid(), "process_start": psutil.Process().create_time(), "host": "elsewhere"}
    run.claim.write_text(json.dumps(claim))
    assert not claimant_lives(run, claim)  # this pid says nothing about that host
    run.claim.unlink()
    assert claim_run(run, "app")
    assert claimant_lives(run, {**(read_json(run.claim) or {}), "host": "elsewhere"})
    assert run_state(run, lives=lambda _paths, _claim: False).interrupted


@pytest.mark.parametrize("text", ["", "[]", '{"step": true}', '{"step": "7"}', "{"])
def test_a_checkpoint_without_a_step_is_none(run: RunPaths, text: str) -> None:
    run.checkpoint.mkdir()
    (run.checkpoint / "state.json").write_text(text)
    assert checkpoint_step(run) is None
