"""Where things are inside a model: module names per architecture. Torch-free.

Methods read a ``Layout`` instead of guessing, so no method has an opinion about an architecture.
"""

from dataclasses import dataclass, replace

from peft_studio.errors import ModelError, did_you_mean


@dataclass(frozen=True)
class Layout:
    """Module names of one decoder architecture; block-relative names are suffixes inside one block.

    Attributes:
        model_type: ``config.model_type`` of transformers.
        blocks: Path of the list of transformer blocks.
        attention: Linear layers of attention, the output projection last.
        mlp: Linear layers of the feed-forward network, the input projection first, the output projection last.
        key_value: Linear layers that make keys and values.
        norms: Normalisation layers of a block.
        final_norm: Path of the normalisation after the last block.
        embedding: Path of the token embedding.
        head: Path of the vocabulary projection.
        transposed: Whether linear layers keep their weight as (inputs, outputs), as ``Conv1D`` does.
    """

    model_type: str
    blocks: str
    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    key_value: tuple[str, ...]
    norms: tuple[str, ...]
    final_norm: str
    embedding: str
    head: str = "lm_head"
    transposed: bool = False

    @property
    def attention_output(self) -> str:
        """The linear layer that ends attention."""
        return self.attention[-1]

    @property
    def mlp_input(self) -> str:
        """The linear layer that the feed-forward network's input enters first."""
        return self.mlp[0]

    @property
    def mlp_output(self) -> str:
        """The linear layer that ends the feed-forward network."""
        return self.mlp[-1]


_LLAMA = Layout(
    model_type="llama",
    blocks="model.layers",
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    mlp=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    key_value=("self_attn.k_proj", "self_attn.v_proj"),
    norms=("input_layernorm", "post_attention_layernorm"),
    final_norm="model.norm",
    embedding="model.embed_tokens",
)
_QWEN3 = replace(_LLAMA, model_type="qwen3", norms=(*_LLAMA.norms, "self_attn.q_norm", "self_attn.k_norm"))
_GEMMA2 = replace(
    _LLAMA, model_type="gemma2", norms=(*_LLAMA.norms, "pre_feedforward_layernorm", "post_feedforward_layernorm")
)
_PHI3 = replace(
    _LLAMA,
    model_type="phi3",
    attention=("self_attn.qkv_proj", "self_attn.o_proj"),
    mlp=("mlp.gate_up_proj", "mlp.down_proj"),
    key_value=("self_attn.qkv_proj",),
)
_GPT2 = Layout(
    model_type="gpt2",
    blocks="transformer.h",
    attention=("attn.c_attn", "attn.c_proj"),
    mlp=("mlp.c_fc", "mlp.c_proj"),
    key_value=("attn.c_attn",),
    norms=("ln_1", "ln_2"),
    final_norm="transformer.ln_f",
    embedding="transformer.wte",
    transposed=True,
)
_GPT_NEOX = Layout(
    model_type="gpt_neox",
    blocks="gpt_neox.layers",
    attention=("attention.query_key_value", "attention.dense"),
    mlp=("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    key_value=("attention.query_key_value",),
    norms=("input_layernorm", "post_attention_layernorm"),
    final_norm="gpt_neox.final_layer_norm",
    embedding="gpt_neox.embed_in",
)
_OPT = Layout(
    model_type="opt",
    blocks="model.decoder.layers",
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"),
    mlp=("fc1", "fc2"),
    key_value=("self_attn.k_proj", "self_attn.v_proj"),
    norms=("self_attn_layer_norm", "final_layer_norm"),
    final_norm="model.decoder.final_layer_norm",
    embedding="model.decoder.embed_tokens",
)

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
        replace(_GPT2, model_type="gpt_bigcode", transposed=False),
        _GPT_NEOX,
        _OPT,
    )
}


def layout_for(model_type: str) -> Layout:
    """The layout of an architecture.

    Raises:
        ModelError: The architecture is not one we know the inside of.
    """
    try:
        return LAYOUTS[model_type]
    except KeyError:
        raise ModelError(
            f"Models of type {model_type!r} are not supported. {did_you_mean(model_type, LAYOUTS)}"
        ) from None
