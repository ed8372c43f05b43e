"""Models kept ready for inference: a few bases, and adapters that share their base's weights in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import ConfigError, JobError
from peft_studio.models.lsg_settings import LongText
from peft_studio.training import Model
from peft_studio.training.inference.batched_adapters import batch_adapters, can_share
from peft_studio.training.inference.generate import Column, Group
from peft_studio.training.load import load_adapter, load_base, share_base
from peft_studio.training.placing import place

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True)
class BaseVariant:
    """In which form a base model is loaded.

    Attributes:
        labels: Class names, for a model with a classification head.
        lsg: LSG attention; None with the model's own.
    """

    labels: tuple[str, ...] = ()
    lsg: LongText | None = None


_PLAIN = BaseVariant()


class LRUCache(Generic[Key, Value]):
    """The most recently used values, made on demand. Thread-safe; a value is made by one thread only."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key; ``make`` is called when it is not there."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                while len(self._values) > self._capacity:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]


class ModelPool:
    """Loads models for columns of text; ``adapters`` is how many of those stay in memory."""

    def __init__(self, adapters: int = 12) -> None:
        self._bases: LRUCache[tuple[str, BaseVariant], tuple[PreTrainedModel, PreTrainedTokenizerBase]] = LRUCache(2)
        self._adapters: LRUCache[tuple[str, BaseVariant, str, int], PeftModel] = LRUCache(adapters)
        self._groups: LRUCache[tuple[int, ...], tuple[tuple[Model, ...], PreTrainedModel]] = LRUCache(4)

    def base(self, model_id: str, variant: BaseVariant = _PLAIN) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """A base model in evaluation mode, and its tokenizer.

        Raises:
            ModelError: There is no such model.
        """

        def make() -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
            model, tokenizer = load_base(model_id, labels=variant.labels, lsg=variant.lsg)
            return place(model).eval().requires_grad_(False), tokenizer

        return self._bases.get((model_id, variant), make)

    def adapter(self, model_id: str, folder: Path, variant: BaseVariant = _PLAIN) -> "PeftModel":
        """An adapter, as ``save_pretrained`` wrote it, on a copy of its base model that shares the base's weights.

        Raises:
            JobError: Nothing was saved there.
        """
        weights = folder / "adapter_model.safetensors"
        try:
            saved = weights.stat().st_mtime_ns
        except OSError:
            raise JobError(f"The run {folder.parent.name} has not saved an adapter.") from None
        base, _ = self.base(model_id, variant)

        def make() -> "PeftModel":
            return load_adapter(share_base(base), folder).to(base.device).eval()

        return self._adapters.get((model_id, variant, str(folder), saved), make)

    def groups(self, columns: Sequence[Column], model_id: str, variant: BaseVariant = _PLAIN) -> list[Group]:
        """Columns in groups: those that can be written as one batch, and each other one alone."""
        base, _ = self.base(model_id, variant)
        sharing = [(name, model) for name, model in columns if can_share(model, base)]
        if len(sharing) < 2:
            return [Group((name,), (model,), model) for name, model in columns]
        names, models = zip(*sharing, strict=True)
        key = tuple(id(model) for model in models)  # the value holds the models, so no id is used again
        _, shared = self._groups.get(key, lambda: (models, batch_adapters(models, base)))
        alone = [Group((name,), (model,), model) for name, model in columns if name not in names]
        return [Group(names, models, shared), *alone]


def columns_of(
    pool: ModelPool, model_id: str, adapters: Sequence[tuple[str, str, Path]], variant: BaseVariant = _PLAIN
) -> list[Column]:
    """The columns of a comparison: the base model first, then adapters, given by name, base model and folder.

    Raises:
        ConfigError: An adapter belongs to another base model, or the same one is asked for twice.
    """
    names = [name for name, _, _ in adapters]
    if len(set(names)) < len(names):
        raise ConfigError("The same run is asked for twice.", "runs")
    for name, other, _ in adapters:
        if other != model_id:
            message = f"The run {name} was trained on {other!r}, so it cannot stand beside {model_id!r}."
            raise ConfigError(message, "runs")
    columns: list[Column] = [("base", pool.base(model_id, variant)[0])]
    return columns + [(name, pool.adapter(model_id, folder, variant)) for name, _, folder in adapters]


def common_variant(runs: Sequence[ResolvedRun]) -> BaseVariant:
    """The form of the base model that several runs have in common.

    Raises:
        ConfigError: They answer in different ways.
        DataError: The labels come from a file that cannot be read any more.
    """
    variants = {BaseVariant(run.task.labels, run.config.lsg) for run in runs}
    if len(variants) > 1:
        raise ConfigError(
            "The chosen runs answer differently: all must write, or choose among the same labels, with the same "
            "attention.",
            "runs",
        )
    return next(iter(variants), BaseVariant())
