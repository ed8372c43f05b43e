"""Tiny random models of every architecture family, with tokenizers, as folders on disk."""

from pathlib import Path
from typing import Any

import pytest

ROWS = (
    "name: Biox Mill | food: Thai | price: cheap => Biox Mill is a cheap Thai place.",
    "The old mill is near the river, and the food is good.",
    "def add(a, b): return a + b",
)
COMMON = {"vocab_size": 300, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ENCODER = {**DECODER, "max_position_embeddings": 130, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**DECODER, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {**DECODER, "num_key_value_heads": 2, "head_dim": 16},
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "resid_pdrop": 0,
        "embd_pdrop": 0,
        "attn_pdrop": 0,
    },
    "gpt_neox": {**DECODER, "max_position_embeddings": 128},
    "opt": {**DECODER, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0, "max_position_embeddings": 128},
    "bert": ENCODER,
    "roberta": ENCODER,
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0,
    },
    "modernbert": {
        **DECODER,
        "max_position_embeddings": 128,
        "cls_token_id": 0,
        "sep_token_id": 2,
        "reference_compile": False,
    },
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 1,
    },
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_start_token_id": 2,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "dropout": 0.0,
        "max_position_embeddings": 128,
    },
}
ENCODERS = ("bert", "roberta", "distilbert", "modernbert")


def make_tokenizer(marks: bool) -> Any:
    """A byte-level tokenizer; with marks, every text stands between <s> and </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(ROWS, trainer)
    if marks:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>")


def make_family(folder: Path, family: str) -> Path:
    """Writes a model whose weights, biases and norms are all random, so that nothing is right by being zero or one."""
    import torch
    import transformers

    is_encoder, is_pair = family in ENCODERS, family in ("t5", "bart")
    config = transformers.AutoConfig.for_model(family, **COMMON, **FAMILIES[family])
    auto = transformers.AutoModelForSeq2SeqLM if is_pair else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (transformers.AutoModelForMaskedLM if is_encoder else auto).from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                small = name.endswith("bias") or "norm" in name.lower() or "ln_" in name or family == "t5"
                parameter.add_(torch.randn_like(parameter) * 0.1) if small else parameter.mul_(6)
    model.save_pretrained(folder)
    make_tokenizer(marks=is_encoder or is_pair).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of all families."""
    root = tmp_path_factory.mktemp("families")
    return {family: make_family(root / family, family) for family in FAMILIES}
