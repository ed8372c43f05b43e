"""Curves: deltas that add up to the whole, and thinning that keeps what the eye looks for."""

import json
import math
import random
import time
from array import array
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.runs.curves import MAX_POINTS, Curves, raw_metrics, thin
from peft_studio.runs.event_log import STEP_PREFIX
from peft_studio.runs.events import EventWriter
from peft_studio.runs.fold import RunFold
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore

COLUMNS = ("step", "loss", "tokens", "elapsed")


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """An empty run."""
    return RunStore(tmp_path).create(make_config())


@pytest.fixture
def log(run: RunPaths) -> RunFold:
    """Its log."""
    return RunFold(run)


def delta_of(log: RunFold, since: int = 0) -> dict[str, Any]:
    """What is new of its curves."""
    with log.reading(Curves):
        return log.part(Curves).delta(log.paths.id, since)


def raw(run: RunPaths) -> list[dict[str, Any]]:
    return list(raw_metrics(run))


def write_steps(run: RunPaths, first: int, last: int, eval_every: int = 10) -> None:
    """Appends steps as training would."""
    with run.events.open("ab") as file:
        for step in range(first, last + 1):
            loss = 5 / step + 0.1 * math.sin(step)
            file.write(
                b'{"v":1,"kind":"step","t":1.5,"step":%d,"loss":%.17g,"lr":0.001,"grad_norm":1.25,"tokens":%d,"elapsed":%.4f}\n'
                % (step, loss, step * 50, step * 0.01)
            )
            if step % eval_every == 0:
                line = {"v": 1, "kind": "eval", "t": 1, "step": step, "tokens": 1, "elapsed": 0.5}
                file.write(json.dumps({**line, "metrics": {"eval/loss": 1 / step, "test/bleu": 3}}).encode() + b"\n")


def test_deltas_add_up_to_the_whole(run: RunPaths, log: RunFold) -> None:
    seen = {"train": {key: [] for key in COLUMNS}, "eval": {key: [] for key in COLUMNS}}
    randomizer, since, last = random.Random(1), 0, 0
    for _ in range(30):
        count = randomizer.randrange(0, 25)
        write_steps(run, last + 1, last + count)
        last += count
        delta = delta_of(log, since)
        assert delta["since"] == since
        for curve in ("train", "eval"):
            for key in COLUMNS:
                seen[curve][key] += delta[curve][key]
        since = delta["next"]
    whole = delta_of(RunFold(run))
    assert {curve: whole[curve] for curve in ("train", "eval")} == seen
    assert whole["train"]["step"] == list(range(1, last + 1))
    assert whole["eval"]["step"] == list(range(10, last + 1, 10))
    assert whole["next"] == since == last + last // 10


@pytest.mark.parametrize("since", [-1, 10**9])
def test_a_since_that_cannot_be_gives_everything(run: RunPaths, log: RunFold, since: int) -> None:
    write_steps(run, 1, 5)
    assert delta_of(log, since) == delta_of(log, 0)


def test_losses_that_are_not_finite_are_null(run: RunPaths, log: RunFold) -> None:
    writer = EventWriter(run.events)
    for step, loss in enumerate([1.0, math.nan, math.inf, 0.5], 1):
        writer.emit("step", step=step, loss=loss, lr=1, grad_norm=math.nan, tokens=1, elapsed=1.0)
    writer.emit("eval", step=4, tokens=1, elapsed=1.0, metrics={"eval/loss": math.nan, "test/bleu": 2.0})
    writer.close()
    delta = delta_of(log)
    assert delta["train"]["loss"] == [1.0, None, None, 0.5] and delta["eval"]["loss"] == []
    json.dumps(delta, allow_nan=False)
    assert raw(run)[:2] == [
        {"step": 1, "name": "train/loss", "value": 1.0},
        {"step": 1, "name": "train/lr", "value": 1},
    ]
    assert {"step": 4, "name": "test/bleu", "value": 2.0} in raw(run)
    assert all(row["value"] is not None for row in raw(run))


def test_a_log_that_starts_again(run: RunPaths, log: RunFold) -> None:
    write_steps(run, 1, 50)
    since = delta_of(log)["next"]
    run.events.unlink()
    write_steps(run, 1, 3)
    delta = delta_of(log, since)
    assert (delta["since"], delta["train"]["step"]) == (0, [1, 2, 3])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [4, 99, 1500, 1501, 7777])
