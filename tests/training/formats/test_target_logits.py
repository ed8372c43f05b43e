"""The loss with logits at target positions only is the library's own loss."""

from typing import Any

import pytest
import torch

from peft_studio.methods import METHODS
from peft_studio.tasks.base import Row
from peft_studio.training.evaluate import measure_loss
from peft_studio.training.formats import target_logits as loss
from peft_studio.training.formats.formats import Continuation, evaluation_batches
from peft_studio.training.formats.rows import collate, encode_rows

ROWS = [
    Row("food: Thai =>", " A Thai place."),
    Row("name: Biox Mill | food: Indian =>", " Biox Mill serves Indian food."),
]


def reference_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """What a plain script computes: attention mask, all logits, the model's own loss."""
    mask = torch.ones_like(batch["input_ids"])
    for row, labels in enumerate(batch["labels"]):
        mask[row, int(torch.nonzero(labels >= 0).max()) + 1 :] = 0
    return model(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"]).loss


def test_loss_and_gradients_equal_the_plain_ones(adapted: tuple[Any, Any]) -> None:
    model, tokenizer = adapted
    batch = collate(encode_rows(ROWS, tokenizer, 256).examples, tokenizer.pad_token_id)
    target_loss = Continuation(tokenizer).loss
    gradients = []
    for compute in (target_loss, reference_loss):
        model.zero_grad()
        value = compute(model, batch)
        if compute is target_loss and "adalora" in str(getattr(model, "active_peft_config", "")).lower():
            value = value + METHODS["adalora"].penalty(model)  # which PEFT adds to the model's own loss
        value.backward()
        gradients.append((value.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (ours, our_gradients), (theirs, their_gradients) = gradients
    torch.testing.assert_close(ours, theirs)
    assert our_gradients
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-4)


def test_models_that_cannot_choose_positions_fall_back(
    adapted: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = adapted
    batch = collate(encode_rows(ROWS, tokenizer, 256).examples, tokenizer.pad_token_id)
    form = Continuation(tokenizer)
    chosen = form.loss(model, batch)
    monkeypatch.setattr(loss, "_can_choose", lambda _model: False)
    torch.testing.assert_close(form.loss(model, batch), chosen)


def test_validation_loss_weighs_tokens_and_does_not_depend_on_batches(adapted: tuple[Any, Any]) -> None:
    model, tokenizer = adapted
    form = Continuation(tokenizer)
    examples = form.encode(ROWS, 256).examples
    together = measure_loss(model, form, evaluation_batches(examples, form), lambda: False)
    assert together is not None
    alone = [measure_loss(model, form, evaluation_batches([example], form), lambda: False) for example in examples]
    assert together.tokens == sum(example.targets for example in examples) == sum(one.tokens for one in alone if one)
    expected = sum(one.loss * one.tokens for one in alone if one) / together.tokens
    assert together.loss == pytest.approx(expected, rel=1e-5)
    assert together.metrics("eval")["eval/perplexity"] == pytest.approx(2.718281828**together.loss)


def test_evaluation_stops_when_asked(different: tuple[Any, Any]) -> None:
    model, tokenizer = different
    form = Continuation(tokenizer)
    batches = evaluation_batches(form.encode(ROWS, 256).examples, form)
    assert measure_loss(model, form, batches, lambda: True) is None
