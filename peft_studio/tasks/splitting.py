"""Sets rows aside for validation and test where no files are given for these."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from peft_studio.errors import DataError
from peft_studio.tasks.base import Row, Split

MAX_HELD_OUT = 300
"""Most rows that are set aside for one split."""
_SEED = 2017


@dataclass(frozen=True)
class Example:
    """A row, and its number in its table for messages."""

    row: Row
    index: int


def set_aside(
    train: Sequence[Example], missing: Sequence[Split], name: str, labelled: bool
) -> dict[Split, list[Example]]:
    """Moves a tenth of the training rows, but at least one, to each missing split.

    A prompt moves with all its rows, so that none is in two splits, and the rest keeps the order of the file. The
    same rows always give the same splits.

    Args:
        train: All rows of the training file.
        missing: Splits to be made.
        name: The training file's name, for messages.
        labelled: Targets are class names; every one of them then keeps a training row.

    Returns:
        The training rows that are left, and the rows of the missing splits.

    Raises:
        DataError: There are too few rows for that.
    """
    groups: dict[str, list[str]] = {}
    for example in train:
        groups.setdefault(example.row.prompt, []).append(example.row.target if labelled else "")
    # Without labels, the texts of one prompt become the references of one row.
    weights = {prompt: len(targets) if labelled else 1 for prompt, targets in groups.items()}
    size = max(min(weights.values()), min(MAX_HELD_OUT, sum(weights.values()) // 10))
    goals = _goals(groups, weights, dict.fromkeys(missing, size))
    parts: dict[Split, list[Example]] = {split: [] for split in ("train", *missing)}
    for example in train:
        parts[goals.get(example.row.prompt, "train")].append(example)
    if not all(parts.values()):
        alike = f", with {len(groups):,} different prompts" if 1 < len(groups) < len(train) else ""
        alike = ", all with one prompt" if len(groups) == 1 < len(train) else alike
        raise DataError(
            f"{name} has too few usable rows ({len(train)}{alike}) to set some aside for {' and '.join(missing)}. "
            f"Add rows{' of every label' if labelled else ''}, or give these rows as files of their own."
        )
    return parts


def _goals(groups: dict[str, list[str]], weights: dict[str, int], room: dict[Split, int]) -> dict[str, Split]:
    """Which split each moved prompt goes to; stops short of moving the last row of any target."""
    left = Counter(target for targets in groups.values() for target in targets)
    prompts = list(groups)
    random.Random(f"custom/{_SEED}").shuffle(prompts)
    goals: dict[str, Split] = {}
    for prompt in prompts:
        split = next((split for split, free in room.items() if free >= weights[prompt]), None)
        if split is None:
            continue
        moved = Counter(groups[prompt])
        if all(left[target] > count for target, count in moved.items()):
            left -= moved
            room[split] -= weights[prompt]
            goals[prompt] = split
    return goals


def merge(rows: Iterable[Row]) -> list[Row]:
    """One row for each prompt, with the answers of all its rows as references."""
    same: dict[str, list[Row]] = {}
    for row in rows:
        same.setdefault(row.prompt, []).append(row)
    return [
        replace(group[0], references=tuple(dict.fromkeys(text for row in group for text in row.references)))
        for group in same.values()
    ]
