"""The snapshots of a run's adapter, taken while it trained: which there are, and which are kept."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from peft_studio.errors import InvalidStateError
from peft_studio.runs.paths import RunPaths

MOST_BYTES = 4_000_000  # of an adapter of which snapshots are kept
_STEP = re.compile(r"\d{8}")


def snapshot_folder(paths: RunPaths, step: int) -> Path:
    """Where the adapter of a step is, as PEFT saves it."""
    return paths.snapshots / f"{step:08d}"


def snapshot_steps(paths: RunPaths) -> list[int]:
    """The steps of which there is a snapshot, in order; none of an older run."""
    try:
        names = [entry.name for entry in paths.snapshots.iterdir()]
    except OSError:
        return []
    return sorted(int(name) for name in names if _STEP.fullmatch(name))


def adapter_at(paths: RunPaths, step: int | None) -> Path:
    """The folder of a snapshot; of the saved adapter without a step.

    Raises:
        InvalidStateError: There is no such snapshot.
    """
    if step is None:
        return paths.adapter
    known = snapshot_steps(paths)
    if step not in known:
        allowed = ", ".join(map(str, known)) or "none, for this run keeps no snapshots"
        raise InvalidStateError(f"step = {step} has no snapshot; allowed: {allowed}.")
    return snapshot_folder(paths, step)


def thinned(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of these steps (from 1, in order), spread evenly over their logarithms; first and last stay."""
    kept = list(steps)
    while len(kept) > max(2, most):
        gaps = [math.log(kept[at + 1] / kept[at - 1]) for at in range(1, len(kept) - 1)]
        del kept[1 + gaps.index(min(gaps))]
    return kept
