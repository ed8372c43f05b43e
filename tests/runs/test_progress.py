"""Figures of a run, the same whether its log is read at once or as it grows."""

import json
import random

import pytest

from peft_studio.runs.event_log import Piece
from peft_studio.runs.progress import MAX_KINDS, MAX_METRICS, MAX_NOTE, RunProgress


def piece(lines: list[bytes]) -> Piece:
    return Piece(b"".join(line + b"\n" for line in lines))


def log(steps: int) -> list[bytes]:
    """A log with evaluations that take a second each, at ten steps a second."""
    events: list[dict] = [{"kind": "stage", "t": 100.0, "name": "training"}]
    events.append({"kind": "started", "t": 100.0, "max_steps": steps, "trainable_params": 1, "total_params": 2})
    time = 100.0
    for step in range(1, steps + 1):
        time += 0.1
        common = {"step": step, "tokens": step * 5, "elapsed": round(step * 0.1, 4)}
        events.append({"kind": "step", "t": round(time, 3), **common, "loss": 1 / step, "lr": 1, "grad_norm": None})
        if step % 10 == 0:
            time += 1.0
            events.append({"kind": "eval", "t": round(time, 3), **common, "metrics": {"eval/loss": 1 / step}})
    return [json.dumps({"v": 1, **event}, separators=(",", ":")).encode() for event in events]


@pytest.mark.parametrize("seed", range(3))
def test_piecewise_is_the_same_as_at_once(seed: int) -> None:
    lines, randomizer = log(200), random.Random(seed)
    whole, pieces = RunProgress(), RunProgress()
    whole.read(piece(lines))
    while lines:
        count = randomizer.randrange(1, 40)
        pieces.read(piece(lines[:count]))
        lines = lines[count:]
    assert (whole.facts, whole.metrics, whole.step) == (pieces.facts, pieces.metrics, pieces.step)
    assert (whole.evals, whole.latest) == (pieces.evals, pieces.latest) and len(whole.evals) == 20
    assert whole.speed() == pytest.approx(pieces.speed()) and whole.seconds() == pieces.seconds()


def test_names_and_words_of_a_log_are_bounded() -> None:
    progress, metrics = RunProgress(), {f"test/n{number}": 1.0 for number in range(40_000)}
    kinds = [{"kind": f"kind {number}"} for number in range(1000)]
    note = {"kind": "note", "message": "x" * 10**6}
    scored = {"kind": "eval", "step": 2, "metrics": {"x" * 10_000: 1, "test/n0": 2.0}, "tokenizers": metrics}
    told = [{"kind": "eval", "step": 1, "metrics": metrics}, *kinds, note, scored]
    progress.read(piece([json.dumps(event).encode() for event in told]))
    assert len(progress.metrics) == MAX_METRICS and progress.metrics["test/n0"] == 2.0
    assert len(progress.latest) <= MAX_KINDS and len(progress.notes[0]) == MAX_NOTE
    assert len(progress.tokenizers) <= MAX_METRICS


def test_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = RunProgress()
    assert progress.speed() == (None, None) and progress.eta(100) is None and progress.seconds() is None
    progress.read(piece(log(100)))
    monkeypatch.setattr("time.time", lambda: 100.0)  # not later than the last event
    assert progress.speed() == (pytest.approx(10), pytest.approx(50))
    assert progress.eta(200) == pytest.approx(100 * 0.19, rel=0.01)  # half of the time goes to evaluations
    assert progress.eta(None) is None
    assert progress.eta(50) is None  # nobody knows what is left after the last step
    assert progress.seconds() == pytest.approx(20)


def test_time_left_counts_evaluations_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    lines = log(30)
    told = {"work": {"validation": 100, "test": 500, "base/test": 500}}
    lines[1] = json.dumps({**json.loads(lines[1]), **told}).encode()
    progress = RunProgress()
    progress.read(piece(lines[:7]))  # five steps of five tokens, a tenth of a second each
    token = 0.1 / 5 / 2  # read, not trained on
    ahead = 25 * 0.1 + 3 * 100 * token + 1000 * token
    assert progress.eta(30, 10) == pytest.approx(ahead, rel=0.01)
    progress.read(piece(lines[7:]))  # an evaluation takes a second, so the answers take ten
    assert progress.eta(30, 10) == pytest.approx(10, rel=0.01)
    rest: list[dict] = [
        {"kind": "stage", "t": 106.0, "name": "answering the test rows"},
        {"kind": "eval", "t": 111.0, "step": 30, "metrics": {"test/bleu": 9.0}, "tokenizers": {"bleu": "zh"}},
    ]
    progress.read(piece([json.dumps({"v": 1, **event}).encode() for event in rest]))
    assert progress.eta(30, 10) == pytest.approx(5, rel=0.01) and progress.tokenizers == {"bleu": "zh"}
    assert progress.eta(900, 10) == pytest.approx(5, rel=0.01)  # ended early
    monkeypatch.setattr("time.time", lambda: 117.0)
    assert progress.eta(30, 10) is None  # it takes longer than was thought; certainly not no time


