"""What an experiment is told to cost: by sizes before there are runs, and then by what they took."""

from collections.abc import Iterator
from typing import Any

import pytest

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.experiments.cost import Costs, in_words, plan_costs, told_costs
from peft_studio.experiments.equal_size import Estimates
from peft_studio.experiments.plan import cells_of, parse_plan
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status
from tests.experiments.conftest import PLAN, estimate


def config(method: str = "lora", **training: Any) -> RunConfig:
    return parse_config({"method": {"name": method}, "training": {"max_steps": 100, **training}})


def took(config: RunConfig, slow: float = 1.0) -> RunInfo:
    """A run as a machine makes it that takes 0.02 s for a row of training, 0.006 s to read one and 2 s to start."""
    training = config.training
    steps, rows = training.max_steps, training.batch_size
    step_seconds = 0.02 * slow * rows
    read = training.eval_rows * (-(-steps // training.eval_every) + 5) * 0.006 * slow
    fields: dict[str, Any] = dict.fromkeys(RunInfo.__dataclass_fields__)
    fields |= {
        "status": Status.FINISHED, "method": config.method.name, "model": config.model.id, "task": config.task.id,
        "config": config.model_dump(mode="json"), "step": steps, "steps_per_second": 1 / step_seconds,
        "tokens_per_second": rows * 80 / step_seconds, "total_params": 3_100_000, "metrics": {"test/bleu": 30.0},
        "seconds": 2.0 * slow + steps * step_seconds + read,
    }  # fmt: skip
    return RunInfo(**fields)


@pytest.mark.parametrize("slow", [0.3, 1.0, 5.0])
def test_runs_of_other_lengths_are_told_by_those_that_were(slow: float) -> None:
    known = [took(config(max_steps=60, eval_rows=100), slow), took(config("ia3", max_steps=300), slow)]
    for other in (config(max_steps=600), config(max_steps=20, eval_rows=300), config("ia3", max_steps=90),
                  config("houlsby", batch_size=4)):  # fmt: skip
        seconds = took(other, slow).seconds
        assert seconds is not None and 1 / 1.5 < Costs(known, 2).seconds(other) / seconds < 1.5


def test_before_any_run_sizes_tell_and_how_busy_the_machine_is() -> None:
    quiet, busy = Costs([], 2).seconds(config()), Costs([], 2, busy=4.0).seconds(config())
    assert 10 < quiet < 120 and busy == pytest.approx(4 * quiet)
    large = parse_config({"model": {"id": "smollm2-135m"}, "method": {"name": "lora"}, "training": {}})
    assert Costs([], 2).seconds(large) > 20 * quiet


def test_a_search_counts_and_what_cannot_be_sized_is_told() -> None:
    plan = parse_plan({**PLAN, "own_rates": True, "equal_parameters": 6100, "seeds": 2})
    costs = Costs([], 2)
    found = plan_costs(plan, cells_of(plan), costs, Estimates(estimate))
    told = told_costs(plan, found)
    assert (told["runs"], told["search_runs"]) == (4, 14) and "4 runs and 14 short ones" in told["words"]
    plain = plan_costs(parse_plan(PLAN), cells_of(plan), costs, None)
    assert sum(one.seconds for one in plain) < told["seconds"] < 8 * sum(one.seconds for one in plain)
    lora, ia3 = told["cells"]
    assert abs(lora["off_by"]) < 0.05 and lora["sizable"] and not ia3["sizable"]
    (problem,) = told["problems"]
    assert problem == "(IA)³: -99% parameters beside what is asked for; it has no size that could be set."


def names() -> Iterator[tuple[float, str]]:
    yield from ((0.2, "1 seconds"), (80, "80 seconds"), (600, "10 minutes"), (9000, "2.5 hours"))


def test_lengths_of_time_in_words() -> None:
    assert [in_words(seconds) for seconds, _ in names()] == [words for _, words in names()]
