"""The comparison of runs as rows of a CSV file."""

from collections.abc import Iterable, Sequence
from typing import Any

from peft_studio.runs.reader import RunInfo

FIELDS = (
    "id", "title", "method", "model", "task", "status", "learning_rate", "step", "trainable_params", "total_params",
    "trainable_share", "adapter_bytes", "peak_memory_bytes", "seconds", "steps_per_second", "tokens_per_second",
)  # fmt: skip


def csv_rows(infos: Sequence[RunInfo]) -> Iterable[list[Any]]:
    """Header and rows; a value that is not known is an empty cell.

    Args:
        infos: The runs, in the order wanted.
    """
    metrics = sorted({name for info in infos for name in info.metrics})
    yield [*FIELDS, *metrics]
    for info in infos:
        values = [getattr(info, name) for name in FIELDS]
        yield [safe_cell(value) for value in (*values, *(info.metrics.get(name) for name in metrics))]


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@"):
        return "'" + value
    return value
