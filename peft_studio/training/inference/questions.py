"""The engine's answers about how adapters answer: looks up runs and models.

{"op": "tokens", "runs": [...], "prompt": text, "text": text}      -> see token_table.token_table
{"op": "strength", "run": id, "strength": number, "prompt": text}  -> see Questions.strength
{"op": "check_merge", "run": id}                                   -> see merge_check.check_merge
{"op": "mix", "runs": [...], "weights": [...], "way": name, "density": share, "folder": path} -> see mix.mix_adapters
{"op": "step", "run": id, "step": number}                          -> see training.one_step
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import DEFAULT_MODEL
from peft_studio.errors import ConfigError
from peft_studio.runs.store import RunStore
from peft_studio.tasks.base import Row, some_rows
from peft_studio.training.formats.chats import asked
from peft_studio.training.formats.formats import Format, format_for
from peft_studio.training.formats.greedy import room_for
from peft_studio.training.formats.rows import Batch
from peft_studio.training.formats.target_logits import context_of, row_limit, virtual_tokens
from peft_studio.training.inference.generate import Column, exclusive, prompt_tokens
from peft_studio.training.inference.merge_check import check_merge
from peft_studio.training.inference.mix import MOST_WEIGHT, Ingredient, mix_adapters
from peft_studio.training.inference.model_pool import BaseVariant, LRUCache, ModelPool, columns_of, common_variant
from peft_studio.training.inference.strength import MOST, Dial, what_is_scaled
from peft_studio.training.inference.token_table import token_table
from peft_studio.training.load import layout_of
from peft_studio.training.one_step import one_step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Request = Mapping[str, Any]
Operation = Callable[[Request], Iterator[dict[str, Any]]]
LOSS_ROWS = 16
"""Test rows that the loss at a strength is measured on."""
ANSWER_TOKENS = 48
"""The longest answer at a strength, in tokens."""


@dataclass(frozen=True)
class Chosen:
    """The base model and the adapters of some runs, which go together.

    Attributes:
        columns: The base model first.
        tokenizer: The base model's.
        variant: In which form the base model is loaded.
        model: Its id.
        chats: Whether the runs were trained on conversations.
    """

    columns: list[Column]
    tokenizer: "PreTrainedTokenizerBase"
    variant: BaseVariant
    model: str
    chats: bool

    @property
    def form(self) -> Format:
        """How rows meet these models."""
        return format_for(layout_of(self.columns[0][1]), self.tokenizer, self.variant.labels)


def chosen_columns(store: RunStore, pool: ModelPool, request: Request) -> Chosen:
    """Looks up the runs (``runs``) and the base model (``model``) of a request.

    Raises:
        ConfigError: They do not go together.
        JobError: A run has saved no adapter.
    """
    runs = [str(run) for run in request.get("runs") or []]
    resolved = {run: resolve(store.config(run)) for run in runs}
    bases = {run: each.config.model.id for run, each in resolved.items()}
    variant = common_variant(list(resolved.values()))
    model = str(request.get("model") or next(iter(bases.values()), DEFAULT_MODEL))
    adapters = [(run, bases[run], store.paths(run).adapter) for run in runs]
    columns = columns_of(pool, model, adapters, variant)
    chats = any(each.task.chats for each in resolved.values())
    return Chosen(columns, pool.base(model, variant)[1], variant, model, chats)


class Questions:
    """Answers about adapters. Thread-safe.

    Args:
        store: The runs.
        pool: Their models.
        cache: A folder for what is only there for a moment.
    """

    def __init__(self, store: RunStore, pool: ModelPool, cache: Path) -> None:
        self._store = store
        self._pool = pool
        self._cache = cache
        self._batches: LRUCache[tuple[str, int], list[Batch]] = LRUCache(16)
        self._heavy = threading.Lock()  # a merge holds several copies of a model

    @property
    def operations(self) -> dict[str, Operation]:
        """What the engine can be asked, by name."""
        return {
            "tokens": self.tokens,
            "strength": self.strength,
            "check_merge": self.check_merge,
            "mix": self.mix,
            "step": self.step,
        }

    def tokens(self, request: Request) -> Iterator[dict[str, Any]]:
        """A text, token by token, as the base model and adapters see it.

        Raises:
            ConfigError: The text or the prompt is empty, or the models choose labels.
        """
        chosen = chosen_columns(self._store, self._pool, request)
        if chosen.variant.labels:
            raise ConfigError("These runs choose among labels; only a text has tokens to look at.", "runs")
        prompt, text = (str(request.get(name) or "") for name in ("prompt", "text"))
        if not prompt.strip():
            raise ConfigError("The prompt is empty.", "prompt")
        yield token_table(chosen.columns, chosen.form, _row(asked(prompt, chosen.chats), text))

    def strength(self, request: Request) -> Iterator[dict[str, Any]]:
        """What an adapter says, and its loss on the first rows of its test set, at a ``strength`` and at both ends.

        Answers ``at``, ``base`` and ``adapter``, each with ``text`` and ``loss`` (nats per target token, of ``rows``
        rows), and ``scaled``: in words, what the strength is of. The ends are told where ``ends`` is true.

        Raises:
            ConfigError: The strength is not allowed.
        """
        strength = _number(request.get("strength"), "strength", 0, MOST)
        run_id = str(request.get("run"))
        chosen = chosen_columns(self._store, self._pool, {"runs": [run_id]})
        run, model, base = resolve(self._store.config(run_id)), chosen.columns[1][1], chosen.columns[0][1]
        prompt = asked(str(request.get("prompt") or ""), chosen.chats)
        limit = min(ANSWER_TOKENS, max(1, room_for(model, 2) // 2))
        if not chosen.variant.labels:
            prompt_tokens(model, chosen.tokenizer, prompt, limit, "the adapter")
        batches = self._rows(run_id, run, chosen)
        wanted = {"at": strength, **({"base": 0.0, "adapter": 1.0} if request.get("ends") else {})}
        with exclusive([model]):
            dials = {name: Dial(model, base, value) for name, value in wanted.items()}
            found = {
                name: {"text": dial.answer(chosen.form, prompt, limit), "loss": _loss(dial, chosen.form, batches)}
                for name, dial in dials.items()
            }
            scaled = what_is_scaled(run.method, model)
        yield {**found, "strength": strength, "scaled": scaled, "rows": LOSS_ROWS}

    def check_merge(self, request: Request) -> Iterator[dict[str, Any]]:
        """What merging an adapter into its base would change: nothing but speed and size, or the reason why not."""
        run_id = str(request.get("run"))
        chosen = chosen_columns(self._store, self._pool, {"runs": [run_id]})
        run, adapter = resolve(self._store.config(run_id)), self._store.paths(run_id).adapter
        with self._heavy, exclusive([chosen.columns[1][1]]):
            yield check_merge(run, adapter, chosen.columns[1][1], chosen.columns[0][1], self._cache)

    def mix(self, request: Request) -> Iterator[dict[str, Any]]:
        """Writes a mix of adapters into a folder.

        Raises:
            ConfigError: The runs do not go together, or a weight is missing.
        """
        chosen = chosen_columns(self._store, self._pool, request)
        runs, weights = [name for name, _ in chosen.columns[1:]], request.get("weights")
        if not isinstance(weights, list) or len(weights) != len(runs):
            raise ConfigError(f"There are {len(runs)} runs, and as many weights are needed.", "weights")
        parts = [
            Ingredient(
                run,
                resolve(self._store.config(run)).method,
                self._store.paths(run).adapter,
                _number(weight, "weights", -MOST_WEIGHT, MOST_WEIGHT),
            )
            for run, weight in zip(runs, weights, strict=True)
        ]
        density = _number(request.get("density", 1), "density", 0, 1)
        base, _ = self._pool.base(chosen.model, chosen.variant)
        with self._heavy:
            yield mix_adapters(base, parts, str(request.get("way")), density, Path(str(request.get("folder"))))

    def step(self, request: Request) -> Iterator[dict[str, Any]]:
        """One of the first steps of a run, taken anew, under the microscope."""
        run, number = resolve(self._store.config(str(request.get("run")))), request.get("step", 1)
        if type(number) is not int:
            raise ConfigError(f"step is {number!r}; a whole number is needed.", "step")
        with self._heavy:
            yield one_step(run, number)

    def _rows(self, run_id: str, run: ResolvedRun, chosen: Chosen) -> list[Batch]:
        model = chosen.columns[1][1]
        limit = row_limit(run.config.training.max_length, context_of(model.config), virtual_tokens(model))

        def make() -> list[Batch]:
            rows = some_rows(run.task.load("test"), LOSS_ROWS)
            return [{name: part.to(model.device) for name, part in chosen.form.inputs(
                chosen.form.encode(rows, limit).examples).items()}]  # fmt: skip

        return self._batches.get((run_id, limit), make)


def _row(question: str | Row, text: str) -> Row:
    """A question with a text as its answer."""
    if isinstance(question, str):
        return Row(question, text)
    assert question.chat is not None  # only chats are more than a text
    chat = replace(question.chat, turns=(*question.chat.turns[:-1], ("assistant", text)))
    return replace(question, target=text, chat=chat)


def _loss(dial: Dial, form: Format, batches: list[Batch]) -> float | None:
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            logits, targets = dial.logits(form, batch)  # (N, V), (N,)
            total += float(F.cross_entropy(logits.float(), targets, reduction="sum"))
            count += len(targets)
    loss = total / count
    return loss if math.isfinite(loss) else None


def _number(value: object, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}; allowed are numbers from {low} to {high}.", name)
    return float(value)
