"""One fold for all that is made of a log: each byte is read once, late parts catch up, nothing is stale."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.doctor.evidence import StepFigures, read_evidence
from peft_studio.runs.curves import Curves
from peft_studio.runs.event_log import LogFollower
from peft_studio.runs.events import EventWriter
from peft_studio.runs.fold import Folds, RunFold
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.progress import RunProgress
from peft_studio.runs.reader import RunReader
from peft_studio.runs.store import RunStore

PARTS = (RunProgress, Curves, StepFigures)


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """An empty run."""
    return RunStore(tmp_path / "runs").create(make_config())


def write_steps(run: RunPaths, first: int, last: int, seed: int = 0) -> None:
    """Appends steps with random losses, some not finite, and a validation loss every ten."""
    dice = random.Random(seed)
    writer = EventWriter(run.events)
    for step in range(first, last + 1):
        loss = float("nan") if dice.random() < 0.02 else dice.gauss(2, 1)
        common = {"step": step, "tokens": step * 50, "elapsed": step / 100}
        writer.emit("step", **common, loss=loss, lr=0.1, grad_norm=dice.random())
        if step % 10 == 0:
            writer.emit("eval", **common, metrics={"eval/loss": dice.random()})
    writer.close()


def told(fold: RunFold) -> list[Any]:
    """What the parts of a fold have made of its log."""
    with fold.reading(*PARTS):
        progress, evidence = fold.part(RunProgress), read_evidence(fold, "running")
        curves = {**fold.part(Curves).delta("x"), "next": None}  # viewers are told to drop what they have
        steps = evidence.steps
        figures = [steps.last, steps.loss, [str(norm) for norm in steps.norm], steps.count, steps.lost, steps.torn]
        return [progress.facts, progress.step, progress.speed(), curves, figures, evidence.evals, evidence.metrics]


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of logs are read, piece by piece."""
    found: list[int] = []
    pieces = LogFollower.pieces

    def counted(self: LogFollower) -> Any:
        for piece in pieces(self):
            found.append(len(piece.data))
            yield piece

    monkeypatch.setattr(LogFollower, "pieces", counted)
    return found


def test_each_byte_is_read_once_for_all_parts(run: RunPaths, bytes_read: list[int]) -> None:
    folds = Folds()
    reader = RunReader(run, fold=folds.of(run))
    last = 0
    for _ in range(5):
        write_steps(run, last + 1, last + 300)
        last += 300
        with folds.reading(run, *PARTS) as fold:
            assert len(fold.part(Curves).train) == last
        assert reader.info().step == last
    assert sum(bytes_read) == run.events.stat().st_size


def test_a_part_that_comes_late_has_what_the_others_have(run: RunPaths) -> None:
    write_steps(run, 1, 2000)
    early, late = RunFold(run), RunFold(run)
    told(early)
    with late.reading(RunProgress):
        pass
    write_steps(run, 2001, 2050)
    with late.reading(RunProgress, Curves):
        assert len(late.part(Curves).train) == 2050
    write_steps(run, 2041, 2100, seed=3)  # goes on from a checkpoint, with other numbers
    assert told(early) == told(late) == told(RunFold(run))


@pytest.mark.parametrize("seed", range(4))
def test_a_log_in_pieces_is_the_log_at_once(run: RunPaths, seed: int) -> None:
    dice, last, fold = random.Random(seed), 0, RunFold(run)
    for _ in range(12):  # after an interruption some steps come again, with other losses or the same
        first = max(1, last + 1 - dice.choice([0, 0, 7, 30]))
        last = first + dice.randrange(60)
        write_steps(run, first, last, seed=dice.randrange(2))
        if dice.random() < 0.3:
            fold.drop(*dice.sample(PARTS, 2))
        with fold.reading(*dice.sample(PARTS, 2)):
            pass
    assert told(fold)[3:] == told(RunFold(run))[3:]
    assert told(fold)[1] == told(RunFold(run))[1]


def test_a_line_that_is_being_written_is_read_when_it_is_whole(run: RunPaths) -> None:
    write_steps(run, 1, 100)
    whole = run.events.read_bytes()
    run.events.write_bytes(whole[:-20])
    fold = RunFold(run)
    with fold.reading(Curves):
        delta = fold.part(Curves).delta(run.id)
    assert (delta["train"]["step"][-1], delta["eval"]["step"][-1]) == (100, 90)
    with run.events.open("ab") as file:
        file.write(whole[-20:])
    with fold.reading(Curves):
        assert fold.part(Curves).delta(run.id)["eval"]["step"][-1] == 100


def rewritten(run: RunPaths) -> None:
    run.events.unlink()
    write_steps(run, 1, 400, seed=5)


def cut_off(run: RunPaths) -> None:
    run.events.write_bytes(b"".join(run.events.read_bytes().splitlines(keepends=True)[:50]))


def replaced(run: RunPaths) -> None:
    other = run.root / "other"
    other.write_bytes(run.events.read_bytes().replace(b'"tokens":50', b'"tokens":51', 1))
    other.replace(run.events)


@pytest.mark.parametrize("change", [rewritten, cut_off, replaced])
def test_nothing_of_another_log_is_told(run: RunPaths, change: Callable[[RunPaths], None]) -> None:
    write_steps(run, 1, 300)
    fold = RunFold(run)
    told(fold)
    with fold.reading(Curves):
        since = fold.part(Curves).delta(run.id)["next"]
    change(run)
    assert told(fold) == told(RunFold(run))
    with fold.reading(Curves):
        assert fold.part(Curves).delta(run.id, since)["since"] == 0


def test_an_emptied_log_is_empty(run: RunPaths) -> None:
    write_steps(run, 1, 30)
    fold = RunFold(run)
    told(fold)
    run.events.write_bytes(b"")
    assert told(fold) == told(RunFold(run))


def test_what_was_not_asked_for_longest_is_dropped(tmp_path: Path, bytes_read: list[int]) -> None:
    store, folds = RunStore(tmp_path), Folds(most=250)
    runs = [store.create(make_config()) for _ in range(3)]
    for paths in runs:
        write_steps(paths, 1, 100)
        with folds.reading(paths, Curves):
            pass
    bytes_read.clear()
    for paths in runs[1:]:
        with folds.reading(paths, Curves) as fold:
            assert len(fold.part(Curves).train) == 100
    assert bytes_read == []
    with folds.reading(runs[0], Curves) as fold:
        assert len(fold.part(Curves).train) == 100
    assert sum(bytes_read) == runs[0].events.stat().st_size


def test_a_run_that_was_deleted_and_comes_again_is_another(run: RunPaths) -> None:
    folds = Folds()
    write_steps(run, 1, 5)
    with folds.reading(run, Curves):
        pass
    old = folds.of(run)
    folds.forget(run.id)
    assert folds.of(run) is not old


def test_many_ask_while_the_log_grows(run: RunPaths) -> None:
    folds, lengths = Folds(), []
    writer = threading.Thread(target=write_steps, args=(run, 1, 3000))

    def ask() -> None:
        seen = 0
        while seen < 3000:
            with folds.reading(run, *PARTS) as fold:
                steps = len(fold.part(Curves).train)
                assert seen <= steps and steps == fold.part(RunProgress).step
                seen = steps
        lengths.append(seen)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for thread in (*askers, writer):
        thread.start()
    for thread in (*askers, writer):
        thread.join(60)
    assert lengths == [3000] * 3
