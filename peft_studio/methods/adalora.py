"""AdaLoRA: low-rank updates whose ranks are shared out among the layers while training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Site, TargetedParams, arxiv, wrap
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

_SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # what PEFT's allocator remembers of every parameter
_ORTHOGONALITY = 0.5  # weight of the penalty, as in the paper's code and PEFT


class AdaLoraParams(TargetedParams):
    """Parameters of AdaLoRA."""

    name: Literal["adalora"] = "adalora"
    initial_rank: int = Field(12, ge=2, le=128, description="Rank of every update at first.")
    target_rank: int = Field(8, ge=1, le=128, description="Mean rank that is left in the end.")
    alpha: int = Field(16, ge=1, le=256, description="Scale of the updates.")
    dropout: float = Field(0.0, ge=0, le=0.5, description="Dropout on the update's input.")


def _attach(model: "PreTrainedModel", params: AdaLoraParams, site: Site) -> "PeftModel":
    return wrap(
        model,
        site,
        "AdaLoraConfig",
        init_r=params.initial_rank,
        target_r=min(params.target_rank, params.initial_rank),
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=site.chosen(params.targets),
        total_step=site.steps,
        tinit=site.steps // 10,
        tfinal=3 * site.steps // 10,
        deltaT=max(1, site.steps // 100),
        orth_reg_weight=_ORTHOGONALITY,
    )


def _orthogonality(model: "PeftModel") -> "Tensor":
    """How far the two outer matrices are from having orthonormal rows and columns (equation 4 of the paper)."""
    import torch

    distances = []
    for name, matrix in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            # (r, r) both: rows of A and columns of B are r vectors each
            product = matrix @ matrix.T if ".lora_A." in name else matrix.T @ matrix
            distances.append(torch.linalg.matrix_norm(product - torch.eye(len(product), device=product.device)))
    return _ORTHOGONALITY * torch.stack(distances).mean()


def _allocate(model: "PeftModel", step: int) -> None:
    model.base_model.update_and_allocate(step)


def _state(model: "PeftModel") -> dict[str, "Tensor"]:
    """The importance of every value so far, and which of them are kept."""
    import torch

    allocator = model.base_model.rankallocator
    scores = {f"{kind}/{name}": value for kind in _SCORES for name, value in getattr(allocator, kind).items()}
    pattern = model.active_peft_config.rank_pattern or {}
    return scores | {f"rank_pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}


def _restore(model: "PeftModel", state: Mapping[str, "Tensor"]) -> None:
    device = next(model.parameters()).device
    allocator = model.base_model.rankallocator
    allocator.reset_ipt()
    pattern = {}
    for path, value in state.items():
        kind, _, name = path.partition("/")
        if kind == "rank_pattern":
            pattern[name] = value.tolist()
        else:
            getattr(allocator, kind)[name] = value.to(device, copy=True)
    model.active_peft_config.rank_pattern = pattern or None


ADALORA = Method(
    name="adalora",
    title="AdaLoRA",
    summary="Low-rank updates that lose rank where it matters least, while training goes on.",
    idea=(
        "Not every layer needs the same rank. AdaLoRA writes each update as a small singular value decomposition and "
        "starts with more rank than it may keep.\n\n"
        "While training, it scores every singular value by its sensitivity and masks the least important ones, until "
        "the budget is met. A penalty keeps the outer matrices orthogonal, so that the values mean something. The "
        "ranks that each layer keeps are part of the result."
    ),
    formula=r"h = W x + \frac{\alpha}{r} P \Lambda Q x, \qquad P^\top P \approx Q Q^\top \approx I",
    count=r"$\sum r_0\,(n + m + 1)$ over the chosen layers, $r_0$ being the initial rank.",
    paper=arxiv(
        "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", "Zhang et al.", 2023, "2303.10512"
    ),
    params=AdaLoraParams,
    rates=measured("adalora"), learning_rate_large=5e-4,
    learning_rate_source="https://arxiv.org/abs/2303.10512 (table 8: 5e-4 to 2e-3)",
    attach=_attach,
    penalty=_orthogonality,
    after_step=_allocate,
    state=_state,
    restore=_restore,
    mergeable=True,
    caveat="The training loss holds the orthogonality penalty as well; compare validation losses.",
    tags=("low rank", "SVD", "rank schedule"),
)  # fmt: skip
