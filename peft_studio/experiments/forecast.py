"""When queued runs start, and how long runs take that nobody can tell yet from their own steps."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError
from peft_studio.experiments.cost import Costs
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status

MOST = 200  # runs of a queue that are looked at


def starts_in(left: Iterable[float], queued: Sequence[tuple[str, float]], at_once: int) -> dict[str, float]:
    """In how many seconds queued runs start, each when one before it has made room.

    Args:
        left: Seconds that the runs at work still take.
        queued: Id and seconds of each queued run, in their order.
        at_once: How many runs train at a time.
    """
    ends = sorted(left)[-at_once:]
    ends += [0.0] * (at_once - len(ends))
    heapq.heapify(ends)
    found = {}
    for run_id, seconds in queued:
        found[run_id] = ends[0]
        heapq.heapreplace(ends, ends[0] + seconds)
    return found


def forecast(infos: Sequence[RunInfo], at_once: int, threads: int) -> dict[str, dict[str, float]]:
    """What can be foretold of the runs that are at work and that wait, whosesoever they are.

    Args:
        infos: Every run, newest first.
        at_once: How many runs train at a time.
        threads: Of a worker.

    Returns:
        Seconds by id: ``starts`` (until a queued run starts; none of those that are held back), ``takes`` (of a queued
        run) and ``left`` (of one at work whose own steps do not tell yet).
    """
    queued = sorted((info for info in infos if info.status is Status.QUEUED), key=_place)[:MOST]
    active = [info for info in infos if info.status.is_active][:MOST]
    if not queued and all(info.eta_seconds is not None for info in active):
        return {"starts": {}, "takes": {}, "left": {}}
    costs = Costs(infos, threads)
    takes = {info.id: seconds for info in queued if (seconds := _seconds(costs, info.config)) is not None}
    told = {info.id: info.eta_seconds for info in active if info.eta_seconds is not None}
    left = {
        info.id: max(1.0, seconds - (info.seconds or 0.0))
        for info in active
        if info.id not in told and (seconds := _seconds(costs, info.config)) is not None
    }
    waiting = [(info.id, takes[info.id]) for info in queued if info.id in takes and not info.held]
    starts = starts_in([*told.values(), *left.values()], waiting, max(1, at_once))
    return {"starts": starts, "takes": takes, "left": left}


def told_forecast(manager: JobManager) -> dict[str, dict[str, float]]:
    """`forecast` of an app's runs, as far as whoever asks may see them; on a cluster nobody knows when."""
    settings = manager.settings
    found = forecast(manager.library.all(), settings.max_running, settings.threads)
    if settings.executor != "local":
        found["starts"] = {}
    seen = {info.id for info in manager.library.list()} if any(found.values()) else set[str]()
    return {kind: {run: round(s, 1) for run, s in times.items() if run in seen} for kind, times in found.items()}


def _place(info: RunInfo) -> float:
    return info.queue_position or float("inf")


def _seconds(costs: Costs, config: Mapping[str, Any]) -> float | None:
    try:
        return costs.seconds(parse_config(config))
    except ConfigError:  # of a version with other settings
        return None
