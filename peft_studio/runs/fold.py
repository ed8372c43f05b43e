"""One look at each byte of a run's ``events.jsonl``: whatever is made of the log follows it together.

A fold keeps its place in the log and hands what is new to its parts: what the list shows (`progress.RunProgress`), the
curves (`curves.Curves`), the figures that the doctor judges by (`evidence.StepFigures`). A part is made when somebody
asks for it, so that a list of thousands of runs keeps no curves; one that comes later catches up by itself.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Protocol, Self, TypeVar
from weakref import WeakValueDictionary

from peft_studio.runs.event_log import LogFollower, Piece
from peft_studio.runs.paths import RunPaths

KEPT_POINTS = 2_000_000  # of all runs that are being looked at together


class Part(Protocol):
    """What is added up from a log, piece by piece."""

    @property
    def points(self) -> int:
        """How much it keeps, in points of a curve, which take 32 bytes each."""

    def read(self, piece: Piece) -> None:
        """Takes the lines that come next."""

    def clear(self) -> None:
        """Forgets everything: the log begins again."""


P = TypeVar("P", bound=Part)


class RunFold:
    """Follows a run's events for all of its parts. Thread-safe.

    Attributes:
        paths: The run.
        points: How much its parts keep, see `Part.points`.
    """

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.points = 0
        self._log = LogFollower(paths.events)
        self._parts: dict[type[Part], Part] = {}
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def reading(self, *kinds: type[Part]) -> Iterator[Self]:
        """Reads what is new; while the block runs, parts of these kinds are there and do not grow."""
        with self._lock:
            if self._log.restarted():
                for part in self._parts.values():
                    part.clear()
            late = {kind: kind() for kind in kinds if kind not in self._parts}
            if late:
                self._catch_up(late.values())
                self._parts |= late
            for piece in self._log.pieces():
                for part in self._parts.values():
                    part.read(piece)
            self.points = sum(part.points for part in self._parts.values())
            yield self

    def _catch_up(self, parts: Collection[Part]) -> None:
        """Has new parts read what the others have read already."""
        again = LogFollower(self.paths.events)
        pieces = again.pieces()
        while again.offset < self._log.offset and (piece := next(pieces, None)) is not None:
            beyond = max(0, again.offset - self._log.offset)
            piece = Piece(piece.data[: len(piece.data) - beyond])
            for part in parts:
                part.read(piece)

    def part(self, kind: type[P]) -> P:
        """A part, within `reading`."""
        found = self._parts[kind]
        assert isinstance(found, kind)
        return found

    def drop(self, *kinds: type[Part]) -> None:
        """Forgets parts of these kinds, or all; they are made anew when somebody asks for them."""
        with self._lock:
            for kind in kinds or tuple(self._parts):
                self._parts.pop(kind, None)


class Folds:
    """The folds of all runs that are being looked at, one for each run. Thread-safe.

    Args:
        most: How many points they keep; of those that were not asked for longest, everything is dropped.
    """

    def __init__(self, most: int = KEPT_POINTS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: WeakValueDictionary[str, RunFold] = WeakValueDictionary()
        self._recent: OrderedDict[str, RunFold] = OrderedDict()

    def of(self, paths: RunPaths) -> RunFold:
        """The fold of a run."""
        with self._lock:
            fold = self._known.get(paths.id)
            if fold is None:
                fold = self._known[paths.id] = RunFold(paths)
            return fold

    @contextlib.contextmanager
    def reading(self, paths: RunPaths, *kinds: type[Part]) -> Iterator[RunFold]:
        """`RunFold.reading` of a run, whose parts are kept for the next time."""
        fold = self.of(paths)
        with fold.reading(*kinds):
            yield fold
        with self._lock:
            self._recent[paths.id] = fold
            self._recent.move_to_end(paths.id)
            total = sum(fold.points for fold in self._recent.values())
            while total > self._most and len(self._recent) > 1:
                _, oldest = self._recent.popitem(last=False)
                total -= oldest.points
                oldest.drop()

    def forget(self, run_id: str) -> None:
        """Drops a run that was deleted."""
        with self._lock:
            self._recent.pop(run_id, None)
            self._known.pop(run_id, None)
