"""Models of shapes only have the same shapes as real ones."""

import threading

import pytest
import torch
from torch import nn

from peft_studio.training.shapes_only import shapes_only


@pytest.mark.parametrize("options", [(4, 4, 1), (4, 4), (5, 3, -1), (3, 5, 2), (3, 3, 9), (3, 3, -9)])
@pytest.mark.parametrize("make", [torch.triu_indices, torch.tril_indices])
def test_triangles_have_as_many_indices(make, options: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    with shapes_only():
        shape = make(*options)
    real = make(*options)
    assert (shape.shape, shape.dtype, shape.is_meta) == (real.shape, real.dtype, True)


def test_layers_are_made_without_numbers_in_this_thread_only() -> None:
    elsewhere = []
    with shapes_only():
        layer = nn.Linear(3, 5)
        assert nn.init.ones_(layer.bias) is layer.bias
        other = threading.Thread(target=lambda: elsewhere.append(nn.init.ones_(nn.Linear(3, 5).bias)))
        other.start()
        other.join()
    assert layer.weight.is_meta and layer.weight.shape == (5, 3)
    assert torch.equal(elsewhere[0], torch.ones(5))
    assert nn.Linear(3, 5).weight.abs().sum() > 0
