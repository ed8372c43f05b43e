"""A PEFT tuner for bottleneck adapters (Houlsby, Pfeiffer, parallel), which PEFT itself does not have.

A small two-layer network is put behind a linear layer (its output, down, non-linearity, up, added back) or, in the
parallel form, beside the whole feed-forward network. It starts as the identity, or near it.

Sources: https://arxiv.org/abs/1902.00751 (Houlsby), https://arxiv.org/abs/2005.00247 (Pfeiffer),
https://arxiv.org/abs/2110.04366 (parallel).
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

BOTTLENECK = "STUDIO_BOTTLENECK"
BASE = "__base__"


@dataclass
class BottleneckConfig(PeftConfig):
    """Where the small networks sit and how they look.

    Attributes:
        target_modules: Linear layers behind which a network sits: a regular expression, or a list of suffixes.
        parallel_input: When set, the network reads the input of the first of these modules that stands beside the
            target (name ends within the same block) instead of the target's output.
        modules_to_save: New modules on top of the model that train in full, such as a classification head.
        bottleneck_dim: Width of the small network.
        non_linearity: Name of the activation, as transformers spells it.
        init_std: Standard deviation of both projections at the start; 0 for Kaiming's downward and zeros upward.
        scaling: Factor on the network's output.
        adapter_dropout: Dropout before the upward projection.
    """

    target_modules: str | list[str] | None = field(default=None)
    parallel_input: list[str] | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)
    bottleneck_dim: int = field(default=16)
    non_linearity: str = field(default="relu")
    init_std: float = field(default=0.02)
    scaling: float = field(default=1.0)
    adapter_dropout: float = field(default=0.0)
    exclude_modules: str | list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = BOTTLENECK


class Bottleneck(nn.Module):
    """Down, non-linearity, up: ``(..., d_in) -> (..., d_out)``, zero or nearly so at the start."""

    def __init__(self, inputs: int, outputs: int, config: BottleneckConfig) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, config.bottleneck_dim)
        self.up = nn.Linear(config.bottleneck_dim, outputs)
        self.activation = ACT2FN[config.non_linearity]
        self.dropout = nn.Dropout(config.adapter_dropout)
        self.scaling = config.scaling
        if config.init_std:
            for layer in (self.down, self.up):
                width = 2 * config.init_std
                nn.init.trunc_normal_(layer.weight, std=config.init_std, a=-width, b=width)
        else:  # as LoRA's two matrices; one of them has to differ from zero, or neither ever trains
            nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
            nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """What is to be added, in the input's dtype."""
        inner = self.activation(self.down(hidden.to(self.down.weight.dtype)))  # (..., bottleneck_dim)
        return (self.scaling * self.up(self.dropout(inner))).to(hidden.dtype)


