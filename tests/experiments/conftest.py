"""A lab over runs that no worker makes: tests end them as a worker would have written them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from peft_studio.experiments.conductor import Conductor
from peft_studio.experiments.lab import Lab
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.claims import claim_run, write_exit
from peft_studio.runs.events import EventWriter
from peft_studio.settings import Access, Settings, prepare_home

BASE = {"task": {"id": "bistro"}, "training": {"max_steps": 60, "eval_every": 30, "eval_rows": 4}}
PLAN = {
    "question": "Which method?", "base": BASE, "vary": [{"field": "method", "values": ["lora", "ia3"]}],
    "seeds": 2, "metric": "test/accuracy",
}  # fmt: skip


def estimate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Counts as if a method had a thousand parameters for each unit of its size."""
    method = config["method"]
    size = next((method[name] for name in ("rank", "bottleneck_dim", "virtual_tokens") if name in method), 0)
    return {"trainable_params": 1000 * size or 77, "tokens_per_row": 80}


def finish(
    lab: Lab, run: str, answers: str = "aabb", loss: float = 1.0, seconds: float = 10.0, failed: bool = False
) -> None:
    """Ends a run: its answers to four test rows whose right answer is ``a``, and its validation loss."""
    paths = lab.manager.store.paths(run)
    claim_run(paths, by="test", hold=False)
    writer = EventWriter(paths.events)
    if failed:
        writer.emit("failed", error="TrainingError", message="The loss became NaN.")
    else:
        score = 100 * answers.count("a") / len(answers)
        writer.emit("started", trainable_params=8000, total_params=100_000, max_steps=60, t0=0)
        for step in (30, 60):
            writer.emit("step", step=step, loss=loss, tokens=step * 100, elapsed=step * 0.1)
            writer.emit("eval", step=step, tokens=0, elapsed=0.0, metrics={"eval/loss": loss + 1 / step}, rows="v")
        writer.emit("saved", path="adapter", bytes=1234, step=60)
        writer.emit("stage", name="answering the test rows")
        writer.emit("eval", step=60, tokens=0, elapsed=0.0, metrics={"test/accuracy": score}, rows="t")
        writer.emit("eval", step=0, tokens=0, elapsed=0.0, metrics={"base/test/accuracy": 25.0}, rows="t")
        writer.emit("finished", step=60, summary={"seconds": seconds, "steps_per_second": 10.0})
        rows = [{"prediction": one, "references": ["a"], "target": "a", "prompt": ""} for one in answers]
        paths.predictions.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    writer.close()
    write_exit(paths, code=0, signal=None)
    lab.manager._index.changed()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of a private app."""
    return make_lab(tmp_path / "home")


def make_lab(home: Path, access: Access = Access.PRIVATE, **settings: Any) -> Lab:
    made = Settings(home=home, access=access, **settings)
    prepare_home(made)
    return Lab(JobManager(made), estimate)


@pytest.fixture
def conductor(lab: Lab) -> Conductor:
    """A conductor that looks when it is told to, and may have all runs of an experiment in the queue."""
    found = Conductor(lab)
    found._at_once = 100
    return found
