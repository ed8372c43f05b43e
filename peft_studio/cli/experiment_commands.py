"""Commands for experiments: several runs as one question, made one after another, and the answer as far as it is."""

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.cli.printing import Add, open_manager, print_json, print_table
from peft_studio.errors import ConfigError, ExperimentNotFoundError
from peft_studio.files import atomic_write
from peft_studio.settings import Settings, prepare_home

if TYPE_CHECKING:
    from peft_studio.experiments.plan import Cell, ExperimentPlan
    from peft_studio.experiments.store import ExperimentStore
    from peft_studio.jobs.manager import JobManager

_WORDS = {
    "start": "Ask a question of several runs: a YAML file with question, base, vary and a rule of fairness.",
    "resume": "Make the runs that an experiment still lacks.",
    "show": "Show an experiment's table and what it answers.",
    "list": "List the experiments.",
    "export": "Write the table and the answer to a file: .md, .csv or .json.",
}


def add_commands(add: Add) -> None:
    """Registers ``experiment`` with its own commands."""
    parser = add("experiment", _do, "Ask a question of several runs, and get an answer with its uncertainty.")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    for name, words in _WORDS.items():
        found = actions.add_parser(name, help=words, description=words)
        found.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        found.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if name == "start":
            found.add_argument("plan", metavar="FILE", help="a YAML file")
        elif name != "list":
            found.add_argument("id", metavar="EXPERIMENT_ID")
        if name == "export":
            found.add_argument("--out", type=Path, required=True, metavar="FILE")


def _do(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.experiments.answer import answer_of
    from peft_studio.experiments.store import ExperimentStore

    manager, store = open_manager(settings), ExperimentStore(settings.home)
    if options.action == "list":
        return _list(store.ids(), store, options.json)
    made = _create(manager, settings, options.plan) if options.action == "start" else options.id
    if options.action in ("start", "resume"):
        _make_runs(manager, settings, made)
    answer = answer_of(store.load(made), manager)
    if options.action == "export":
        atomic_write(options.out, written(answer, options.out.suffix))
        print_json({"experiment_id": made, "file": str(options.out)}) if options.json else print(options.out)
    elif options.json:
        print_json(answer)
    else:
        _print(answer)
    return 0


def _list(ids: list[str], store: "ExperimentStore", as_json: bool) -> int:
    found = []
    for one in ids:
        try:
            found.append({"id": one, "question": store.load(one).plan.question})
        except ExperimentNotFoundError as exc:
            found.append({"id": one, "question": f"({exc})"})
    if as_json:
        print_json(found)
    else:
        print_table([(one["id"], one["question"]) for one in found] or [("No experiments yet.",)])
    return 0


def _create(manager: "JobManager", settings: Settings, file: str) -> str:
    """Reads a plan, settles the sizes, checks every run, and writes the experiment."""
    from peft_studio.config.presets import load_preset
    from peft_studio.experiments.plan import cells_of, parse_plan
    from peft_studio.experiments.store import ExperimentStore

    if Path(file).suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{file!r} is not the name of a YAML file (.yaml or .yml).")
    plan = parse_plan(load_preset(file))
    cells = _equal_sizes(plan, cells_of(plan)) if plan.equal_parameters else cells_of(plan)
    for cell in cells:
        manager.check(cell.config)
    prepare_home(settings)
    made = ExperimentStore(settings.home).create(plan, cells)
    print(f"experiment {made}: {len(cells)} cells, {plan.seeds} seeds", file=sys.stderr)
    return made


def _equal_sizes(plan: "ExperimentPlan", cells: "list[Cell]") -> "list[Cell]":
    """The cells with sizes that train as many parameters as the plan asks for; says how close each came."""
    from dataclasses import replace

    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import RunConfig
    from peft_studio.experiments.equal_size import NEAR, fit_size
    from peft_studio.training.estimates.estimate import estimate

    def count(config: RunConfig) -> int:
        return int(estimate(resolve(config))["trainable_params"])

    fitted = []
    for cell in cells:
        config, params = fit_size(cell.config, plan.equal_parameters, count)
        off = params / plan.equal_parameters - 1
        near = "" if abs(off) <= NEAR else f" ({off:+.0%}: no size of it is nearer)"
        print(f"{cell.name}: {params:,} trainable parameters{near}", file=sys.stderr)
        fitted.append(replace(cell, config=config))
    return fitted


def _make_runs(manager: "JobManager", settings: Settings, made: str) -> None:
    """Makes the runs that are due, one after another, until none is."""
    from peft_studio.cli.follow import Follower
    from peft_studio.cli.launchers import take_up
    from peft_studio.experiments.answer import due
    from peft_studio.experiments.plan import config_of
    from peft_studio.experiments.store import ExperimentStore

    store = ExperimentStore(settings.home)
    while parts := due(experiment := store.load(made), manager):
        part = parts[0]
        cell = experiment.cells[part.cell]
        what = f"rate {part.rate:g}" if part.round is not None else f"seed {part.seed}"
        config = config_of(cell, part)
        paths, hand = take_up(manager, config, f"{cell.name}, {what}", "")
        store.add(made, part, paths.id)
        print(f"{cell.name}, {what}: run {paths.id}", file=sys.stderr)
        info = Follower(paths, hand, config.training.max_steps, manager.executor.lives).wait()
        if info.status in ("stopped", "paused"):
            print(f"Stopped; 'experiment resume {made}' goes on.", file=sys.stderr)
            return


def _print(answer: dict[str, Any]) -> None:
    print(answer["question"])
    print_table(_cells(answer))
    runs = answer["runs"]
    if not answer["done"]:
        print(f"{runs['over']} of {runs['of']} runs are over; 'experiment resume {answer['id']}' makes the others.")
    for sentence in answer["words"]:
        print(sentence)


def _cells(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}" if abs(value) < 10 else f"{value:.2f}"

    head = ("cell", answer["metric"], "spread", "runs", "failed", "rate", "trainable")
    return [head] + [
        (row["name"], shown(row["mean"]), shown(row["spread"]), len(row["values"]), row["failed"] or "",
         f"{row['rate']:g}" if row["rate"] else "", f"{row['trainable_params']:,}" if row["trainable_params"] else "")
        for row in answer["table"]
    ]  # fmt: skip


def written(answer: dict[str, Any], suffix: str) -> str:
    """The table and the answer as a file's text.

    Raises:
        ConfigError: There is no such format.
    """
    import json

    rows = _cells(answer)
    if suffix == ".json":
        return json.dumps(answer, indent=2, ensure_ascii=False) + "\n"
    if suffix == ".csv":
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return text.getvalue()
    if suffix == ".md":
        lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        return "\n".join([f"# {answer['question']}", "", *lines, "", *(f"- {one}" for one in answer["words"]), ""])
    raise ConfigError(f"{suffix!r} is no format of an export; allowed: .md, .csv, .json.")
