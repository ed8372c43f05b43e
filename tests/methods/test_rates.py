"""The table of recommended learning rates: complete, strict, and what the registry reads."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from peft_studio.config.run_config import recommended_rate
from peft_studio.methods import METHODS
from peft_studio.methods.base import NANO_PARAMS
from peft_studio.methods.rates import KINDS, TABLE, Rate, chosen, measured
from peft_studio.tasks import TASKS

ROWS: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))


def test_the_table_holds_all_methods_and_no_other() -> None:
    assert set(ROWS) == set(METHODS)
    for name, method in METHODS.items():
        assert dict(method.rates) == measured(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_says_on_what_it_was_measured(kind: Any) -> None:
    for name, method in METHODS.items():
        found = method.rates[kind]
        assert TASKS[found.task].kind == kind, name
        assert found.model in ("nano-lm", "nano-encoder"), name
        assert (found.loss is None) == (found.steps == 0) == (found.seeds == 0), name
        assert found.loss is None or f"{found.steps} steps" in found.origin, name


def test_a_method_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        measured("nothing")


@pytest.mark.parametrize("entry", [{"rate": 0.0}, {"rate": 2.0}, {"rate": "0.1"}, {"rate": 0.1, "epochs": 3}, {}])
def test_a_damaged_entry_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rate.model_validate(entry)


def test_a_new_methods_rate_is_not_called_measured() -> None:
    assert {rate.origin for rate in chosen(0.01).values()} == {"not measured"}


def test_recommended_rates_follow_task_and_size() -> None:
    for name, method in METHODS.items():
        assert recommended_rate(name, "nano-lm", "bistro") == method.rates["generation"].rate == method.learning_rate
        assert recommended_rate(name, "nano-encoder", "reviews") == method.rates["classification"].rate
        assert method.rate_for(NANO_PARAMS + 1, True) == method.rate_for(NANO_PARAMS + 1) == method.learning_rate_large
