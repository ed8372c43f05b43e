"""What an adapter's ``adapter_config.json`` may say: every setting by name, kind and bounds, before PEFT sees it.

Adapters come from other people. PEFT reads names of modules as regular expressions, allocates what a rank asks for
and imports what some settings name, so nothing is let through but what an adapter of ours, or a plain one, has.
Torch-free.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from peft_studio.errors import ModelError, shown
from peft_studio.files import tensor_header
from peft_studio.models.weight_files import end_of_tensors, read_settings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_COUNT = 65_536  # of a rank, a width or a number of tokens; adapters have hundreds
MAX_VECTOR = 1 << 24  # of numbers that a method keeps in one vector
MAX_NAMES = 20_000  # of modules in a setting: a large model has that many parts
MAX_ALTERNATIVES = 200  # within the brackets of a pattern
MAX_TEXT = 2_000_000  # characters of a setting that names modules

TYPES = frozenset({
    "ADALORA", "BEFT", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "GLORA", "GRALORA", "HIRA", "HRA", "IA3", "LOHA",
    "LOKR", "LORA", "MISS", "OFT", "PEANUT", "PREFIX_TUNING", "PROMPT_TUNING", "PSOFT", "PVERA", "P_TUNING",
    "RANDLORA", "ROAD", "SHIRA", "STUDIO_BOTTLENECK", "STUDIO_PARTIAL", "SUPERTUNING", "TINYLORA", "UNILORA", "VBLORA",
    "VERA", "WAVEFT",
})  # fmt: skip
"""PEFT's names of the kinds of adapters that are read."""
FLAGS = frozenset({
    "apply_GS", "block_share", "coft", "decompose_both", "ensure_weight_tying", "fan_in_fan_out", "inference_mode",
    "init_ia3_weights", "lora_bias", "para", "prefix_projection", "proportional_parameters", "psoft_mag_a",
    "psoft_mag_b", "psoft_orth", "rank_dropout_scale", "sample_at_inference", "save_indices", "save_only_topk_weights",
    "save_precomputed_indices", "save_projection", "select_top", "sparse", "use_cayley_neumann", "use_dora",
    "use_effective_conv2d", "use_idwt", "use_qalora", "use_rslora", "very_sparse",
})  # fmt: skip
WORDS = frozenset({
    "ab_svd_init", "act_fn", "bias", "config_A_B", "config_C", "config_D_E", "decomposition_method",
    "encoder_reparameterization_type", "init_lora_weights", "init_weights", "mask_type", "megatron_core",
    "non_linearity", "peft_type", "peft_version", "prompt_tuning_init", "psoft_svd", "revision", "task_type",
    "variant", "wavelet_family",
})  # fmt: skip
TEXTS = frozenset({"base_model_name_or_path", "tokenizer_name_or_path"})
"""Names that are shown and never opened."""
SEEDS = frozenset({"generator_seed", "proj_seed", "projection_prng_key", "projection_seed", "random_loc_seed",
                   "random_seed", "deltaT", "tfinal", "tinit", "total_step"})  # fmt: skip
"""Numbers that begin a sequence or count steps: nothing is allocated by them."""
SIZES = frozenset({
    "block_size", "boft_block_num", "boft_block_size", "boft_n_butterfly_factor", "bottleneck_dim", "decompose_factor",
    "depth", "gralora_k", "group_size", "hybrid_r", "init_r", "mini_r", "num_attention_heads", "num_layers",
    "num_virtual_tokens", "oft_block_size", "qalora_group_size", "r", "target_r", "token_dim", "topk", "u",
})  # fmt: skip
"""Numbers of rows, columns or blocks."""
UNSEEN = frozenset({"encoder_hidden_size", "encoder_num_layers", "num_cayley_neumann_terms",
                    "num_transformer_submodules", "psoft_svd_lowrank_niter"})  # fmt: skip
