"""Models kept ready for inference: a few bases, and adapters that share their base's weights in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from peft_studio.config.run_config import RunConfig
from peft_studio.errors import ConfigError, JobError
from peft_studio.models.lsg_settings import LongText
from peft_studio.tasks import task_of
from peft_studio.training.inference.batched_adapters import can_share, together
from peft_studio.training.inference.generate import Group
from peft_studio.training.load import load_adapter, load_base, share_base
from peft_studio.training.placing import place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Value = TypeVar("Value")


@dataclass(frozen=True)
class Kind:
    """What a base model is loaded for.

    Attributes:
        labels: Class names, for a model with a classification head.
        lsg: LSG attention; None with the model's own.
    """

    labels: tuple[str, ...] = ()
    lsg: LongText | None = None


_PLAIN = Kind()


class Recent(Generic[Value]):
    """The most recently used values, made on demand. Thread-safe; a value is made by one thread only."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Any, Value] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Any, make: Callable[[], Value]) -> Value:
        """The value of a key; ``make`` is called when it is not there."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                while len(self._values) > self._capacity:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]


class ModelPool:
    """Loads models for columns of text.

    Args:
        bases: How many base models stay in memory.
        adapters: How many adapters stay in memory.
        groups: How many sets of adapters that answer together do.
    """

    def __init__(self, bases: int = 2, adapters: int = 12, groups: int = 4) -> None:
        self._bases: Recent[tuple[PreTrainedModel, PreTrainedTokenizerBase]] = Recent(bases)
        self._adapters: Recent[Any] = Recent(adapters)
        self._groups: Recent[tuple[tuple[Any, ...], Any]] = Recent(groups)

    def base(self, model_id: str, kind: Kind = _PLAIN) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """A base model in evaluation mode, and its tokenizer.

        Args:
            model_id: Catalogue name, folder or Hub id.
            kind: Head and attention.

        Raises:
            ModelError: There is no such model.
        """

        def make() -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
            model, tokenizer = load_base(model_id, labels=kind.labels, lsg=kind.lsg)
            return place(model).eval().requires_grad_(False), tokenizer

        return self._bases.get((model_id, kind), make)

    def adapter(self, model_id: str, folder: Path, kind: Kind = _PLAIN) -> Any:
        """An adapter on a copy of its base model that shares the base's weights.

        Args:
            model_id: The base model it was trained on.
            folder: As ``save_pretrained`` wrote it.
            kind: Head and attention.

        Raises:
            JobError: Nothing was saved there.
        """
        weights = folder / "adapter_model.safetensors"
        try:
            saved = weights.stat().st_mtime_ns
        except OSError:
            raise JobError(f"The run {folder.parent.name} has not saved an adapter.") from None
        base, _ = self.base(model_id, kind)

        def make() -> Any:
            return load_adapter(share_base(base), folder).to(base.device).eval()

        return self._adapters.get((model_id, kind, str(folder), saved), make)

    def groups(self, columns: Sequence[tuple[str, Any]], model_id: str, kind: Kind = _PLAIN) -> list[Group]:
        """Which columns can be written as one batch: one group of those that share, and each other one alone.

        Args:
            columns: From ``columns_of``.
            model_id: Their base model.
            kind: Head and attention.
        """
        base, _ = self.base(model_id, kind)
        sharing = [(name, model) for name, model in columns if can_share(model, base)]
        if len(sharing) < 2:
            return [Group((name,), (model,), model) for name, model in columns]
        names, models = zip(*sharing, strict=True)
        key = tuple(id(model) for model in models)  # the value holds the models, so no id is used again
        _, shared = self._groups.get(key, lambda: (models, together(models, base)))
        return [
            Group(names, models, shared),
            *(Group((name,), (model,), model) for name, model in columns if name not in names),
        ]


def columns_of(
    pool: ModelPool, model_id: str, adapters: Sequence[tuple[str, str, Path]], kind: Kind = _PLAIN
) -> list[tuple[str, Any]]:
    """The columns of a comparison: the base model first, then adapters.

    Args:
        pool: Where models come from.
        model_id: The base model.
        adapters: Name, base model and folder of each.
        kind: Head and attention, the same for all.

    Raises:
        ConfigError: An adapter belongs to another base model, or the same one is asked for twice.
    """
    names = [name for name, _, _ in adapters]
    if len(set(names)) < len(names):
        raise ConfigError("The same run is asked for twice.", "runs")
    for name, other, _ in adapters:
        if other != model_id:
            raise ConfigError(
                f"The run {name} was trained on {other!r}, so it cannot stand beside {model_id!r}.", "runs"
            )
    columns: list[tuple[str, Any]] = [("base", pool.base(model_id, kind)[0])]
    return columns + [(name, pool.adapter(model_id, folder, kind)) for name, _, folder in adapters]


def common_kind(configs: Sequence[RunConfig]) -> Kind:
    """What the base models of several runs have in common.

    Raises:
        ConfigError: They answer in different ways.
        DataError: The labels come from a file that cannot be read any more.
    """
    kinds = {Kind(task_of(config.task).labels, config.lsg) for config in configs}
    if len(kinds) > 1:
        raise ConfigError(
            "The chosen runs answer differently: all must write, or choose among the same labels, with the same "
            "attention.",
            "runs",
        )
    return next(iter(kinds), Kind())
