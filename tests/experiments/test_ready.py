"""Ready experiments: each can be started as it is, and is small enough for two cores."""

import pytest

from peft_studio.errors import ConfigError
from peft_studio.experiments.cost import Costs, plan_costs
from peft_studio.experiments.lab import Lab
from peft_studio.experiments.plan import cells_of, parse_plan
from peft_studio.experiments.ready import ready_list, ready_names, ready_plan
from peft_studio.tasks import TASKS

MOST_MINUTES = 45
NAMES = ready_names()


def test_the_questions_of_the_issue_are_there() -> None:
    assert NAMES[:5] == ["same-budget", "rank", "layers", "rows", "rate-or-method"]
    first = ready_plan("same-budget")
    assert first["vary"][0]["values"] == ["lora", "prefix", "houlsby", "bitfit", "ln_tuning", "ia3"]
    assert first["own_rates"] and first["seeds"] == 3 and first["equal_parameters"]
    with pytest.raises(ConfigError, match="rank"):
        ready_plan("ranks")


@pytest.mark.parametrize("name", NAMES)
def test_each_can_start_and_is_small(lab: Lab, name: str) -> None:
    plan = parse_plan(ready_plan(name))
    cells = cells_of(plan)
    for cell in cells:
        lab.manager.check(cell.config)
        kind = TASKS[cell.config.task.id]
        assert plan.metric == "eval/loss" or plan.metric.startswith("test/")
        assert (kind.kind == "classification") == (plan.metric == "test/accuracy")
    assert sum(one.seconds for one in plan_costs(plan, cells, Costs([], 2), None)) < 60 * MOST_MINUTES


def test_what_the_page_offers() -> None:
    found = ready_list(Costs([], 2))
    assert [one["id"] for one in found] == NAMES and all(one["minutes"] >= 1 for one in found)
    assert found[0]["runs"] == 18 and found[0]["search_runs"] == 42
    assert found[0]["vary"] == "method: LoRA, Prefix tuning, Houlsby adapters, BitFit, LN tuning, (IA)³"
    assert found[3]["vary"] == "train rows: 10, 30, 100, 300, 1000, 0"