def test_thinning(seed: int, count: int) -> None:
    randomizer = random.Random(seed)
    values = array("d", [randomizer.gauss(0, 1) if randomizer.random() > 0.05 else math.nan for _ in range(count)])
    start = randomizer.randrange(count // 2)
    for limit in (4, 100, MAX_POINTS):
        picked = thin(values, start, limit)
        assert len(picked) <= limit and picked == sorted(set(picked))
        assert picked[0] == start and picked[-1] == count - 1
        finite = [value for value in values[start:] if not math.isnan(value)]
        assert min(finite) in [values[i] for i in picked] and max(finite) in [values[i] for i in picked]


def test_thinning_nothing_but_nan() -> None:
    assert thin(array("d", [math.nan] * 100), 0, 10) == [0, 99]


def test_long_runs_open_quickly(run: RunPaths, log: RunFold) -> None:
    write_steps(run, 1, 100_000, eval_every=50)
    delta_of(log)
    began = time.perf_counter()
    delta = delta_of(log)
    assert time.perf_counter() - began < 0.3
    assert len(delta["train"]["step"]) <= MAX_POINTS and len(delta["eval"]["step"]) <= MAX_POINTS
    assert delta["next"] == 102_000 and delta["train"]["step"][-1] == 100_000
    assert len(json.dumps(delta)) < 120_000


def test_a_tick_of_a_live_run_is_small(run: RunPaths, log: RunFold) -> None:
    write_steps(run, 1, 2000)
    since = delta_of(log)["next"]
    write_steps(run, 2001, 2005)
    delta = delta_of(log, since)
    assert len(json.dumps(delta, separators=(",", ":"))) < 2048 / 6


def test_the_prefix_of_steps_is_what_the_writer_writes(run: RunPaths) -> None:
    writer = EventWriter(run.events)
    writer.emit("step", step=1)
    writer.close()
    assert run.events.read_bytes().startswith(STEP_PREFIX)


def test_steps_that_come_again_replace_themselves(run: RunPaths, log: RunFold) -> None:
    write_steps(run, 1, 47)
    since = delta_of(log)["next"]
    write_steps(run, 31, 60)  # from a checkpoint at step 30, with the same numbers
    delta = delta_of(log, since)
    assert delta["since"] == since
    assert delta["train"]["step"] == list(range(48, 61)) and delta["eval"]["step"] == [50, 60]
    whole = delta_of(log)
    assert whole["train"]["step"] == list(range(1, 61)) and whole["eval"]["step"] == [10, 20, 30, 40, 50, 60]
    assert len(raw(run)) == 60 * 3 + 6 * 2


def test_steps_that_come_again_with_other_numbers_take_over(run: RunPaths, log: RunFold) -> None:
    write_steps(run, 1, 47)
    since = delta_of(log)["next"]
    writer = EventWriter(run.events)
    for step in range(36, 41):
        writer.emit("step", step=step, loss=9.0, lr=1, grad_norm=1, tokens=1, elapsed=1.0)
    writer.emit("eval", step=40, tokens=1, elapsed=1.0, metrics={"eval/loss": 8.0})
    writer.close()
    delta = delta_of(log, since)
    assert delta["since"] == 0
    assert delta["train"]["step"] == list(range(1, 41)) and delta["train"]["loss"][35:] == [9.0] * 5
    assert (delta["eval"]["step"], delta["eval"]["loss"][-1]) == ([10, 20, 30, 40], 8.0)
    write_steps(run, 41, 42)
    more = delta_of(log, delta["next"])
    assert more["since"] == delta["next"] % 2**32 and more["train"]["step"] == [41, 42]
    losses = [row for row in raw(run) if row["name"] == "train/loss" and row["step"] == 38]
    assert [row["value"] for row in losses] == [9.0]


def test_an_evaluation_that_comes_again_with_another_number(run: RunPaths, log: RunFold) -> None:
    write_steps(run, 1, 25)
    writer = EventWriter(run.events)
    writer.emit("eval", step=20, tokens=1, elapsed=1.0, metrics={"eval/loss": 8.0})
    writer.close()
    delta = delta_of(log)
    assert delta["train"]["step"] == list(range(1, 21)) and delta["eval"]["loss"] == [0.1, 8.0]