"""Counts that no saved tensor shows."""
VECTORS = frozenset({"n_frequency", "num_vectors", "theta_d_length", "vector_length"})
"""Lengths of vectors of numbers."""
NUMBERS = frozenset({
    "adapter_dropout", "alpha", "beta1", "beta2", "boft_dropout", "cayley_neumann_eps", "d_initial", "deft_dropout",
    "delora_lambda", "encoder_dropout", "eps", "gralora_dropout", "hira_dropout", "init_logits_std", "init_scale",
    "init_std", "init_theta_d_bound", "init_v_bound", "init_vector_bank_bound", "lora_alpha", "lora_dropout",
    "miss_dropout", "module_dropout", "orth_reg_weight", "percent", "psoft_alpha", "psoft_dropout", "pvera_dropout",
    "randlora_alpha", "randlora_dropout", "rank_dropout", "scaling", "sparsity", "tinylora_dropout", "unilora_dropout",
    "vblora_dropout", "vera_dropout", "weight_tying",
})  # fmt: skip
MODULES = frozenset({"exclude_modules", "feedforward_modules", "layers_pattern", "modules_to_save", "parallel_input",
                     "parameters", "target_modules"})  # fmt: skip
"""Names of modules, of which PEFT takes a text for a regular expression."""
PATTERNS = frozenset({"alpha_pattern", "block_size_pattern", "lambda_pattern", "n_frequency_pattern", "rank_pattern"})
"""Numbers by the names of modules, which PEFT takes for regular expressions."""

_NAME = re.compile(r"\^?[A-Za-z0-9_.-]{1,300}")
_WORD = re.compile(r"[A-Za-z0-9_.+ -]{0,64}")
_LITERAL = r"(?:[A-Za-z0-9_-]|\\[.-])++"
_CHOICE = rf"\((?:{_LITERAL}(?:\|{_LITERAL})*+)?+\)"
_STACKED = rf"{_CHOICE}\\\.\\d\+\\\.\((?:layer\\\.\\d\+\\\.)?+\)\?{_CHOICE}"
_OURS = re.compile(rf"(?:{_STACKED}|{_LITERAL})(?:\|(?:{_STACKED}|{_LITERAL}))*+")
"""What `Layout.within_blocks` writes and lists of full names: whatever it is matched with, it is done in no time."""


def check_adapter(folder: Path) -> dict[str, Any]:
    """Makes sure that an adapter's settings are allowed ones and fit its tensors; no weights are read.

    Args:
        folder: With ``adapter_config.json`` and ``adapter_model.safetensors``.

    Returns:
        The settings.

    Raises:
        ModelError: They are not; the message names the setting, its value and what is allowed.
        OSError: The weights cannot be read.
        ValueError: They are no safetensors file.
    """
    settings = read_settings(folder, CONFIG)
    check_settings(settings)
    header, size = tensor_header(folder / WEIGHTS)
    if end_of_tensors(header) != size:
        raise ValueError(f"its header tells of other weights than the {size:,} bytes that are there")
    check_sizes(settings, {name: item["shape"] for name, item in header.items()})
    return settings


def check_settings(settings: Mapping[str, Any]) -> None:
    """Makes sure that an adapter's settings are ones that it may have.

    Raises:
        ModelError: One is not.
    """
    if settings.get("peft_type") not in TYPES:
        raise _refused("peft_type", settings.get("peft_type"), f"one of {', '.join(sorted(TYPES))}")
    for name, value in settings.items():
        if _is_nothing(value):
            continue
        check = _KINDS.get(name)
        if check is None:
            raise _refused(name, value, "nothing: no adapter of this app has this setting")
        if allowed := check(value):
            raise _refused(name, value, allowed)


