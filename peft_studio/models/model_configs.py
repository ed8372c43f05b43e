"""What a model's files of settings may say: bounds of sizes, before a library builds anything. Torch-free."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from peft_studio.errors import ModelError, shown

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
          "num_decoder_layers")  # fmt: skip
"""What configs call their number of layers."""
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
FEED_FORWARD = ("intermediate_size", "ffn_dim", "d_ff", "hidden_dim", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
         "num_key_value_heads")  # fmt: skip
HEAD_WIDTHS = ("head_dim", "d_kv")
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "num_experts_per_tok")
BOUNDS: dict[str, int] = {
    **dict.fromkeys(LAYERS, 1000),
    **dict.fromkeys(HEADS, 4096),
    **dict.fromkeys(EXPERTS, 4096),
    **dict.fromkeys((*WIDTHS, *HEAD_WIDTHS, "word_embed_proj_dim", "embedding_size", "relative_attention_num_buckets"),
                    1 << 17),
    **dict.fromkeys(FEED_FORWARD, 1 << 20),
    **dict.fromkeys(POSITIONS, 1 << 24),
    "vocab_size": 1 << 23,
    "type_vocab_size": 1 << 12,
    "num_labels": 10_000,
    "max_window_layers": 1000,
}  # fmt: skip
"""The largest values of sizes that any model has come near to."""
LEARNED_POSITIONS = frozenset({"gpt2", "gpt_bigcode", "opt", "bert", "roberta", "camembert", "xlm-roberta",
                               "distilbert", "bart"})  # fmt: skip
"""Types of models with a vector for each position; others compute theirs."""
KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "kernel_config", "use_kernels")
MAX_DEPTH, MAX_VALUES, MAX_TEXT = 12, 300_000, 500_000
"""Of all that a file of settings holds: levels, single values, and characters of one text."""
MAX_TEMPLATE = 200_000  # characters of a chat template, which is a program; long ones have ten thousand
MAX_SLACK = 16_000_000  # parameters by which a config may be wrong without harm: other checks name the tensor


def check_bounds(settings: Mapping[str, Any], where: str, name: str = "config.json") -> None:
    """Makes sure that a file of settings holds plain values, none of which would make a library run out of anything.

    Args:
        settings: What it holds.
        where: Folder or Hub id, for messages.
        name: Of the file.

    Raises:
        ModelError: It does not.
    """
    for count, (key, value, depth) in enumerate(_walk(settings)):
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise ModelError(
                f"{name} of {where!r} is nested too deeply or holds too much: {MAX_DEPTH} levels and {MAX_VALUES:,} "
                "values are allowed."
            )
        if key in BOUNDS and name == "config.json":
            _check_size(key, value, where)
        elif allowed := _odd(key, value):
            raise ModelError(f"{name} of {where!r} is not allowed: {key} = {shown(value)}. Allowed: {allowed}.")


def _walk(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Every value at any depth with its key, that of the list for an item of one, without recursion."""
    waiting: list[tuple[str, Any, int]] = [("", settings, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        yield key, value, depth
        if depth > MAX_DEPTH:
            return
        if isinstance(value, Mapping):
            waiting += ((str(name), item, depth + 1) for name, item in value.items())
        elif isinstance(value, list):
            waiting += (("" if key in BOUNDS else key, item, depth + 1) for item in value)


def _check_size(key: str, value: object, where: str) -> None:
    most = BOUNDS[key]
    if value is None or (type(value) is int and 0 <= value <= most):
        return
    raise ModelError(
        f"config.json of {where!r} is not allowed: {key} = {shown(value)}. Allowed: a whole number from 0 to {most:,}."
    )


def _odd(key: str, value: object) -> str:
    """What is allowed instead of a value; nothing when it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, int) and abs(value) > 10**31:  # tokenizers write 10**30 for "as long as you like"
        return "a number of at most 31 digits"
    if key in ("id2label", "label2id") and isinstance(value, Mapping) and len(value) > BOUNDS["num_labels"]:
        return f"{BOUNDS['num_labels']:,} labels"
    if key in KERNELS and (isinstance(value, Mapping) or (isinstance(value, str) and "/" in value)):
        return "nothing that is fetched and run"
    most = MAX_TEMPLATE if key in ("chat_template", "template") else MAX_TEXT
    return f"a text of {most:,} characters" if isinstance(value, str) and len(value) > most else ""


def check_told_size(settings: Mapping[str, Any], stored: int, where: str) -> None:
    """Makes sure that a config does not tell of a much larger model than the weights are.

    What is counted is less than any model of these sizes has: one matrix of its attention, one of its feed-forward
    network, the embeddings.

    Args:
        settings: Checked by `check_bounds`.
        stored: Number of parameters in the weights.
        where: For the message.

    Raises:
        ModelError: It does.
    """
    width, inner, heads, layers = (_largest(settings, keys) for keys in (WIDTHS, FEED_FORWARD, HEADS, LAYERS))
    learned = settings.get("model_type") in LEARNED_POSITIONS
    rows = sum(_largest(settings, (key,)) for key in ("vocab_size", "type_vocab_size"))
    rows += _largest(settings, POSITIONS) if learned else 0
    each = max(width, heads * _largest(settings, HEAD_WIDTHS)) + inner
    told = width * (rows + layers * each)
    if told > 2 * stored + MAX_SLACK:
        raise ModelError(
            f"config.json of {where!r} tells of a model of at least {told:,} parameters ({layers:,} layers, {width:,} "
            f"wide), and the weights have {stored:,}: one of the two belongs to another model."
        )


def _largest(settings: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    return max((value for key in keys if type(value := settings.get(key)) is int), default=0)
