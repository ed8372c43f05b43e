"""One prompt, several models, one stream: each column is a thread that writes its own text.

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
from typing import TYPE_CHECKING, Any

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

from peft_studio.errors import ConfigError
from peft_studio.sampling import Sampling
from peft_studio.training.data import encode_prompts
from peft_studio.training.decoding import DECODING, completion_text, is_encoder_decoder, pad_id, room_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INTERVAL = 0.08  # seconds between two states of a stream
_locks: "weakref.WeakKeyDictionary[Any, threading.Lock]" = weakref.WeakKeyDictionary()
_INCOMPLETE = "\ufffd"  # what a character decodes to while some of its bytes are still to come


def _exclusive(model: Any) -> contextlib.AbstractContextManager[Any]:
    # PEFT swaps methods of the model for the time of a generation, so an adapter serves one request at a time.
    return _locks.setdefault(model, threading.Lock()) if hasattr(model, "peft_config") else contextlib.nullcontext()


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
        self._generator = torch.Generator(device).manual_seed(sampling.seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Takes token ids ``(1, T)`` and logits ``(1, V)``; returns ``(1, V)``."""
        for step in self._steps:
            scores = step(input_ids, scores)
        if not self._random:
            return scores
        uniform = torch.rand(scores.shape, generator=self._generator, device=scores.device, dtype=torch.float64)
        return scores.double() - torch.log(-torch.log(uniform.clamp_min(1e-300)))


class _Stop(StoppingCriteria):
    """Ends generation when asked; before each token, lets more urgent work go first."""

    def __init__(self, stop: threading.Event, pause: Callable[[], None]) -> None:
        self._stop = stop
        self._pause = pause

    def __call__(self, input_ids: Tensor, _scores: Tensor, **_kwargs: Any) -> Tensor:
        self._pause()
        return torch.full((input_ids.shape[0],), self._stop.is_set(), dtype=torch.bool, device=input_ids.device)


class _Tokens(BaseStreamer):
    """Collects new tokens as they come; the first call hands over the prompt."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        """Takes the next token."""
        if self._prompt_seen:
            self.ids.extend(value.reshape(-1).tolist())
        self._prompt_seen = True

    def end(self) -> None:
        """Nothing is left to do."""


@dataclass(frozen=True)
class Request:
    """What all columns continue.

    Attributes:
        ids: The prompt's tokens.
        sampling: How to choose tokens.
    """

    ids: list[int]
    sampling: Sampling


def make_request(
    model: Any, tokenizer: "PreTrainedTokenizerBase", prompt: str, sampling: Sampling, name: str = "base"
) -> Request:
    """Checks a prompt against a model's context.

    Raises:
        ConfigError: The prompt is empty, or too long for the model together with the wanted tokens.
    """
    if not prompt.strip():
        raise ConfigError("The prompt is empty. Write some text for the models to continue.", "prompt")
    apart = is_encoder_decoder(model)
    ids = tokenizer(prompt, verbose=False)["input_ids"] if apart else encode_prompts([prompt], tokenizer)[0]
    room = room_for(model, 0 if apart else len(ids))
    if apart and len(ids) > room:
        raise ConfigError(f"The prompt has {len(ids)} tokens, but {name} reads {room} at most. Shorten it.", "prompt")
    if sampling.max_new_tokens > room:
        fits = f"At most {room} new tokens fit." if room > 0 else "Shorten the prompt."
        raise ConfigError(
            f"The prompt has {len(ids)} tokens, and {sampling.max_new_tokens} more are wanted, but {name} "
            + (f"writes {room} at most. {fits}" if apart else f"reads {room + len(ids)} in all. {fits}"),
            "sampling.max_new_tokens",
        )
    return Request(ids, sampling)


class Column:
    """One model writing one answer in a thread of its own."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: "PreTrainedTokenizerBase",
        request: Request,
        stop: threading.Event,
        pause: Callable[[], None],
    ) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._model = model
        self._tokenizer = tokenizer
        self._request = request
        self._stop = _Stop(stop, pause)
        self._tokens = _Tokens()
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._write, name=f"column-{name}", daemon=True)
        self._begun = time.perf_counter()
        self._thread.start()

    def join(self) -> None:
        """Waits until the column has ended."""
        self._thread.join()

    def state(self) -> dict[str, Any]:
        """``name``, ``text`` so far, ``done``, ``tokens`` and ``seconds``."""
        done = not self._thread.is_alive()
        ids = list(self._tokens.ids)
        eos = self._tokenizer.eos_token_id
        kept = ids[: ids.index(eos)] if eos in ids else ids
        before = [] if is_encoder_decoder(self._model) else self._request.ids
        text = completion_text(self._tokenizer, before, kept)
        return {
            "name": self.name,
            "text": text.rstrip(_INCOMPLETE),
            "done": done,
            "tokens": len(ids),
            "seconds": round(self._seconds if done else time.perf_counter() - self._begun, 3),
        }

    def _write(self) -> None:
        try:
            self._generate()
        except BaseException as exc:  # handed to the thread that reads the stream
            self.error = exc
        self._seconds = time.perf_counter() - self._begun

    def _generate(self) -> None:
        device = self._model.device
        ids = torch.tensor([self._request.ids], device=device)
        sampling = self._request.sampling
        with _exclusive(self._model), torch.inference_mode():
            self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=self._tokenizer.eos_token_id,
                pad_token_id=pad_id(self._tokenizer),
                logits_processor=LogitsProcessorList([SeededSampler(sampling, device)]),
                stopping_criteria=StoppingCriteriaList([self._stop]),
                streamer=self._tokens,
                **DECODING,
            )


def stream_columns(
    models: Sequence[tuple[str, Any]],
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    sampling: Sampling,
    pause: Callable[[], None] = lambda: None,
) -> Iterator[list[dict[str, Any]]]:
    """Streams the answers of several models to one prompt.

    Closing the iterator stops all columns at their next token.

    Args:
        models: Name and model of each column; the models share no modules (they may share parameters).
        tokenizer: The base model's.
        prompt: The text to continue.
        sampling: The same for all columns, the seed included.
        pause: Called by each column between tokens; may block while something more urgent runs.

    Yields:
        The state of all columns (see ``Column.state``), about every 80 ms and once when all are done.

    Raises:
        ConfigError: The prompt is empty or too long.
    """
    requests = [make_request(model, tokenizer, prompt, sampling, name) for name, model in models]
    stop = threading.Event()
    columns = [
        Column(name, model, tokenizer, request, stop, pause)
        for (name, model), request in zip(models, requests, strict=True)
    ]
    try:
        while True:
            time.sleep(INTERVAL)
            states = [column.state() for column in columns]
            for column in columns:
                if column.error is not None:
                    raise column.error
            yield states
            if all(state["done"] for state in states):
                return
    finally:
        stop.set()
        for column in columns:
            column.join()
