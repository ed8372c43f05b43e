"""One prompt, several models, one stream: each column writes its own text, together where adapters can share a batch.

Sampling is exact for a seed and safe with many threads: instead of drawing from PyTorch's one global generator, each
column adds Gumbel noise from its own to the filtered logits and takes the largest, which draws from the same
distribution (https://arxiv.org/abs/1611.01144, section 2). Engine and CLI use it.
"""

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from peft_studio.config.sampling import Sampling
from peft_studio.errors import ConfigError
from peft_studio.tasks.base import Row
from peft_studio.training import Model
from peft_studio.training.formats.ends import end_ids
from peft_studio.training.formats.greedy import DECODING, is_encoder_decoder, pad_id, room_for
from peft_studio.training.formats.rows import encode_prompts, text_of
from peft_studio.training.formats.seam import completion_text, seam_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Column: TypeAlias = tuple[str, Model]
"""A column's name and what answers in it."""
INTERVAL = 0.08  # seconds between two states of a stream
_locks: "weakref.WeakKeyDictionary[Model, threading.Lock]" = weakref.WeakKeyDictionary()
_INCOMPLETE = "\ufffd"  # what a character decodes to while some of its bytes are still to come


def exclusive(models: Sequence[Model]) -> contextlib.ExitStack:
    """Keeps models to one request, as long as the context lasts."""
    # PEFT swaps methods of the model for the time of a generation, so an adapter serves one request at a time.
    stack = contextlib.ExitStack()
    for model in sorted(models, key=id):  # always in the same order, or two requests could wait for each other
        if hasattr(model, "peft_config"):
            stack.enter_context(_locks.setdefault(model, threading.Lock()))
    return stack


