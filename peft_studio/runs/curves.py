"""Curves for the live chart: points that are new since the viewer's last look, and thinned when there are many."""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from operator import lt
from typing import Any

from peft_studio.runs.event_log import Event, LogFollower, Piece, number, whole
from peft_studio.runs.paths import RunPaths

MAX_POINTS = 1500  # of a curve in one answer
_VERSION = 1 << 32  # numbers of the points that a viewer has leave room for so many; JavaScript's reach 2**53

Columns = dict[str, list[Any]]


class Curve:
    """A loss over steps, in four columns: ``step``, ``loss``, ``tokens`` and ``elapsed`` (seconds of training)."""

    def __init__(self) -> None:
        self.step, self.tokens = array("q"), array("q")
        self.loss, self.elapsed = array("d"), array("d")  # a loss that was not finite is NaN

    def __len__(self) -> int:
        return len(self.step)

    def add(self, event: Event, loss: Any) -> None:
        """Appends a point."""
        value = number(loss)
        self.step.append(int(event["step"]))
        self.loss.append(math.nan if value is None else value)
        self.tokens.append(whole(event.get("tokens")) or 0)
        self.elapsed.append(number(event.get("elapsed")) or 0.0)

    def place(self, step: int) -> int:
        """The index of the first point that is not before a step."""
        return bisect_left(self.step, step)

    def replace(self, event: Event, loss: Any) -> bool:
        """Puts a step that comes again in its point's place; False when the loss is another one or it has no point."""
        place, step = self.place(int(event["step"])), int(event["step"])
        value = number(loss)
        known = self.loss[place] if place < len(self) and self.step[place] == step else None
        if known is None or _json_loss(known) != _json_loss(math.nan if value is None else value):
            return False
        self.tokens[place] = whole(event.get("tokens")) or 0
        self.elapsed[place] = number(event.get("elapsed")) or 0.0
        return True

    def cut(self, step: int) -> None:
        """Drops the points from a step on."""
        place = self.place(step)
        for column in (self.step, self.loss, self.tokens, self.elapsed):
            del column[place:]

    def add_steps(self, events: list[Event]) -> bool:
        """Appends many steps at once, three times faster; False, with nothing done, if one is odd or out of order."""
        try:
            step = array("q", [event["step"] for event in events])
            loss = array("d", [math.nan if event["loss"] is None else event["loss"] for event in events])
            tokens = array("q", [event["tokens"] for event in events])
            elapsed = array("d", [event["elapsed"] for event in events])
        except (KeyError, TypeError, OverflowError):
            return False
        if (self.step and step[0] <= self.step[-1]) or not all(map(lt, step, islice(step, 1, None))):
            return False  # steps that come again after an interruption
        self.step += step
        self.loss += loss
        self.tokens += tokens
        self.elapsed += elapsed
        return True

    def columns(self, start: int) -> Columns:
        """The points from an index on, at most ``MAX_POINTS``, as JSON-able columns."""
        few = len(self) - start <= MAX_POINTS
        picked = range(start, len(self)) if few else thin(self.loss, start, MAX_POINTS)
        return {
            "step": [self.step[i] for i in picked],
            "loss": [_json_loss(self.loss[i]) for i in picked],
            "tokens": [self.tokens[i] for i in picked],
            "elapsed": [round(self.elapsed[i], 2) for i in picked],
        }


