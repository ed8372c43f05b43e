"""What is certain to fail is said before a job starts, as far as it can be known without the network and torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import RunConfig
from peft_studio.errors import ConfigError, DataError
from peft_studio.machine.devices import ALL
from peft_studio.methods import Method
from peft_studio.models.fit import check_model
from peft_studio.models.layouts import Layout
from peft_studio.tasks import CUSTOM, custom_data
from peft_studio.tasks.custom import load_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_ROWS = 2000
"""Rows, shortest answers first, that are tokenized to find one that fits."""


def check_run(config: RunConfig) -> None:
    """Makes sure that a run can start.

    Raises:
        ModelError: There is no such model, it is too large for this machine, or its architecture is not supported.
        DataError: A data file cannot be used, or no row of it fits ``max_length``; the message names file, row and
            column.
        ConfigError: The model cannot do such a task, or the method does not fit the model.
    """
    run = resolve(config)
    if config.resources.device == ALL and run.method.changes_base:
        raise ConfigError(
            f"resources.device = {ALL!r}: {run.method.title} begins by changing base weights and keeps the originals, "
            "which cannot be spread over GPUs. Choose one GPU, or another method.",
            "resources.device",
        )
    source = run.source  # whether there is such a model; a file that cannot be used is told next
    kind = run.task.kind
    layout = run.layout
    check_model(config.model.id)
    if layout is None:
        return  # a model that is not on this machine yet
    check_fit(run.method, layout)
    if config.task.id == CUSTOM and kind == "generation" and (Path(source) / "tokenizer.json").is_file():
        _check_lengths(run, layout)


def check_fit(method: Method, layout: Layout) -> None:
    """Makes sure that a method can be put on an architecture.

    Raises:
        ConfigError: It cannot; the message says why.
    """
    reason = method.not_for.get(layout.model_type, "")
    if reason or layout.kind not in method.kinds:
        reason = reason or f"It needs {' or '.join(method.kinds)} models; this is an {layout.kind}."
        raise ConfigError(
            f"{method.title} cannot be used with models of type {layout.model_type!r}. {reason}", "method.name"
        )


def _check_lengths(run: ResolvedRun, layout: Layout) -> None:
    """Some answer of each split must leave room for its end mark, and for one token of its prompt where they share."""
    from tokenizers import Tokenizer

    config, model = run.config, run.model_settings
    try:
        tokenizer = Tokenizer.from_file(str(Path(run.source) / "tokenizer.json"))
    except Exception:  # the library has no class of its own; the worker meets the same fault and reports it
        return
    tokenizer.no_truncation()
    context = model.get("max_position_embeddings") or model.get("n_positions") or 1 << 30
    limit = min(config.training.max_length, int(context) - getattr(config.method, "virtual_tokens", 0))
    extra = 1 if layout.kind == "encoder-decoder" else 2
    custom = load_rows(custom_data(config.task))
    if not custom.at_hand:
        return  # this process is not to read files; the worker does
    for split, rows in custom.rows.items():
        text, tokens = _shortest(rows.shortest_targets(MOST_ROWS), tokenizer, limit - extra)
        if tokens + extra > limit and len(rows) <= MOST_ROWS:
            file = Path(custom.data.file(split) or custom.data.train_file).name
            raise DataError(
                f"{file}, column {custom.data.target_column!r}: none of the {len(rows):,} {split} rows can be used. "
                f"The shortest answer, {text.strip()[:60]!r}, needs {tokens + extra:,} tokens, and at most {limit:,} "
                f"are allowed (training.max_length = {config.training.max_length:,}). Choose a larger max_length."
            )


def _shortest(targets: Sequence[str], tokenizer: "Tokenizer", room: int) -> tuple[str, int]:
    """The first answer that is found to fit, or else the one of fewest tokens; and how many tokens it has."""
    best = "", 1 << 30
    for target in targets:
        tokens = len(tokenizer.encode(target, add_special_tokens=False).ids)
        if tokens < best[1]:
            best = target, tokens
        if tokens <= room:
            break
    return best
