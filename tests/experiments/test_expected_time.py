"""The time of a run, told before it is submitted, and the time until it starts."""

from dataclasses import replace

import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.experiments.cost import CellFacts, Costs
from peft_studio.experiments.expected_time import expected_run, wait_for_start
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status

CONFIG = parse_config({"method": {"name": "lora"}, "training": {"max_steps": 100, "eval_rows": 16}})
EMPTY = dict.fromkeys(
    ("reason", "created", "loss", "eval_loss", "trainable_params", "trainable_share", "tokens_per_second",
     "eta_seconds", "peak_memory_bytes", "adapter_bytes", "stage", "learning_rate")
)  # fmt: skip


def run(status: Status = Status.FINISHED, seconds: float | None = 40.0, **more: object) -> RunInfo:
    info = RunInfo(
        **EMPTY, id="a", name="", title="", method="lora", model=CONFIG.model.id, task=CONFIG.task.id, status=status,
        started=1000.0, step=100, max_steps=100, metrics={"test/bleu": 1.0}, total_params=3_000_000,
        steps_per_second=4.0, seconds=seconds, config=CONFIG.model_dump(mode="json"),
    )  # fmt: skip
    return replace(info, **more)


def test_what_was_measured_here_is_expected_again() -> None:
    done = run(metrics={"test/bleu": 1.0, "base/test/bleu": 0.5})
    found = expected_run(CONFIG, CellFacts(), 0, [done], Costs([done], 2))
    assert found.runs == 1 and found.seconds == pytest.approx(40.0, rel=0.05)
    none = expected_run(CONFIG, CellFacts(), 0, [], Costs([], 2))
    assert none.runs == 0 and none.seconds > 2


def test_base_answers_count_until_they_are_known() -> None:
    done = run()
    known = run(metrics={"test/bleu": 1.0, "base/test/bleu": 0.5})
    first = expected_run(CONFIG, CellFacts(), 0, [done], Costs([done], 2)).seconds
    assert first > expected_run(CONFIG, CellFacts(), 0, [known], Costs([known], 2)).seconds


def test_epochs_decide_the_steps() -> None:
    twice = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"epochs": 2})})
    once, costs = CONFIG.training.batch_size * 100, Costs([run()], 2)
    steps = twice.training.steps_for(once)
    assert steps == 200
    longer = expected_run(twice, CellFacts(), once, [run()], costs).seconds
    assert longer > expected_run(CONFIG, CellFacts(), once, [run()], costs).seconds + 20


def test_a_queue_is_waited_for() -> None:
    busy = run(Status.RUNNING, seconds=None, eta_seconds=12.0, step=50)
    queued = run(Status.QUEUED, seconds=None, steps_per_second=None, step=0, queue_position=1)
    held = replace(queued, held=True, queue_position=None)
    costs = Costs([run()], 2)
    each = costs.seconds(CONFIG)
    assert wait_for_start([], 1, costs) == 0
    assert wait_for_start([busy, held], 2, costs) == 0
    assert wait_for_start([busy], 1, costs) == 12
    assert wait_for_start([queued, busy], 1, costs) == pytest.approx(12 + each)
    assert wait_for_start([queued, busy], 2, costs) == pytest.approx(min(12, each))
