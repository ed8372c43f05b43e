"""Speed of one worker: useful tokens per second beside a plain Trainer + peft script and TRL's SFTTrainer.

Each competitor is a process of its own with the same model, rows, batch size, LoRA and number of steps, the loss on
answers only. They take turns of a few steps, so that a busy machine slows all alike; a ratio is made of neighbouring
turns, and the median of the ratios counts. The same per second of CPU time hardly depends on what else runs. Each
then tells its loss on the same validation rows, and its peak memory. Padding is no useful token. Tokenizing and
loading are not timed. Scripts have the environment as it is, runs of this project the one that its app gives them.

- trainer: what the libraries' examples write: dynamic padding (DataCollatorForSeq2Seq), random batches, everything
  else as it comes (float32, no checkpointing, grouping by length off).
- trl: SFTTrainer on prompt-completion rows, everything as it comes, which is bf16 autocast and gradient
  checkpointing.
- trl-plain: the same with those two off.
- trainer-bf16, trl-bf16: with bf16 autocast and no checkpointing.
- ours, ours-bf16: a run of this project, training.precision fp32 or bf16.

TRL is no requirement of the project: pass the Python of an environment that has it, or it is left out.

Usage: python tests/benchmarks/bench_speed.py [--model nano-lm|135m] [--steps 100] [--turn 10] [--trl-python PATH]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
COMPETITORS = ("ours", "ours-bf16", "trainer", "trainer-bf16", "trl", "trl-plain", "trl-bf16")
OURS = ("ours", "only", "without")
VALIDATION_ROWS = 200


class Turns:
    """A competitor's side: waits to be let run, and tells how long its steps took and how many tokens they read."""

    def __init__(self) -> None:
        self.tokens = 0
        self._left = 0
        self._begun = 0.0
        self._worked = 0.0
        self._before = 0

    def step_done(self) -> None:
        """To be called after every step, and once before the first."""
        self._left -= 1
        if self._left > 0:
            return
        if self._left == 0:
            synchronize()
            seconds = time.perf_counter() - self._begun
            work = time.process_time() - self._worked
            say({"seconds": seconds, "work": work, "tokens": self.tokens - self._before})
        self._left = int(input())
        self._before, self._worked = self.tokens, time.process_time()
        self._begun = time.perf_counter()


