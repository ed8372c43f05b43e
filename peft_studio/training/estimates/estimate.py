"""What a run would cost, told before it starts: exact counts and file size, an estimate of memory, and a map.

Counts come from the very function that training uses to attach a method, run on shapes only (PyTorch's meta device),
so they are exact by construction.
"""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from peft_studio.config.advice import advice
from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.config.run_config import RunConfig
from peft_studio.errors import ConfigError, ModelError
from peft_studio.machine.devices import ALL, CPU, CUDA, MPS
from peft_studio.machine.precision import Bf16, find_bf16
from peft_studio.methods.base import Method, Params
from peft_studio.methods.partial import FULL
from peft_studio.models.layouts import Layout
from peft_studio.models.lsg_settings import LongText
from peft_studio.tasks.base import Row, Split, Task, some_rows
from peft_studio.training.estimates.loadable import check_loadable
from peft_studio.training.estimates.memory import BYTES, RowLengths, Weights, memory_by_purpose
from peft_studio.training.estimates.param_map import WRAPPER, count_parameters, draw_map
from peft_studio.training.estimates.safetensors_size import adapter_file_bytes
from peft_studio.training.fast.frozen_weights import frozen_matrices
from peft_studio.training.fast.levers import Levers
from peft_studio.training.fast.llama import FastDecoder
from peft_studio.training.load import attach, layout_of, load_meta, load_tokenizer, share_base
from peft_studio.training.placing import bf16_of, memory_of
from peft_studio.training.shapes import shapes_only

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

SAMPLE = 256  # rows that are tokenized to learn how long they are
LONG = 32  # one row in so many is as long as those of the longest batches

Place = tuple[str, tuple[str, ...], LongText | None]
"""A base model: catalogue name, folder or Hub id; class names of a classification task; LSG attention, or None."""


@dataclass(frozen=True)
class Facts:
    """What a method makes of a model, whatever the data and the batches; to be treated as read-only.

    Attributes:
        weights: What is in memory of it, and what trains.
        total: Parameters that take part when the adapter is on.
        adapter_bytes: Size of the saved adapter's file.
        remembers: Whether training keeps what frozen lower blocks give for a row, where rows come again.
        map: Where all of these are; see ``draw_map``.
    """

    weights: Weights
    total: int
    adapter_bytes: int
    remembers: bool
    map: list[dict[str, Any]]


def estimate(run: ResolvedRun) -> dict[str, Any]:
    """Everything the form shows while it is filled in, as plain values.

    Returns:
        ``trainable_params``, ``total_params``, ``base_params``, ``trainable_share``, ``adapter_bytes`` (all exact),
        ``memory`` (bytes; see ``memory.memory_by_purpose``), ``tokens_per_row``, ``map``, ``guess`` (why columns
        were guessed as they were), ``warnings``, ``precision`` (``value`` and ``why``), and under ``full`` the same
        figures for full fine-tuning.

    Raises:
        ModelError: The model cannot be loaded whole; see ``check_loadable``.
        ConfigError: The method does not fit the model.
    """
    check_loadable(run)
    arithmetic, task = _arithmetic(run.config.resources.device), run.task
    config, precision = _with_precision(run, arithmetic)
    place = (config.model.id, task.labels, config.lsg)
    facts = _facts(place, run.method, config.method, config.training.max_steps)
    lengths = _typical_lengths(config.model.id, task)
    rows = len(task.load("train"))
    figures = _figures(config, place, facts, lengths, rows)
    full = _figures(config, place, _facts(place, FULL, FULL.params(name=FULL.name), 1), lengths, rows)
    warnings = find_warnings(config, figures, lengths.prompt + lengths.answer, arithmetic)
    return {
        **figures,
        "full": full,
        "precision": precision,
        "map": facts.map,
        "guess": task.guess,
        "warnings": [*advice(run), *warnings, *_dropped(config, task), *task.notes],
    }


def _arithmetic(device: str) -> Bf16:
    """What the device does with 16-bit numbers; a GPU that is not here, but on a cluster's node, does what it says."""
    try:
        return bf16_of(device)
    except ConfigError:
        return find_bf16(device.partition(":")[0].replace(ALL, CUDA))


def _with_precision(run: ResolvedRun, arithmetic: Bf16) -> tuple[RunConfig, dict[str, str]]:
    """The config with the precision that the run will have, and that with the reason why."""
    training, place = run.config.training, (run.config.model.id, run.task.labels, run.config.lsg)
    size = _meta_base(*place).num_parameters()
    value = arithmetic.precision(training.precision, size)
    config = run.config.model_copy(update={"training": training.model_copy(update={"precision": value})})
    return config, {"value": value, "why": arithmetic.reason(training.precision, size)}


def find_warnings(
    config: RunConfig, figures: dict[str, Any], typical: int, arithmetic: Bf16 | None = None
) -> list[str]:
    """What a user should know before starting, as sentences; usually nothing.

    Args:
        config: Of the run.
        figures: Its estimate.
        typical: Tokens of a typical row.
        arithmetic: What its device does with 16-bit numbers.
    """
    slow = arithmetic.warning(config.training.precision) if arithmetic else ""
    warnings = [slow] if slow else []
    longest = config.training.max_length
    if typical > longest:
        warnings.append(f"Rows have about {typical} tokens, so prompts will be cut to fit max_length = {longest}.")
    needed, (there, whose) = sum(figures["memory"].values()), memory_of(config.resources.device)
    if needed > there:
        warnings.append(f"Training needs about {needed / 1e9:.1f} GB; {whose} {there / 1e9:.1f} GB of memory.")
    return warnings


