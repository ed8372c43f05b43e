"""Useful tokens per CPU second of a run beside the stock Trainer, for families of models and kinds of methods.

Each family is a small random model, made on the spot, with the tokenizer of the embedded model of its kind and that
model's task. Both sides train the very same model with the very same adapter: the stock Trainer on random batches
padded to their longest row, ours as a run does. They take turns of a few steps in one process; the first step of a
turn is not counted. Padding is no useful token.

Usage: python tests/benchmarks/bench_families.py [--families llama,t5] [--methods lora,full] [--precision fp32]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from peft_studio.processes.warm_client import child_environment  # noqa: E402

THREADS = int(os.environ.get("BENCH_THREADS", "1"))
os.environ |= child_environment(THREADS)  # as every run has it; read by libraries when they load

import torch  # noqa: E402
import transformers  # noqa: E402

from peft_studio.config.resolved_run import resolve  # noqa: E402
from peft_studio.config.run_config import parse_config  # noqa: E402
from peft_studio.errors import StudioError  # noqa: E402
from peft_studio.models.catalog import resolve_model  # noqa: E402
from peft_studio.training.formats.formats import Continuation, Format, format_for  # noqa: E402
from peft_studio.training.formats.rows import Batch, EncodedExample, pad_rows  # noqa: E402
from peft_studio.training.load import attach, layout_of, load_base  # noqa: E402
from peft_studio.training.loop import TrainingLoop  # noqa: E402
from peft_studio.training.quiet import be_quiet  # noqa: E402
from peft_studio.training.step_events import StepCallback  # noqa: E402

NANO = {"decoder": "nano-lm", "encoder": "nano-encoder", "encoder-decoder": "nano-seq2seq"}
TASKS = {"decoder": "bistro", "encoder": "reviews", "encoder-decoder": "headlines"}
METHODS = ("lora", "ia3", "bitfit", "prompt", "prefix", "pfeiffer", "top_layers", "full")
_SAME = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 6}
_BART = {"d_model": 192, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 6} | {
    "decoder_attention_heads": 6, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("decoder", _SAME | {"num_key_value_heads": 6}),
    "qwen2": ("decoder", _SAME | {"num_key_value_heads": 2}),
    "qwen3": ("decoder", _SAME | {"num_key_value_heads": 2, "head_dim": 32}),
    "gpt2": ("decoder", {"n_embd": 192, "n_inner": 512, "n_layer": 6, "n_head": 6}),
    "gpt_neox": ("decoder", _SAME),
    "opt": ("decoder", {"hidden_size": 192, "ffn_dim": 512, "num_hidden_layers": 6, "num_attention_heads": 6}
            | {"word_embed_proj_dim": 192}),
    "bert": ("encoder", _SAME),
    "modernbert": ("encoder", _SAME | {"global_attn_every_n_layers": 1}),
    "t5": ("encoder-decoder", {"d_model": 192, "d_ff": 512, "d_kv": 32, "num_layers": 4, "num_heads": 6}),
    "bart": ("encoder-decoder", _BART),
}  # fmt: skip
NANOS = {"nano-lm": "decoder", "nano-encoder": "encoder", "nano-seq2seq": "encoder-decoder"}


def make_family(name: str, folder: Path) -> str:
    """A random model of a family in a folder of its own; the id of an embedded one is itself."""
    if name in NANOS:
        return name
    kind, shape = FAMILIES[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve_model(NANO[kind]))
    marks = {mark: getattr(tokenizer, mark) for mark in ("pad_token_id", "bos_token_id", "eos_token_id")}
    starts = {"decoder_start_token_id": tokenizer.pad_token_id} if kind == "encoder-decoder" else {}
    known = {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "n_positions": 512}
    config = transformers.AutoConfig.for_model(name, **known, **marks, **starts, **shape)
    for share in [key for key in config.to_dict() if "drop" in key and isinstance(getattr(config, key, None), float)]:
        setattr(config, share, 0.0)
    torch.manual_seed(0)
    loader = transformers.AutoModelForSeq2SeqLM if kind == "encoder-decoder" else (
        transformers.AutoModelForMaskedLM if kind == "encoder" else transformers.AutoModelForCausalLM
    )  # fmt: skip
    loader.from_config(config).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return str(folder / name)


@dataclass
class Measured:
    """Tokens and CPU seconds of the counted steps of a turn."""

    tokens: int = 0
    seconds: float = 0.0
    _begun: float = 0.0
    _steps: int = 0

    def step_done(self, tokens: int) -> None:
        """To be called at the end of every step, with the tokens it has read."""
        now = time.process_time()
        if self._steps:
            self.tokens, self.seconds = self.tokens + tokens, self.seconds + now - self._begun
        self._steps, self._begun = self._steps + 1, now

    @property
    def rate(self) -> float:
        """Tokens per CPU second."""
        return self.tokens / self.seconds


class Pair:
    """One model with one method, trained by either side."""

    def __init__(self, model_id: str, kind: str, method: str, options: argparse.Namespace) -> None:
        settings = {"max_steps": 50, "batch_size": options.batch_size, "warmup_steps": 0, "learning_rate": 1e-4}
        settings |= {"precision": options.precision}
        config = {"model": {"id": model_id}, "task": {"id": TASKS[kind]}, "method": {"name": method}}
        self.run = resolve(parse_config({**config, "training": settings, "resources": {"device": "cpu"}}))
        base, tokenizer = load_base(model_id, labels=self.run.task.labels)
        self.form: Format = format_for(layout_of(base), tokenizer, self.run.task.labels)
        self.examples = self.form.encode(self.run.task.load("train"), 256).examples
        self.model = attach(base, self.run.method, self.run.config.method)
        self.bf16 = options.precision == "bf16"

    def ours(self, steps: int, seed: int) -> Measured:
        """A turn of our loop."""
        found, seen = Measured(), 0

        def emit(kind: str, **event: Any) -> None:
            nonlocal seen
            if kind == "note":
                print(event["message"], file=sys.stderr)
            elif kind == "step":
                found.step_done(event["tokens"] - seen)
                seen = event["tokens"]

        callback = StepCallback(emit, lambda: callback.step >= steps, lambda *_: False, 10**6)
        training = self.run.config.training.model_copy(update={"seed": seed})
        run = resolve(self.run.config.model_copy(update={"training": training}))
        TrainingLoop(self.model, run, self.examples, self.form, callback).train()
        return found

    def trainers(self, steps: int, seed: int) -> Measured:
        """A turn of the stock Trainer."""
        found, read = Measured(), 0

        def collated(examples: list[EncodedExample]) -> Batch:
            nonlocal read
            batch = self.form.collate(examples)
            read = batch.pop("tokens")
            if isinstance(self.form, Continuation):
                batch["attention_mask"] = pad_rows([example.ids for example in examples], 0)[1]  # (B, T)
            return batch

        class Watch(transformers.TrainerCallback):
            def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
                found.step_done(read)

        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                output_dir=folder, max_steps=steps, per_device_train_batch_size=len_of(self), learning_rate=1e-4,
                save_strategy="no", report_to="none", seed=seed, use_cpu=True, disable_tqdm=True, bf16=self.bf16,
                remove_unused_columns=False, logging_strategy="no",
            )  # fmt: skip
            trainer = transformers.Trainer(
                self.model, arguments, train_dataset=self.examples, data_collator=collated, callbacks=[Watch()]
            )
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
        return found


def len_of(pair: Pair) -> int:
    """Rows of a batch."""
    return pair.run.config.training.batch_size


def ratio(pair: Pair, options: argparse.Namespace) -> tuple[float, float, float]:
    """Median ratio of ours to the Trainer's tokens per CPU second over all turns, and the median rates of both."""
    rates = [(pair.ours(options.steps, turn).rate, pair.trainers(options.steps, turn).rate)
             for turn in range(options.turns)]  # fmt: skip
    mine, other = zip(*rates, strict=True)
    return statistics.median(a / b for a, b in rates), statistics.median(mine), statistics.median(other)


