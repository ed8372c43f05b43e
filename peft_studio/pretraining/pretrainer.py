"""The pre-training loop of the embedded models, and the writing of their Hugging Face folders.

A run is defined by tokens and a seed, never by time. The learning rate warms up, stays, then falls to zero (WSD), so a
checkpoint of the stable phase belongs to every longer or shorter plan: ``--resume`` with other ``--tokens`` continues
it. Matrices are updated by Muon, the rest by AdamW. Contexts are short first; in the falling
phase they are long and more documents retell a record. What is learned, and by which architecture, is the objective's
matter (``objectives.py``). ``command.py`` is the command.
"""

import hashlib
import io
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from peft_studio.errors import ConfigError, ModelError
from peft_studio.files import atomic_write
from peft_studio.pretraining import corpus, probe
from peft_studio.pretraining.objectives import OBJECTIVES
from peft_studio.pretraining.plan import PretrainingPlan
from peft_studio.pretraining.tokenizer import save_tokenizer, train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

Log = Callable[[str], None]


@dataclass
class PretrainingProgress:
    """Where a run stands, all of it restored by a checkpoint."""

    seen: int = 0
    shard: int = 0
    seconds: float = 0.0
    text_bytes: int = 0
    digest: str = ""
    curve: list[dict[str, float]] = field(default_factory=list)


def build_model(plan: PretrainingPlan) -> "PreTrainedModel":
    """Makes the model with fresh weights from the plan's seed."""
    torch.manual_seed(plan.seed)
    return OBJECTIVES[plan.model].build(plan)


def pack(
    streams: list[list[int]], length: int, start: tuple[int, ...] = (), end: tuple[int, ...] = (0,)
) -> probe.Tokens:
    """Packs documents, each between ``start`` and ``end``, into rows ``(N, length + 1)``.

    Every row begins at a document's start. A document that does not fit loses its tail, so no row begins in the
    middle of a story whose names it lacks.
    """
    rows, row = [], []
    for ids in streams:
        row += [*start, *ids, *end]
        if len(row) > length:
            rows.append(row[: length + 1])
            row = []
    return np.array(rows, dtype=np.uint16).reshape(-1, length + 1)


