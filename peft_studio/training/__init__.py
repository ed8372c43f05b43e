"""Training, evaluation, estimates and inference: all that needs torch, transformers and peft."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Model: TypeAlias = "PreTrainedModel | PeftModel"
"""A model of transformers, with a method on it or without."""
