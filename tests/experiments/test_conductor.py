"""Experiments make their runs by themselves, go on after a restart, and survive what happens to their runs."""

from pathlib import Path

import pytest

from peft_studio.access.visitors import Role, Visitor, asking
from peft_studio.errors import LimitError, NotAllowedError
from peft_studio.experiments import conductor as conducting
from peft_studio.experiments.conductor import LOCK, Conductor
from peft_studio.experiments.lab import Lab
from peft_studio.experiments.outcome import measure
from peft_studio.files import exclusive
from peft_studio.settings import Access
from tests.experiments.conftest import PLAN, finish, make_lab

ANN = Visitor("v-ann", Role.VISITOR, "Ann")


@pytest.fixture(autouse=True)
def _measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conducting, "measure_apart", measure)


def settle(conductor: Conductor) -> None:
    conductor.tick()
    if conductor._measurer is not None:
        conductor._measurer.join()


def test_runs_are_made_and_the_answer_comes_by_itself(lab: Lab, conductor: Conductor) -> None:
    made = lab.start(PLAN)
    assert lab.answer(made)["state"] == "waiting" and lab.answer(made)["runs"]["of"] == 4
    conductor.tick()
    runs = lab.store.load(made).runs
    assert [(part.cell, part.seed) for part in runs] == [(0, 0), (1, 0), (0, 1), (1, 1)]  # one of each cell first
    assert lab.manager.library.info(runs[next(iter(runs))]).title == "LoRA, seed 0"
    conductor.tick()
    assert lab.store.load(made).runs == runs  # nothing twice
    for part, run in runs.items():
        finish(lab, run, "aaaa" if part.cell == 0 else "abbb")
    settle(conductor)
    answer = lab.answer(made)
    assert answer["state"] == "finished" and not answer["computing"] and answer["base"] == {"mean": 25.0}
    assert answer["words"][0] == "LoRA beats (IA)³ by 75.0 % accuracy [25.0, 100.0]."
    first, second = answer["table"]
    assert (first["mean"], first["n"], first["low"], second["mean"]) == (100.0, 2, 100.0, 25.0)
    assert lab.all()[0]["words"] == answer["words"][:1]
    conductor.tick()
    assert made in conductor._quiet


def test_it_goes_on_after_a_restart(lab: Lab, conductor: Conductor) -> None:
    made = lab.start(PLAN)
    conductor._at_once = 1
    conductor.tick()
    (run,) = lab.store.load(made).runs.values()
    again = make_lab(lab.manager.settings.home)
    other = Conductor(again)
    other.tick()
    assert len(again.store.load(made).runs) == 2  # a worker and one behind it
    finish(again, run)
    other.tick()
    assert len(again.store.load(made).runs) == 3


def test_a_search_is_decided_once_even_if_its_runs_go(lab: Lab, conductor: Conductor) -> None:
    made = lab.start({**PLAN, "vary": [{"field": "method", "values": ["lora"]}], "own_rates": True})
    for round_of in (0, 1):
        conductor.tick()
        runs = {part: run for part, run in lab.store.load(made).runs.items() if part.round == round_of}
        for place, run in enumerate(runs[part] for part in sorted(runs, key=lambda part: part.rate)):
            finish(lab, run, loss=abs(place - 1) + 1.0)
            assert lab.manager.library.info(run).config["training"]["answers"] is False
    conductor.tick()
    experiment = lab.store.load(made)
    final = {part.rate for part in experiment.counted()}
    assert len(final) == 1 and len(experiment.found) == 7
    for part, run in experiment.runs.items():
        if part.round is not None:
            lab.manager.delete(run)
    conductor.tick()
    assert {part.rate for part in lab.store.load(made).counted()} == final
    assert len(lab.answer(made)["search"]) == 7


