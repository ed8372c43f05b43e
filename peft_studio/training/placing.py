"""Where a model goes: the device that a run asks for, or the best there is; a large one is spread over several GPUs.

Which GPU of several it is has been settled before, by what the process can see of them (``CUDA_VISIBLE_DEVICES``).
"""

import warnings
from collections.abc import Mapping
from typing import TypeVar

import torch

from peft_studio.errors import ConfigError, OutOfMemoryError
from peft_studio.machine.devices import ALL, AUTO, CPU, CUDA, MPS
from peft_studio.machine.memory import memory_limit
from peft_studio.machine.precision import Bf16, find_bf16
from peft_studio.training import Model
from peft_studio.training.adapter_files import Origin
from peft_studio.training.formats.target_logits import base_of

AnyModel = TypeVar("AnyModel", bound=Model)
DeviceMap = Mapping[str, int | str]
ROOM = 0.8  # share of a GPU's free memory that weights may take, so that activations have the rest


def device_for(wish: str = AUTO) -> torch.device:
    """The device that ``resources.device`` means for this process.

    Args:
        wish: ``auto``, ``cpu``, ``mps``, ``cuda``, ``cuda:N`` or ``all``; the last three mean the first GPU that the
            process can see.

    Raises:
        ConfigError: PyTorch finds no such device.
    """
    there = {CUDA: torch.cuda.is_available(), MPS: torch.backends.mps.is_available(), CPU: True}
    if wish == AUTO:
        return torch.device(next(kind for kind, found in there.items() if found))
    kind = CUDA if wish == ALL else wish.partition(":")[0]
    if not there.get(kind):
        known = ", ".join([AUTO, *(kind for kind, found in there.items() if found)])
        raise ConfigError(
            f"resources.device = {wish!r}: PyTorch {torch.__version__} finds no such device here. Allowed: {known}.",
            "resources.device",
        )
    return torch.device(kind)


def bf16_of(wish: str = AUTO) -> Bf16:
    """What the device that ``resources.device`` means does with 16-bit numbers.

    Raises:
        ConfigError: PyTorch finds no such device.
    """
    kind = device_for(wish).type
    if kind != CUDA:
        return find_bf16(kind)
    return find_bf16(kind, torch.cuda.get_device_name(), torch.cuda.get_device_capability())


def place(model: AnyModel, wish: str = AUTO) -> AnyModel:
    """Moves a model, with or without a method, to where it is to compute.

    Args:
        model: Changed in place.
        wish: See ``device_for``; ``all`` spreads the model when there are several GPUs.

    Raises:
        ConfigError: PyTorch finds no such device, or the model cannot be spread.
        OutOfMemoryError: The model does not fit into all GPUs together.
    """
    device = device_for(wish)
    origin = Origin.known(model)
    if wish == ALL and torch.cuda.device_count() > 1:
        return spread(model, balanced_map(model))
    model.to(device)
    if origin is not None:  # it shares what the method left alone, and keeps the rest to itself
        origin.model.to(device)
    return model


def memory_of(wish: str = AUTO) -> tuple[int, str]:
    """How much memory a run can use at most, in bytes, and whose it is, as the beginning of a sentence."""
    if wish in (CPU, MPS) or not torch.cuda.is_available():
        return memory_limit(), "this machine has"
    sizes = [int(torch.cuda.get_device_properties(n).total_memory) for n in _gpus()]
    if wish == ALL:
        return sum(sizes), "all GPUs together have"
    number = wish.partition(":")[2]
    return max(sizes[int(number) :][:1] or sizes) if number else max(sizes), "the GPU has"


def balanced_map(model: Model) -> dict[str, int | str]:
    """Which part of a model goes to which GPU: about as much to each, whole blocks together.

    Raises:
        OutOfMemoryError: The GPUs' free memory is too small for it.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    free: dict[int | str, int] = {number: int(torch.cuda.mem_get_info(number)[0] * ROOM) for number in _gpus()}
    whole = whole_blocks(model)
    room = get_balanced_memory(model, {**free, CPU: 0}, no_split_module_classes=whole)
    found = dict(infer_auto_device_map(model, {**room, CPU: 0}, no_split_module_classes=whole))
    if not set(found.values()) <= set(free):
        size = sum(item.nbytes for item in (*model.parameters(), *model.buffers()))
        raise OutOfMemoryError(
            f"The model's weights take {size / 1e9:.1f} GB, and the {len(free)} GPUs have room for "
            f"{sum(free.values()) / 1e9:.1f} GB of weights. A smaller model is needed, or larger GPUs."
        )
    # A model's own tensors, beside its modules, must be named too; the model moves them where they are needed.
    names = (name for name in model.state_dict() if not any(name.startswith(f"{part}.") for part in found))
    found.update((name, 0) for name in names)
    return found


def whole_blocks(model: Model) -> list[str]:
    """Class names of a model's blocks, which must not be divided: a block adds its input to its output."""
    from peft_studio.training.load import layout_of

    base = base_of(model)
    blocks = [block for path in layout_of(base).blocks for block in base.get_submodule(path)]
    return sorted({type(block).__name__ for block in blocks})


def spread(model: AnyModel, device_map: DeviceMap) -> AnyModel:
    """Divides a model among devices by ``accelerate``, whose hooks move what goes from one part to the next.

    Args:
        model: Changed in place.
        device_map: Device by name of a submodule.

    Raises:
        ConfigError: Its method keeps a second copy of base weights.
    """
    from accelerate import dispatch_model

    if Origin.known(model) is not None:
        raise ConfigError(
            f"resources.device = {ALL!r}: this method begins by changing base weights and keeps the originals, which "
            f"cannot be spread over GPUs. Allowed: {AUTO}, {CPU}, {CUDA}.",
            "resources.device",
        )
    with warnings.catch_warnings():  # of tensors in the map that are no modules
        warnings.filterwarnings("ignore", message="The following device_map keys")
        dispatch_model(model, dict(device_map), force_hooks=True)
    return model


def _gpus() -> range:
    """Numbers of the GPUs that this process sees."""
    return range(torch.cuda.device_count())


def is_spread(model: Model) -> bool:
    """Whether a model was divided by ``spread``."""
    return hasattr(model, "hf_device_map")
