"""What a model forgot of what it knew before: its loss on general text that neither training had."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import InvalidStateError
from peft_studio.models.layouts import Layout
from peft_studio.pretraining.corpus import shard
from peft_studio.training import Model
from peft_studio.training.evaluate import measure_loss
from peft_studio.training.formats.formats import Format, SourceTarget, evaluation_batches, format_for
from peft_studio.training.formats.rows import EncodedExample
from peft_studio.training.formats.target_logits import context_of, row_limit, virtual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DOCUMENTS = 24
MOST_TOKENS = 128  # of a document
LEAST_TOKENS = 8
OWN, LIBRARY = "pre-training", "documentation"


@dataclass(frozen=True)
class GeneralText:
    """Texts that a model is asked to go on with.

    Attributes:
        source: Where they are from: held-out documents of its ``pre-training``, or Python's ``documentation``.
        texts: In a fixed order.
    """

    source: str
    texts: tuple[str, ...]


def general_text(run: ResolvedRun) -> GeneralText:
    """The text for a run's base model: of the embedded ones their own kind, for others what every Python brings."""
    if run.card is not None and run.card.path is not None:
        return GeneralText(OWN, tuple(shard(0, 0, DOCUMENTS, "validation", use_library=False)))
    from pydoc_data.topics import topics

    prose = (" ".join(topics[name].split()) for name in sorted(topics))
    return GeneralText(LIBRARY, tuple([text for text in prose if len(text) > 10 * MOST_TOKENS][:DOCUMENTS]))


class ForgettingProbe:
    """Measures the loss on general text, always on the same tokens.

    Args:
        run: The run whose base model is asked.
        layout: Of that model.
        tokenizer: Its tokenizer.
        room: A model with the run's adapter, which says how much context that takes.

    Raises:
        InvalidStateError: The model does not write text.
    """

    def __init__(self, run: ResolvedRun, layout: Layout, tokenizer: "PreTrainedTokenizerBase", room: Model) -> None:
        if layout.purpose == "classification":
            raise InvalidStateError(
                "A model that classifies writes no text, so what it forgot of language is not measured."
            )
        self.text = general_text(run)
        self._form = format_for(layout, tokenizer)
        longest = row_limit(MOST_TOKENS, context_of(room.config), virtual_tokens(room))
        examples = _encoded(self.text.texts, tokenizer, self._form, longest)
        self.tokens = sum(example.targets for example in examples)
        self._batches: Sequence[dict[str, Any]] = evaluation_batches(examples, self._form, len(tokenizer))

    def loss(self, model: Model) -> float:
        """Mean negative log-likelihood of the text's tokens, in nats; of an encoder-decoder of each second half."""
        found = measure_loss(model, self._form, self._batches, lambda: False)
        assert found is not None  # nobody asks it to stop
        return found.loss


def _encoded(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", form: Format, longest: int
) -> list[EncodedExample]:
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    rows = [list(ids[:longest]) for ids in encoded if len(ids) >= LEAST_TOKENS]
    halves = isinstance(form, SourceTarget)
    return [EncodedExample(ids, len(ids) // 2 if halves else 1) for ids in rows]
