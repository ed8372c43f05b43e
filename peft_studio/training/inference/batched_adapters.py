"""Several adapters of one base model as one model: row ``i`` of a batch is answered by the ``i``-th of them.

The base model's work is done once for all rows. What LoRA, (IA)^3 and bottleneck adapters add is computed for all rows
at once, too, from their weights stacked along the batch; any other adapted layer is asked for its own row. PEFT's own
mixed batches loop over the adapters in every layer, so they gain little.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.ia3.layer import Linear as IA3Linear
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from peft_studio.methods.bottleneck_tuner import Bottleneck, BottleneckLayer
from peft_studio.training import Model
from peft_studio.training.load import share_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def can_share(model: Model, base: "PreTrainedModel") -> bool:
    """Whether a model differs from the base only in layers that can stand in a batch with others.

    Args:
        model: The base itself, or a ``PeftModel`` on a copy made by ``share_base``.
        base: The base model.
    """
    if model is base:
        return True
    if not hasattr(model, "get_base_model") or model.active_peft_config.is_prompt_learning:
        return False
    layers = adapted_layers(model)
    if not layers or not all(_stands_alone(layer) for layer in layers.values()):
        return False
    own = {id(tensor) for layer in layers.values() for tensor in (*layer.parameters(), *layer.buffers())}
    known = {id(tensor) for tensor in (*base.parameters(), *base.buffers())}
    inner = model.get_base_model()
    return {id(tensor) for tensor in (*inner.parameters(), *inner.buffers())} <= known | own


def adapted_layers(model: Model) -> dict[str, nn.Module]:
    """The outermost layers that an adapter has put in place of the base model's, by name."""
    if not hasattr(model, "get_base_model"):
        return {}
    found: dict[str, nn.Module] = {}
    inner = ""
    for name, module in model.get_base_model().named_modules():
        if inner and name.startswith(inner):
            continue
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            found[name], inner = module, f"{name}."
    return found


def _stands_alone(layer: nn.Module) -> bool:
    """Whether a layer's output for a row depends on that row of its own input only."""
    if isinstance(layer, BottleneckLayer) and any(layer.bottleneck_parallel.values()):
        return False  # it reads what its block was given
    plain = layer.original_module if isinstance(layer, AuxiliaryTrainingWrapper) else layer.get_base_layer()
    return next(plain.children(), None) is None


def batch_adapters(models: Sequence[Model], base: "PreTrainedModel") -> "PreTrainedModel":
    """One model whose row ``i`` answers as ``models[i]`` does.

    Args:
        models: Such that ``can_share`` is true of each, in evaluation mode.
        base: Their base model; its weights are shared, and it is left as it is.

    Returns:
        A transformers model for batches of exactly ``len(models)`` rows.
    """
    layers = [adapted_layers(model) for model in models]
    shared = share_base(base)
    for name in dict.fromkeys(name for found in layers for name in found):
        plain = shared.get_submodule(name)
        shared.set_submodule(name, MixedLayer(plain, [found.get(name) for found in layers]))
    return shared.eval()


