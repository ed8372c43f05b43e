"""What an experiment asks, and which runs that takes, in which order."""

import math

import pytest

from peft_studio.errors import ConfigError
from peft_studio.experiments.equal_size import fit_size
from peft_studio.experiments.plan import ROUNDS, RunPart, cells_of, config_of, parse_plan, parts_due

BASE = {"task": {"id": "bistro"}, "method": {"name": "lora"}, "training": {"max_steps": 60, "seed": 5}}
METHODS = {"question": "Which?", "base": BASE, "vary": [{"field": "method", "values": ["lora", "ia3"]}], "seeds": 2}


def test_each_method_has_its_own_rate_and_all_the_same_seeds() -> None:
    plan = parse_plan(METHODS)
    lora, ia3 = cells = cells_of(plan)
    assert lora.config.training.learning_rate != ia3.config.training.learning_rate
    assert [(part.cell, part.seed, part.round) for part in parts_due(plan, cells, {})] == [
        (0, 5, None), (1, 5, None), (0, 6, None), (1, 6, None)
    ]  # fmt: skip


def test_two_fields_make_a_grid() -> None:
    vary = [{"field": "method.rank", "values": [2, 8]}, {"field": "training.max_steps", "values": [10, 20, 40]}]
    cells = cells_of(parse_plan({**METHODS, "vary": vary}))
    assert len(cells) == 6 and cells[1].name == "rank 2, 20 steps"
    config = cells[4].config.model_dump()
    assert config["method"]["rank"] == 8 and config["training"]["max_steps"] == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vary": []}, "vary"),
        ({"vary": [{"field": "rank", "values": [1]}]}, "method.rank, training.max_steps"),
        ({"vary": [{"field": "method.rank", "values": [1, 1000]}]}, "With 'rank 1,000'"),
        ({"vary": [{"field": "method", "values": ["lora", "lora"]}]}, "the same"),
        ({"vary": [{"field": "method", "values": ["lroa"]}]}, "lora"),
        ({"vary": [{"field": "method.rank", "values": list(range(1, 61))}], "seeds": 20}, "1200 runs"),
        ({"vary": [{"field": "training.seed", "values": [1, 2]}]}, "seeds ="),
        ({"vary": [{"field": "training.learning_rate", "values": [1e-3]}], "own_rates": True}, "own_rates"),
        ({"vary": [{"field": "method", "values": ["lora"], "value": 1}]}, "field, values"),
        ({"equal_parameters": 9, "vary": [{"field": "method.rank", "values": list(range(1, 18))}]}, "At most 16"),
        ({"seed": 3}, "Unknown key 'seed'"),
        ({"question": ""}, "question"),
    ],
)
def test_what_is_wrong_is_said(change: dict, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_plan({**METHODS, **change})
    assert words in str(told.value)


def test_a_search_for_rates_halves_and_never_looks_at_tests() -> None:
    plan = parse_plan({**METHODS, "vary": [{"field": "method", "values": ["lora"]}], "own_rates": True})
    (cell,) = cells = cells_of(plan)
    known: dict[RunPart, float | None] = {}
    first = parts_due(plan, cells, known)
    assert len(first) == ROUNDS[0][0] and {part.round for part in first} == {0}
    assert config_of(cell, first[0]).training.max_steps == 10
    known |= {part: None for part in first}
    assert parts_due(plan, cells, known) == []  # they train
    # the second smallest rate is best, the smallest comes next; one has failed
    losses = [1.2, 1.1, 1.5, 2.0, math.inf]
    known |= dict(zip(sorted(first, key=lambda part: part.rate), losses, strict=True))
    second = parts_due(plan, cells, known)
    assert sorted(part.rate for part in second) == sorted(part.rate for part in first)[:2]
    known |= {part: 0.9 if part.rate == min(one.rate for one in second) else 1.0 for part in second}
    final = parts_due(plan, cells, known)
    assert [(part.round, part.seed) for part in final] == [(None, 5), (None, 6)]
    assert {part.rate for part in final} == {min(part.rate for part in first)}
    assert config_of(cell, final[1]).training.model_dump() == {
        **cell.config.training.model_dump(), "learning_rate": final[1].rate, "seed": 6
    }  # fmt: skip


def test_methods_are_made_the_same_size() -> None:
    cells = cells_of(parse_plan({**METHODS, "vary": [{"field": "method", "values": ["lora", "prefix", "bitfit"]}]}))
    per_unit = {"lora": ("rank", 1000), "prefix": ("virtual_tokens", 300)}
    for cell in cells:
        found = per_unit.get(cell.config.method.name)

        def count(config: object, found: tuple[str, int] | None = found) -> int:
            return 77 if found is None else found[1] * int(getattr(config.method, found[0]))  # type: ignore[attr-defined]

        config, params = fit_size(cell.config, 6_100, count)
        assert params == count(config)
        assert params == 77 if found is None else abs(params / 6_100 - 1) < 0.05
    lora, _ = fit_size(cells[0].config, 6_100, lambda config: 1000 * config.method.rank)  # type: ignore[attr-defined]
    assert (lora.method.rank, lora.method.alpha) == (6, 12)  # type: ignore[attr-defined]  # the same scale