def test_holes_are_named_and_resume_fills_them(lab: Lab, conductor: Conductor) -> None:
    made = lab.start(PLAN)
    conductor.tick()
    runs = list(lab.store.load(made).runs.values())
    for number, run in enumerate(runs):
        finish(lab, run, failed=number == 1)
    lab.manager.delete(runs[0])
    settle(conductor)
    answer = lab.answer(made)
    assert answer["state"] == "incomplete"
    assert answer["holes"] == ["Deleted runs of LoRA: 1.", "Failed runs of (IA)³: 1."]
    assert [(row["n"], row["failed"], row["missing"]) for row in answer["table"]] == [(1, 0, 1), (1, 1, 0)]
    conductor.tick()
    assert len(lab.manager.library.all()) == 3  # nothing is made again unasked
    assert lab.resume(made) == "waiting"
    conductor.tick()
    assert len([run for run in lab.store.load(made).runs.values() if run not in runs]) == 2


def test_stop_takes_back_what_waits(lab: Lab, conductor: Conductor) -> None:
    made = lab.start(PLAN)
    conductor.tick()
    first, *_ = lab.store.load(made).runs.values()
    finish(lab, first)
    assert lab.stop(made) == "stopped"
    assert [info.id for info in lab.manager.library.all()] == [first]
    conductor.tick()
    assert len(lab.store.load(made).runs) == 1 and lab.answer(made)["actions"] == ["resume", "delete"]
    lab.resume(made)
    conductor.tick()
    assert len(lab.store.load(made).runs) == 4
    assert lab.delete(made, runs=True) == 4 and lab.manager.library.all() == [] and lab.all() == []


def test_limits_hold_for_whose_it_is(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, Access.PUBLIC, most_queued=1, most_minutes=0)
    conductor = Conductor(lab)
    conductor._at_once = 100
    with asking(ANN):
        made = lab.start(PLAN)
    conductor.tick()
    (run,) = lab.manager.library.all()
    assert run.owner == ANN.id
    with asking(ANN):
        (row,) = lab.all()
    assert row["mine"] and "1 of your runs wait" in row["why"]
    conductor.tick()
    assert len(lab.manager.library.all()) == 1
    finish(lab, run.id)
    conductor._refused.clear()
    conductor.tick()
    assert len(lab.manager.library.all()) == 2
    with asking(ANN), pytest.raises(LimitError):
        lab.start({**PLAN, "base": {"training": {"max_steps": 1_000_000, "batch_size": 128, "max_length": 8192}}})
    assert lab.store.load(made).owner.name == "Ann"


def test_a_command_line_at_work_is_left_alone(lab: Lab, conductor: Conductor) -> None:
    made = lab.start(PLAN)
    with exclusive(lab.store.folder(made) / LOCK):
        conductor.tick()
        assert lab.manager.library.all() == []
    conductor.tick()
    assert len(lab.manager.library.all()) == 4


def test_a_damaged_experiment_disturbs_no_other(lab: Lab, conductor: Conductor) -> None:
    made = lab.start(PLAN)
    torn = lab.store.folder(lab.start(PLAN))
    (torn / "experiment.json").write_text("{", encoding="utf-8")
    (lab.store.folder(made) / "runs.jsonl").write_text('{"run": "x", "cel', encoding="utf-8")
    conductor.tick()
    assert [one["id"] for one in lab.all()] == [made] and len(lab.manager.library.all()) == 4


def test_a_link_that_shows_all_its_runs_shows_an_experiment(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, Access.PUBLIC, most_minutes=0, most_queued=0)
    conductor = Conductor(lab)
    conductor._at_once = 100
    with asking(ANN):
        made = lab.start(PLAN)
    conductor.tick()
    runs = frozenset(lab.store.load(made).runs.values())
    for run in runs:
        finish(lab, run)
    for shown, sees in ((runs, True), (frozenset(list(runs)[:3]), False), (frozenset(), False)):
        with asking(Visitor("v-ben", Role.VISITOR, shown=shown)):
            assert bool(lab.all()) == sees
            if sees:
                answer = lab.answer(made)
                assert answer["actions"] == [] and answer["owner_name"] == "Ann" and answer["curves"][0]["n"] == 2
                with pytest.raises(NotAllowedError):
                    lab.stop(made)
