"""What can be seen of one adapter, whatever its method: the change map where it merges, and what else it brings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import DataError
from peft_studio.models.layouts import Layout
from peft_studio.tasks.base import Row, some_rows
from peft_studio.training import Model
from peft_studio.training.formats.formats import format_for
from peft_studio.training.formats.target_logits import base_of, context_of, has_prefix, row_limit, virtual_tokens
from peft_studio.training.inspection import added
from peft_studio.training.inspection.change_map import change_map, merged_with
from peft_studio.training.load import layout_of, load_adapter, share_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS = 8  # validation rows that a model reads while it is looked at
VIEWS = ("matrices", "vectors", "prompt", "attention", "scales", "biases", "bottlenecks")
"""What an inspection may show, under these names."""


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        run: The run.
        base: Its base model, which is left as it is.
        tokenizer: The base model's.
        adapter: Folder of a saved adapter of the run, or of a snapshot of it.
        other: Folder of another adapter on the same base, to compare changes of weights with.
    """

    run: ResolvedRun
    base: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    adapter: Path
    other: Path | None = None


def inspect_adapter(subject: Subject) -> dict[str, Any]:
    """All that can be seen of an adapter.

    Returns:
        ``views``: of each of ``VIEWS`` what the functions of this package tell, None where the method has no such
        thing; ``notes``: sentences on what could not be shown.

    Raises:
        ModelError: The adapter cannot be loaded.
    """
    layout, notes = layout_of(subject.base), list[str]()
    views: dict[str, Any] = dict.fromkeys(VIEWS)
    views |= _changes(subject, layout, notes)
    model = load_adapter(share_base(subject.base), subject.adapter).to(subject.base.device).eval()
    views["scales"] = added.scales(model, layout) or None
    views["biases"] = added.added_biases(model, layout) or None
    rows = _rows(subject.run, notes)
    if model.active_peft_config.is_prompt_learning:
        if not has_prefix(model):
            views["prompt"] = added.nearest_tokens(model, subject.tokenizer)
        in_decoder = layout.kind == "encoder-decoder" and has_prefix(model)
        plain = share_base(subject.base)
        views["attention"] = added.attention_changes(model, plain, _batches(subject, model, rows), in_decoder) or None
    else:
        views["bottlenecks"] = added.bottlenecks(model, layout, _batches(subject, model, rows)) or None
    return {"views": views, "notes": notes}


def _changes(subject: Subject, layout: Layout, notes: list[str]) -> dict[str, Any]:
    method = subject.run.method
    if not method.mergeable:
        return {}
    try:
        merged = merged_with(subject.base, subject.adapter)
        other = None if subject.other is None else merged_with(subject.base, subject.other)
    except (ValueError, RuntimeError, NotImplementedError):
        notes.append(f"{method.title} cannot be merged into a {layout.model_type}, so no change of weights is shown.")
        return {}
    return change_map(subject.base, merged, layout, other)


def _rows(run: ResolvedRun, notes: list[str]) -> Sequence[Row]:
    try:
        return some_rows(run.task.load("validation"), ROWS)
    except DataError as exc:
        notes.append(f"The validation rows cannot be read, so nothing is shown that needs text: {exc}")
        return ()


def _batches(subject: Subject, model: Model, rows: Sequence[Row]) -> list[Mapping[str, Tensor]]:
    """Validation rows as a model reads them, one by one, so that nothing is padding."""
    layout = layout_of(model)
    form = format_for(layout, subject.tokenizer, subject.run.task.labels if rows else ())
    longest = row_limit(subject.run.config.training.max_length, context_of(subject.base.config), virtual_tokens(model))
    examples = form.encode(rows, longest).examples if rows else []
    return [_given(form.inputs([example]), model, layout) for example in examples]


def _given(inputs: dict[str, Tensor], model: Model, layout: Layout) -> Mapping[str, Tensor]:
    labels = inputs.pop("labels")
    if layout.kind == "encoder-decoder":
        inputs["decoder_input_ids"] = base_of(model).prepare_decoder_input_ids_from_labels(labels=labels)
    return {name: part.to(model.device) for name, part in inputs.items()}