def _features(layer: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of a linear layer of either kind."""
    rows, columns = layer.weight.shape
    return (int(rows), int(columns)) if isinstance(layer, Conv1D) else (int(columns), int(rows))


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A linear layer with small networks behind it, one per adapter."""

    adapter_layer_names = ("bottleneck_net",)
    other_param_names = ("bottleneck_parallel",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_net = nn.ModuleDict()
        self.bottleneck_parallel: dict[str, bool] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._block_input: Tensor | None = None
        self._hook: RemovableHandle | None = None

    def update_layer(self, adapter: str, config: BottleneckConfig, source: nn.Module | None) -> None:
        """Adds an adapter.

        Args:
            adapter: Its name.
            config: How it looks.
            source: The module whose input a parallel network reads; None for one in sequence.
        """
        _, outputs = _features(self.get_base_layer())
        if source is not None and self._hook is None:
            self._hook = source.register_forward_pre_hook(self._remember)
        width = outputs if source is None else _features(_linear(source))[0]
        self.bottleneck_parallel[adapter] = source is not None
        self.bottleneck_net[adapter] = Bottleneck(width, outputs, config)
        self._move_adapter_to_device_of_base_layer(adapter)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _remember(self, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._block_input = args[0]

    def forward(
        self, hidden: Tensor, *args: object, adapter_names: list[str] | None = None, **kwargs: object
    ) -> Tensor:
        """The linear layer's output plus what the active adapter adds, ``(..., d_in) -> (..., d_out)``."""
        output: Tensor = self.base_layer(hidden, *args, **kwargs)
        block_input, self._block_input = self._block_input, None
        if self.disable_adapters:
            return output
        if adapter_names is not None:
            return self._mixed(output, block_input, adapter_names)
        for name in self.active_adapters:
            if name in self.bottleneck_net:
                source = block_input if self.bottleneck_parallel[name] else output
                output = output + self.bottleneck_net[name](source)
        return output

    def _mixed(self, output: Tensor, block_input: Tensor | None, names: list[str]) -> Tensor:
        """One adapter per row of the batch; ``__base__`` rows stay as they are."""
        repeats = output.shape[0] // len(names)  # OPT flattens (B, T, d) to (B * T, d) around its MLP
        of_row = [name for name in names for _ in range(repeats)]
        result = output.clone()
        for name in set(names) & set(self.bottleneck_net):
            rows = [number for number, owner in enumerate(of_row) if owner == name]
            source = block_input if self.bottleneck_parallel[name] and block_input is not None else output
            result[rows] = output[rows] + self.bottleneck_net[name](source[rows])
        return result

    def drop_hook(self) -> None:
        """Stops listening to the block's input."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Not possible.

        Raises:
            ValueError: Always: a non-linear network is no weight matrix.
        """
        raise ValueError("Bottleneck adapters are not linear and cannot be merged; keep them or unload().")

    def unmerge(self) -> None:
        """Nothing is ever merged."""


def _linear(module: nn.Module) -> nn.Module:
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module


class BottleneckModel(BaseTuner):
    """Puts ``BottleneckLayer`` around the targeted linear layers."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, Any] = {}  # noqa: RUF012  PEFT's interface

    def _prepare_adapter_config(
        self, peft_config: BottleneckConfig, model_config: dict[str, object]
    ) -> BottleneckConfig:
        if peft_config.target_modules is None:
            raise ValueError("BottleneckConfig.target_modules must say behind which layers the adapters sit.")
        return peft_config

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # PEFT's own version looks for the name in the last two places only; a saved file must not depend on it.
        return key.replace(f".bottleneck_net.{adapter_name}.", ".bottleneck_net.")

    def _create_and_replace(
        self, peft_config: BottleneckConfig, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module,
        current_key: str, parameter_name: str | None = None,
    ) -> None:  # fmt: skip
        source = self._source(peft_config, current_key)
        layer = target if isinstance(target, BottleneckLayer) else BottleneckLayer(target)
        layer.update_layer(adapter_name, peft_config, source)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            setattr(parent, target_name, layer)

    def _source(self, config: BottleneckConfig, key: str) -> nn.Module | None:
        if config.parallel_input is None:
            return None
        block = re.match(r"(.*\.\d+\.)", key)
        modules = dict(self.model.named_modules())
        for name in config.parallel_input:
            found = modules.get(block.group(1) + name) if block else None
            if found is not None:
                return found
        raise ValueError(f"{key} has none of {config.parallel_input} beside it, so there is no parallel input.")

    def _unload_and_optionally_merge(self, merge: bool = True, **kwargs: object) -> nn.Module:
        if merge:
            raise ValueError("Bottleneck adapters cannot be merged into weights; use unload().")
        for module in self.model.modules():
            if isinstance(module, BottleneckLayer):
                module.drop_hook()
        return super()._unload_and_optionally_merge(merge=False, **kwargs)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: object, **kwargs: Any) -> Iterator[None]:
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        layers = [module for module in self.modules() if isinstance(module, BottleneckLayer)]
        unknown = set(names) - {BASE} - {name for layer in layers for name in layer.bottleneck_net}
        if unknown:
            raise ValueError(f"There is no adapter named {', '.join(sorted(unknown))}.")
        hooks = [layer.register_forward_pre_hook(partial(_pass, names), with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _pass(
    names: list[str], _module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, {**kwargs, "adapter_names": names}
