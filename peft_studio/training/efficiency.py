"""What a run would cost, told before it starts: exact counts and file size, an estimated memory ledger, and a map.

Counts come from the very function that training uses to attach a method, run on shapes only (PyTorch's meta device),
so they are exact by construction.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from peft_studio.config import RunConfig
from peft_studio.errors import ModelError
from peft_studio.methods import get_method
from peft_studio.methods.base import Params
from peft_studio.models.layouts import Layout
from peft_studio.models.long_text import LongText
from peft_studio.tasks import task_of
from peft_studio.tasks.base import Task
from peft_studio.training.load import attach, layout_of, load_meta, load_tokenizer, share_base
from peft_studio.training.param_map import WRAPPER, count_parameters, draw_map
from peft_studio.training.placing import memory_of
from peft_studio.training.safetensors_size import adapter_file_bytes
from peft_studio.training.shapes_only import no_collections, shapes_only

BYTES = 4  # float32
ADAM_STATES = 2
SAMPLE = 256  # rows that are tokenized to learn how long a typical one is

Place = tuple[str, tuple[str, ...], LongText | None]
"""A base model: catalogue name, folder or Hub id; class names of a classification task; LSG attention, or None."""


@dataclass(frozen=True)
class Facts:
    """What a method makes of a model, whatever the data and the batches; to be treated as read-only.

    Attributes:
        trainable: Parameters that train.
        total: Parameters that take part when the adapter is on.
        base: Parameters of the model without the method.
        held: Bytes of all that is in memory: parameters, and fixed numbers that the method keeps beside them.
        adapter_bytes: Size of the saved adapter's file.
        blocks: Blocks that the backward pass goes through.
        map: Where all of these are; see ``draw_map``.
    """

    trainable: int
    total: int
    base: int
    held: int
    adapter_bytes: int
    blocks: int
    map: list[dict[str, Any]]


def estimate(config: RunConfig) -> dict[str, Any]:
    """Everything the form shows while it is filled in, as plain values.

    Args:
        config: The run that would be started.

    Returns:
        ``trainable_params``, ``total_params``, ``base_params``, ``trainable_share``, ``adapter_bytes`` (all exact),
        ``memory`` (bytes; ``activations`` is an estimate), ``tokens_per_row``, ``map``, ``warnings``, and under
        ``full`` the same figures for full fine-tuning.

    Raises:
        ModelError: The model cannot be read.
        ConfigError: The method does not fit the model.
    """
    task = task_of(config.task)
    place = (config.model.id, task.labels, config.lsg)
    facts = _facts(place, config.method, config.training.max_steps)
    lengths = _typical_lengths(config.model.id, task)
    figures = _figures(config, place, facts, lengths)
    full = _figures(config, place, _facts(place, get_method("full").params(name="full"), 1), lengths)
    return {**figures, "full": full, "map": facts.map, "warnings": find_warnings(config, figures, sum(lengths))}


def find_warnings(config: RunConfig, figures: dict[str, Any], typical: int) -> list[str]:
    """What a user should know before starting, as sentences; usually nothing.

    Args:
        config: The run that would be started.
        figures: Its estimate.
        typical: Tokens of a typical row.
    """
    warnings = []
    longest = config.training.max_length
    if typical > longest:
        warnings.append(f"Rows have about {typical} tokens, so prompts will be cut to fit max_length = {longest}.")
    needed, (there, whose) = sum(figures["memory"].values()), memory_of(config.resources.device)
    if needed > there:
        warnings.append(f"Training needs about {needed / 1e9:.1f} GB; {whose} {there / 1e9:.1f} GB of memory.")
    return warnings


def _figures(config: RunConfig, place: Place, facts: Facts, lengths: tuple[int, int]) -> dict[str, Any]:
    prompt, answer = lengths
    rows = config.training.batch_size
    length, answer = min(prompt + answer, config.training.max_length), min(answer, config.training.max_length)
    return {
        "trainable_params": facts.trainable,
        "total_params": facts.total,
        "base_params": facts.base,
        "trainable_share": facts.trainable / facts.total,
        "adapter_bytes": facts.adapter_bytes,
        "memory": {
            "weights": facts.held,
            "gradients": facts.trainable * BYTES,
            "optimizer": facts.trainable * BYTES * ADAM_STATES,
            "activations": activation_bytes(_meta_base(*place), facts.blocks, rows * length, rows * answer),
        },
        "tokens_per_row": length,
    }


@lru_cache(maxsize=256)
def _facts(place: Place, params: Params, steps: int) -> Facts:
    with no_collections():
        return _count(place, params, steps)


def _count(place: Place, params: Params, steps: int) -> Facts:
    model, base = attach_to_shapes(place, params, steps)
    layout = layout_of(base)
    trainable, total = count_parameters(model)
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return Facts(
        trainable=trainable,
        total=total,
        base=sum(parameter.numel() for parameter in base.parameters()),
        held=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        adapter_bytes=adapter_file_bytes(model, get_method(params.name).changes_base),
        blocks=trained_blocks(model, base, layout),
        map=draw_map(model, base, layout),
    )


def activation_bytes(base: Any, blocks: int, tokens: int, answers: int) -> int:
    """Estimated bytes that the forward pass keeps for the backward pass.

    Per token and block: ``10 d + 2 k + 4 f`` numbers (norms, projections, residuals of width ``d``, keys and values of
    width ``k``, feed-forward width ``f``), counted from the lowest block that trains upwards; and three times the
    vocabulary for every answer token. Attention scores are not kept (fused attention); what an adapter itself keeps,
    and the allocator's slack, are left out.

    Args:
        base: The model without its method.
        blocks: Blocks from the lowest that trains upwards; see ``trained_blocks``.
        tokens: Tokens in a batch.
        answers: Tokens in it that carry loss.
    """
    config = base.config
    hidden, heads = config.hidden_size, config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * head_dim
    sizes = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "d_ff", "encoder_ffn_dim"))
    inner = next((size for size in sizes if size), 4 * hidden)
    per_block = 10 * hidden + 2 * keys + 4 * inner
    vocabulary = config.vocab_size if layout_of(base).purpose == "generation" else 0
    return BYTES * (tokens * blocks * per_block + answers * 3 * vocabulary)


def trained_blocks(model: Any, base: Any, layout: Layout) -> int:
    """How many blocks the backward pass goes through: all from the lowest that trains upwards.

    Args:
        model: The model with its method.
        base: The model without it.
        layout: Where its blocks are.
    """
    depths = [len(base.get_submodule(path)) for path in layout.blocks]
    lowest = sum(depths)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            path = name.removeprefix(WRAPPER).removeprefix("base_model.")
            place = layout.block_of(path)
            if place:
                lowest = min(lowest, sum(depths[: place[0]]) + place[1])
            elif not any(word in path for word in ("norm", "head", "ln_f", "score", "classifier")):
                lowest = 0  # the embedding, or vectors in front of the text
    return sum(depths) - lowest


def attach_to_shapes(place: Place, params: Params, steps: int) -> tuple[Any, Any]:
    """A model with a method and the same model without, both on the meta device.

    Args:
        place: The base model.
        params: The method's parameters.
        steps: Optimizer steps of the run.

    Raises:
        ModelError: The model cannot be read.
        ConfigError: The method or the task does not fit the model.
    """
    base = _meta_base(*place)
    with shapes_only():
        return attach(share_base(base), params, steps), base


@lru_cache(maxsize=8)
def _meta_base(model_id: str, labels: tuple[str, ...] = (), lsg: LongText | None = None) -> Any:
    return load_meta(model_id, labels, lsg)


def _typical_lengths(model_id: str, task: Task) -> tuple[int, int]:
    """Mean tokens of a row's prompt and of its answer, over a sample; round numbers without a tokenizer to ask."""
    try:
        return _mean_lengths(model_id, tuple((row.prompt, row.target) for row in task.load("train")[:SAMPLE]))
    except ModelError:
        return 64, 64


@lru_cache(maxsize=64)
def _mean_lengths(model_id: str, rows: tuple[tuple[str, str], ...]) -> tuple[int, int]:
    tokenizer = _tokenizer(model_id)
    prompts, answers = (tokenizer(list(texts), verbose=False)["input_ids"] for texts in zip(*rows, strict=True))
    prompt = sum(len(ids) for ids in prompts) / len(rows)
    answer = sum(len(ids) + 1 for ids in answers) / len(rows)
    return round(prompt), round(answer)


@lru_cache(maxsize=8)
def _tokenizer(model_id: str) -> Any:
    return load_tokenizer(model_id)