def synchronize() -> None:
    """Waits for what a GPU has been given to do."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def say(message: dict[str, Any]) -> None:
    """Tells the parent something."""
    os.write(int(os.environ["BENCH_PIPE"]), (json.dumps(message) + "\n").encode())


def competitor(name: str, options: argparse.Namespace) -> None:
    """Trains one way, in a process of its own."""
    import torch
    import transformers

    from peft_studio.training.quiet import be_quiet

    torch.set_num_threads(options.threads)
    be_quiet()
    transformers.set_seed(options.seed)
    precision = "bf16" if name.endswith("bf16") else "fp32"
    from peft_studio.training import loop
    from peft_studio.training.provenance import peak_memory_bytes

    kinds: dict[str, Callable[..., Any]] = {"trainer": plain, "trl": trl}
    train = kinds.get(name.partition("-")[0], ours)
    loop.LEVERS = levers_of(name)

    model, before = train(options, precision, name)
    peak = peak_memory_bytes()
    say({"loss": validation_loss(model, options), "peak": peak, "before": before})


def levers_of(name: str) -> Any:
    """What a run of ours does to be fast: all of it, or what "only-decoder-head", "without-head" or "only" say."""
    from dataclasses import fields

    from peft_studio.training.fast.levers import Levers

    kind, *named = name.removesuffix("-bf16").split("-")
    if kind not in ("only", "without"):
        return Levers()
    return Levers(**{field.name: (field.name in named) == (kind == "only") for field in fields(Levers)})


def validation_loss(model: Any, options: argparse.Namespace) -> float:
    """Loss per answer token on rows that no one trained on, in float32."""
    import torch

    from peft_studio.tasks import get_task
    from peft_studio.training.evaluate import measure_loss
    from peft_studio.training.formats.formats import Continuation, evaluation_batches
    from peft_studio.training.load import load_tokenizer

    tokenizer = load_tokenizer(options.model)
    form = Continuation(tokenizer)
    examples = form.encode(get_task("bistro").load("validation")[: options.validation], 256).examples
    model = model.to("cpu", torch.float32).eval()
    found = measure_loss(model, form, evaluation_batches(examples, form), lambda: False)
    assert found is not None
    return found.loss


def all_logits(form: Any) -> Callable[..., Any]:
    """The loss of a text that is continued, with logits at every position."""
    from torch.nn import functional as F

    def loss(model: Any, batch: dict[str, Any], reduction: str = "mean") -> Any:
        logits = model(input_ids=batch["input_ids"][:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction=reduction)

    return loss


def ours(options: argparse.Namespace, precision: str, name: str) -> tuple[Any, int]:
    """A run's session, its events written to a file."""
    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import parse_config
    from peft_studio.runs.events import EventWriter
    from peft_studio.runs.paths import RunPaths
    from peft_studio.training import trainer
    from peft_studio.training.provenance import peak_memory_bytes
    from peft_studio.training.step_events import StepCallback

    turns = Turns()
    settings = {"max_steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.lr}
    settings |= {"seed": options.seed, "warmup_steps": 0, "precision": precision, "eval_every": 1_000_000}
    settings |= json.loads(options.set)
    chosen = {"model": {"id": options.model}, "method": {"name": options.method}}
    config = parse_config({**chosen, "training": settings, "resources": {"device": options.device}})
    told = StepCallback.on_step_end

    def on_step_end(self: Any, *args: Any, **kwargs: Any) -> None:
        told(self, *args, **kwargs)
        turns.tokens = self.tokens
        turns.step_done()

    setattr(StepCallback, "on_step_end", on_step_end)  # noqa: B010
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs" / "one"
        root.mkdir(parents=True)
        writer = EventWriter(root / "events.jsonl")
        session = trainer._Session(resolve(config), RunPaths(root), writer.emit, lambda: False)
        setattr(session, "evaluate", lambda *_: False)  # noqa: B010
        if name.startswith("only") and "targets" not in name:
            setattr(session.form, "loss", all_logits(session.form))  # noqa: B010
        assert session.training_rows.encoded.examples
        before = peak_memory_bytes()
        turns.step_done()
        session.train()
        writer.close()
    return session.model, before


def lora_config() -> Any:
    """The LoRA that all train: the project's defaults."""
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear")


def plain_arguments(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """What a script must choose; nothing is saved or reported."""
    return {
        "output_dir": folder, "max_steps": options.steps, "per_device_train_batch_size": options.batch_size,
        "learning_rate": options.lr, "save_strategy": "no", "report_to": "none", "seed": options.seed,
        "use_cpu": options.device == "cpu", "disable_tqdm": True,
    }  # fmt: skip


def watch(trainer: Any, turns: Turns) -> None:
    """Makes a Trainer take turns and counts the tokens that its model is given."""
    from transformers import PrinterCallback, TrainerCallback

    class Watch(TrainerCallback):
        def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
            turns.step_done()

        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            turns.step_done()

    def count(_module: Any, _args: Any, kwargs: Any) -> None:
        if "attention_mask" in kwargs:
            turns.tokens += int(kwargs["attention_mask"].sum())

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch())
    trainer.model.register_forward_pre_hook(count, with_kwargs=True)


def plain(options: argparse.Namespace, precision: str, _name: str) -> tuple[Any, int]:
    """The stock Trainer on tokenized rows, padded to the longest of a batch."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    from peft_studio.models.catalog import resolve_model
    from peft_studio.tasks import get_task
    from peft_studio.training.formats.rows import encode_rows
    from peft_studio.training.load import load_tokenizer
    from peft_studio.training.provenance import peak_memory_bytes

    tokenizer = load_tokenizer(options.model)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(resolve_model(options.model)), lora_config())
    rows = [
        {
            "input_ids": example.ids,
            "attention_mask": [1] * len(example.ids),
            "labels": [-100] * example.prompt_length + example.ids[example.prompt_length :],
        }
        for example in encode_rows(get_task("bistro").load("train"), tokenizer, 256).examples
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(**plain_arguments(options, folder), bf16=precision == "bf16")
        trainer = Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorForSeq2Seq(tokenizer))
        watch(trainer, Turns())
        before = peak_memory_bytes()
        trainer.train()
    return trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False), before


def trl(options: argparse.Namespace, precision: str, name: str) -> tuple[Any, int]:
    """TRL on the rows' texts."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from peft_studio.models.catalog import resolve_model
    from peft_studio.tasks import get_task
    from peft_studio.training.load import load_tokenizer
    from peft_studio.training.provenance import peak_memory_bytes

    rows = [{"prompt": row.prompt, "completion": row.target} for row in get_task("bistro").load("train")]
    own = {} if name == "trl" else {"bf16": precision == "bf16", "gradient_checkpointing": False}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(resolve_model(options.model)),
            SFTConfig(**plain_arguments(options, folder), **own),
            train_dataset=Dataset.from_list(rows),
            processing_class=load_tokenizer(options.model),
            peft_config=lora_config(),
        )
        watch(trainer, Turns())
        before = peak_memory_bytes()
        trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False), before


