"""The order and the priorities in which queued runs start, which are held back, and whether the queue stands still.

``queue.json`` in the home folder holds only what differs from "first come, first served"; without the file, or with a
damaged one, that is the order. App and command line change it whole, under a lock.
"""

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from peft_studio.errors import InvalidStateError, StorageError
from peft_studio.files import atomic_write, exclusive, read_json

FRONT, UP, DOWN = "front", "up", "down"
HIGH, NORMAL, LOW = PRIORITIES = "high", "normal", "low"
_NEXT = -1  # the rank of runs that come before every priority


@dataclass(frozen=True)
class Turns:
    """Whose runs they are that wait, and who has had how much, so that people take turns.

    Attributes:
        owners: Of the queued runs, by their ids.
        running: How many runs of an owner are at work.
        served: When a run of an owner was last started, in seconds since the epoch; who is not named never had one.
    """

    owners: Mapping[str, str] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)
    served: Mapping[str, float] = field(default_factory=dict)

    def take(self, waiting: Iterable[str], busy: dict[str, tuple[int, float]]) -> list[str]:
        """The order in which runs of several owners start: first of whoever has fewest at work, then of whoever has
        waited longest since their last start; of each owner in the given order.

        Args:
            waiting: Ids of the runs.
            busy: For each owner, runs at work and the time of the last start, as far as these runs have come before;
                goes on with what is chosen here.
        """
        lines: dict[str, list[str]] = {}
        for run_id in waiting:
            lines.setdefault(self.owners.get(run_id, ""), []).append(run_id)
        chosen, heads = [], dict.fromkeys(lines, 0)
        while heads:
            owner = min(heads, key=lambda one: busy.get(one) or (self.running.get(one, 0), self.served.get(one, 0.0)))
            count, _ = busy.get(owner) or (self.running.get(owner, 0), 0.0)
            busy[owner] = count + 1, float("inf")
            chosen.append(lines[owner][heads[owner]])
            place = heads.pop(owner) + 1  # to the end: among those who are even, whoever was chosen longest ago
            if place < len(lines[owner]):
                heads[owner] = place
        return chosen


@dataclass(frozen=True)
class QueueState:
    """What the file says.

    Attributes:
        order: Ids of runs that were put into an order; all others come after them, first come, first served.
        held: Ids of runs that are not started until they are released.
        paused: Whether no run is started at all.
        next: Ids of runs that were put before all others, whatever their priority.
        priorities: Priorities by id; that of runs that are not named is normal.
    """

    order: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    paused: bool = False
    next: tuple[str, ...] = ()
    priorities: Mapping[str, str] = field(default_factory=dict)

    def priority(self, run_id: str) -> str:
        """One of ``PRIORITIES``."""
        return self.priorities.get(run_id, NORMAL)

    def sort(self, waiting: Iterable[tuple[float, str]], turns: Turns | None = None) -> list[str]:
        """Ids in the order in which they are to start: by priority, then by place, then first come, first served.

        Args:
            waiting: For each queued run, since when it waits, and its id.
            turns: Where runs of several people wait: those of one priority take turns, and each person's keep their
                order; what is held back comes behind.
        """
        places = {run_id: place for place, run_id in enumerate(self.order)}

        def key(item: tuple[float, str]) -> tuple[Any, ...]:
            return self._rank(item[1]), places.get(item[1], len(places)), *item

        order = [run_id for _, run_id in sorted(waiting, key=key)]
        if turns is None:
            return order
        taken, busy = list[str](), dict[str, tuple[int, float]]()
        for _, group in groupby(order, self._rank):
            runs = list(group)
            taken += turns.take([run_id for run_id in runs if run_id not in self.held], busy)
            taken += [run_id for run_id in runs if run_id in self.held]
        return taken

    def steps(self, waiting: Sequence[str], turns: Turns | None = None) -> dict[str, set[str]]:
        """Which of ``UP`` and ``DOWN`` each queued run can go, of these in their present order; where people take
        turns, among those of its owner.
        """
        if turns is not None:
            lines = [_line(run_id, waiting, turns) for run_id in waiting]
            return {run_id: self.steps(line)[run_id] for line in map(list, dict.fromkeys(lines)) for run_id in line}
        found: dict[str, set[str]] = {run_id: set() for run_id in waiting}
        for place, run_id in enumerate(waiting):
            if place and self.rank_between(run_id, waiting[: place - 1][-1:], waiting[place - 1 : place]) is not None:
                found[run_id].add(UP)
            after = waiting[place + 1 : place + 2]
            if after and self.rank_between(run_id, after, waiting[place + 2 : place + 3]) is not None:
                found[run_id].add(DOWN)
        return found

    def rank_between(self, run_id: str, before: Sequence[str], after: Sequence[str]) -> int | None:
        """The rank with which a run can stand between two others: its own if possible; None when there is none.

        Args:
            run_id: The run.
            before: Who stands before it, or nobody.
            after: Who stands behind it, or nobody.
        """
        least = self._rank(before[0]) if before else _NEXT
        most = self._rank(after[0]) if after else len(PRIORITIES)
        own = PRIORITIES.index(self.priority(run_id))
        return next((rank for rank in (self._rank(run_id), own, _NEXT) if least <= rank <= most), None)

    def _rank(self, run_id: str) -> int:
        return _NEXT if run_id in self.next else PRIORITIES.index(self.priority(run_id))


