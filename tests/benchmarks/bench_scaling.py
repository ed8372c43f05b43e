"""How costs grow: a training step with model size, row length, batch and rank; the app with runs, viewers and points.

``python -m tests.benchmarks.bench_scaling [--only model|length|batch|rank|runs|viewers|points ...]`` prints a Markdown
table for each.

Training: each row is a process that trains as a worker does, on random tokens, a quarter of each row being the answer.
It takes turns with a reference (nano-lm, 16 rows of 96 tokens, LoRA of rank 8), so that a busy machine slows both
alike; the ratios are medians over pairs of turns. Ratios in CPU time hardly depend on what else runs. Peak memory is
the whole process's, libraries included.

App: CPU time is the web process's own, without the warm server and the engine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_speed import Turns, make_135m
from tests.benchmarks.scaling_app import bench_points, bench_runs, bench_viewers, table

REFERENCE = {"model": "nano-lm", "length": 96, "batch": 16, "rank": 8}
TURNS = 5
TURN_SECONDS = 2.0  # of the steps of a turn, at least one step
SHAPES = {  # hidden size, layers, heads, vocabulary; the feed-forward part is three times as wide
    "1M": (128, 4, 4, 2048),
    "4M": (192, 6, 6, 4096),
    "13M": (320, 8, 5, 8192),
    "40M": (512, 10, 8, 16384),
}
VALUES: dict[str, Sequence[Any]] = {
    "length": (64, 128, 256, 512, 1024, 2048),
    "batch": (1, 4, 16, 64),
    "rank": (1, 8, 32, 128),
}


def make_llama(folder: Path, name: str) -> str:
    """A randomly initialised Llama with the tokenizer of nano-lm; made once."""
    if name == "135M":
        return make_135m(folder / name)
    if not (folder / name / "model.safetensors").exists():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from peft_studio.training.load import load_tokenizer
        from peft_studio.training.quiet import be_quiet

        be_quiet()
        tokenizer = load_tokenizer("nano-lm")
        torch.manual_seed(0)
        hidden, layers, heads, vocabulary = SHAPES[name]
        config = LlamaConfig(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048,
            tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return str(folder / name)


def train(model: str, length: int, batch: int, rank: int) -> None:
    """A worker's training, in a process of its own, in turns until it is ended."""
    import torch

    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import parse_config
    from peft_studio.runs.events import EventWriter
    from peft_studio.runs.paths import RunPaths
    from peft_studio.training import trainer
    from peft_studio.training.formats.rows import EncodedExample, EncodedRows
    from peft_studio.training.quiet import be_quiet
    from peft_studio.training.step_events import StepCallback

    torch.set_num_threads(2)
    be_quiet()
    turns, told = Turns(), StepCallback.on_step_end

    def on_step_end(self: Any, *args: Any, **kwargs: Any) -> None:
        told(self, *args, **kwargs)
        turns.tokens = self.tokens
        turns.step_done()

    setattr(StepCallback, "on_step_end", on_step_end)  # noqa: B010
    training = {"max_steps": 100_000, "batch_size": batch, "max_length": length, "eval_every": 1_000_000}
    method = {"name": "lora", "rank": rank}
    config = parse_config({"model": {"id": model}, "method": method, "training": training | {"learning_rate": 1e-4}})
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder) / "runs" / "one")
        paths.root.mkdir(parents=True)
        session = trainer._Session(resolve(config), paths, EventWriter(paths.events).emit, lambda: False)
        setattr(session, "evaluate", lambda *_: False)  # noqa: B010
        ids = torch.randint(5, 2000, (8 * batch, length), generator=torch.Generator().manual_seed(0)).tolist()
        examples = EncodedRows([EncodedExample(row, length - length // 4) for row in ids], 0, 0)
        session.__dict__["training_rows"] = trainer._Split([], examples)
        turns.step_done()
        session.train()


class Side:
    """The parent's end of such a process."""

    def __init__(self, setting: dict[str, Any]) -> None:
        self.steps = 1  # of a turn
        read, write = os.pipe()
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "BENCH_PIPE": str(write)}  # as the app has it
        command = [sys.executable, "-m", "tests.benchmarks.bench_scaling", "--train", json.dumps(setting)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, pass_fds=(write,), text=True
        )
        os.close(write)
        self._answers = os.fdopen(read)

    def turn(self) -> dict[str, float]:
        """Lets it make some steps; wall and CPU seconds of a step, and tokens."""
        assert self._process.stdin is not None
        print(self.steps, file=self._process.stdin, flush=True)
        line = self._answers.readline()
        if not line:
            raise SystemExit("A process ended early; see above.")
        told = json.loads(line)
        return {name: told[name] / self.steps for name in ("seconds", "work", "tokens")}

    def warm_up(self) -> None:
        """Makes the first steps, and finds out how many fit a turn."""
        self.turn()
        self.steps = max(1, min(50, round(TURN_SECONDS / self.turn()["seconds"])))

    def peak_megabytes(self) -> float:
        """The most memory that the process has held."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def bench_training(wanted: Sequence[str], folder: Path) -> None:
    """The tables of training: in each, the reference's setting with other values in one place."""
    reference = Side(REFERENCE)
    try:
        reference.warm_up()
        for name in wanted:
            values, setting = VALUES.get(name, ()), REFERENCE
            if name == "model":
                values = ("nano-lm", *(make_llama(folder, shape) for shape in (*SHAPES, "135M")))
            elif name == "length":  # further than nano-lm reads
                setting = {**REFERENCE, "model": make_llama(folder, "4M"), "batch": 4}
            heads = (name, "ms per step", "times the reference", "in CPU time", "tokens per second", "peak MB")
            rest = ", ".join(f"{key} {Path(str(value)).name}" for key, value in setting.items() if key != name)
            rows = (compare(name, value, setting, reference) for value in values)
            table(f"{name.capitalize()} ({rest})", heads, rows)
    finally:
        reference.end()


def compare(name: str, value: Any, setting: dict[str, Any], reference: Side) -> Sequence[str]:
    """A row of the table."""
    side = Side({**setting, name: value})
    try:
        side.warm_up()
        pairs = [(side.turn(), reference.turn()) for _ in range(TURNS)]
        wall, work = (statistics.median(a[key] / b[key] for a, b in pairs) for key in ("seconds", "work"))
        step = statistics.median(a["seconds"] for a, _ in pairs)
        shown = Path(value).name if isinstance(value, str) else f"{value:,}"
        rate, peak = pairs[0][0]["tokens"] / step, side.peak_megabytes()
        return shown, f"{step * 1000:,.1f}", f"{wall:.2f}", f"{work:.2f}", f"{rate:,.0f}", f"{peak:,.0f}"
    finally:
        side.end()


def main() -> None:
    """Prints the tables."""
    folder = Path(tempfile.gettempdir()) / "peft-studio-llamas"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    training = ("model", "length", "batch", "rank")
    app = {"runs": bench_runs, "viewers": bench_viewers, "points": bench_points}
    parser.add_argument("--only", nargs="+", choices=[*training, *app], default=[*training, *app])
    parser.add_argument("--folder", type=Path, default=folder, help="where random models are kept")
    parser.add_argument("--train", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(**options.train)
        return
    if wanted := [name for name in training if name in options.only]:
        bench_training(wanted, options.folder)
    for name in options.only:
        if name in app:
            app[name]()


if __name__ == "__main__":
    main()