def test_the_figure_is_that_of_the_saved_weights() -> None:
    progress = RunProgress()
    losses = {10: 2.0, 20: 1.5, 30: 1.8}
    events: list[dict] = [{"kind": "eval", "step": step, "metrics": {"eval/loss": x}} for step, x in losses.items()]
    read = [json.dumps({"v": 1, "t": 1.0, **event}).encode() for event in events]
    progress.read(piece(read))
    assert (progress.metrics, progress.best) == ({"eval/loss": 1.8}, (20, 1.5))
    saved = {"v": 1, "kind": "saved", "t": 2.0, "step": 20, "bytes": 9, "metrics": {"eval/loss": 1.5}}
    progress.read(piece([json.dumps(saved).encode(), b'{"v":1,"kind":"note","t":2.0,"message":"slower"}']))
    assert (progress.metrics, progress.best, len(progress.evals)) == ({"eval/loss": 1.5}, (20, 1.5), 3)
    assert progress.notes == ["slower"]


def test_odd_events_are_survived() -> None:
    progress = RunProgress()
    progress.read(
        piece(
            [
                b'{"v":1,"kind":"step","step":null}',
                b'{"v":1,"kind":"step","step":true,"loss":1}',
                b'{"v":1,"kind":"step","step":3,"loss":null,"tokens":"x"}',
                b'{"kind":"eval","metrics":[1]}',
                b'{"kind":"eval","metrics":{"a":"b","c":1}}',
                b'{"kind":"finished","summary":7}',
            ]
        )
    )
    assert (progress.step, progress.metrics, progress.summary) == (3, {"c": 1}, {})


def interrupted(paused: bool) -> list[bytes]:
    """A log of 120 steps whose worker ended after step 70; an hour later another went on from step 50."""
    whole = log(120)
    places = [number for number, line in enumerate(whole) if b'"kind":"step"' in line]
    lines = whole[: places[70]]
    if paused:
        lines.append(b'{"v":1,"kind":"paused","t":114.0,"step":70,"summary":{"seconds":14.0}}')
    rest = [*whole[:2], b'{"v":1,"kind":"resumed","t":100.0,"step":50,"from":50}', *whole[places[50] :]]
    for line in rest:
        event = json.loads(line)
        lines.append(json.dumps({**event, "t": event["t"] + 3600}, separators=(",", ":")).encode())
    return lines


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_an_interrupted_run_piecewise_and_at_once(seed: int, paused: bool) -> None:
    lines, randomizer = interrupted(paused), random.Random(seed)
    whole, pieces = RunProgress(), RunProgress()
    whole.read(piece(lines))
    while lines:
        count = randomizer.randrange(1, 40)
        pieces.read(piece(lines[:count]))
        lines = lines[count:]
    for name in ("facts", "metrics", "step", "summary"):
        assert getattr(whole, name) == getattr(pieces, name)
    assert whole.speed() == pytest.approx(pieces.speed()) and whole.seconds() == pytest.approx(pieces.seconds())
    assert whole.eta(200) == pytest.approx(pieces.eta(200), abs=0.1)


def test_steps_that_come_again_do_not_set_a_run_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = interrupted(paused=True)
    progress = RunProgress()
    end = next(number for number, line in enumerate(lines) if b'"paused"' in line) + 1
    progress.read(piece(lines[:end]))
    assert progress.step == 70 and progress.summary == {"seconds": 14.0}
    progress.read(piece(lines[end : end + 10]))
    assert progress.step == 70 and progress.summary == {}  # at step 57 again
    assert progress.speed() == (pytest.approx(10), pytest.approx(50))
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert progress.eta(100) == pytest.approx(43 * 0.1, rel=0.05)
    progress.read(piece(lines[end + 10 :]))
    assert progress.step == 120
    assert progress.facts["started"] == 100.0
    assert progress.seconds() == pytest.approx(14 + 24 - 1, abs=7.1)  # not the hour between


def test_what_figures_were_measured_on() -> None:
    progress = RunProgress()
    assert progress.measured_on == {}
    events = [
        {"kind": "eval", "step": 0, "metrics": {"base/eval/loss": 2.0}, "rows": "base"},
        {"kind": "eval", "step": 1, "metrics": {"eval/loss": 1.0}, "rows": "a" * 999},
        {"kind": "eval", "step": 1, "metrics": {"test/bleu": 1.0}, "rows": ["odd"]},
        {"kind": "eval", "step": 1, "metrics": {"test/bleu": 1.0}, "rows": "b"},
    ]
    progress.read(piece([json.dumps({"v": 1, "t": 1.0, **event}, separators=(",", ":")).encode() for event in events]))
    assert progress.measured_on == {"eval": "a" * 64, "test": "b"}


def test_time_per_answer() -> None:
    def read(*events: dict) -> dict[str, float]:
        progress = RunProgress()
        assert progress.answer_seconds() == {}
        progress.read(piece([json.dumps({"v": 1, **event}, separators=(",", ":")).encode() for event in events]))
        return progress.answer_seconds()

    stage = {"kind": "stage", "t": 100.0, "name": "answering the test rows"}
    ours = {"kind": "eval", "t": 130.0, "step": 9, "metrics": {"test/bleu": 1.0}, "answers": 60}
    base = {"kind": "eval", "t": 136.0, "step": 0, "metrics": {"base/test/bleu": 1.0}, "answers": 60}
    work = {"validation": 5, "test": 9, "base/test": 9}
    started = {"kind": "started", "t": 90.0, "work": work}
    assert read(started, stage, ours, base) == pytest.approx({"test": 0.5, "base/test": 0.1})
    known = {**started, "work": {**work, "base/test": 0}}  # somebody had answered for it before
    assert read(known, stage, ours, base) == {"test": 0.5}
    old = [{key: value for key, value in event.items() if key != "answers"} for event in (ours, base)]
    assert read(started, stage, *old) == {}
    assert read(stage, *old, {"kind": "answered", "t": 137.0, "rows": 30})["test"] == 1.0