class MixedLayer(nn.Module):
    """A layer whose rows belong to different adapters.

    Args:
        plain: The base model's layer.
        owners: The adapted layer of each row; None where the plain one answers.
    """

    def __init__(self, plain: nn.Module, owners: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self.plain = plain
        self._count = len(owners)
        self._stacks: list[_Stack] = []  # adapters computed for all rows at once
        self._alone = {row: owner for row, owner in enumerate(owners) if owner is not None}  # asked one by one
        for kind in (_InputScales, _OutputScales, _LowRank, _Bottlenecks):
            mine = {row: owner for row, owner in self._alone.items() if kind.fits(owner)}
            if mine:
                self._stacks.append(kind(mine, self._count))
                self._alone = {row: owner for row, owner in self._alone.items() if row not in mine}

    def __getattr__(self, name: str) -> Any:
        """Attributes of the plain layer, which some models read (``weight.dtype``)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("plain"), name)

    def forward(self, *args: Tensor, **kwargs: object) -> Any:
        """``(B, ...)`` or, where a model flattens it, ``(B * T, ...)`` -> the same with the layer's output."""
        if len(self._alone) == self._count:
            return torch.cat([self._ask(row, args, kwargs) for row in range(self._count)])
        output = self._stacked(args[0]) if self._stacks else self.plain(*args, **kwargs)  # (B, ...)
        for row in self._alone:
            self._part(output, row).copy_(self._ask(row, args, kwargs))
        return output

    def _stacked(self, hidden: Tensor) -> Tensor:
        rows = scaled = hidden.reshape(self._count, -1, hidden.shape[-1])  # (B, T, d_in)
        for stack in self._stacks:
            scaled = stack.before(scaled)
        output: Tensor = self.plain(scaled)  # (B, T, d_out)
        for stack in self._stacks:
            output = stack.after(rows, output)
        return output.reshape(*hidden.shape[:-1], output.shape[-1])  # as it came: (B, T, d_out) or (B * T, d_out)

    def _ask(self, row: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """What the owner of a row says to its part of the input."""
        own = [self._part(value, row) for value in args]
        return self._alone[row](*own, **{name: self._part(value, row) for name, value in kwargs.items()})

    def _part(self, value: object, row: int) -> Any:
        """The part of an argument that belongs to a row: ``(B * n, ...)`` -> ``(n, ...)``; others as they are."""
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] % self._count or not len(value):
            return value
        size = value.shape[0] // self._count
        return value[row * size : (row + 1) * size]


class _Stack(ABC):
    """What some rows' adapters do to a layer, for all rows at once; it leaves the other rows as they are.

    Args:
        owners: The adapted layers, by row.
        count: How many rows there are.
    """

    @abstractmethod
    def __init__(self, owners: Mapping[int, nn.Module], count: int) -> None: ...

    @staticmethod
    @abstractmethod
    def fits(owner: nn.Module) -> bool:
        """Whether an adapted layer does exactly what this stack computes, with one adapter at work."""

    def before(self, inputs: Tensor) -> Tensor:
        """What the plain layer is to read instead of ``(B, T, d_in)``."""
        return inputs

    def after(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The result ``(B, T, d_out)``, from what the adapted layer was given and what the plain one made of it."""
        return output


def _at_work(owner: BaseTunerLayer) -> str:
    """Name of the one adapter that is switched on and not merged; empty when there is no such one."""
    busy = owner.merged or owner.disable_adapters or len(owner.active_adapters) != 1
    return "" if busy else str(owner.active_adapters[0])


class _LowRank(_Stack):
    """LoRA: ``+ scaling * x A^T B^T``."""

    def __init__(self, owners: Mapping[int, LoraLinear], count: int) -> None:
        names = {row: owner.active_adapters[0] for row, owner in owners.items()}
        down = {row: owners[row].lora_A[name].weight for row, name in names.items()}
        up = {row: owners[row].lora_B[name].weight * owners[row].scaling[name] for row, name in names.items()}
        rank = max(weight.shape[0] for weight in down.values())
        one, other = next(iter(down.values())), next(iter(up.values()))
        # Zeros beyond an adapter's own rank, and in rows without one, add nothing.
        self._down = one.new_zeros(count, one.shape[1], rank)  # (B, d_in, r)
        self._up = one.new_zeros(count, rank, other.shape[0])  # (B, r, d_out)
        for row in owners:
            self._down[row, :, : down[row].shape[0]] = down[row].T
            self._up[row, : up[row].shape[1]] = up[row].T

    @staticmethod
    def fits(owner: nn.Module) -> bool:
        """Whether this is LoRA without a variant such as DoRA."""
        if type(owner) is not LoraLinear:
            return False
        name = _at_work(owner)
        return name in owner.lora_A and name not in owner.lora_variant and owner.lora_B[name].bias is None

    def after(self, inputs: Tensor, output: Tensor) -> Tensor:
        """Inputs ``(B, T, d_in)`` and the plain layer's output ``(B, T, d_out)``."""
        low = torch.bmm(inputs.to(self._down.dtype), self._down)  # (B, T, r)
        return output + torch.bmm(low, self._up).to(output.dtype)  # (B, T, d_out)


class _Scales(_Stack):
    """(IA)^3: a factor for each feature."""

    def __init__(self, owners: Mapping[int, IA3Linear], count: int) -> None:
        factors = {row: owner.ia3_l[owner.active_adapters[0]].flatten() for row, owner in owners.items()}
        one = next(iter(factors.values()))
        self._factors = one.new_ones(count, 1, len(one))  # (B, 1, d); rows without an adapter keep their 1
        for row, factor in factors.items():
            self._factors[row, 0] = factor

    feedforward: bool

    @classmethod
    def fits(cls, owner: nn.Module) -> bool:
        """Whether this is an (IA)^3 layer of this kind."""
        return type(owner) is IA3Linear and _at_work(owner) in owner.ia3_l and owner.is_feedforward is cls.feedforward


class _InputScales(_Scales):
    """(IA)^3 in the feed-forward network: it scales what the layer reads."""

    feedforward = True

    def before(self, inputs: Tensor) -> Tensor:
        """``(B, T, d_in)`` -> the same, scaled."""
        return inputs * self._factors


class _OutputScales(_Scales):
    """(IA)^3 elsewhere: it scales what the layer writes."""

    feedforward = False

    def after(self, inputs: Tensor, output: Tensor) -> Tensor:
        """``(B, T, d_out)`` -> the same, scaled."""
        return output * self._factors


class _Bottlenecks(_Stack):
    """Bottleneck adapters behind a layer: ``+ scaling * up(f(down(output)))``."""

    def __init__(self, owners: Mapping[int, BottleneckLayer], count: int) -> None:
        nets = {row: _net(owner) for row, owner in owners.items()}
        one = next(iter(nets.values()))
        width, features = max(len(net.down.bias) for net in nets.values()), len(one.up.bias)
        make = one.down.weight.new_zeros
        self._down, self._bias = make(count, features, width), make(count, 1, width)  # (B, d, w), (B, 1, w)
        self._up, self._shift = make(count, width, features), make(count, 1, features)  # (B, w, d), (B, 1, d)
        for row, net in nets.items():
            size = len(net.down.bias)
            self._down[row, :, :size], self._bias[row, 0, :size] = net.down.weight.T, net.down.bias
            self._up[row, :size], self._shift[row, 0] = net.up.weight.T * net.scaling, net.up.bias * net.scaling
        self._activation = one.activation

    @staticmethod
    def fits(owner: nn.Module) -> bool:
        """Whether this is such a layer with the usual activation."""
        known = isinstance(owner, BottleneckLayer) and _at_work(owner) in owner.bottleneck_net
        return known and isinstance(_net(owner).activation, nn.ReLU)

    def after(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The plain layer's output ``(B, T, d_out)``."""
        inner = self._activation(torch.baddbmm(self._bias, output, self._down))  # (B, T, w)
        return output + torch.baddbmm(self._shift, inner, self._up)


def _net(owner: BottleneckLayer) -> Bottleneck:
    net = owner.bottleneck_net[owner.active_adapters[0]]
    assert isinstance(net, Bottleneck)
    return net