class Child:
    """The parent's side of a competitor."""

    def __init__(self, name: str, python: str, threads: int, arguments: list[str]) -> None:
        self.name = name
        self.rates: list[float] = []
        self.thrift: list[float] = []  # tokens per second of CPU time
        self.end: dict[str, Any] = {}
        from peft_studio.processes.warm_client import child_environment

        read, write = os.pipe()
        own = child_environment(threads) if name.startswith(OURS) else os.environ
        environment = {**own, "BENCH_PIPE": str(write)}
        self._process = subprocess.Popen(
            [python, __file__, "--as", name, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, pass_fds=(write,),
        )  # fmt: skip
        os.close(write)
        self._answers = os.fdopen(read)

    def turn(self, steps: int) -> None:
        """Lets it run some steps."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n".encode())
        self._process.stdin.flush()
        told = self._hear()
        self.rates.append(told["tokens"] / told["seconds"])
        self.thrift.append(told["tokens"] / told["work"])
        print(
            f"{self.name}: {told['tokens']} tokens, {told['seconds']:.2f} s, CPU {told['work']:.2f} s", file=sys.stderr
        )

    def finish(self) -> None:
        """Lets it end; keeps what it says last."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"1000000\n")
        self._process.stdin.flush()
        self.end = self._hear()
        self._process.wait()

    def _hear(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early; see above.")
        return dict(json.loads(line))


def make_135m(folder: Path) -> str:
    """A randomly initialised Llama of SmolLM2-135M's shape, with the tokenizer of nano-lm; made once."""
    if not (folder / "model.safetensors").exists():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from peft_studio.training.load import load_tokenizer

        tokenizer = load_tokenizer("nano-lm")
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, initializer_range=0.041666666666666664,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def has_trl(python: str) -> bool:
    """Whether TRL can be imported there."""
    return subprocess.run([python, "-c", "import trl"], capture_output=True, check=False).returncode == 0


def with_common(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Adds what all races let one choose; returns what was chosen."""
    parser.add_argument("--model", default="nano-lm", help="nano-lm, 135m or any model id")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--turn", type=int, default=10, help="steps of a turn")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, help="as the app recommends for a model of this size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for all")
    parser.add_argument("--set", default="{}", help="training settings of ours, as JSON")
    parser.add_argument("--method", default="lora", help="of ours")
    parser.add_argument("--validation", type=int, default=VALIDATION_ROWS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "peft-studio-135m")
    options = parser.parse_args()
    if options.model == "135m":
        options.model = make_135m(options.folder)
    options.lr = options.lr or (1e-2 if options.model == "nano-lm" else 2e-4)
    return options


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", default=",".join(COMPETITORS))
    parser.add_argument("--trl-python", default=sys.executable, help="a Python that has trl")
    parser.add_argument("--as", dest="name", help=argparse.SUPPRESS)
    options = with_common(parser)
    if options.name:
        competitor(options.name, options)
        return
    names = options.names.split(",")
    if any(name.startswith("trl") for name in names) and not has_trl(options.trl_python):
        print("TRL is not installed there, so it is left out: pip install trl==1.16.0, or --trl-python PATH.")
        names = [name for name in names if not name.startswith("trl")]
    show(race(names, options), options)


def race(names: list[str], options: argparse.Namespace) -> list[Child]:
    """Lets all take turns; returns them with what came of it."""
    passed = ["model", "steps", "turn", "batch_size", "lr", "seed", "threads", "set", "method", "validation", "device"]
    given = [f"--{key.replace('_', '-')}={getattr(options, key)}" for key in passed]
    pythons = {name: options.trl_python if name.startswith("trl") else sys.executable for name in names}
    children = [Child(name, python, options.threads, given) for name, python in pythons.items()]
    for _ in range(options.steps // options.turn):
        for child in children:
            child.turn(options.turn)
    for child in children:
        child.finish()
    return children


def show(children: list[Child], options: argparse.Namespace) -> None:
    """Prints the tables."""
    print(f"{options.model}: {options.steps} steps of {options.batch_size} rows, {options.threads} threads")
    for title, of in (("second", "rates"), ("CPU second", "thrift")):
        heads = ["", f"tokens / {title}", *(f"x {child.name}" for child in children), "validation loss", "peak MB"]
        print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        for child in children:
            print("| " + " | ".join(row_of(child, children, of)) + " |")


def row_of(child: Child, children: list[Child], of: str) -> list[str]:
    """Cells of the table: the median, and the medians of the ratios to all others."""
    mine = getattr(child, of)
    others = [zip(mine, getattr(other, of), strict=True) for other in children]
    ratios = [f"{statistics.median(a / b for a, b in pairs if a and b):.2f}" for pairs in others]
    return [
        child.name, f"{statistics.median(mine):,.0f}", *ratios,
        f"{child.end['loss']:.4f}", f"{child.end['peak'] / 1e6:,.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
