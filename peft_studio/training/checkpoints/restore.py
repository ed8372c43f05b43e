"""How a run begins: from the start, from a checkpoint, or from a finished run that is to train longer."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import CheckpointError, ConfigError
from peft_studio.files import read_json
from peft_studio.methods import Method
from peft_studio.training.adapter_files import Origin
from peft_studio.training.checkpoints.checkpoint import Checkpoint, below, prefixed
from peft_studio.training.checkpoints.training_state import (
    ChangedTensors,
    all_tensors,
    load_tensors,
    method_constants,
)
from peft_studio.training.formats.rows import Batch
from peft_studio.training.load import attach
from peft_studio.training.placing import place

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class StepPlan:
    """How long a run trains.

    A run that was made longer keeps the batches that it has seen. The learning rate follows the configured schedule
    over all steps, the new ones included, so it jumps up where the first schedule had come down. Schedules inside a
    method (AdaLoRA's ranks) stay those of the first plan.

    Attributes:
        steps: Optimizer steps in the end.
        method_steps: The steps that schedules inside the method are made for.
        cuts: Ends that the run had before it was made longer, in steps.
    """

    steps: int
    method_steps: int
    cuts: tuple[int, ...] = ()


def plan_steps(asked: int, extended: Path, resumed: Checkpoint | None) -> StepPlan:
    """How long to train: as many steps as asked, or as the file ``extended`` says if it exists.

    Raises:
        ConfigError: The file is damaged.
    """
    steps = _extended_steps(extended) or asked
    if resumed is None:
        return StepPlan(steps, steps)
    before = int(resumed.state["max_steps"])
    cuts = [*resumed.state["cuts"], *([before] if before != steps else [])]
    return StepPlan(max(steps, resumed.step), int(resumed.state["method_steps"]), tuple(cuts))


def _extended_steps(path: Path) -> int | None:
    if not os.path.lexists(path):
        return None
    steps = (read_json(path) or {}).get("max_steps")
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= 1_000_000:
        raise ConfigError(f'{path} must hold {{"max_steps": N}} with N from 1 to 1000000.', "training.max_steps")
    return steps


class PreparedModel:
    """A base model with its method, as at the start or where a checkpoint left it, on the device that trains.

    Args:
        base: From ``load_base``; changed.
        run: Its method and device.
        steps: That schedules inside the method are made for.
        batches: Gives training batches to a method that looks at data; not asked when there is a checkpoint.
        resumed: The checkpoint.

    Attributes:
        model: The model.
        changed: Which of its tensors training changes.

    Raises:
        CheckpointError: The checkpoint does not fit the model.
        ConfigError: There is no such device.
    """

    def __init__(
        self,
        base: "PreTrainedModel",
        run: ResolvedRun,
        steps: int,
        batches: Callable[[], Sequence[Batch]],
        resumed: Checkpoint | None,
    ) -> None:
        held = [tensor.detach() for tensor in (*base.parameters(), *base.buffers())]
        self.model: PeftModel = attach(base, run.method, run.config.method, steps, () if resumed else batches())
        self._own = method_constants(self.model, held)
        if resumed is not None:
            self._restore_start(resumed)
        place(self.model, run.config.resources.device)
        self.changed = ChangedTensors(self.model)  # of this place: moving a model makes new buffers
        if resumed is not None:
            self._restore_weights(run.method, resumed)

    def constants(self) -> dict[str, Tensor]:
        """For a checkpoint: what the method has that is neither trained nor the base model's, and its start."""
        everything, origin = all_tensors(self.model), Origin.known(self.model)
        own = {name: everything[name] for name in self._own}
        return prefixed("own/", own) | prefixed("start/", origin.initial if origin else {})

    def _restore_start(self, resumed: Checkpoint) -> None:
        load_tensors(self.model, below("own/", resumed.constants))
        origin = Origin.known(self.model)
        if origin is not None:
            initial = below("start/", resumed.constants)
            if initial.keys() != origin.initial.keys():
                raise CheckpointError("it lacks the start of the method")
            origin.begin_again(self.model, initial)

    def _restore_weights(self, method: Method, resumed: Checkpoint) -> None:
        weights = resumed.part("model/")
        for name, item in self.model.named_parameters():
            if item.requires_grad and name not in weights:
                raise CheckpointError(f"it lacks the parameter {name!r}")
        load_tensors(self.model, weights)
        if method.restore is not None:
            method.restore(self.model, resumed.part("method/"))
