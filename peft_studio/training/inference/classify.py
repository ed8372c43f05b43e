"""One text, several classifiers: the labels they choose, side by side, in the same form as streamed text."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_studio.errors import ConfigError
from peft_studio.training import Model
from peft_studio.training.formats.formats import Labelling, format_for
from peft_studio.training.inference.generate import Column
from peft_studio.training.load import layout_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 5  # labels listed for each model
NO_HEAD = "The base model has no head for this task, so it gives no label."


def label_columns(
    models: Sequence[Column], tokenizer: "PreTrainedTokenizerBase", text: str, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """What classifiers say of a text.

    Args:
        models: Name and model of each column; the one called ``base`` has an untrained head and is not asked.
        tokenizer: The base model's.
        text: What to label.
        labels: Class names.

    Returns:
        The state of all columns, as ``generate.stream_columns`` gives them, with ``labels``: name and probability of
        the likeliest ones, first the likeliest.

    Raises:
        ConfigError: The text is empty.
    """
    if not text.strip():
        raise ConfigError("The text is empty. Write something for the models to label.", "prompt")
    return [_column(name, model, tokenizer, text, labels) for name, model in models]


def _column(
    name: str, model: Model, tokenizer: "PreTrainedTokenizerBase", text: str, labels: Sequence[str]
) -> dict[str, Any]:
    state = {"name": name, "text": NO_HEAD, "done": True, "tokens": 0, "seconds": 0.0, "labels": []}
    if name == "base":
        return state
    begun = time.perf_counter()
    form = format_for(layout_of(model), tokenizer, labels)
    assert isinstance(form, Labelling)
    shares = form.probabilities(model, [text])[0].tolist()  # (1, classes) -> one number per class
    best = sorted(zip(labels, shares, strict=True), key=lambda pair: -pair[1])[:SHOWN]
    seconds = round(time.perf_counter() - begun, 3)
    listing = "\n".join(f"{label}  {share:.1%}" for label, share in best)
    return {**state, "text": listing, "seconds": seconds, "labels": [[label, share] for label, share in best]}
