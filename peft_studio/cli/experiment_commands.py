"""Commands for experiments: several runs as one question, made one after another, and the answer as far as it is."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.cli.printing import Add, open_manager, print_json, print_table
from peft_studio.files import atomic_write, exclusive
from peft_studio.settings import Settings, prepare_home

if TYPE_CHECKING:
    from peft_studio.experiments.lab import Lab

_WORDS = {
    "start": "Ask a question of several runs: a ready one, or a YAML file with question, base, vary and fairness.",
    "resume": "Make the runs that an experiment still lacks.",
    "stop": "Make no more runs of an experiment, and stop those that there are.",
    "delete": "Delete an experiment; its runs stay unless --runs is given.",
    "show": "Show an experiment's table and what it answers.",
    "list": "List the experiments.",
    "export": "Write the answer to a file: .html, .ipynb, .md, .csv, .json, .yaml, .svg or .png.",
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
            found.add_argument("plan", metavar="PLAN", help="a YAML file, or the name of a ready experiment")
        elif name != "list":
            found.add_argument("id", metavar="EXPERIMENT_ID")
        if name == "delete":
            found.add_argument("--runs", action="store_true", help="delete its runs, too")
        if name == "export":
            found.add_argument("--out", type=Path, required=True, metavar="FILE")
            found.add_argument("--figure", help="for .svg and .png: intervals, curves, pareto, matrix or grid")


def _do(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.experiments.exports import export
    from peft_studio.experiments.lab import Lab

    manager = open_manager(settings)
    lab = Lab(manager, _estimate)
    if options.action == "list":
        return _list(lab, options.json)
    made = _start(lab, settings, options.plan) if options.action == "start" else options.id
    if options.action == "resume":
        lab.resume(made)
    if options.action in ("start", "resume"):
        _conduct(lab, settings, made)
    if options.action in ("stop", "delete"):
        told = lab.stop(made) if options.action == "stop" else f"deleted, with {lab.delete(made, options.runs)} runs"
        print_json({"experiment_id": made, "state": told}) if options.json else print(f"{made}: {told}")
        return 0
    lab.settle(made)
    answer = lab.answer(made)
    if options.action == "export":
        made_file = export(answer, options.out.suffix.removeprefix("."), settings.runs_dir, options.figure or "")
        atomic_write(options.out, made_file.content)
        print_json({"experiment_id": made, "file": str(options.out)}) if options.json else print(options.out)
    elif options.json:
        print_json(answer)
    else:
        _print(answer)
    return 0


def _estimate(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the engine answers in an app, made here."""
    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import parse_config
    from peft_studio.training.estimates.estimate import estimate

    return estimate(resolve(parse_config(config)))


def _list(lab: "Lab", as_json: bool) -> int:
    found = lab.all()
    if as_json:
        print_json(found)
    else:
        rows = [(one["id"], one["state"], one["question"], *one["words"]) for one in found]
        print_table(rows or [("No experiments yet.",)])
    return 0


def _start(lab: "Lab", settings: Settings, file: str) -> str:
    """Reads a plan, settles the sizes, checks every run, tells the cost, and writes the experiment."""
    from peft_studio.config.presets import load_preset
    from peft_studio.experiments.ready import ready_plan

    named = Path(file).suffix in (".yaml", ".yml")
    plan = load_preset(file) if named else ready_plan(file)
    told = lab.cost(plan)
    for words in (told["words"], *told["problems"]):
        print(words, file=sys.stderr)
    prepare_home(settings)
    made = lab.start(plan)
    print(f"experiment {made}: {len(told['cells'])} cells, {told['runs']} runs", file=sys.stderr)
    return made


def _conduct(lab: "Lab", settings: Settings, made: str) -> None:
    """Makes the runs that are due, one after another, until none is; or leaves that to the app that is running."""
    from peft_studio.cli.follow import Follower
    from peft_studio.cli.launchers import take_up
    from peft_studio.experiments.conductor import LOCK, name_of, note_search
    from peft_studio.experiments.plan import config_of
    from peft_studio.experiments.state import progress_of

    manager = lab.manager
    if manager.app_is_running():
        print(f"The app makes its runs; 'experiment show {made}' tells how far it is.", file=sys.stderr)
        return
    with exclusive(lab.store.folder(made) / LOCK):
        while True:
            note_search(lab, lab.store.load(made), lab.infos())
            experiment = lab.store.load(made)
            progress = progress_of(experiment, lab.infos())
            if not progress.due or experiment.stopped:
                return
            part = progress.due[0]
            config = config_of(experiment.cells[part.cell], part)
            paths, hand = take_up(manager, config, name_of(experiment, part), "")
            lab.store.add(made, part, paths.id)
            print(f"{name_of(experiment, part)}: run {paths.id}", file=sys.stderr)
            info = Follower(paths, hand, config.training.max_steps, manager.executor.lives).wait()
            if info.status in ("stopped", "paused"):
                print(f"Stopped; 'experiment resume {made}' goes on.", file=sys.stderr)
                return


def _print(answer: dict[str, Any]) -> None:
    print(answer["question"])
    from peft_studio.experiments.tables import short_rows

    print_table(short_rows(answer))
    runs = answer["runs"]
    if not answer["done"]:
        print(f"{runs['over']} of {runs['of']} runs are over; 'experiment resume {answer['id']}' makes the others.")
    for sentence in (*answer["words"], *answer["holes"]):
        print(sentence)