class RunQueue:
    """The queue of a home folder. Thread-safe, and safe beside other processes."""

    def __init__(self, home: Path) -> None:
        self._path = home / "queue.json"
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._state = QueueState()

    def state(self) -> QueueState:
        """What the file says now; it is read again only when it changed."""
        with self._lock:
            try:
                found = self._path.stat()
                seen: tuple[int, ...] = (found.st_mtime_ns, found.st_size, found.st_ino)
            except OSError:
                seen = ()
            if seen != self._seen:
                self._state, self._seen = _parse(read_json(self._path) or {}), seen
            return self._state

    def move(self, run_id: str, to: str | int, waiting: Sequence[str], turns: Turns | None = None) -> None:
        """Gives a queued run another place among those of its priority, or before all others.

        Where people take turns it changes places with runs of its owner, except for the front.

        Args:
            run_id: The run.
            to: ``"front"``, ``"up"``, ``"down"``, or its new place, from 1.
            waiting: Ids of all queued runs in their present order.
            turns: As for `QueueState.sort`.

        Raises:
            InvalidStateError: The run is not queued, or there is no such place, or one for another priority only.
            StorageError: The file cannot be written.
        """
        if run_id not in waiting:
            raise InvalidStateError(f"The run {run_id} is not in the queue; only queued runs can be moved.")
        everybody, waiting = waiting, waiting if to == FRONT else _line(run_id, waiting, turns)
        places = [everybody.index(one) + 1 for one in waiting]
        place = waiting.index(run_id)
        if isinstance(to, str):
            target = {FRONT: 0, UP: place - 1, DOWN: place + 1}.get(to)
        else:
            target = places.index(to) if to in places else None
        if target is None:
            whole = len(places) == len(everybody)
            among = f"1 to {len(places)}" if whole else f"{', '.join(map(str, places))} (those of its owner)"
            raise InvalidStateError(
                f"There is no place {to!r} in the queue for it; allowed: {FRONT}, {UP}, {DOWN}, {among}."
            )
        order = [other for other in waiting if other != run_id]
        target = min(max(0, target), len(order))
        with self._changing() as state:
            rank = state.rank_between(run_id, order[:target][-1:], order[target : target + 1])
            if rank is None:
                raise InvalidStateError(
                    f"The run {run_id} has {state.priority(run_id)} priority, so it cannot stand at place "
                    f"{target + 1}. Change its priority, or move it to the front."
                )
            first = [other for other in state.next if other in everybody and other != run_id]
            order.insert(target, run_id)
            first += [run_id] if to == FRONT or rank == _NEXT else []
            placed = dict(zip(places, order, strict=True))  # others' runs stay where they are
            all_runs = tuple(placed.get(number, one) for number, one in enumerate(everybody, 1))
            self._write(replace(state, order=all_runs, next=tuple(first)))

    def prioritize(self, run_id: str, priority: str) -> None:
        """Gives a run, queued or about to be, a priority; one that was to run next is not any more.

        Raises:
            InvalidStateError: There is no such priority.
            StorageError: The file cannot be written.
        """
        if priority not in PRIORITIES:
            raise InvalidStateError(f"There is no priority {priority!r}; allowed: {', '.join(PRIORITIES)}.")
        with self._changing() as state:
            others = {other: kept for other, kept in state.priorities.items() if other != run_id}
            first = _without(run_id, state.next)
            mine = {} if priority == NORMAL else {run_id: priority}
            self._write(replace(state, next=first, priorities=others | mine))

    def hold(self, run_id: str, held: bool) -> None:
        """Holds a run back, or lets it go.

        Raises:
            StorageError: The file cannot be written.
        """
        with self._changing() as state:
            others = _without(run_id, state.held)
            self._write(replace(state, held=(*others, run_id) if held else others))

    def pause(self, paused: bool) -> None:
        """Lets no run start any more, or lets them start again.

        Raises:
            StorageError: The file cannot be written.
        """
        with self._changing() as state:
            self._write(replace(state, paused=paused))

    def enter(self, run_id: str, first: bool = False) -> None:
        """Forgets the place of a run that enters the queue anew; it comes last of its priority, or first of all.

        Raises:
            StorageError: The file cannot be written.
        """
        state = self.state()
        if not first and run_id not in (*state.order, *state.held, *state.next):
            return
        with self._changing() as state:
            order, held, following = (_without(run_id, ids) for ids in (state.order, state.held, state.next))
            if first:
                order, following = (run_id, *order), (run_id, *following)
            self._write(replace(state, order=order, held=held, next=following))

    def forget(self, run_id: str) -> None:
        """Forgets everything about a run.

        Raises:
            StorageError: The file cannot be written.
        """
        self.enter(run_id)
        if run_id in self.state().priorities:
            self.prioritize(run_id, NORMAL)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[QueueState]:
        """The state as it is now, while nobody else can change it."""
        try:
            with exclusive(self._path.with_suffix(".lock")):
                self._seen = None  # what is written must rest on the file itself
                yield self.state()
        except OSError as exc:
            raise StorageError(f"{self._path} cannot be changed: {exc.strerror or exc}.") from exc
        finally:
            self._seen = None

    def _write(self, state: QueueState) -> None:
        atomic_write(self._path, json.dumps({"v": 1, **asdict(state)}) + "\n")


def _parse(found: dict[str, Any]) -> QueueState:
    ranks = found.get("priorities")
    known = {run: rank for run, rank in ranks.items() if rank in PRIORITIES} if isinstance(ranks, dict) else {}
    order, held, following = (_ids(found.get(key)) for key in ("order", "held", "next"))
    return QueueState(order, held, found.get("paused") is True, following, known)


def _line(run_id: str, waiting: Sequence[str], turns: Turns | None) -> tuple[str, ...]:
    """The queued runs among which one can be moved: those of its owner where people take turns, else all."""
    owners = turns.owners if turns is not None else {}
    return tuple(other for other in waiting if owners.get(other) == owners.get(run_id))


def _without(run_id: str, ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(other for other in ids if other != run_id)


def _ids(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
