"""Pausing, resuming and training longer, with real processes; runs that are cut short go on by themselves."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
from job_kit import make_config, plan, read_events, wait_for

from peft_studio.errors import InvalidStateError
from peft_studio.files import read_json
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.requeue import attempts

MakeManager = Callable[..., JobManager]


def reach(manager: JobManager, run_id: str, status: str) -> RunInfo:
    """Waits for a status."""
    return wait_for(lambda: info if (info := manager.library.info(run_id)).status == status else None, 40)


def at_step(manager: JobManager, run_id: str, step: int) -> None:
    """Waits until the worker has made a step in this very attempt."""
    wait_for(lambda: steps(manager.store.paths(run_id))[-1:] >= [step])


def steps(paths: RunPaths) -> list[int]:
    return [event["step"] for event in read_events(paths.events) if event["kind"] == "step"]


def kinds(paths: RunPaths) -> list[str]:
    ends = ("started", "resumed", "paused", "stopped", "finished", "failed")
    return [event["kind"] for event in read_events(paths.events) if event["kind"] in ends]


def kill_worker(paths: RunPaths) -> None:
    for child in psutil.Process(read_json(paths.claim)["pid"]).children():
        child.kill()


def test_pause_resume_finish(manager: JobManager) -> None:
    run_id = manager.submit(make_config(80), plan(sleep=0.01))
    paths = manager.store.paths(run_id)
    at_step(manager, run_id, 5)
    assert manager.library.info(run_id).actions == ("pause", "stop")
    manager.pause(run_id)
    manager.pause(run_id)
    info = reach(manager, run_id, "paused")
    manager.pause(run_id)
    assert info.reason == "" and info.checkpoint_step == info.step < 80 and info.eta_seconds is None
    assert info.actions == ("resume", "extend", "delete")
    log = paths.events.read_bytes()
    manager.pause_queue()
    manager.resume(run_id)
    manager.resume(run_id)
    waiting = manager.library.info(run_id)
    assert (waiting.status, waiting.queue_position) == ("queued", 1)
    assert waiting.reason == f"resumes at step {info.step}; the queue is paused"
    manager.pause_queue(False)
    assert reach(manager, run_id, "finished").step == 80
    assert kinds(paths) == ["started", "paused", "started", "resumed", "finished"]
    assert paths.events.read_bytes().startswith(log) and steps(paths) == list(range(1, 81))
    assert manager.library.info(run_id).attempts == 1
    assert len(manager.library.series(run_id)["train"]["step"]) == 80


def test_train_longer(manager: JobManager) -> None:
    run_id = manager.submit(make_config(5), plan())
    reach(manager, run_id, "finished")
    with pytest.raises(InvalidStateError, match="Train it longer instead"):
        manager.resume(run_id)
    for steps_more in (0, -1, 1_000_001):
        with pytest.raises(InvalidStateError, match="allowed: 1 to 1,000,000"):
            manager.extend(run_id, steps_more)
    assert manager.extend(run_id, 7) == 12
    info = wait_for(lambda: found if (found := manager.library.info(run_id)).step == 12 else None)
    assert info.max_steps == 12
    reach(manager, run_id, "finished")
    assert manager.extend(run_id, 1) == 13
    assert reach(manager, run_id, "finished").attempts >= 1
    assert manager.library.clone(run_id)["training"]["max_steps"] == 5  # what was asked for first stays as it was


def test_what_is_not_allowed_says_what_is(manager: JobManager) -> None:
    running = manager.submit(make_config(10_000), plan())
    queued = manager.submit(make_config(10_000), plan(no_checkpoint=True))
    at_step(manager, running, 2)
    with pytest.raises(InvalidStateError, match=r"is queued, so it cannot be paused. Hold it instead"):
        manager.pause(queued)
    with pytest.raises(InvalidStateError, match="cannot be resumed: it is running"):
        manager.resume(running)
    with pytest.raises(InvalidStateError, match="cannot be trained longer: it is running"):
        manager.extend(running, 5)
    manager.stop(running)
    reach(manager, running, "stopped")
    with pytest.raises(InvalidStateError, match=r"is stopped, so it cannot be paused. Only a running run"):
        manager.pause(running)
    at_step(manager, queued, 2)
    manager.stop(queued)
    reach(manager, queued, "stopped")
    with pytest.raises(InvalidStateError, match=r"no checkpoint to go on from. Clone it"):
        manager.resume(queued)
    manager.resume(running)
    wait_for(lambda: kinds(manager.store.paths(running))[2:] == ["started", "resumed"])
    manager.stop(running)
    reach(manager, running, "stopped")


def test_a_worker_deaf_to_pause_goes_on_from_its_last_checkpoint(make_manager: MakeManager) -> None:
    manager = make_manager(grace=0.3)
    run_id = manager.submit(make_config(10_000), plan(deaf=True, checkpoint_every=4))
    wait_for(manager.store.paths(run_id).checkpoint.exists)
    manager.pause(run_id)
    info = reach(manager, run_id, "paused")
    assert info.checkpoint_step is not None and info.checkpoint_step % 4 == 0
    assert "resume" in info.actions


def test_pausing_never_costs_a_run_without_a_checkpoint(make_manager: MakeManager) -> None:
    manager = make_manager(grace=0.1)
    run_id = manager.submit(make_config(60), plan(deaf=True, sleep=0.02, no_checkpoint=True))
    at_step(manager, run_id, 2)
    manager.pause(run_id)
    assert reach(manager, run_id, "finished").step == 60


@pytest.mark.parametrize("checkpoint_every", [5, 10**9])
def test_a_killed_worker_is_taken_up_again(make_manager: MakeManager, checkpoint_every: int) -> None:
    manager = make_manager(auto_resume=True)
    run_id = manager.submit(make_config(60), plan(sleep=0.01, checkpoint_every=checkpoint_every))
    paths = manager.store.paths(run_id)
    at_step(manager, run_id, 12)
    kill_worker(paths)
    assert reach(manager, run_id, "finished").step == 60
    assert [attempt["by"] for attempt in attempts(paths)] == ["auto"]
    assert kinds(paths).count("resumed") == (1 if checkpoint_every == 5 else 0)
    assert set(steps(paths)) == set(range(1, 61))


def test_a_run_that_always_crashes_is_given_up(make_manager: MakeManager) -> None:
    manager = make_manager(auto_resume=True)
    run_id = manager.submit(make_config(60), plan(die=8, checkpoint_every=5))
    paths = manager.store.paths(run_id)
    stuck = manager.submit(make_config(60), plan(die=3, checkpoint_every=5))
    wait_for(lambda: "got no further" in manager.library.info(stuck).reason, 40)
    assert [attempt["step"] for attempt in attempts(manager.store.paths(stuck))] == [None] * 3
    # The other one got five steps further with each attempt, and so to its end.
    assert reach(manager, run_id, "finished").step == 60 and len(attempts(paths)) > 3


@pytest.mark.parametrize("what", ["stopped", "failed", "off"])
def test_what_does_not_go_on_by_itself(make_manager: MakeManager, what: str) -> None:
    manager = make_manager(auto_resume=what != "off", grace=0.1)
    steps_plan = {"failed": plan(**{"raise": "ValueError", "at": 4}), "stopped": plan(deaf=True)}
    run_id = manager.submit(make_config(10_000), steps_plan.get(what, plan()))
    if what == "stopped":
        at_step(manager, run_id, 2)
        psutil.Process(read_json(manager.store.paths(run_id).claim)["pid"]).children()[0].send_signal(signal.SIGSTOP)
        manager.stop(run_id)
    if what == "off":
        at_step(manager, run_id, 2)
        kill_worker(manager.store.paths(run_id))
    wait_for(lambda: manager.library.info(run_id).status in ("failed", "stopped"))
    later = manager.submit(make_config(3), plan())
    reach(manager, later, "finished")
    assert manager.library.info(run_id).attempts == 0


def test_a_machine_that_went_down(make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.runs.reader.UNSETTLED_SECONDS", 0.5)
    before = make_manager()
    run_id = before.submit(make_config(200), plan(sleep=0.01, checkpoint_every=5))
    paths = before.store.paths(run_id)
    at_step(before, run_id, 12)
    before.close()
    supervisor = psutil.Process(read_json(paths.claim)["pid"])
    for process in (supervisor, *supervisor.children()):
        process.kill()
    wait_for(lambda: "vanished" in before.library.info(run_id).reason)
    after = make_manager(auto_resume=True)
    assert reach(after, run_id, "finished").step == 200
    assert kinds(paths) == ["started", "started", "resumed", "finished"]


def test_the_command_line_and_a_running_app(manager: JobManager) -> None:
    def ask(*argv: str) -> None:
        command = [sys.executable, "-m", "peft_studio", "--home", str(manager.settings.home), *argv]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ})

    run_id = manager.submit(make_config(300), plan(sleep=0.05))  # a command takes seconds to start beside other work
    at_step(manager, run_id, 3)
    ask("pause", run_id)
    reach(manager, run_id, "paused")
    ask("resume", run_id)
    wait_for(lambda: "resumed" in kinds(manager.store.paths(run_id)))
    ask("stop", run_id)
    step = reach(manager, run_id, "stopped").step
    ask("extend", run_id, "20")
    assert reach(manager, run_id, "finished").step == 320 > step
