"""Where things are inside a model: module names per architecture. Torch-free.

Methods read a ``Layout`` instead of guessing, so no method has an opinion about an architecture.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from peft_studio.errors import ConfigError, ModelError, did_you_mean

ArchitectureKind = Literal["decoder", "encoder", "encoder-decoder"]
Purpose = Literal["generation", "classification"]


@dataclass(frozen=True)
class Layout:
    """Module names of one architecture; block-relative names are the ends of full names inside one block.

    Attributes:
        model_type: ``config.model_type`` of transformers.
        kind: What the architecture reads and writes.
        blocks: Paths of the lists of transformer blocks, in the order in which text passes through them.
        attention: Linear layers of attention, cross-attention included; the last one ends it.
        mlp: Linear layers of the feed-forward network; the last one ends it.
        key_value: Linear layers that make keys and values.
        mlp_input: Linear layers that the feed-forward network's input enters first.
        norms: Normalisation layers of a block.
        final_norm: Path of the normalisation after the last block; empty when there is none.
        outer_norms: Paths of other normalisations outside of blocks.
        embedding: Path of the token embedding.
        head: Path of the vocabulary projection.
        new_heads: Modules that a classification model has on top, new and always trained.
        inside: Regular expression of what may stand between a block and its parts.
        purpose: What the model at hand is for; it decides which head it has.
    """

    model_type: str
    kind: ArchitectureKind
    blocks: tuple[str, ...]
    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    key_value: tuple[str, ...]
    mlp_input: tuple[str, ...]
    norms: tuple[str, ...]
    embedding: str
    final_norm: str = ""
    outer_norms: tuple[str, ...] = ()
    head: str = "lm_head"
    new_heads: tuple[str, ...] = ("score",)
    inside: str = ""
    purpose: Purpose = "generation"

    @property
    def attention_output(self) -> tuple[str, ...]:
        """Linear layers that end an attention: self-attention and cross-attention call theirs the same."""
        last = self.attention[-1].rpartition(".")[2]
        return tuple(name for name in self.attention if name.rpartition(".")[2] == last)

    @property
    def mlp_output(self) -> str:
        """The linear layer that ends the feed-forward network."""
        return self.mlp[-1]

    @property
    def task_type(self) -> str:
        """PEFT's name of the task."""
        if self.purpose == "classification":
            return "SEQ_CLS"
        return "SEQ_2_SEQ_LM" if self.kind == "encoder-decoder" else "CAUSAL_LM"

    @property
    def trained_heads(self) -> tuple[str, ...]:
        """Modules that every method trains in full, because they are new."""
        return self.new_heads if self.purpose == "classification" else ()

    def within_blocks(self, names: Iterable[str]) -> str:
        """A regular expression for the full names of these parts in every block.

        A list of name ends would not do: ``output.dense`` of BERT also ends ``attention.output.dense``.
        """
        stacks = "|".join(re.escape(path) for path in self.blocks)
        parts = "|".join(re.escape(name) for name in names)
        return rf"({stacks})\.\d+\.({self.inside})?({parts})"

    @property
    def linear(self) -> str:
        """A regular expression for all linear layers of all blocks."""
        return self.within_blocks((*self.attention, *self.mlp))

    def block_of(self, name: str) -> tuple[int, int, str] | None:
        """Stack, number of the block in it, and name within the block of a full name; None outside of blocks."""
        for stack, path in enumerate(self.blocks):
            if name.startswith(f"{path}."):
                number, _, rest = name.removeprefix(f"{path}.").partition(".")
                return stack, int(number), re.sub(f"^({self.inside})", "", rest) if self.inside else rest
        return None


