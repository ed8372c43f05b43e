"""BOFT's quick permutation matrices are PEFT's own."""

import pytest
import torch
from peft.tuners.boft.layer import BOFTLayer

from peft_studio.methods.boft_permutation import permutation_matrix


@pytest.mark.parametrize("factors", [0, 1, 2])
def test_matrix_equals_the_one_of_peft(factors: int) -> None:
    layer = BOFTLayer.__new__(BOFTLayer)
    indices = layer.block_butterfly_perm(48, 6, 2, factors)
    slow = torch.zeros(48, 48)
    for row, column in enumerate(indices):
        slow[row, column] = 1
    assert torch.equal(permutation_matrix(layer, indices), slow)
    assert (factors == 0) == torch.equal(slow, torch.eye(48))
    assert permutation_matrix(layer, indices.to("meta")).shape == slow.shape


def test_peft_uses_it() -> None:
    assert BOFTLayer.perm2mat is permutation_matrix