def _json_loss(value: float) -> float | None:
    """Five significant digits are more than a screen shows; JSON has no NaN."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def thin(values: "array[float]", start: int, limit: int) -> list[int]:
    """Chooses points that keep a curve's look: of each bucket the lowest and the highest, and the two ends.

    Args:
        values: The curve; NaN where there is no value.
        start: First index to consider.
        limit: How many to choose at most, at least 4.

    Returns:
        Indices in ascending order.
    """
    count = len(values) - start
    buckets = (limit - 2) // 2
    chosen = {start, len(values) - 1}
    for bucket in range(buckets):
        low = start + bucket * count // buckets
        part = values[low : start + (bucket + 1) * count // buckets]
        finite = [value for value in part if not math.isnan(value)] if math.isnan(sum(part)) else part
        if finite:
            chosen.add(low + part.index(min(finite)))
            chosen.add(low + part.index(max(finite)))
    return sorted(chosen)


class Curves:
    """Both curves of a run, read as its log grows.

    A run that goes on after an interruption logs some steps again. The last log of a step counts; where it differs
    from the first, the steps that followed the first are gone, and viewers have to start anew.
    """

    def __init__(self) -> None:
        self._version = -1  # how often points that viewers have were dropped
        self.clear()

    def clear(self) -> None:
        """Forgets everything: the log begins again."""
        self._version += 1
        self.train, self.eval = Curve(), Curve()
        self._eval_places = array("q")  # how many points of either curve came before each eval point

    @property
    def points(self) -> int:
        """Points of both."""
        return len(self.train) + len(self.eval)

    def read(self, piece: Piece) -> None:
        """Takes new lines of the log."""
        for events in piece.stretches:
            if events[0]["kind"] != "step" or not self.train.add_steps(events):
                self._take(events)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if whole(event.get("step")) is None:
                continue
            if event["kind"] == "step":
                self._add(self.train, event, event.get("loss"))
            elif event["kind"] == "eval":
                metrics = event.get("metrics")
                loss = metrics.get("eval/loss") if isinstance(metrics, dict) else None
                if loss is not None:
                    self._add(self.eval, event, loss)

    def _add(self, curve: Curve, event: Event, loss: Any) -> None:
        if curve.step and event["step"] <= curve.step[-1]:
            if curve.replace(event, loss):
                return
            self._cut(event["step"], of_train=curve is self.train)
        if curve is self.eval:
            self._eval_places.append(self.points)
        curve.add(event, loss)

    def _cut(self, step: int, of_train: bool) -> None:
        """Drops what an earlier process logged from a step on; an evaluation comes after the step of its number."""
        self._version += 1
        self.train.cut(step if of_train else step + 1)
        self.eval.cut(step)
        del self._eval_places[len(self.eval) :]

    def delta(self, run_id: str, since: int = 0) -> dict[str, Any]:
        """The points that are new.

        Args:
            run_id: The run, as the answer is to name it.
            since: ``next`` of the last answer; 0, or a number that cannot be, for everything.

        Returns:
            ``{"id", "since", "next", "train": {"step": [...], "loss": [...], "tokens": [...], "elapsed": [...]},
            "eval": {same columns}}``. ``since`` is 0 when the viewer must drop what it has. Each curve has at most
            ``MAX_POINTS`` points, thinned so that extremes and ends stay. A loss that was not finite is null.
        """
        version, since = divmod(since, _VERSION)
        since = since if version == self._version and 0 <= since <= self.points else 0
        first_eval = bisect_left(self._eval_places, since)
        return {
            "id": run_id,
            "since": since,
            "next": self._version * _VERSION + self.points,
            "train": self.train.columns(since - first_eval),
            "eval": self.eval.columns(first_eval),
        }


def raw_metrics(paths: RunPaths) -> Iterator[dict[str, Any]]:
    """Every value that a run recorded, in the order of recording, neither thinned nor smoothed.

    Of a step that was recorded again after an interruption, the last values count.

    Yields:
        ``{"step", "name", "value"}`` with names such as ``train/loss``, ``train/lr``, ``train/grad_norm``,
        ``eval/loss``, ``test/bleu``. A value that was not finite is absent.
    """
    found: dict[tuple[Any, str], Any] = {}
    for event in (event for piece in LogFollower(paths.events).pieces() for event in piece.events):
        values: dict[str, Any] = {}
        if event["kind"] == "step":
            values = {f"train/{key}": event.get(key) for key in ("loss", "lr", "grad_norm")}
        elif event["kind"] == "eval" and isinstance(event.get("metrics"), dict):
            values = event["metrics"]
        for name, value in values.items():
            if number(value) is not None and whole(event.get("step")) is not None:
                found[event["step"], name] = value
    for (step, name), value in found.items():
        yield {"step": step, "name": name, "value": value}
