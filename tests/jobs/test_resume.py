"""Real workers that are killed, paused or ended by a signal, and what the next one makes of the folder."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from job_kit import read_events, wait_for

from peft_studio.config.run_config import parse_config
from peft_studio.files import read_json
from peft_studio.runs.curves import Curves
from peft_studio.runs.fold import RunFold
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.progress import RunProgress
from peft_studio.runs.store import RunStore

pytestmark = pytest.mark.faults
STEPS = 40
LIMIT = 300.0


@pytest.fixture
def submit(home: Path, tiny_model: Path) -> Callable[..., RunPaths]:
    """Writes runs of LoRA with dropout on the tiny model."""
    (home / "runs").mkdir(parents=True)

    def make(steps: int = STEPS) -> RunPaths:
        training = {"max_steps": steps, "batch_size": 2, "eval_every": 7, "eval_rows": 2, "max_length": 300}
        method = {"name": "lora", "dropout": 0.2}
        config = parse_config({"model": {"id": str(tiny_model)}, "method": method, "training": training})
        return RunStore(home / "runs").create(config)

    return make


def start(paths: RunPaths) -> subprocess.Popen:
    """Starts a supervisor as the executor does."""
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", "eager_worker", str(paths.root), "--threads", "1"]
        return subprocess.Popen(command, stdout=log, stderr=log)


def events(paths: RunPaths, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [event for event in read_events(paths.events) if event["kind"] == kind]


def steps_logged(paths: RunPaths) -> int:
    """How many steps the log has."""
    return len(events(paths, "step"))


def clear(paths: RunPaths) -> None:
    """Makes a run that is over one that can be claimed again."""
    for path in (paths.claim, paths.exit, paths.stop, paths.pause):
        path.unlink(missing_ok=True)


def finish(paths: RunPaths) -> None:
    """Runs a worker to its end."""
    assert start(paths).wait(LIMIT) == 0
    assert read_events(paths.events)[-1]["kind"] == "finished", paths.log.read_text()[-3000:]


def losses(paths: RunPaths) -> dict[int, float]:
    """The last loss of each step."""
    return {event["step"]: event["loss"] for event in events(paths, "step")}


def test_killed_at_any_time_a_run_ends_as_if_it_had_not_been(submit: Callable[..., RunPaths]) -> None:
    whole, paths = submit(), submit()
    finish(whole)
    randomizer, seen = random.Random(os.getpid()), 0
    for _ in range(2):
        process = start(paths)
        aim = seen + randomizer.randrange(2, 12)
        wait_for(lambda aim=aim: steps_logged(paths) >= aim, LIMIT)
        (worker,) = psutil.Process(process.pid).children()
        worker.kill()
        process.wait(LIMIT)
        assert read_json(paths.exit)["signal"] == signal.SIGKILL
        clear(paths)
        seen = steps_logged(paths)
    finish(paths)
    assert len(events(paths, "started")) == 3 and len(events(paths, "resumed")) == 2
    assert not events(paths, "note")
    assert losses(paths) == pytest.approx(losses(whole), abs=1e-6)
    twice = [event for event in events(paths, "step") if event["loss"] != pytest.approx(losses(whole)[event["step"]])]
    assert not twice  # also the steps that were logged again
    with RunFold(paths).reading(Curves, RunProgress) as fold:
        curves, progress = fold.part(Curves).delta(paths.id), fold.part(RunProgress)
    assert curves["train"]["step"] == list(range(1, STEPS + 1))
    assert curves["eval"]["step"] == [*range(7, STEPS, 7), STEPS]
    assert progress.step == STEPS and progress.summary["seconds"] > 0


def test_pausing_ends_the_worker_and_the_next_goes_on(submit: Callable[..., RunPaths]) -> None:
    paths = submit()
    process = start(paths)
    wait_for(lambda: steps_logged(paths) >= 3, LIMIT)
    paths.pause.touch()
    assert process.wait(LIMIT) == 0
    last = read_events(paths.events)[-1]
    done = steps_logged(paths)
    assert (last["kind"], last["step"]) == ("paused", done) and last["summary"]["seconds"] > 0
    assert read_json(paths.exit)["code"] == 0
    assert not paths.adapter.exists() and read_json(paths.checkpoint / "state.json")["step"] == done
    clear(paths)
    with paths.events.open("ab") as file:
        file.write(b'{"v":1,"kind":"st')  # as a kill in the middle of a line leaves it
    finish(paths)
    assert [event["step"] for event in events(paths, "resumed")] == [done]
    assert [event["step"] for event in events(paths, "step")] == list(range(1, STEPS + 1))
    assert len([event for event in events(paths, "eval") if "base/eval/loss" in event["metrics"]]) == 1
    assert events(paths, "finished")[0]["summary"]["seconds"] > last["summary"]["seconds"]


def test_a_signal_while_a_pause_is_waited_for_leaves_a_paused_run(submit: Callable[..., RunPaths]) -> None:
    paths = submit(steps=5000)
    process = start(paths)
    wait_for(lambda: (paths.checkpoint / "state.json").exists(), LIMIT)
    (worker,) = psutil.Process(process.pid).children()
    worker.suspend()
    paths.pause.touch()
    worker.terminate()
    worker.resume()
    assert process.wait(LIMIT) == 0
    assert read_events(paths.events)[-1]["kind"] == "paused"


def test_a_damaged_checkpoint_is_told_in_events_and_log(submit: Callable[..., RunPaths]) -> None:
    paths = submit(steps=4)
    paths.checkpoint.mkdir()
    (paths.checkpoint / "state.json").write_text("{")
    finish(paths)
    (note,) = events(paths, "note")
    assert note["message"] in paths.log.read_text() and "Traceback" not in paths.log.read_text()
    assert [event["step"] for event in events(paths, "step")] == [1, 2, 3, 4]
