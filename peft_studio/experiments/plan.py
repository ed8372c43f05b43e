"""What an experiment asks: what is varied, under which rule of fairness, and the runs that this takes."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from peft_studio.config.run_config import RunConfig, config_error, parse_config
from peft_studio.errors import ConfigError, shown
from peft_studio.methods import METHODS

MOST_CELLS, MOST_RUNS = 64, 400
MOST_SIZED = 16
"""Cells that may be made the same size: each is counted some ten times."""
HALF_DECADES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Powers of ten around the recommended rate that a search begins with."""
ROUNDS = ((5, 6), (2, 2))
"""Of a search for a rate: how many rates train, and by what the run's steps are divided."""
SEARCHED = tuple(rates for rates, _ in ROUNDS)


class Strict(BaseModel):
    """Base of what an experiment's file holds: unknown keys and other types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Varied(Strict):
    """One thing that is varied."""

    field: str = Field(max_length=100, description="method, or section.key such as method.rank or task.id.")
    values: list[Any] = Field(min_length=1, max_length=MOST_CELLS, description="Its values; methods by name.")


class ExperimentPlan(Strict):
    """A question to several runs, completely; ``experiment.json`` and the files of ``experiment start`` hold it."""

    question: str = Field(min_length=1, max_length=500, description="What is asked, in words.")
    base: dict[str, Any] = Field(default_factory=dict, description="A RunConfig; what is varied may be missing in it.")
    vary: list[Varied] = Field(min_length=1, max_length=2, description="One thing, or two as a grid.")
    seeds: int = Field(3, ge=1, le=20, description="Runs of each cell; rows and order are the same for all cells.")
    own_rates: bool = Field(
        False, description="Each cell gets the learning rate that does best on validation rows in short runs."
    )
    equal_parameters: int = Field(
        0, ge=0, le=10**12, description="Trainable parameters that every method is sized to; 0: sizes as given."
    )
    metric: str = Field("eval/loss", max_length=100, description="What decides: eval/loss, test/bleu and so on.")
    better: Literal["", "higher", "lower"] = Field("", description="Which way is better; known for our own metrics.")

    @model_validator(mode="after")
    def _is_small_enough(self) -> "ExperimentPlan":
        cells = math.prod(len(one.values) for one in self.vary)
        runs = self.counted + self.searching
        if cells > MOST_CELLS or runs > MOST_RUNS:
            raise ConfigError(
                f"The experiment asks for {cells} cells and {runs} runs; at most {MOST_CELLS} and {MOST_RUNS} fit.",
                "vary",
            )
        varied = [one.field for one in self.vary]
        if "training.seed" in varied:
            raise ConfigError("training.seed cannot be varied: seeds = how many runs a cell has.", "vary.field")
        if self.own_rates and "training.learning_rate" in varied:
            raise ConfigError("With own_rates the learning rate is searched for, and cannot be varied.", "own_rates")
        if len(set(varied)) < len(varied):
            raise ConfigError(f"{shown(varied[0])} is varied twice.", "vary.field")
        if self.equal_parameters and cells > MOST_SIZED:
            raise ConfigError(
                f"At most {MOST_SIZED} cells can be made the same size (equal_parameters), not {cells}.",
                "equal_parameters",
            )
        return self

    @property
    def counted(self) -> int:
        """Runs that the answer is made of."""
        return math.prod(len(one.values) for one in self.vary) * self.seeds

    @property
    def searching(self) -> int:
        """Short runs by which learning rates are chosen."""
        return math.prod(len(one.values) for one in self.vary) * sum(SEARCHED) if self.own_rates else 0

    @property
    def lower_is_better(self) -> bool:
        """Whether smaller values of the metric are better; a loss, unless the plan says otherwise."""
        return self.better == "lower" or (not self.better and self.metric.endswith("loss"))


@dataclass(frozen=True)
class Cell:
    """One combination of what is varied.

    Attributes:
        name: For people, such as ``LoRA`` or ``rank 8, bistro``.
        config: Of its runs, but for rate, seed and length.
        values: What is varied, by field; a method that has only a name by its title.
    """

    name: str
    config: RunConfig
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunPart:
    """One run's part in an experiment.

    Attributes:
        cell: Number of its cell.
        round: Of the search for a rate; None when the run counts for the answer.
        rate: Peak learning rate.
        seed: Of rows' order and starts.
    """

    cell: int
    round: int | None
    rate: float
    seed: int


def parse_plan(data: object) -> ExperimentPlan:
    """Validates a plain mapping, as read from YAML or JSON.

    Raises:
        ConfigError: Names the key, the value and what is allowed.
    """
    plan = read_plan(data)
    cells_of(plan)
    return plan


def read_plan(data: object) -> ExperimentPlan:
    """The same without a look at its cells, as for a plan that was checked before.

    Raises:
        ConfigError: As from `parse_plan`.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"An experiment is a mapping of keys to values, not {type(data).__name__}.")
    try:
        return ExperimentPlan.model_validate(dict(data))
    except ValidationError as exc:
        raise config_error(exc, _keys_at(exc)) from exc


def _keys_at(exc: ValidationError) -> list[str]:
    """What may stand where an unknown key was found."""
    inside = any(len(error["loc"]) > 1 and error["loc"][0] == "vary" for error in exc.errors())
    return list((Varied if inside else ExperimentPlan).model_fields)