@contextmanager
def models(names: list[str]) -> Iterator[dict[str, str]]:
    """Ids of the models of these families."""
    with tempfile.TemporaryDirectory() as folder:
        yield {name: make_family(name, Path(folder)) for name in names}


def main() -> None:
    """Prints a table: families in rows, methods in columns, the ratio of ours to the Trainer's in each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES), help="or nano-lm, nano-encoder, nano-seq2seq")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, default=6, help="of a turn; the first does not count")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    be_quiet()
    methods = options.methods.split(",")
    print("| family | " + " | ".join(methods) + " | median |\n|" + "---|" * (len(methods) + 2))
    with models(options.families.split(",")) as ids:
        for family, model_id in ids.items():
            kind, found = NANOS.get(family) or FAMILIES[family][0], []
            for method in methods:
                try:
                    found.append(ratio(Pair(model_id, kind, method, options), options))
                except StudioError as error:  # what is not offered for this family
                    print(f"{family} {method}: {error}", file=sys.stderr)
                    found.append((float("nan"),) * 3)
                print(f"{family} {method}: {found[-1]}", file=sys.stderr, flush=True)
            ratios = [each[0] for each in found]
            middle = statistics.median(value for value in ratios if value == value)
            print(f"| {family} | " + " | ".join(f"{value:.2f}" for value in (*ratios, middle)) + " |", flush=True)


if __name__ == "__main__":
    main()
