"""A PEFT tuner that trains private copies of some of the base model's own parameters.

Full fine-tuning, top layers, BitFit and LayerNorm-and-head become adapters like any other: they are saved alone, load
onto an untouched base model, and can be switched off. The base tensors are never written to.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

PARTIAL = "STUDIO_PARTIAL"


@dataclass
class PartialConfig(PeftConfig):
    """Which parameters are trained.

    Attributes:
        target_modules: Modules that own the parameters: a regular expression over full names, or a list of suffixes.
        parameters: Names of parameters within those modules, such as ``weight`` and ``bias``.
        modules_to_save: New modules on top of the model that train in full, such as a classification head.
    """

    target_modules: str | list[str] | None = field(default=None)
    parameters: list[str] = field(default_factory=lambda: ["weight", "bias"])
    modules_to_save: list[str] | None = field(default=None)
    exclude_modules: str | list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PARTIAL


class PartialLayer(nn.Module, BaseTunerLayer):
    """Wraps a module; while an adapter is active, the module computes with the adapter's copies."""

    adapter_layer_names = ("partial_copies",)
    other_param_names = ("shared_copies",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.partial_copies = nn.ModuleDict()  # adapter -> ParameterDict
        # Tied weights have one copy, registered where it was met first; a plain dict keeps it out of the state here.
        self.shared_copies: dict[str, dict[str, nn.Parameter]] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    def update_layer(self, adapter: str, names: list[str], known: dict[int, nn.Parameter], inference: bool) -> None:
        """Makes an adapter's copies.

        Args:
            adapter: The adapter's name.
            names: Parameters of the module to copy; those that it does not have are passed over.
            known: The adapter's copies so far, by ``id`` of the base tensor.
            inference: Whether the copies are to stay frozen.
        """
        own, shared = nn.ParameterDict(), {}
        for name, tensor in self.get_base_layer().named_parameters(recurse=False):
            if name not in names:
                continue
            if id(tensor) in known:
                shared[name] = known[id(tensor)]
            else:
                own[name] = nn.Parameter(tensor.detach().clone(), requires_grad=not inference)
                known[id(tensor)] = own[name]
        self.partial_copies[adapter] = own
        self.shared_copies[adapter] = shared

    def copies(self, adapter: str) -> dict[str, nn.Parameter]:
        """The copies that an adapter puts in place of the module's own parameters."""
        if adapter not in self.partial_copies:
            return {}
        return {**dict(self.partial_copies[adapter].items()), **self.shared_copies.get(adapter, {})}

    @contextmanager
    def _copies_in_place(self) -> Iterator[None]:
        base = self.get_base_layer()
        held = dict(base._parameters)
        for adapter in self.active_adapters:
            base._parameters.update(self.copies(adapter))
        try:
            yield
        finally:
            base._parameters.update(held)

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """What the wrapped module computes, with the active adapter's parameters."""
        if self.disable_adapters or self.merged:
            return self.base_layer(*args, **kwargs)
        with self._copies_in_place():
            return self.base_layer(*args, **kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Writes the copies into the base module; undone by ``unmerge``."""
        base = self.get_base_layer()
        for adapter in adapter_names or self.active_adapters:
            for name, copy in self.copies(adapter).items():
                base._parameters[name] = copy  # the very object, so that what was tied stays tied
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Not possible: the base tensors are gone after a merge.

        Raises:
            RuntimeError: Always, when something is merged.
        """
        if self.merged_adapters:
            raise RuntimeError("A merged partial adapter cannot be taken out again; load the base model anew.")


class PartialModel(BaseTuner):
    """Applies ``PartialLayer`` to the targeted modules."""

    prefix = "partial_"
    tuner_layer_cls = PartialLayer
    target_module_mapping: dict[str, Any] = {}  # noqa: RUF012  PEFT's interface

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: object, **kwargs: object) -> None:
        """Adds an adapter; one of the same name that was deleted before has left nothing behind."""
        self.__dict__["_known_copies"] = {}  # base tensor -> copy, of the adapter that is being made
        super().inject_adapter(model, adapter_name, *args, **kwargs)

    def _prepare_adapter_config(self, peft_config: PartialConfig, model_config: dict[str, object]) -> PartialConfig:
        if peft_config.target_modules is None:
            raise ValueError("PartialConfig.target_modules must say which modules to train.")
        return peft_config

    def _create_and_replace(
        self, peft_config: PartialConfig, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module,
        current_key: str, parameter_name: str | None = None,
    ) -> None:  # fmt: skip
        if next(target.parameters(), None) is None:
            return  # ModernBERT's first block has an identity where others have a norm
        layer = target if isinstance(target, PartialLayer) else PartialLayer(target)
        layer.update_layer(adapter_name, peft_config.parameters, self._known_copies, peft_config.inference_mode)
        if layer is not target:
            setattr(parent, target_name, layer)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        layer.set_adapter(self.active_adapters)

    def _unload_and_optionally_merge(self, merge: bool = True, **kwargs: object) -> nn.Module:
        with warnings.catch_warnings():  # about tied weights, which the lines below put right
            warnings.filterwarnings("ignore", message=".*tie_word_embeddings", category=UserWarning)
            model = super()._unload_and_optionally_merge(merge=merge, **kwargs)
        head = model.get_output_embeddings()
        if merge and head is not None and head.weight is not model.get_input_embeddings().weight:
            model.config.tie_word_embeddings = False  # or a saved copy would load with the embedding as its head
        return model
