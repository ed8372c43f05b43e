"""LoRA with an optimizer of its own for the same two matrices: LoRA+ and LoRA-FA."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Site, arxiv
from peft_studio.methods.lora import LowRankParams, attach_lora
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


class LoraPlusParams(LowRankParams):
    """Parameters of LoRA+."""

    name: Literal["lora_plus"] = "lora_plus"
    ratio: float = Field(8.0, ge=1, le=64, description="How much faster B learns than A.")


class LoraFAParams(LowRankParams):
    """Parameters of LoRA-FA."""

    name: Literal["lora_fa"] = "lora_fa"


def _attach_lora_fa(model: "PreTrainedModel", params: LoraFAParams, site: Site) -> "PeftModel":
    wrapped = attach_lora(model, params, site)
    for name, parameter in wrapped.named_parameters():
        if ".lora_A." in name:
            parameter.requires_grad_(False)
    return wrapped


def _two_speeds(model: "PeftModel", params: LoraPlusParams, learning_rate: float, weight_decay: float) -> "Optimizer":
    from torch import nn
    from torch.optim import AdamW

    slow: list[nn.Parameter] = []
    fast: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (fast if ".lora_B." in name else slow).append(parameter)
    groups = [{"params": slow, "lr": learning_rate}, {"params": fast, "lr": learning_rate * params.ratio}]
    return AdamW(groups, weight_decay=weight_decay)


def _projected(model: "PeftModel", params: LoraFAParams, learning_rate: float, weight_decay: float) -> "Optimizer":
    from peft.optimizers import create_lorafa_optimizer

    return create_lorafa_optimizer(model, params.rank, params.alpha, learning_rate, weight_decay)


LORA_PLUS = Method(
    name="lora_plus",
    title="LoRA+",
    summary="LoRA whose second matrix learns several times faster than the first.",
    idea=(
        "LoRA's two matrices play different parts: A reads the input and is random at first, B writes the output and "
        "starts at zero. With one learning rate for both, wide models learn features inefficiently.\n\n"
        "LoRA+ keeps everything about LoRA but gives B a learning rate that is a fixed multiple of A's. The adapter "
        "that comes out is an ordinary LoRA adapter."
    ),
    formula=r"h = W x + \frac{\alpha}{r} B A x, \qquad \eta_B = \lambda\, \eta_A",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv("LoRA+: Efficient Low Rank Adaptation of Large Models", "Hayou, Ghosh, Yu", 2024, "2402.12354"),
    params=LoraPlusParams,
    rates=measured("lora_plus"), learning_rate_large=5e-5,
    learning_rate_source="https://huggingface.co/docs/peft/developer_guides/lora (ratio 16, rate of A lowered)",
    attach=attach_lora,
    optimizer=_two_speeds,
    mergeable=True,
    mixed_batch=True,
    tags=("low rank", "optimizer"),
)  # fmt: skip

LORA_FA = Method(
    name="lora_fa",
    title="LoRA-FA",
    summary="LoRA whose first matrix stays random and frozen; only the second trains.",
    idea=(
        "To train LoRA's A, the inputs of every adapted layer have to be kept in memory. LoRA-FA freezes A as it was "
        "drawn, so only the r-wide projections are kept.\n\n"
        "Its optimizer corrects B's gradient for the frozen projection, which makes each step come closest to a step "
        "of full fine-tuning within A's row space."
    ),
    formula=r"h = W x + \frac{\alpha}{r} B A x, \qquad A \text{ frozen}",
    count=r"$\sum r\,m$ over the chosen layers with $m$ outputs.",
    paper=arxiv(
        "LoRA-FA: Memory-efficient Low-rank Adaptation for Large Language Models Fine-tuning",
        "Zhang et al.", 2023, "2308.03303",
    ),
    params=LoraFAParams,
    rates=measured("lora_fa"), learning_rate_large=2e-4,
    learning_rate_source="as LoRA; not published for PEFT's comparison",
    attach=_attach_lora_fa,
    optimizer=_projected,
    mergeable=True,
    mixed_batch=True,
    tags=("low rank", "optimizer", "memory"),
)  # fmt: skip