class SeededSampler(LogitsProcessor):
    """Turns logits into noisy ones whose largest is a sample; with temperature 0, into the likeliest token's."""

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        steps: list[LogitsProcessor] = []
        if sampling.repetition_penalty != 1:
            steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        self._random = sampling.temperature > 0
        if self._random:
            steps.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                steps.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                steps.append(TopPLogitsWarper(sampling.top_p))
        self._steps = steps
        # Apple's GPUs have no float64: there the noise is made and added on the CPU.
        self._place = torch.device("cpu") if device.type == "mps" else device
        self._generator = torch.Generator(self._place).manual_seed(sampling.seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Takes token ids ``(B, T)`` and logits ``(B, V)``; returns ``(B, V)``, with the same noise in every row."""
        for step in self._steps:
            scores = step(input_ids, scores)  # (B, V)
        if not self._random:
            return scores
        # (1, V): one draw for all rows, so that equal columns say the same. In float64, because float32's steps of
        # 2^-24 would end the noise's tail at 16.6.
        uniform = torch.rand(scores[:1].shape, generator=self._generator, device=self._place, dtype=torch.float64)
        noisy = scores.to(self._place).double() - torch.log(-torch.log(uniform.clamp_min(1e-300)))
        return noisy if self._place == scores.device else noisy.float().to(scores.device)


class _StopWhenAsked(StoppingCriteria):
    """Ends generation when asked; before each token, lets more urgent work go first."""

    def __init__(self, stop: threading.Event, pause: Callable[[], None]) -> None:
        self._stop = stop
        self._pause = pause

    def __call__(self, input_ids: Tensor, _scores: Tensor, **_kwargs: object) -> Tensor:
        self._pause()
        stopped = self._stop.is_set()
        return torch.full((input_ids.shape[0],), stopped, dtype=torch.bool, device=input_ids.device)  # (B,)


class _TokenStreamer(BaseStreamer):
    """Collects new tokens of each row as they come; the first call hands over the prompt."""

    def __init__(self, rows: int, ends: Sequence[int]) -> None:
        self.ids: list[list[int]] = [[] for _ in range(rows)]
        self.ended: list[float | None] = [None] * rows
        self._ends = frozenset(ends)
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        """Takes the next token of each row; a row that has ended gets padding, which is not kept."""
        if self._prompt_seen:
            for row, token in enumerate(value.reshape(-1).tolist()):  # (B,)
                if self.ended[row] is None:
                    self.ids[row].append(token)
                    if token in self._ends:
                        self.ended[row] = time.perf_counter()
        self._prompt_seen = True

    def end(self) -> None:
        """Nothing is left to do."""


def prompt_tokens(
    model: Model, tokenizer: "PreTrainedTokenizerBase", prompt: str | Row, max_new_tokens: int, name: str
) -> list[int]:
    """Token ids of a prompt, or of what a row asks for, checked against a model's context.

    Raises:
        ConfigError: The prompt is empty, or too long for the model together with the wanted tokens.
    """
    if not text_of(prompt).strip():
        raise ConfigError("The prompt is empty. Write some text for the models to continue.", "prompt")
    apart = is_encoder_decoder(model)
    whole = seam_of(tokenizer).whole
    ids = whole([text_of(prompt)])[0] if apart else encode_prompts([prompt], tokenizer)[0]
    room = room_for(model, 0 if apart else len(ids))
    if apart and len(ids) > room:
        raise ConfigError(f"The prompt has {len(ids)} tokens, but {name} reads {room} at most. Shorten it.", "prompt")
    if max_new_tokens > room:
        fits = f"At most {room} new tokens fit." if room > 0 else "Shorten the prompt."
        raise ConfigError(
            f"The prompt has {len(ids)} tokens, and {max_new_tokens} more are wanted, but {name} "
            + (f"writes {room} at most. {fits}" if apart else f"reads {room + len(ids)} in all. {fits}"),
            "sampling.max_new_tokens",
        )
    return ids


@dataclass(frozen=True)
class Group:
    """Columns that are written by one thread.

    Attributes:
        names: Of the columns.
        models: What the columns show: a single model, or those that ``model`` stands for.
        model: Answers one row for each column.
    """

    names: tuple[str, ...]
    models: tuple[Model, ...]
    model: Model


class _Writer:
    """A thread that writes the columns of a group."""

    def __init__(
        self,
        group: Group,
        tokenizer: "PreTrainedTokenizerBase",
        prompt: list[int],
        sampling: Sampling,
        stop: StoppingCriteria,
    ) -> None:
        self.error: BaseException | None = None
        self._group = group
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._sampling = sampling
        self._stop = stop
        self._ends = end_ids(group.model, tokenizer)
        self._tokens = _TokenStreamer(len(group.names), self._ends)
        self.thread = threading.Thread(target=self._write, name=f"column-{'-'.join(group.names)}", daemon=True)
        self._begun = time.perf_counter()
        self._ended = 0.0
        self.thread.start()

    def states(self) -> Iterator[dict[str, Any]]:
        """Of each column: ``name``, ``text`` so far, ``done``, ``tokens`` and ``seconds``."""
        over = not self.thread.is_alive()
        before = [] if is_encoder_decoder(self._group.model) else self._prompt
        for row, name in enumerate(self._group.names):
            ids, ended = list(self._tokens.ids[row]), self._tokens.ended[row]
            kept = ids[:-1] if ids and ids[-1] in self._ends else ids
            ended = ended if ended is not None else self._ended if over else None
            yield {
                "name": name,
                "text": completion_text(self._tokenizer, before, kept).rstrip(_INCOMPLETE),
                "done": ended is not None,
                "tokens": len(ids),
                "seconds": round((ended or time.perf_counter()) - self._begun, 3),
            }

    def _write(self) -> None:
        try:
            self._generate()
        except BaseException as exc:  # handed to the thread that reads the stream
            self.error = exc
        self._ended = time.perf_counter()

    def _generate(self) -> None:
        model = self._group.model
        ids = torch.tensor([self._prompt] * len(self._group.names), device=model.device)  # (B, T)
        with exclusive(self._group.models), torch.inference_mode():
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._sampling.max_new_tokens,
                eos_token_id=self._ends or None,
                pad_token_id=pad_id(self._tokenizer),
                logits_processor=LogitsProcessorList([SeededSampler(self._sampling, model.device)]),
                stopping_criteria=StoppingCriteriaList([self._stop]),
                streamer=self._tokens,
                **DECODING,
            )


def stream_columns(
    models: Sequence[Column],
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str | Row,
    sampling: Sampling,
    pause: Callable[[], None] = lambda: None,
    groups: Sequence[Group] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Streams the answers of several models to one prompt.

    Closing the iterator stops all columns at their next token.

    Args:
        models: Name and model of each column; the models share no modules (they may share parameters).
        tokenizer: The base model's.
        prompt: The text to continue, or a row whose chat is to be gone on with.
        sampling: The same for all columns, the seed included.
        pause: Called by each group between tokens; may block while something more urgent runs.
        groups: Which columns are written together; each alone when not given.

    Yields:
        The state of all columns (see ``_Writer.states``), about every 80 ms and once when all are done.

    Raises:
        ConfigError: The prompt is empty or too long.
    """
    limit = sampling.max_new_tokens
    prompts = {name: prompt_tokens(model, tokenizer, prompt, limit, name) for name, model in models}
    groups = [Group((name,), (model,), model) for name, model in models] if groups is None else groups
    stop = threading.Event()
    asked = _StopWhenAsked(stop, pause)
    writers = [_Writer(group, tokenizer, prompts[group.names[0]], sampling, asked) for group in groups]
    try:
        while True:
            time.sleep(INTERVAL)
            found = {state["name"]: state for writer in writers for state in writer.states()}
            states = [found[name] for name, _ in models]
            for writer in writers:
                if writer.error is not None:
                    raise writer.error
            yield states
            if all(state["done"] for state in states):
                return
    finally:
        stop.set()
        for writer in writers:
            writer.thread.join()
