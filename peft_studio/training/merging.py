"""Folds an adapter into its base's weights: a model like any other, which plain transformers loads."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import InvalidStateError
from peft_studio.models.linear_base import transposed_again
from peft_studio.training import Model
from peft_studio.training.load import load_adapter, load_base
from peft_studio.training.quiet import known_warnings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

MAX_DIFFERENCE = 1e-3  # of a logit, relative to the largest; beyond it, it is not rounding
PROBE = (2, 12)
"""Texts and tokens of the question that both models are asked."""


def merge_adapter(resolved: ResolvedRun, adapter: Path, folder: Path) -> float:
    """Writes base and adapter as one model; see `write_merged`.

    Returns:
        The largest difference of a logit.
    """
    return write_merged(resolved, adapter, folder)[1]


def write_merged(resolved: ResolvedRun, adapter: Path, folder: Path) -> "tuple[PreTrainedModel, float]":
    """Writes base and adapter as one model: weights in float32, configs and tokenizer.

    It is loaded again by plain transformers and compared with base and adapter side by side.

    Args:
        resolved: The run.
        adapter: Folder of its saved adapter.
        folder: Where the model goes.

    Returns:
        The model as it was loaded again, and the largest difference of a logit.

    Raises:
        InvalidStateError: The method or this model cannot be merged; says why.
        ModelError: The base or the adapter cannot be loaded.
    """
    method, lsg = resolved.method, resolved.config.lsg
    instead = "Export the adapter itself instead."
    if not method.mergeable:
        raise InvalidStateError(f"{method.title} cannot be merged: what it learns is no change of weights. {instead}")
    if lsg is not None:
        raise InvalidStateError(f"A model with LSG attention is none that transformers loads by itself. {instead}")
    base, tokenizer = load_base(resolved.config.model.id, labels=resolved.task.labels)
    model = load_adapter(base, adapter)
    expected = _answer(model)
    try:
        merged = transposed_again(unloaded(model))
    except (ValueError, RuntimeError, NotImplementedError) as exc:
        raise InvalidStateError(f"{method.title} cannot be merged into a {base.config.model_type}. {instead}") from exc
    merged.save_pretrained(folder)
    if resolved.task.labels and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(merged.config.pad_token_id)
    tokenizer.save_pretrained(folder)
    again = type(merged).from_pretrained(folder, dtype=torch.float32).eval()
    difference = float((_answer(again) - expected).abs().max())
    if not difference <= MAX_DIFFERENCE * max(1.0, float(expected.abs().max())):
        raise InvalidStateError(f"The merged model is off by {difference:.2g}, which is no rounding. {instead}")
    return again, difference


def unloaded(model: "PeftModel") -> "PreTrainedModel":
    """The base with the adapter in its weights; the adapter is used up."""
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):  # PEFT trips over heads that are more than one layer
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.modules_to_save[module.active_adapters[0]])
    with known_warnings():
        return model.merge_and_unload()


def _answer(model: Model) -> Tensor:
    """Logits for a few random tokens, always the same."""
    config = model.config
    ids = torch.randint(0, config.vocab_size, PROBE, generator=torch.Generator().manual_seed(0))  # (B, T)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if config.is_encoder_decoder:
        given["decoder_input_ids"] = ids
    with torch.inference_mode():
        return model(**given).logits  # (B, T, V); (B, C) of a classifier
