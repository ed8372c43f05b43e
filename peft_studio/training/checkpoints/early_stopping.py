"""Early stopping: the weights with the lowest validation loss, and when to give up looking for better ones."""

import math

import torch
from torch import Tensor, nn

from peft_studio.training.checkpoints.checkpoint import PlainState


class EarlyStopping:
    """Remembers the trainable weights of the best evaluation, and ends a run that finds no better ones.

    Args:
        patience: Evaluations without a lower loss that end the training; 0 never ends it and remembers nothing.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._loss = math.inf
        self._worse = 0
        self._step: int | None = None
        self._weights: dict[str, Tensor] = {}

    def update(self, model: nn.Module, step: int, loss: float) -> bool:
        """Takes note of an evaluation after so many steps; True when training should end."""
        if not self._patience:
            return False
        if loss < self._loss:
            self._loss, self._worse, self._step = loss, 0, step
            trained = ((name, item) for name, item in model.named_parameters() if item.requires_grad)
            self._weights = {name: item.detach().clone() for name, item in trained}
        else:
            self._worse += 1
        return self._worse >= self._patience

    def state(self) -> tuple[PlainState, dict[str, Tensor]]:
        """For a checkpoint: plain values and the weights."""
        loss = self._loss if math.isfinite(self._loss) else None
        return {"loss": loss, "worse": self._worse, "step": self._step}, self._weights

    def load(self, plain: PlainState, weights: dict[str, Tensor], device: torch.device) -> None:
        """Puts ``state`` back."""
        self._loss, self._worse = math.inf if plain["loss"] is None else plain["loss"], plain["worse"]
        self._step = plain.get("step")  # which older versions did not keep
        self._weights = {name: value.to(device) for name, value in weights.items()}

    def reset_patience(self) -> None:
        """Forgets the evaluations that were no better, for a run that is made longer."""
        self._worse = 0

    def restore(self, model: nn.Module) -> tuple[int, float] | None:
        """Puts the best weights back; without patience, leaves the model as it is.

        Returns:
            Their step and validation loss; None where there are none.
        """
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self._weights.items():
                parameters[name].copy_(value)
        return (self._step, self._loss) if self._weights and self._step is not None else None