def check_sizes(settings: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> None:
    """Makes sure that what an adapter's settings would allocate is there in its tensors.

    Args:
        settings: Checked ones.
        shapes: Of its tensors, by name.

    Raises:
        ModelError: They tell of more.
    """
    largest = max((number for shape in shapes.values() for number in shape), default=0)
    ranks = {size for name, shape in shapes.items() if ".lora_A" in name for size in shape[:1]}
    for name in SIZES | VECTORS:
        value = settings.get(name)
        if isinstance(value, int) and value > max(MAX_FREE, largest):
            raise _refused(name, value, f"{largest:,}, the largest dimension of its tensors")
    told = [settings.get("r"), *(settings.get("rank_pattern") or {}).values()]
    if settings["peft_type"] == "LORA" and any(rank not in told for rank in ranks):
        found = ", ".join(f"{rank:,}" for rank in sorted(ranks)[:5])
        raise _refused("r", settings.get("r"), f"the rank of its tensors, {found}")
    _check_prompt(settings, shapes.get("prompt_embeddings"))


def _check_prompt(settings: Mapping[str, Any], shape: list[int] | None) -> None:
    """The vectors of a prompt method are one matrix, and what PEFT makes for them is to be no larger."""
    if shape is None:
        return
    size = (settings.get("num_virtual_tokens") or 0) * (settings.get("token_dim") or 0)
    if settings["peft_type"] == "PREFIX_TUNING":  # a key and a value for every layer
        size *= 2 * (settings.get("num_layers") or 0)
    else:
        size *= settings.get("num_transformer_submodules") or 1
    if size != math.prod(shape):
        raise _refused("num_virtual_tokens", settings.get("num_virtual_tokens"), f"what fits its vectors, {shape}")


MAX_FREE = 1024
"""A size up to this needs no proof by a tensor."""


def _refused(name: str, value: object, allowed: str) -> ModelError:
    return ModelError(f"The adapter's {CONFIG} is not allowed: {name} = {shown(value)}. Allowed: {allowed}.")


def _is_nothing(value: object) -> bool:
    return value is None or value is False or value in ("", 0) or (isinstance(value, list | dict) and not value)


def _flag(value: object) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _word(value: object) -> str:
    right = isinstance(value, bool) or (isinstance(value, str) and _WORD.fullmatch(value))
    return "" if right else "a word"


def _megatron(value: object) -> str:
    return "" if value == "megatron.core" else "'megatron.core', which is never used"


def _text(value: object) -> str:
    return "" if isinstance(value, str) and len(value) <= 4096 else "a name"


def _whole(most: int, value: object) -> str:
    right = type(value) is int and 0 <= value <= most
    return "" if right else f"a whole number from 0 to {most:,}"


def _number(value: object) -> str:
    right = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6
    return "" if right else "a number from -1,000,000 to 1,000,000"


def _modules(value: object) -> str:
    allowed = f"a name, a list of at most {MAX_NAMES:,} names, or names as this app writes them; no regular expression"
    if isinstance(value, str):
        return "" if _is_plain(value) else allowed
    names = value if isinstance(value, list) and len(value) <= MAX_NAMES else [None]
    return "" if all(isinstance(name, str) and _NAME.fullmatch(name) for name in names) else allowed


def _is_plain(text: str) -> bool:
    """Whether matching a text as a regular expression takes time in proportion to its length."""
    if len(text) > MAX_TEXT:
        return False
    few = all(choice.count("|") < MAX_ALTERNATIVES for choice in re.findall(r"\([^()]*\)", text))
    return bool(_NAME.fullmatch(text) or (few and _OURS.fullmatch(text)))


def _pattern(value: object) -> str:
    right = isinstance(value, dict) and len(value) <= MAX_NAMES
    for name, item in value.items() if isinstance(value, dict) else ():
        masks = isinstance(item, list) and len(item) <= MAX_COUNT and all(isinstance(bit, bool) for bit in item)
        right = right and bool(_NAME.fullmatch(name)) and (masks or not _number(item))
        right = right and (masks or abs(item) <= MAX_COUNT)
    return "" if right else f"names of modules, no regular expressions, with numbers up to {MAX_COUNT:,}"


def _layers(value: object) -> str:
    numbers = value if isinstance(value, list) else [value]
    right = len(numbers) <= MAX_NAMES and not any(_whole(MAX_COUNT, number) for number in numbers)
    return "" if right else "numbers of layers"


def _eva(value: object) -> str:
    """How EVA found its directions: of no use any more, but PEFT reads it."""
    items = value.items() if isinstance(value, dict) else [("", value)]
    right = all(name in _EVA and (isinstance(item, bool) or not _number(item)) for name, item in items)
    return "" if right else f"numbers by {', '.join(sorted(_EVA))}"


_EVA = {"rho", "tau", "use_label_mask", "label_mask_value", "whiten", "adjust_scaling_factors"}

_Check = Callable[[Any], str]
"""Says what is allowed instead of a value; nothing when the value is."""
_KINDS: dict[str, _Check] = {
    **dict.fromkeys(FLAGS, _flag),
    **dict.fromkeys(WORDS, _word),
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(SEEDS, partial(_whole, 1 << 64)),
    **dict.fromkeys(SIZES | UNSEEN, partial(_whole, MAX_COUNT)),
    **dict.fromkeys(VECTORS, partial(_whole, MAX_VECTOR)),
    **dict.fromkeys(NUMBERS, _number),
    **dict.fromkeys(MODULES, _modules),
    **dict.fromkeys(PATTERNS, _pattern),
    "eva_config": _eva,
    "layers_to_transform": _layers,
    "megatron_core": _megatron,
}
