"""The rows of a run with their tokens, as its training and its evaluations read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_studio.config.run_config import RunConfig
from peft_studio.tasks.base import Row, Task, some_rows
from peft_studio.training import Model, provenance
from peft_studio.training.formats.formats import Format, evaluation_batches
from peft_studio.training.formats.rows import EncodedRows
from peft_studio.training.formats.target_logits import context_of, row_limit, virtual_tokens
from peft_studio.training.formats.token_cache import encode_once


@dataclass(frozen=True)
class EncodedSplit:
    """Rows of a split with their tokens."""

    rows: Sequence[Row]
    encoded: EncodedRows


class RunData:
    """The part of a run's session that knows its rows; each split is read and tokenized when it is first needed."""

    config: RunConfig
    task: Task
    form: Format
    model: Model
    _cache: Path

    @cached_property
    def max_length(self) -> int:
        """Tokens of a row that fit the model beside the method's virtual tokens."""
        return row_limit(self.config.training.max_length, context_of(self.model.config), virtual_tokens(self.model))

    @cached_property
    def training_rows(self) -> EncodedSplit:
        """The training split."""
        return self._split(self.task.load("train"))

    @cached_property
    def validation_rows(self) -> EncodedSplit:
        """The validation rows that are used."""
        return self._split(some_rows(self.task.load("validation"), self.config.training.eval_rows))

    @cached_property
    def validation_batches(self) -> list[dict[str, Any]]:
        """The validation rows, ready for the model."""
        return evaluation_batches(self.validation_rows.encoded.examples, self.form, self._vocabulary)

    @property
    def _vocabulary(self) -> int:
        """Tokens among which the model chooses; 0 of a classifier."""
        return 0 if self.form.classifies else int(self.model.config.vocab_size)

    @cached_property
    def measured_on(self) -> str:
        """A fingerprint of what the validation loss is measured on."""
        examples = self.validation_rows.encoded.examples
        return provenance.fingerprint_targets([label for label in each.labels if label >= 0] for each in examples)

    def _split(self, rows: Sequence[Row]) -> EncodedSplit:
        return EncodedSplit(rows, encode_once(self.form, rows, self.max_length, self._cache))

    def facts(self) -> dict[str, Any]:
        """What ``started`` says of the rows, as plain values."""
        train, validation = self.training_rows.encoded, self.validation_rows.encoded
        return {
            "id": self.task.name,
            "kind": self.task.kind,
            "rows": len(train.examples),
            "cut": train.cut,
            "dropped": train.dropped,
            "max_length": self.max_length,
            "labels": list(self.task.labels),
            "validation": {
                "rows": len(validation.examples), "cut": validation.cut, "dropped": validation.dropped,
            },
        }  # fmt: skip
