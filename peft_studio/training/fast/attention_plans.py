"""Attention of 16-bit numbers on newer NVIDIA GPUs, without the plans that cuDNN makes for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_attention_plans() -> Iterator[None]:
    """Keeps PyTorch from computing attention by cuDNN for a while; flash attention and all others go on.

    In 16 bits on Hopper and later PyTorch prefers cuDNN, which makes a plan for every new shape, forward and backward,
    in tens of milliseconds (https://github.com/pytorch/pytorch/pull/155958). Batches of texts have ever new shapes: on
    an H100 each step took 65 to 90 ms more in bf16 than in float32, with 6 blocks as with 30.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