def _figures(config: RunConfig, place: Place, facts: Facts, lengths: RowLengths, count: int) -> dict[str, Any]:
    rows, base = lengths.within(config.training.max_length), _meta_base(*place)
    weights = replace(facts.weights, remembered=count if facts.remembers and config.training.repeats(count) else 0)
    on_gpu = torch.cuda.is_available() and config.resources.device not in (CPU, MPS)
    return {
        "trainable_params": weights.trainable,
        "total_params": facts.total,
        "base_params": weights.base // BYTES,
        "trainable_share": weights.trainable / facts.total,
        "adapter_bytes": facts.adapter_bytes,
        "memory": memory_by_purpose(weights, base.config, layout_of(base), config.training, rows, on_gpu),
        "tokens_per_row": rows.prompt + rows.answer,
    }


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Within it, garbage is not looked for: among so many new objects that stay, that is a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@lru_cache(maxsize=256)
@no_collections()
def _facts(place: Place, method: Method, params: Params, steps: int) -> Facts:
    model, base = attach_to_shapes(place, method, params, steps)
    layout = layout_of(base)
    trainable, total = count_parameters(model)
    fast = FastDecoder(model, Levers()) if FastDecoder.fits(model) else None
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    weights = Weights(
        held=sum(tensor.nbytes for tensor in tensors.values()),
        base=BYTES * sum(parameter.numel() for parameter in base.parameters()),
        copies=sum(2 * part.numel() for part in frozen_matrices(model)),
        trainable=trainable,
        blocks=trained_blocks(model, base, layout),
        fast=fast is not None,
        frozen_head=fast is not None and fast.frozen_head,
    )
    remembers, size = fast is not None and fast.frozen > 0, adapter_file_bytes(model, method.changes_base)
    return Facts(weights, total, size, remembers, draw_map(model, base, layout))


def trained_blocks(model: "PeftModel", base: "PreTrainedModel", layout: Layout) -> int:
    """How many blocks the backward pass goes through: all from the lowest that trains upwards."""
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


def attach_to_shapes(place: Place, method: Method, params: Params, steps: int) -> "tuple[PeftModel, PreTrainedModel]":
    """A model with a method and the same model without, both on the meta device.

    Raises:
        ModelError: The model cannot be read.
        ConfigError: The method or the task does not fit the model.
    """
    base = _meta_base(*place)
    with shapes_only():
        return attach(share_base(base), method, params, steps), base


_meta_base = lru_cache(maxsize=8)(load_meta)
_tokenizer = lru_cache(maxsize=8)(load_tokenizer)


def _typical_lengths(model_id: str, task: Task) -> RowLengths:
    """Tokens of rows, over a sample; round numbers without a tokenizer to ask."""
    try:
        return _lengths(model_id, tuple((row.prompt, row.target) for row in task.load("train")[:SAMPLE]))
    except ModelError:
        return RowLengths(64, 64, 128, 64)


def _dropped(config: RunConfig, task: Task) -> list[str]:
    """What a user should know of rows whose answer does not fit, by split; nothing where all do."""
    if task.labels:
        return []
    used: dict[Split, Sequence[Row]] = {
        "train": some_rows(task.load("train"), SAMPLE),
        "validation": some_rows(task.load("validation"), config.training.eval_rows),
    }
    told, limit = [], config.training.max_length
    for split, rows in used.items():
        try:
            needed = _needed(config.model.id, tuple(row.target for row in rows))
        except ModelError:
            return []
        count = sum(tokens > limit for tokens in needed)
        if count:
            sampled = " of a sample" if len(rows) < len(task.load(split)) else ""
            told.append(
                f"{count:,} of {len(rows):,} {split} rows{sampled} do not fit max_length = {limit} and are left out."
                + (" Losses compare only with those of runs on the same rows." if split == "validation" else "")
            )
    return told


@lru_cache(maxsize=64)
def _needed(model_id: str, targets: tuple[str, ...]) -> tuple[int, ...]:
    """Tokens that each row needs at least: its answer, the end, and one of its prompt."""
    ids = _tokenizer(model_id)(list(targets), add_special_tokens=False, verbose=False)["input_ids"]
    return tuple(len(answer) + 2 for answer in ids)


@lru_cache(maxsize=64)
def _lengths(model_id: str, rows: tuple[tuple[str, str], ...]) -> RowLengths:
    tokenizer = _tokenizer(model_id)
    prompts, answers = (tokenizer(list(texts), verbose=False)["input_ids"] for texts in zip(*rows, strict=True))
    pairs = [(len(prompt), len(answer) + 1) for prompt, answer in zip(prompts, answers, strict=True)]
    longest = sorted(pairs, key=sum)[-max(1, len(pairs) // LONG) :]
    mean, tail = ([sum(column) / len(chosen) for column in zip(*chosen, strict=True)] for chosen in (pairs, longest))
    return RowLengths(round(mean[0]), round(mean[1]), round(sum(tail)), round(tail[1]))
