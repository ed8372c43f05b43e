"""What a run does to be fast."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Levers:
    """What a run does to be fast; each gives the plain result. ``tests/benchmarks/bench_levers.py`` tries them all.

    Attributes:
        decoder: The forward pass of this module, with rotary positions and attention in fewer passes.
        lora: LoRA layers in fewer passes.
        norms: The same for norms, within ``decoder`` like the five that follow.
        head: The vocabulary projection and its loss in slices, without keeping logits.
        last_block: Only positions before a target go through the last block.
        remember: What frozen lower blocks give is computed once for each row.
        unpadded: On a CPU, padding goes through attention only; a GPU has the room, and pays for each order instead.
        few_sizes: With bf16 on a CPU, sizes are rounded up, because each new one costs time and memory.
        grouping: Rows of similar length share a batch.
        cast_once: With bf16, frozen weights are cast once and not in every step.
        fused_optimizer: AdamW in one pass over its state.
    """

    decoder: bool = True
    lora: bool = True
    norms: bool = True
    head: bool = True
    last_block: bool = True
    remember: bool = True
    unpadded: bool = True
    few_sizes: bool = True
    grouping: bool = True
    cast_once: bool = True
    fused_optimizer: bool = True