class Pretrainer:
    """One pre-training run with its work folder.

    Args:
        plan: What to train.
        work: Folder for the tokenizer, token shards and the checkpoint.
        log: Receives one line at a time.
        compiled: Whether to compile the training step and run it in bfloat16; needs a C++ compiler.
    """

    def __init__(self, plan: PretrainingPlan, work: Path, log: Log = print, compiled: bool = True) -> None:
        self.plan, self.work, self.log = plan, work, log
        self.objective = OBJECTIVES[plan.model]
        self.fast = compiled and shutil.which("g++") is not None
        work.mkdir(parents=True, exist_ok=True)
        self.tokenizer = self._tokenizer()
        self.model = build_model(plan)
        self.progress = PretrainingProgress()
        named = self.model.named_parameters()
        inner = [p for name, p in named if p.ndim == 2 and "embed" not in name and "shared" not in name]
        chosen = {id(p) for p in inner}
        rest = [p for p in self.model.parameters() if id(p) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(inner, lr=plan.lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=plan.lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True),
        ]
        self._loss = torch.compile(self._plain_loss) if self.fast else self._plain_loss
        self._held_out: tuple[list[str], probe.Tokens] | None = None

    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        path = self.work / "tokenizer.json"
        if not path.is_file():
            texts = self._texts(0, 2 * self.plan.shard_documents)
            train_tokenizer(texts, self.plan.vocab, self.objective.specials).save(str(path))
        return Tokenizer.from_file(str(path))

    def _texts(self, number: int, documents: int, split: corpus.Split = "train", late: bool = False) -> list[str]:
        return corpus.shard(self.plan.seed, number, documents, split, self.plan.library, late)

    def _plain_loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.fast):
            return self.objective.loss(self.model, batch)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _pack(self, streams: list[list[int]], length: int) -> probe.Tokens:
        return pack(streams, length, self.objective.start, self.objective.end)

    def _batches(self, late: bool) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
        """The batches of the next shard with their numbers of tokens; notes its text in the fingerprint."""
        length = self.plan.long if late else self.plan.short
        number = self.progress.shard
        texts = self._texts(number, self.plan.shard_documents, late=late)
        text = "\n".join(texts).encode()
        self.progress.text_bytes += len(text)
        self.progress.digest = hashlib.sha256(self.progress.digest.encode() + text).hexdigest()
        streams = self._encode(texts)
        stream = np.array([token for ids in streams for token in (*ids, *self.objective.end)], dtype=np.uint16)
        np.save(self.work / f"tokens-{number:04d}.npy", stream)
        rows = self._pack(streams, length).astype(np.int64)
        rng = np.random.default_rng((self.plan.seed, number))
        size = max(1, self.plan.batch_tokens // length)
        for start in range(0, len(rows) - size + 1, size):
            yield size * length, self.objective.prepare(rows[start : start + size], rng)

    def _step(self, tokens: int, batch: dict[str, torch.Tensor]) -> float:
        rate = self.plan.rate(self.progress.seen)
        loss = self._loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.progress.seen += tokens
        return float(loss.detach())

    def train(self, probe_every: int = 2) -> None:
        """Trains from the present state to the end of the plan, with a checkpoint after every shard.

        Args:
            probe_every: Shards between two measurements of the copy probe.
        """
        while self.progress.seen < self.plan.tokens:
            started = marked = time.monotonic()
            losses: list[float] = []
            before = self.progress.seen
            for tokens, batch in self._batches(late=before >= self.plan.decay_start):
                losses.append(self._step(tokens, batch))
                if len(losses) % 50 == 0:
                    rate = 50 * tokens / (time.monotonic() - marked)
                    self.log(
                        f"  step {len(losses)} of shard {self.progress.shard}: loss {losses[-1]:.3f}, {rate:.0f}/s"
                    )
                    marked = time.monotonic()
                if self.progress.seen >= self.plan.tokens:
                    break
            seconds = time.monotonic() - started
            self.progress.seconds += seconds
            self.progress.shard += 1
            point = {"tokens": float(self.progress.seen), "loss": float(np.mean(losses[-100:]))}
            if self.progress.shard % probe_every == 0 or self.progress.seen >= self.plan.tokens:
                point |= self.measure()
            self.progress.curve.append(point)
            speed = (self.progress.seen - before) / seconds
            figures = " ".join(f"{key} {value:.3f}" for key, value in point.items() if key != "tokens")
            million = self.progress.seen / 1e6
            self.log(f"{million:.2f} M tokens  {self.progress.seconds:.0f} s  {speed:.0f}/s  {figures}")
            self.save_checkpoint()

    def held_out(self) -> tuple[list[str], probe.Tokens]:
        """Held-out documents, and mixed rows ``(N, long + 1)`` for the loss."""
        if self._held_out is None:
            documents = corpus.shard(
                self.plan.seed, 1, self.plan.held_out_documents // 8, "validation", use_library=False
            )
            texts = self._texts(0, self.plan.held_out_documents, "validation")
            self._held_out = documents, self._pack(self._encode(texts), self.plan.long)
        return self._held_out

    def measure(self) -> dict[str, float]:
        """Held-out loss and copy probe of the present weights, in float32."""
        documents, rows = self.held_out()
        self.model.eval()
        if self.plan.model == "nano-lm":
            figures = {
                "held_out": probe.held_out_loss(self.model, rows[:200]),
                "restate": probe.restate_probe(self.model, self.tokenizer),
                **probe.mention_probe(self.model, self.tokenizer, documents),
            }
        else:
            figures = probe.rebuild_figures(self.model, self.objective, rows[:200])
        self.model.train()
        return figures

    def save_checkpoint(self) -> None:
        """Replaces the checkpoint in the work folder."""
        state: dict[str, Any] = {
            "plan": asdict(self.plan),
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        content = io.BytesIO()
        torch.save(state, content)
        atomic_write(self.work / "checkpoint.pt", content.getvalue())
        stable = self.progress.seen < self.plan.decay_start
        if stable:
            shutil.copyfile(self.work / "checkpoint.pt", self.work / "stable.pt")

    def resume(self) -> None:
        """Continues the checkpoint in the work folder, or the last one of the stable phase.

        Raises:
            ModelError: There is no checkpoint.
            ConfigError: It belongs to a plan that differs in more than its length, or has gone past this plan's.
        """
        for name in ("checkpoint.pt", "stable.pt"):
            if not (self.work / name).is_file():
                raise ModelError(f"There is no checkpoint to resume: {self.work / name}.")
            state = torch.load(self.work / name, weights_only=True)
            same = PretrainingPlan(**state["plan"]) == self.plan
            if same or state["progress"]["seen"] <= self.plan.decay_start:
                break
        if replace(PretrainingPlan(**state["plan"]), tokens=self.plan.tokens) != self.plan:
            raise ConfigError(f"The checkpoint was made with another plan: {state['plan']}.")
        if not same and state["progress"]["seen"] > self.plan.decay_start:
            raise ConfigError(
                f"The checkpoint has seen {state['progress']['seen']} tokens, but a plan of {self.plan.tokens} tokens "
                f"lets the learning rate fall from {self.plan.decay_start} on.",
                "tokens",
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = PretrainingProgress(**state["progress"])


def export_model(model: "PreTrainedModel", tokenizer: "Tokenizer", folder: Path) -> None:
    """Writes a Hugging Face folder whose weights take two bytes each on disk and load as float32.

    Args:
        model: Float32 model; left unchanged.
        tokenizer: Its tokenizer.
        folder: Made if missing.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    weights, stored = {}, set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in stored:  # tied weights are stored once
            weights[name] = value.detach().half().contiguous()
            stored.add(value.data_ptr())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)
