"""The commands that list what there is: methods, base models, tasks, and data sets, which they also fetch."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from peft_studio.cli.printing import print_json, print_table
from peft_studio.errors import ConfigError
from peft_studio.settings import Settings, prepare_home


def methods(options: argparse.Namespace, _settings: Settings) -> int:
    """Lists the methods."""
    from peft_studio.methods import METHODS

    if not options.json:
        print_table([(method.name, method.title, method.summary) for method in METHODS.values()])
        return 0
    print_json([method.described() for method in METHODS.values()])
    return 0


def models(options: argparse.Namespace, _settings: Settings) -> int:
    """Lists the base models of the catalogue, or searches the Hub."""
    from peft_studio.models.catalog import MODELS
    from peft_studio.models.hub import search_models

    cards = search_models(options.search) if options.search else list(MODELS.values())
    if options.json:
        found = [{**asdict(card), "kind": card.kind, "suits": card.suits} for card in cards]
        print_json([{name: value for name, value in card.items() if name != "path"} for card in found])
    else:
        rows = [(card.id, card.size, card.kind, card.licence, card.good_for or card.summary) for card in cards]
        print_table([("model", "parameters", "kind", "licence", "good for"), *rows])
    return 0


def data(options: argparse.Namespace, settings: Settings) -> int:
    """Lists or searches data sets, or gets one."""
    from peft_studio.models.hub import search_datasets
    from peft_studio.tasks.hub_catalogue import HUB_DATA

    if options.action:
        return _fetch(options, settings)
    rows: list[Sequence[Any]]
    if options.search:
        hits = search_datasets(options.search)
        found = [asdict(hit) for hit in hits]
        rows = [(hit.id, ", ".join(hit.tasks), hit.licence, hit.title) for hit in hits]
    else:
        found = [asdict(entry) for entry in HUB_DATA.values()]
        rows = [(entry.id, entry.kind, entry.licence, entry.summary) for entry in HUB_DATA.values()]
    print_json(found) if options.json else print_table([("data set", "kind", "licence", "about"), *rows])
    return 0


def _fetch(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.tasks.hub_catalogue import find_data
    from peft_studio.tasks.hub_data import fetch, task_settings

    if not options.id:
        raise ConfigError("Which data set? Give a name of the list, a Hub id, or a folder with data files.")
    prepare_home(settings)
    data = find_data(options.id, options.config, options.input, options.target)

    def say(words: str) -> None:
        print(f"progress: {words}", file=sys.stderr, flush=True)

    files = fetch(data, settings.home, say=say)
    say("Looking at the columns")
    task = task_settings(data, files)
    if options.json:
        print_json({"files": {split: str(file) for split, file in files.items()}, "task": task})
    else:
        print_table([(split, file) for split, file in files.items()])
        print("In a preset:\ntask:")
        print("\n".join(f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in task.items()))
    return 0


def tasks(options: argparse.Namespace, _settings: Settings) -> int:
    """Lists the tasks."""
    from peft_studio.tasks import TASKS

    if not options.json:
        print_table([(task.name, task.title) for task in TASKS.values()])
        return 0
    shown = ("name", "title", "kind", "description", "template", "headline")
    print_json([{key: getattr(task, key) for key in shown} for task in TASKS.values()])
    return 0
