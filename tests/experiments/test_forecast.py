"""When queued runs start, foretold from what is at work and from what runs alike took."""

from dataclasses import replace
from pathlib import Path

import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.experiments.cost import Costs
from peft_studio.experiments.forecast import forecast, starts_in, told_forecast
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo, RunReader
from peft_studio.runs.status import Status
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings, prepare_home


def test_each_starts_when_one_before_it_has_made_room() -> None:
    assert starts_in([30.0, 10.0], [("a", 5.0), ("b", 100.0), ("c", 1.0)], 2) == {"a": 10.0, "b": 15.0, "c": 30.0}
    assert starts_in([], [("a", 5.0), ("b", 1.0)], 1) == {"a": 0.0, "b": 5.0}
    assert starts_in([30.0, 10.0], [("a", 5.0)], 1) == {"a": 30.0}  # fewer are allowed than are at work
    assert starts_in([4.0], [], 3) == {}


def info(folder: Path, status: Status, **more: object) -> RunInfo:
    config = parse_config({"method": {"name": "lora"}, "training": {"max_steps": 50}})
    paths = RunStore(folder).create(config)
    return replace(RunReader(paths).info(), status=status, **more)


def test_runs_at_work_and_in_the_queue(tmp_path: Path) -> None:
    known = info(tmp_path, Status.RUNNING, eta_seconds=20.0)
    fresh = info(tmp_path, Status.RUNNING, seconds=1.0)
    first, second, held = (
        info(tmp_path, Status.QUEUED, queue_position=place, held=not place) for place in (1, 2, None)
    )
    infos = [held, second, first, fresh, known]
    found = forecast(infos, 2, 2)
    each = Costs(infos, 2).seconds(parse_config(known.config))
    assert found["left"] == {fresh.id: pytest.approx(each - 1)}
    assert found["takes"] == {run.id: pytest.approx(each) for run in (first, second, held)}
    ends = sorted([20.0, each - 1])
    assert found["starts"] == {
        first.id: pytest.approx(ends[0]),
        second.id: pytest.approx(min(ends[0] + each, ends[1])),
    }
    odd = replace(first, config={"method": {"name": "gone"}})
    assert forecast([odd, known], 1, 2) == {"starts": {}, "takes": {}, "left": {}}
    assert forecast([known], 1, 2) == {"starts": {}, "takes": {}, "left": {}}


def test_of_an_app(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, max_running=1)
    prepare_home(settings)
    manager = JobManager(settings)
    runs = [manager.submit(parse_config({"method": {"name": "ia3"}, "training": {}}), "") for _ in range(2)]
    found = told_forecast(manager)
    assert found["starts"] == {runs[0]: 0.0, runs[1]: found["takes"][runs[0]]} and found["takes"][runs[0]] > 0