def cells_of(plan: ExperimentPlan) -> list[Cell]:
    """Every combination of what is varied.

    Raises:
        ConfigError: One of them is no valid run; the message names it.
    """
    cells = []
    for values in itertools.product(*(one.values for one in plan.vary)):
        chosen = {one.field: value for one, value in zip(plan.vary, values, strict=True)}
        name = ", ".join(_named(key, value) for key, value in chosen.items())
        try:
            config = parse_config(_with(plan.base, chosen))
        except ConfigError as exc:
            raise ConfigError(f"With {shown(name)}: {exc}", exc.path) from exc
        if plan.metric.startswith("test/") and not config.training.answers:
            raise ConfigError(
                f"With {shown(name)}: {plan.metric} needs training.answers = true, which answers the test rows.",
                "training.answers",
            )
        cells.append(Cell(name, config, {key: told_value(key, value) for key, value in chosen.items()}))
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise ConfigError(
            "Two cells of the experiment are the same; each value of what is varied must differ.", "vary"
        )
    return cells


RATED = ("method", "method.name", "model.id", "task.id")
"""What another learning rate is recommended with."""


def _with(base: Mapping[str, Any], chosen: Mapping[str, object]) -> dict[str, Any]:
    """A config with other values; another method, model or task starts from its own recommended rate."""
    config: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    config.setdefault("training", {})
    if isinstance(config["training"], dict) and any(one in RATED for one in chosen):
        config["training"].pop("learning_rate", None)
    for place, value in sorted(chosen.items(), key=lambda item: item[0] != "method"):
        section, dot, key = place.partition(".")
        if place == "method":
            config["method"] = dict(value) if isinstance(value, Mapping) else {"name": value}
        elif dot and section in RunConfig.model_fields and isinstance(config.get(section, {}), Mapping):
            config[section] = {**config.get(section, {}), key: value}
        else:
            raise ConfigError(
                f"vary.field = {shown(place)} is not possible; allowed: method, or a key of a run's config such as "
                "method.rank, training.max_steps, task.id, task.train_rows or model.id.",
                "vary.field",
            )
    return config


def _named(place: str, value: object) -> str:
    if place != "method":
        return _named_value(place.rpartition(".")[2], value)
    if not isinstance(value, Mapping):
        return title_of(value)
    more = " ".join(f"{key.replace('_', ' ')} {told}" for key, told in value.items() if key != "name")
    return f"{title_of(value.get('name'))} {more}".strip()


def _named_value(key: str, value: object) -> str:
    told = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if key == "train_rows":
        return f"{told} rows" if value else "all rows"
    if key == "learning_rate":
        return f"rate {told}"
    if key == "max_steps":
        return f"{told} steps"
    return told if key == "id" else f"{key.replace('_', ' ')} {told}"


def title_of(method: object) -> str:
    """A method's title; whatever else stands in its place, as it is."""
    return METHODS[method].title if isinstance(method, str) and method in METHODS else str(method)


def told_value(place: str, value: object) -> object:
    """A value of what is varied, for tables."""
    return title_of(value) if place == "method" and isinstance(value, str) else value


def parts_due(plan: ExperimentPlan, cells: list[Cell], known: Mapping[RunPart, float | None]) -> list[RunPart]:
    """The runs that can be made now and are not there yet; of those that count one of each cell before the second.

    Args:
        plan: What is asked.
        cells: Its cells.
        known: The runs that there are: the lowest validation loss of those that are over (infinite for failed ones),
            None for others.
    """
    due: list[RunPart] = []
    for number, cell in enumerate(cells):
        training = cell.config.training
        rates = [training.learning_rate]
        searched = [_capped(training.learning_rate * 10**power) for power in HALF_DECADES]
        for turn in range(len(ROUNDS)) if plan.own_rates else ():
            wanted = [RunPart(number, turn, rate, training.seed) for rate in searched[: ROUNDS[turn][0]]]
            due.extend(part for part in wanted if part not in known)
            losses = [known.get(part) for part in wanted]
            if any(loss is None for loss in losses):
                break  # the next round needs all of this one
            order = sorted((math.inf if loss is None else loss, place) for place, loss in enumerate(losses))
            searched = [searched[place] for _, place in order]
            rates = searched[:1]
        else:
            final = [RunPart(number, None, rates[0], training.seed + seed) for seed in range(plan.seeds)]
            due.extend(part for part in final if part not in known)
    return sorted(due, key=lambda part: (part.round is None, part.round or 0, part.seed))


def _capped(rate: float) -> float:
    return float(f"{min(rate, 1.0):.4g}")


def config_of(cell: Cell, part: RunPart) -> RunConfig:
    """The config of a run. Those of a search are shorter, look at validation rows at their end, and at no test row."""
    config = cell.config.model_dump(mode="json")
    training = config["training"] | {"learning_rate": part.rate, "seed": part.seed}
    if part.round is not None:
        steps = max(1, cell.config.training.max_steps // ROUNDS[part.round][1])
        training |= {"max_steps": steps, "eval_every": steps, "epochs": 0, "answers": False, "early_stopping": 0}
    return parse_config({**config, "training": training})
