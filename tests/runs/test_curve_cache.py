"""Curves of long runs kept as files: the same as from the log, and never those of another log."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.runs import curves as series
from peft_studio.runs.curve_cache import CurveCache, KeptCurves
from peft_studio.runs.curves import SeriesCache
from peft_studio.runs.event_log import LogFollower
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore


@pytest.fixture(autouse=True)
def short_logs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "SAVE_BYTES", 2000)


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """An empty run."""
    return RunStore(tmp_path / "runs").create(make_config())


def series_of(run: RunPaths, kept: bool = True) -> SeriesCache:
    """A cache as after a start of the app."""
    folder = run.root.parent.parent / "curves"
    return SeriesCache(RunStore(run.root.parent), folder if kept else None)


def kept_file(run: RunPaths) -> Path:
    return run.root.parent.parent / "curves" / f"{run.id}.curves"


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


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of logs are read, piece by piece."""
    found: list[int] = []
    pieces = LogFollower.pieces

    def counted(self: LogFollower) -> Any:
        for piece in pieces(self):
            found.append(len(piece))
            yield piece

    monkeypatch.setattr(LogFollower, "pieces", counted)
    return found


def test_after_a_start_only_what_is_new_is_read(run: RunPaths, bytes_read: list[int]) -> None:
    write_steps(run, 1, 300)
    before = series_of(run).delta(run.id)
    assert sum(bytes_read) == run.events.stat().st_size
    bytes_read.clear()
    assert series_of(run).delta(run.id) == before and bytes_read == []
    size = run.events.stat().st_size
    write_steps(run, 301, 305)
    again = series_of(run)
    assert again.delta(run.id, before["next"])["train"]["step"] == [301, 302, 303, 304, 305]
    assert sum(bytes_read) == run.events.stat().st_size - size
    assert again.delta(run.id) == series_of(run, kept=False).delta(run.id)


@pytest.mark.parametrize("seed", range(4))
def test_the_curves_are_those_of_the_log(run: RunPaths, seed: int) -> None:
    dice, last, known = random.Random(seed), 0, 0
    for _ in range(12):  # a start each, after steps that partly come again, with other losses or the same
        first = max(1, last + 1 - dice.choice([0, 0, 7, 30]))
        last = first + dice.randrange(60)
        write_steps(run, first, last, seed=dice.randrange(2))
        kept, read = series_of(run), series_of(run, kept=False)
        assert kept.delta(run.id, known) == read.delta(run.id, known)
        assert kept.delta(run.id) == read.delta(run.id)
        known = kept.delta(run.id)["next"]
    assert kept_file(run).exists()


def test_a_line_that_is_being_written_is_read_when_it_is_whole(run: RunPaths) -> None:
    write_steps(run, 1, 100)
    whole = run.events.read_bytes()
    run.events.write_bytes(whole[:-20])
    assert series_of(run).delta(run.id)["train"]["step"][-1] == 100
    assert series_of(run).delta(run.id)["eval"]["step"][-1] == 90
    with run.events.open("ab") as file:
        file.write(whole[-20:])
    assert series_of(run).delta(run.id) == series_of(run, kept=False).delta(run.id)
    assert series_of(run).delta(run.id)["eval"]["step"][-1] == 100


def rewritten(run: RunPaths) -> None:
    run.events.unlink()
    write_steps(run, 1, 400, seed=5)


def rewritten_in_place(run: RunPaths) -> None:
    run.events.write_bytes(run.events.read_bytes().replace(b'"tokens":50', b'"tokens":51', 1))


def cut_off(run: RunPaths) -> None:
    run.events.write_bytes(b"".join(run.events.read_bytes().splitlines(keepends=True)[:50]))


def emptied(run: RunPaths) -> None:
    run.events.write_bytes(b"")


def gone(run: RunPaths) -> None:
    run.events.unlink()


@pytest.mark.parametrize("change", [rewritten, rewritten_in_place, cut_off, emptied, gone])
def test_the_curves_of_another_log_are_not_shown(run: RunPaths, change: Callable[[RunPaths], None]) -> None:
    write_steps(run, 1, 300)
    series_of(run).delta(run.id)
    change(run)
    assert series_of(run).delta(run.id) == series_of(run, kept=False).delta(run.id)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"nonsense",
        lambda data: b"[]\n",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\0" * 8,
        lambda data: data[:-5] + b"\xff" + data[-4:],
        lambda data: b"\0" * len(data),
        lambda data: data.replace(b'"d"', b'"q"', 1),
        lambda data: data.replace(b'"types"', b'"typos"', 1),
        lambda data: data.replace(b'"offset": ', b'"offset": -', 1),
        lambda data: data.replace(b'"version": 0', b'"version": 7', 1),
        lambda data: data.replace(b"[1, ", b"[0, ", 1),
    ],
)
def test_a_damaged_file_does_no_harm(run: RunPaths, damage: Callable[[bytes], bytes]) -> None:
    write_steps(run, 1, 300)
    expected = series_of(run).delta(run.id)
    data = kept_file(run).read_bytes()
    assert damage(data) != data
    kept_file(run).write_bytes(damage(data))
    assert series_of(run).delta(run.id) == expected
    assert kept_file(run).read_bytes() == data  # made again


def test_short_runs_are_not_kept(run: RunPaths) -> None:
    write_steps(run, 1, 5)
    series_of(run).delta(run.id)
    assert not kept_file(run).exists()


def test_files_go_with_their_runs(run: RunPaths) -> None:
    other = RunStore(run.root.parent).create(make_config())
    for paths in (run, other):
        write_steps(paths, 1, 300)
        series_of(paths).delta(paths.id)
    cache = series_of(run)
    cache.delta(run.id)
    cache.forget(run.id)
    assert not kept_file(run).exists() and kept_file(other).exists()
    RunStore(run.root.parent).delete(other.id)  # by another process
    cache.delta(run.id)
    assert kept_file(run).exists() and not kept_file(other).exists()


def test_a_cache_that_cannot_be_written_does_no_harm(run: RunPaths) -> None:
    write_steps(run, 1, 300)
    kept_file(run).parent.write_text("a file where a folder should be")
    assert series_of(run).delta(run.id) == series_of(run, kept=False).delta(run.id)


def test_columns_of_another_number_are_not_used(run: RunPaths) -> None:
    write_steps(run, 1, 300)
    cache = CurveCache(kept_file(run).parent)
    cache.save(run, KeptCurves(run.events.stat().st_size, 0, []))
    assert cache.load(run) is not None
    assert series_of(run).delta(run.id) == series_of(run, kept=False).delta(run.id)
