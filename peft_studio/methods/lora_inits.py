"""LoRA with another initialisation: PiSSA and OLoRA from the weights, EVA, CorDA and LoRA-GA from the data."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from peft_studio.methods.base import Method, Site, arxiv
from peft_studio.methods.lora import LowRankParams, attach_lora, lora_fields
from peft_studio.methods.rates import measured

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

_AS_LORA = "as LoRA; https://github.com/huggingface/peft/tree/main/method_comparison"
_CAVEAT = (
    "It moves a part of the frozen weights into its own matrices; the adapter is saved as plain LoRA of twice the "
    "rank, which fits the untouched base model."
)


class PissaParams(LowRankParams):
    """Parameters of PiSSA."""

    name: Literal["pissa"] = "pissa"


class OloraParams(LowRankParams):
    """Parameters of OLoRA."""

    name: Literal["olora"] = "olora"


class EvaParams(LowRankParams):
    """Parameters of EVA."""

    name: Literal["eva"] = "eva"


class CordaParams(LowRankParams):
    """Parameters of CorDA."""

    name: Literal["corda"] = "corda"
    keep: Literal["knowledge", "instruction"] = Field(
        "instruction",
        description="Adapt the directions that the task uses most (instruction), or spare them (knowledge).",
    )


class LoraGAParams(LowRankParams):
    """Parameters of LoRA-GA."""

    name: Literal["lora_ga"] = "lora_ga"


def _attach_from_weights(model: "PreTrainedModel", params: PissaParams | OloraParams, site: Site) -> "PeftModel":
    init = True if next(model.parameters()).is_meta else params.name  # PEFT calls both as we do
    return attach_lora(model, params, site, init_lora_weights=init)


def _attach_eva(model: "PreTrainedModel", params: EvaParams, site: Site) -> "PeftModel":
    if not site.batches:
        return attach_lora(model, params, site)
    from peft import EvaConfig, initialize_lora_eva_weights

    eva = EvaConfig(rho=1.0, use_label_mask=False)
    wrapped = attach_lora(model, params, site, init_lora_weights="eva", eva_config=eva)
    initialize_lora_eva_weights(
        wrapped,
        site.batches,
        prepare_model_inputs_fn=lambda batch, _config: batch.get("attention_mask"),
        prepare_layer_inputs_fn=_positions,
        show_progress_bar=False,
    )
    return wrapped


def _positions(inputs: "Tensor | tuple[Tensor, ...]", mask: "Tensor | None", _name: str) -> "Tensor":
    """A layer's inputs as rows ``(N, d)``, padding left out where the mask is of this layer's sequence."""
    values = inputs[0] if isinstance(inputs, tuple) else inputs  # (B, T, d)
    flat = values.reshape(-1, values.shape[-1])  # (B T, d)
    return flat[mask.flatten().bool()] if mask is not None and mask.numel() == len(flat) else flat


def _attach_corda(model: "PreTrainedModel", params: CordaParams, site: Site) -> "PeftModel":
    if not site.batches:
        return attach_lora(model, params, site)
    import torch
    from peft import LoraConfig
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    corda = CordaConfig(corda_method="kpm" if params.keep == "knowledge" else "ipm")
    init: dict[str, Any] = {"init_lora_weights": "corda", "corda_config": corda}

    def look() -> None:
        with torch.no_grad():
            for batch in site.batches:
                for row in range(len(batch["input_ids"])):  # CorDA's statistics take one text at a time
                    model(**{name: part[row : row + 1] for name, part in batch.items()})

    preprocess_corda(model, LoraConfig(**init, **lora_fields(params, site)), run_model=look)
    return attach_lora(model, params, site, **init)


def _attach_lora_ga(model: "PreTrainedModel", params: LoraGAParams, site: Site) -> "PeftModel":
    if not site.batches:
        return attach_lora(model, params, site)
    from peft import LoraConfig
    from peft.tuners.lora.config import LoraGAConfig
    from peft.tuners.lora.loraga import preprocess_loraga

    init: dict[str, Any] = {"init_lora_weights": "lora_ga", "lora_ga_config": LoraGAConfig()}

    def backward() -> None:
        for batch in site.batches:
            model(**batch).loss.backward()

    preprocess_loraga(model, LoraConfig(**init, **lora_fields(params, site)), train_step=backward)
    model.eval()
    return attach_lora(model, params, site, **init)


PISSA = Method(
    name="pissa",
    title="PiSSA",
    summary="LoRA that starts from the strongest directions of each weight matrix.",
    idea=(
        "LoRA starts from noise and zero and has to find out where to go. PiSSA takes the singular value "
        "decomposition of every weight matrix, gives the r strongest directions to the trainable product and freezes "
        "the rest.\n\n"
        "Training then moves what matters most in the model, and the loss usually falls faster at first."
    ),
    formula=r"W = U S V^\top, \quad h = (W - B_0 A_0)\,x + B A x, \quad B_0 A_0 = U_r S_r V_r^\top",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv(
        "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models",
        "Meng, Wang, Zhang", 2024, "2404.02948",
    ),
    params=PissaParams,
    rates=measured("pissa"), learning_rate_large=1e-4,
    learning_rate_source=_AS_LORA,
    attach=_attach_from_weights,
    tier="research",
    mergeable=True,
    changes_base=True,
    caveat=_CAVEAT,
    tags=("low rank", "SVD", "initialisation"),
)  # fmt: skip

OLORA = Method(
    name="olora",
    title="OLoRA",
    summary="LoRA that starts from an orthonormal basis of each weight matrix.",
    idea=(
        "A QR decomposition gives every weight matrix an orthonormal basis. OLoRA starts its two matrices from the "
        "first r columns and rows, so the update begins well conditioned.\n\n"
        "It costs less than PiSSA's singular values and helps early convergence in the same way."
    ),
    formula=r"W = Q R, \quad h = (W - B_0 A_0)\,x + B A x, \quad B_0 = Q_{:, :r},\; A_0 = R_{:r, :}",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv("OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models", "Büyükakyüz", 2024, "2406.01775"),
    params=OloraParams,
    rates=measured("olora"), learning_rate_large=1e-4,
    learning_rate_source=_AS_LORA,
    attach=_attach_from_weights,
    tier="research",
    mergeable=True,
    changes_base=True,
    caveat=_CAVEAT,
    tags=("low rank", "QR", "initialisation"),
)  # fmt: skip

EVA = Method(
    name="eva",
    title="EVA",
    summary="LoRA whose first matrix starts from what the task's own texts look like inside the model.",
    idea=(
        "EVA runs a few batches of the training data through the model and looks at the inputs of every adapted "
        "layer. Their main directions become the rows of A; B starts at zero.\n\n"
        "The model itself is left as it is, so EVA is the safest of the data-driven starts."
    ),
    formula=r"h = W x + \frac{\alpha}{r} B A x, \qquad A_0 = V_r^\top \text{ of the layer's inputs } X = U S V^\top",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv(
        "Parameter Efficient Fine-tuning via Explained Variance Adaptation", "Paischer et al.", 2024, "2410.07170"
    ),
    params=EvaParams,
    rates=measured("eva"), learning_rate_large=2e-4,
    learning_rate_source=_AS_LORA,
    attach=_attach_eva,
    tier="research",
    mergeable=True,
    mixed_batch=True,
    looks_at_data=True,
    caveat="It looks at eight batches before the first step, which takes a moment on larger models.",
    tags=("low rank", "SVD", "data-driven", "initialisation"),
)  # fmt: skip

CORDA = Method(
    name="corda",
    title="CorDA",
    summary="LoRA that starts from directions of the weights, ordered by how the task's texts use them.",
    idea=(
        "Singular values say which directions of a weight matrix are large, not which the task needs. CorDA weighs "
        "them by the covariance of the layer's inputs on the task's own texts.\n\n"
        "In instruction mode the most used directions train, for the best fit. In knowledge mode the least used ones "
        "do, so that what the model knows is spared."
    ),
    formula=r"W C = U S V^\top, \quad C = X X^\top, \quad B_0 A_0 = U_r S_r V_r^\top C^{-1}",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv(
        "CorDA: Context-Oriented Decomposition Adaptation of Large Language Models", "Yang et al.", 2024, "2406.05223"
    ),
    params=CordaParams,
    rates=measured("corda"), learning_rate_large=1e-4,
    learning_rate_source=_AS_LORA,
    attach=_attach_corda,
    tier="research",
    mergeable=True,
    looks_at_data=True,
    changes_base=True,
    caveat=_CAVEAT,
    tags=("low rank", "SVD", "data-driven", "initialisation"),
)  # fmt: skip

LORA_GA = Method(
    name="lora_ga",
    title="LoRA-GA",
    summary="LoRA that starts along the gradient that full fine-tuning would follow.",
    idea=(
        "LoRA-GA measures the gradient of every adapted weight on a few batches and starts its two matrices from the "
        "gradient's main directions.\n\n"
        "The first steps then move the model nearly as full fine-tuning would, which shortens the warm-up phase of "
        "plain LoRA."
    ),
    formula=r"\nabla_W L = U S V^\top, \quad A_0 \sim V_{:r}^\top,\; B_0 \sim U_{r:2r}",
    count=r"As LoRA: $\sum r\,(n + m)$.",
    paper=arxiv("LoRA-GA: Low-Rank Adaptation with Gradient Approximation", "Wang, Yu, Li", 2024, "2407.05000"),
    params=LoraGAParams,
    rates=measured("lora_ga"), learning_rate_large=1e-4,
    learning_rate_source=_AS_LORA,
    attach=_attach_lora_ga,
    tier="research",
    mergeable=True,
    looks_at_data=True,
    changes_base=True,
    caveat=_CAVEAT,
    tags=("low rank", "gradient", "data-driven", "initialisation"),
)  # fmt: skip
