"""GPT-2 keeps its linear layers transposed; here they become ordinary ones, and transposed again.

Needs torch and transformers alone: an exported adapter that wants ordinary layers has a copy of this file beside it.
"""

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


def linear_everywhere(model: PreTrainedModel) -> PreTrainedModel:
    """Turns transposed linear layers into ordinary ones, in place, which all methods can handle; logits stay equal."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv1D):
                setattr(parent, name, _as_linear(child))
    return model


def transposed_again(model: PreTrainedModel) -> PreTrainedModel:
    """Undoes ``linear_everywhere``, in place, so that the model can be saved as its family saves it."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear) and getattr(child, "was_transposed", False):
                setattr(parent, name, _as_conv1d(child))
    return model


def _as_linear(layer: Conv1D) -> nn.Linear:
    inputs, outputs = layer.weight.shape  # the other way round than nn.Linear's (d_out, d_in)
    linear = nn.Linear(inputs, outputs, device="meta")
    linear.weight = nn.Parameter(layer.weight.detach().t().contiguous())  # (d_out, d_in)
    linear.bias = nn.Parameter(layer.bias.detach())  # (d_out,)
    linear.was_transposed = True
    return linear


def _as_conv1d(layer: nn.Linear) -> Conv1D:
    conv = Conv1D(layer.out_features, layer.in_features)
    conv.weight = nn.Parameter(layer.weight.detach().t().contiguous())  # (d_in, d_out)
    conv.bias = nn.Parameter(layer.bias.detach())  # (d_out,)
    return conv
