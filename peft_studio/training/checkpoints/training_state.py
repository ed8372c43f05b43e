"""Everything that the next optimizer step depends on, as tensors and plain values: taken from a run and put back.

Parameters, optimizer and schedule, random states. Exactly restored, a run goes on as if it had never been interrupted.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from peft_studio.errors import CheckpointError
from peft_studio.training.adapter_files import Origin
from peft_studio.training.checkpoints.checkpoint import PlainState


def all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def method_constants(model: nn.Module, base: list[Tensor]) -> list[str]:
    """Names of a method's tensors that neither train nor are the base model's, such as LoRA-FA's first matrix.

    Args:
        model: With the method.
        base: The base model's tensors from before, kept alive so that their addresses were not used again.
    """
    known = {tensor.data_ptr() for tensor in base}
    if Origin.known(model) is not None:  # base weights that the method has changed are computed again
        known |= {item.data_ptr() for name, item in model.named_parameters() if name.endswith(".base_layer.weight")}
    return [
        name
        for name, tensor in all_tensors(model).items()
        if not tensor.requires_grad and tensor.numel() and tensor.data_ptr() not in known
    ]


class ChangedTensors:
    """The tensors of a model that training changes: what trains, and whatever else was written to since.

    Args:
        model: With a method, before the first step.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {name: (id(item), item._version) for name, item in all_tensors(model).items()}

    def tensors(self) -> dict[str, Tensor]:
        """Those tensors by name."""
        return {
            name: item.detach()
            for name, item in all_tensors(self._model).items()
            if item.requires_grad or self._before.get(name) != (id(item), item._version)
        }


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies tensors into a model's own of the same names.

    Raises:
        CheckpointError: The model has no such tensor, or one of another shape.
    """
    own = all_tensors(model)
    for name, value in tensors.items():
        if name not in own or own[name].shape != value.shape or own[name].dtype != value.dtype:
            raise CheckpointError(f"the model has no {name!r} of shape {tuple(value.shape)} and type {value.dtype}")
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(torch.isfinite(value).all()) for value in tensors.values())


def optimizer_state(optimizer: Optimizer, model: nn.Module) -> tuple[dict[str, Tensor], PlainState]:
    """The state of any PyTorch optimizer, by names instead of numbers.

    Returns:
        Tensors by ``key/parameter``, and the rest: ``class``, ``values`` by parameter and key, and ``by_name``, the
        owners that are names by themselves, as LoRA-FA's optimizer has them.
    """
    names = {id(item): name for name, item in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    plain: PlainState = {"class": type(optimizer).__name__, "values": {}, "by_name": []}
    for owner, values in optimizer.state.items():
        if isinstance(owner, Tensor):
            name = names[id(owner)]
        else:
            plain["by_name"].append(name := str(owner))
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{key}/{name}"] = value
            else:
                plain["values"].setdefault(name, {})[key] = value
    return tensors, plain


def load_optimizer_state(
    optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor], plain: PlainState
) -> None:
    """Puts ``optimizer_state`` back.

    Raises:
        CheckpointError: It is another optimizer's.
    """
    if plain["class"] != type(optimizer).__name__:
        raise CheckpointError(f"its optimizer is {plain['class']}, and the run's is {type(optimizer).__name__}")
    names = {id(item): name for name, item in model.named_parameters()}
    trained = [item for group in optimizer.param_groups for item in group["params"]]
    places: dict[str, int | str] = {names[id(item)]: place for place, item in enumerate(trained)}
    places |= {name: name for name in plain["by_name"]}
    state: dict[int | str, PlainState] = {}
    for path, value in tensors.items():
        key, _, name = path.partition("/")
        if name not in places:
            raise CheckpointError(f"the optimizer has no parameter {name!r}")
        if name in plain["by_name"]:  # PyTorch moves and copies the others
            value = value.to(trained[0].device, copy=True)
        state.setdefault(places[name], {})[key] = value
    for name, values in plain["values"].items():
        state.setdefault(places[name], {}).update(values)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def set_schedule(scheduler: LambdaLR, step: int) -> None:
    """Moves a ``LambdaLR`` that was just made to a step: its rates depend on the step's number alone."""
    rates = [base * rate(step) for base, rate in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler.last_epoch, scheduler._step_count, scheduler._last_lr = step, step + 1, rates


def rng_state() -> tuple[dict[str, Tensor], PlainState]:
    """The state of every random generator that training may use: tensors of PyTorch's, plain values of the others'."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        tensors["mps"] = torch.mps.get_rng_state()
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return tensors, {"python": [version, list(words), gauss], "numpy": [kind, [int(key) for key in keys], *rest]}


def set_rng_state(tensors: Mapping[str, Tensor], plain: PlainState) -> None:
    """Puts ``rng_state`` back; of a GPU that is not there any more, nothing."""
    torch.set_rng_state(tensors["cpu"].clone())
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if f"cuda{number}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda{number}"].clone(), number)
    if torch.backends.mps.is_available() and "mps" in tensors:
        torch.mps.set_rng_state(tensors["mps"].clone())
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = plain["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))


@contextmanager
def preserved_rng_state() -> Iterator[None]:
    """A context after which all random states are what they were before."""
    before = rng_state()
    try:
        yield
    finally:
        set_rng_state(*before)
