"""An adapter at a strength from 0 (the base model) over 1 (as trained) to beyond.

Layers: what an adapted layer gives is ``base + strength * (adapted - base)``, both for the same input. Whatever a
method adds to weights, biases or outputs is scaled by it, for (IA)^3, norms and biases that is the straight line from
the base model's number to the trained one. Vectors before the text cannot be half there; with them the logits move on
such a line.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList

from peft_studio.methods import Method
from peft_studio.tasks.base import Row
from peft_studio.training import Model
from peft_studio.training.formats.ends import end_ids
from peft_studio.training.formats.formats import Format, Labelling
from peft_studio.training.formats.greedy import DECODING, is_encoder_decoder, pad_id, prompt_ids
from peft_studio.training.formats.rows import Batch
from peft_studio.training.formats.seam import completion_text
from peft_studio.training.formats.target_logits import context_of, row_limit, virtual_tokens
from peft_studio.training.inference.batched_adapters import adapted_layers

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

MOST = 1.5


def what_is_scaled(method: Method, model: "PeftModel") -> str:
    """In words, what a strength is of."""
    if virtual_tokens(model):
        return (
            f"{method.title} puts vectors before the text, which cannot be half there: the logits move on a straight "
            "line from the base model's (0) to the adapter's (1)."
        )
    if method.mergeable:
        return (
            f"The change that {method.title} makes to each weight, ΔW, is multiplied: 0 is the base model, 1 what was "
            "trained."
        )
    return (
        f"What {method.title} adds to the output of each layer is multiplied: 0 is the base model, 1 what was trained."
    )


class Dial:
    """A model at a strength.

    Args:
        model: The adapter, on a base of its own (that shares the base's weights), in evaluation mode.
        base: The base model.
        strength: 0 is exactly the base model, 1 exactly the adapter.
    """

    def __init__(self, model: "PeftModel", base: "PreTrainedModel", strength: float) -> None:
        self._model = model
        self._base = base
        self._strength = strength
        self._by_logits = virtual_tokens(model) > 0

    def logits(self, form: Format, batch: Batch) -> tuple[Tensor, Tensor]:
        """What ``form.logits`` gives: logits ``(N, V)``, or ``(B, C)`` of a classifier, and the right answers."""
        at_end = self._at_end()
        if at_end is not None or not self._by_logits:
            with self._scaled():
                return form.logits(at_end or self._model, batch)
        plain, targets = form.logits(self._base, batch)
        return plain + self._strength * (form.logits(self._model, batch)[0] - plain), targets

    def answer(self, form: Format, prompt: str | Row, max_new_tokens: int) -> str:
        """The greedy answer to a prompt; the label, of a classifier."""
        at_end = self._at_end()
        row = prompt if isinstance(prompt, Row) else Row(prompt, "")
        if isinstance(form, Labelling):
            return self._label(form, row)
        if at_end is not None or not self._by_logits:
            with self._scaled():
                answers = form.answers(at_end or self._model, [row], max_new_tokens, lambda: False)
            return answers[0] if answers else ""
        return self._blended(form, row, max_new_tokens)

    def _label(self, form: Labelling, row: Row) -> str:
        limit = row_limit(1 << 20, context_of(self._model.config), virtual_tokens(self._model))
        batch = form.inputs(form.encode([replace(row, target=form.labels[0])], limit).examples)
        with torch.inference_mode():
            logits, _ = self.logits(form, {name: part.to(self._model.device) for name, part in batch.items()})
        return form.labels[int(logits.argmax())]

    def _at_end(self) -> "Model | None":
        """The model that this is at an end of the line; None between and beyond."""
        if self._strength == 0:
            return self._base
        return self._model if self._strength == 1 else None

    def _scaled(self) -> contextlib.AbstractContextManager[None]:
        between = self._at_end() is None and not self._by_logits
        return scaled_layers(self._model, self._strength) if between else contextlib.nullcontext()

    def _blended(self, form: Format, row: Row, max_new_tokens: int) -> str:
        ids = torch.tensor(prompt_ids(self._model, form.tokenizer, [row], max_new_tokens), device=self._model.device)
        apart = is_encoder_decoder(self._model)
        ends = end_ids(self._model, form.tokenizer)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,  # (1, T)
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                eos_token_id=list(ends) or None,
                pad_token_id=pad_id(form.tokenizer),
                logits_processor=LogitsProcessorList([_TowardsBase(self._base, ids, self._strength)]),
                **DECODING,
            )
        new = [token for token in output[0, 1 if apart else ids.shape[1] :].tolist() if token not in ends]
        return completion_text(form.tokenizer, [] if apart else ids[0].tolist(), new)


class _TowardsBase(LogitsProcessor):
    """Moves logits on the line from the base model's; the base model reads along."""

    def __init__(self, base: "PreTrainedModel", source: Tensor, strength: float) -> None:
        self._base = base
        self._strength = strength
        self._given = {"input_ids": source} if is_encoder_decoder(base) else {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Takes token ids ``(1, T)`` and logits ``(1, V)``; returns ``(1, V)``."""
        name = "decoder_input_ids" if self._given else "input_ids"
        logits = self._base(**{**self._given, name: input_ids}, use_cache=False).logits  # (1, T, V)
        plain = logits[:, -1].to(scores.dtype)
        return plain + self._strength * (scores - plain)


@contextlib.contextmanager
def scaled_layers(model: "PeftModel", strength: float) -> Iterator[None]:
    """Has all adapted layers of a model give ``base + strength * (adapted - base)``."""
    layers = adapted_layers(model).values()
    hooks = [layer.register_forward_hook(partial(_scale, strength), with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scale(
    strength: float, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], adapted: Tensor
) -> Tensor:
    parts = [part for part in layer.modules() if hasattr(part, "_disable_adapters") and not part._disable_adapters]
    for part in parts:
        part._disable_adapters = True
    try:
        plain: Tensor = layer.forward(*args, **kwargs)
    finally:
        for part in parts:
            part._disable_adapters = False
    return plain + strength * (adapted - plain)
