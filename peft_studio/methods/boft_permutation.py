"""Makes PEFT's BOFT quick to put on a model and to load; importing it is all that is needed.

PEFT sets the ones of a layer's permutation matrix one by one, which takes most of a minute for a model of 1.5 billion
parameters, and looks for a CUDA compiler again for every layer. The matrices stay what they were.
"""

from functools import cache

import torch
from peft.tuners.boft import layer as boft


def permutation_matrix(_layer: boft.BOFTLayer, indices: torch.Tensor) -> torch.Tensor:
    """The matrix ``(n, n)`` whose row ``i`` has its one at ``indices[i]``; in shape also where there are no numbers.

    Args:
        indices: A permutation of ``0 .. n - 1``, ``(n,)``.
    """
    matrix = torch.zeros(len(indices), len(indices), device=indices.device)
    return matrix.scatter_(1, indices[:, None], 1.0)


boft.BOFTLayer.perm2mat = permutation_matrix
boft.get_fbd_cuda = cache(boft.get_fbd_cuda)
