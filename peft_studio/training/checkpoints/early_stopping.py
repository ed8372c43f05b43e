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
        self._weights: dict[str, Tensor] = {}

    def update(self, model: nn.Module, loss: float) -> bool:
        """Takes note of an evaluation; True when training should end."""
        if not self._patience:
            return False
        if loss < self._loss:
            self._loss, self._worse = loss, 0
            trained = ((name, item) for name, item in model.named_parameters() if item.requires_grad)
            self._weights = {name: item.detach().clone() for name, item in trained}
        else:
            self._worse += 1
        return self._worse >= self._patience

    def state(self) -> tuple[PlainState, dict[str, Tensor]]:
        """For a checkpoint: plain values and the weights."""
        return {"loss": self._loss if math.isfinite(self._loss) else None, "worse": self._worse}, self._weights

    def load(self, plain: PlainState, weights: dict[str, Tensor], device: torch.device) -> None:
        """Puts ``state`` back."""
        self._loss, self._worse = math.inf if plain["loss"] is None else plain["loss"], plain["worse"]
        self._weights = {name: value.to(device) for name, value in weights.items()}

    def reset_patience(self) -> None:
        """Forgets the evaluations that were no better, for a run that is made longer."""
        self._worse = 0

    def restore(self, model: nn.Module) -> None:
        """Puts the best weights back; without patience, leaves the model as it is."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self._weights.items():
                parameters[name].copy_(value)
