"""The list of runs as changes: they add up to the list, whatever a page has missed."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.jobs.run_list import RunList, plain
from peft_studio.runs.reader import RunInfo
from peft_studio.settings import Settings, prepare_home


@pytest.fixture
def info(tmp_path: Path) -> RunInfo:
    settings = Settings(home=tmp_path)
    prepare_home(settings)
    manager = JobManager(settings)
    return manager.library.info(manager.submit(parse_config({"method": {"name": "lora"}, "training": {}})))


@pytest.mark.parametrize("seed", range(10))
def test_changes_add_up(seed: int, info: RunInfo) -> None:
    dice, infos, made = random.Random(seed), [], 0
    runs = RunList(lambda: list(infos))
    pages: list[tuple[int, dict, list]] = [(0, {}, []) for _ in range(3)]
    for _ in range(60):
        for _ in range(dice.randrange(3)):
            infos.insert(0, replace(info, id=f"run-{made}"))
            made += 1
        if infos and dice.random() < 0.5:
            place = dice.randrange(len(infos))
            infos[place] = replace(infos[place], step=infos[place].step + 1)
        if infos and dice.random() < 0.2:
            infos.pop(dice.randrange(len(infos)))
        page = dice.randrange(3)
        version, known, order = pages[page]
        delta = runs.since(version)
        known.update({run["id"]: run for run in delta["runs"]})
        order = order if delta["ids"] is None else delta["ids"]
        assert [known[run_id] for run_id in order] == [plain(one) for one in infos]
        pages[page] = (delta["v"], known, order)


def test_nothing_new_is_nothing(info: RunInfo) -> None:
    runs = RunList(lambda: [replace(info)])
    first = runs.since(0)
    assert len(first["runs"]) == 1 and "config" not in first["runs"][0]
    assert runs.since(first["v"]) == {"v": first["v"], "runs": [], "ids": None}
    assert runs.since(first["v"] + 5) == first == runs.since(3)  # numbers of another app