_LLAMA = Layout(
    model_type="llama", kind="decoder", blocks=("model.layers",),
    embedding="model.embed_tokens", final_norm="model.norm",
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    key_value=("self_attn.k_proj", "self_attn.v_proj"),
    mlp=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), mlp_input=("mlp.gate_proj",),
    norms=("input_layernorm", "post_attention_layernorm"),
)  # fmt: skip
_QWEN3 = replace(_LLAMA, model_type="qwen3", norms=(*_LLAMA.norms, "self_attn.q_norm", "self_attn.k_norm"))
_GEMMA2 = replace(
    _LLAMA, model_type="gemma2", norms=(*_LLAMA.norms, "pre_feedforward_layernorm", "post_feedforward_layernorm")
)
_PHI3 = replace(
    _LLAMA, model_type="phi3",
    attention=("self_attn.qkv_proj", "self_attn.o_proj"), key_value=("self_attn.qkv_proj",),
    mlp=("mlp.gate_up_proj", "mlp.down_proj"), mlp_input=("mlp.gate_up_proj",),
)  # fmt: skip
_GPT2 = Layout(
    model_type="gpt2", kind="decoder", blocks=("transformer.h",),
    embedding="transformer.wte", final_norm="transformer.ln_f",
    attention=("attn.c_attn", "attn.c_proj"), key_value=("attn.c_attn",),
    mlp=("mlp.c_fc", "mlp.c_proj"), mlp_input=("mlp.c_fc",),
    norms=("ln_1", "ln_2"),
)  # fmt: skip
_GPT_NEOX = Layout(
    model_type="gpt_neox", kind="decoder", blocks=("gpt_neox.layers",),
    embedding="gpt_neox.embed_in", final_norm="gpt_neox.final_layer_norm",
    attention=("attention.query_key_value", "attention.dense"), key_value=("attention.query_key_value",),
    mlp=("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"), mlp_input=("mlp.dense_h_to_4h",),
    norms=("input_layernorm", "post_attention_layernorm"),
)  # fmt: skip
_OPT = Layout(
    model_type="opt", kind="decoder", blocks=("model.decoder.layers",),
    embedding="model.decoder.embed_tokens", final_norm="model.decoder.final_layer_norm",
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"),
    key_value=("self_attn.k_proj", "self_attn.v_proj"),
    mlp=("fc1", "fc2"), mlp_input=("fc1",),
    norms=("self_attn_layer_norm", "final_layer_norm"),
)  # fmt: skip
_BERT = Layout(
    model_type="bert", kind="encoder", blocks=("bert.encoder.layer",),
    embedding="bert.embeddings.word_embeddings", outer_norms=("bert.embeddings.LayerNorm",),
    attention=("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    key_value=("attention.self.key", "attention.self.value"),
    mlp=("intermediate.dense", "output.dense"), mlp_input=("intermediate.dense",),
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    new_heads=("classifier",),
)  # fmt: skip
_ROBERTA = replace(
    _BERT, model_type="roberta", blocks=("roberta.encoder.layer",),
    embedding="roberta.embeddings.word_embeddings", outer_norms=("roberta.embeddings.LayerNorm",),
)  # fmt: skip
_DISTILBERT = Layout(
    model_type="distilbert", kind="encoder", blocks=("distilbert.transformer.layer",),
    embedding="distilbert.embeddings.word_embeddings", outer_norms=("distilbert.embeddings.LayerNorm",),
    attention=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
    key_value=("attention.k_lin", "attention.v_lin"),
    mlp=("ffn.lin1", "ffn.lin2"), mlp_input=("ffn.lin1",),
    norms=("sa_layer_norm", "output_layer_norm"),
    new_heads=("pre_classifier", "classifier"),
)  # fmt: skip
_MODERNBERT = Layout(
    model_type="modernbert", kind="encoder", blocks=("model.layers",),
    embedding="model.embeddings.tok_embeddings", final_norm="model.final_norm",
    outer_norms=("model.embeddings.norm", "head.norm"),
    attention=("attn.Wqkv", "attn.Wo"), key_value=("attn.Wqkv",),
    mlp=("mlp.Wi", "mlp.Wo"), mlp_input=("mlp.Wi",),
    norms=("attn_norm", "mlp_norm"),
    new_heads=("classifier",),
)  # fmt: skip
_T5 = Layout(
    model_type="t5", kind="encoder-decoder", blocks=("encoder.block", "decoder.block"),
    embedding="shared", final_norm="decoder.final_layer_norm", outer_norms=("encoder.final_layer_norm",),
    attention=tuple(f"{place}.{name}" for place in ("SelfAttention", "EncDecAttention") for name in "qkvo"),
    key_value=tuple(f"{place}.{name}" for place in ("SelfAttention", "EncDecAttention") for name in "kv"),
    mlp=tuple(f"DenseReluDense.{name}" for name in ("wi", "wi_0", "wi_1", "wo")),  # wi, or wi_0 and wi_1 when gated
    mlp_input=("DenseReluDense.wi", "DenseReluDense.wi_0"),
    norms=("layer_norm",),
    inside=r"layer\.\d+\.",
)  # fmt: skip
_BART = Layout(
    model_type="bart", kind="encoder-decoder", blocks=("model.encoder.layers", "model.decoder.layers"),
    embedding="model.shared", outer_norms=("model.encoder.layernorm_embedding", "model.decoder.layernorm_embedding"),
    attention=tuple(
        f"{place}.{name}_proj" for place in ("self_attn", "encoder_attn") for name in ("q", "k", "v", "out")
    ),
    key_value=tuple(f"{place}.{name}_proj" for place in ("self_attn", "encoder_attn") for name in ("k", "v")),
    mlp=("fc1", "fc2"), mlp_input=("fc1",),
    norms=("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
)  # fmt: skip

LAYOUTS: dict[str, Layout] = {
    layout.model_type: layout
    for layout in (
        _LLAMA,
        *(replace(_LLAMA, model_type=name) for name in ("mistral", "qwen2", "smollm3", "gemma")),
        _QWEN3,
        _GEMMA2,
        replace(_GEMMA2, model_type="gemma3_text", norms=(*_GEMMA2.norms, "self_attn.q_norm", "self_attn.k_norm")),
        _PHI3,
        _GPT2,
        replace(_GPT2, model_type="gpt_bigcode"),
        _GPT_NEOX,
        _OPT,
        _BERT,
        _ROBERTA,
        replace(_ROBERTA, model_type="camembert"),
        replace(_ROBERTA, model_type="xlm-roberta"),
        _DISTILBERT,
        _MODERNBERT,
        _T5,
        _BART,
    )
}


def known_layout(model_type: str) -> Layout:
    """The layout of an architecture, whatever it is to be used for.

    Raises:
        ModelError: The architecture is not one we know the inside of.
    """
    if model_type not in LAYOUTS:
        raise ModelError(f"Models of type {model_type!r} are not supported. {did_you_mean(model_type, LAYOUTS)}")
    return LAYOUTS[model_type]


def layout_for(model_type: str, purpose: Purpose = "generation") -> Layout:
    """The layout of an architecture, for a purpose.

    Raises:
        ModelError: The architecture is not one we know the inside of.
        ConfigError: It cannot serve this purpose.
    """
    layout = known_layout(model_type)
    if purpose == "generation" and layout.kind == "encoder":
        raise ConfigError(
            f"A model of type {model_type!r} is an encoder: it cannot write text. Choose a classification task, or a "
            "decoder or encoder-decoder model.",
            "task.id",
        )
    if purpose == "classification" and layout.kind == "encoder-decoder":
        raise ConfigError(
            f"A model of type {model_type!r} writes text and has no classification head here. Choose a generation "
            "task, or an encoder or decoder model.",
            "task.id",
        )
    return replace(layout, purpose=purpose)
