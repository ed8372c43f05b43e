"""Time of an optimizer step: ours against a bare transformers.Trainer with peft, on the same batches, interleaved.

Both loops train LoRA on the embedded model; the order of the two alternates, so that a busy machine slows both alike.

Usage: python tests/benchmarks/bench_step.py [--steps 40] [--rounds 4] [--threads 2]
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as every process of the app has it

import torch  # noqa: E402
import transformers  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from peft_studio.batching import LengthGroupedBatches  # noqa: E402
from peft_studio.config import parse_config  # noqa: E402
from peft_studio.tasks import get_task  # noqa: E402
from peft_studio.training.callbacks import StepCallback  # noqa: E402
from peft_studio.training.data import collate, encode_rows  # noqa: E402
from peft_studio.training.load import attach, load_base  # noqa: E402
from peft_studio.training.loop import StudioTrainer  # noqa: E402


class Clock(TrainerCallback):
    """Notes when each step of the bare loop ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Called by the Trainer."""
        self.ends.append(time.perf_counter())


class BareTrainer(Trainer):
    """What a plain script has: the stock Trainer, given the same batches."""

    batches: Any
    padding: int

    def get_train_dataloader(self) -> DataLoader:
        """The run's batches, with an attention mask as usual."""

        def plain(examples: Any) -> dict[str, torch.Tensor]:
            batch = collate(examples, self.padding)
            lengths = torch.tensor([len(example.ids) for example in examples])
            mask = (torch.arange(batch["input_ids"].shape[1])[None] < lengths[:, None]).long()
            return {"input_ids": batch["input_ids"], "attention_mask": mask, "labels": batch["labels"]}

        return self.accelerator.prepare(
            DataLoader(self.train_dataset, batch_sampler=list(self.batches), collate_fn=plain)
        )


def bare(config: Any, examples: Any, padding: int) -> tuple[list[float], float]:
    """Seconds of each step and the last loss of a plain script."""
    training = config.training
    transformers.set_seed(training.seed)
    model = attach(load_base(config.model.id)[0], config.method)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=training.max_steps, learning_rate=training.learning_rate,
            per_device_train_batch_size=training.batch_size, warmup_steps=training.warmup_steps, seed=training.seed,
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = BareTrainer(model, arguments, train_dataset=examples, callbacks=[clock])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.batches = batches(config, examples)
        trainer.padding = padding
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return seconds(clock.ends), losses[-1]


def ours(config: Any, examples: Any, padding: int) -> tuple[list[float], float]:
    """Seconds of each step and the last loss of a run's loop, its events included."""
    transformers.set_seed(config.training.seed)
    model = attach(load_base(config.model.id)[0], config.method)
    events: list[dict[str, Any]] = []
    ends: list[float] = []

    def emit(_kind: str, **fields: Any) -> None:
        ends.append(time.perf_counter())
        events.append(fields)

    callback = StepCallback(emit, lambda: False, lambda *_: None, config.training.max_steps)
    with tempfile.TemporaryDirectory() as folder:
        StudioTrainer(model, config.training, examples, padding, folder, callback).train()
    return seconds(ends), events[-1]["loss"]


def batches(config: Any, examples: Any) -> LengthGroupedBatches:
    """The run's batches."""
    lengths = [len(example.ids) for example in examples]
    return LengthGroupedBatches(lengths, config.training.batch_size, config.training.max_steps, config.training.seed)


def seconds(ends: list[float]) -> list[float]:
    """Durations between consecutive ends of steps."""
    return [after - before for before, after in itertools.pairwise(ends)]


def main() -> None:
    """Prints medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = parse_config({"method": {"name": "lora"}, "training": {"max_steps": options.steps}})
    _, tokenizer = load_base(config.model.id)
    examples = encode_rows(get_task(config.task.id).load("train"), tokenizer, 256).examples
    times: dict[str, list[list[float]]] = {"ours": [], "bare": []}
    losses: dict[str, float] = {}
    for number in range(options.rounds):
        for name in ("ours", "bare") if number % 2 else ("bare", "ours"):
            steps, losses[name] = {"ours": ours, "bare": bare}[name](config, examples, tokenizer.pad_token_id)
            times[name].append(steps)
            print(f"round {number + 1} {name}: median {statistics.median(steps) * 1000:.1f} ms", flush=True)
    medians = {name: statistics.median(list(itertools.chain(*rounds))) for name, rounds in times.items()}
    pairs = zip(times["ours"], times["bare"], strict=True)
    ratios = [statistics.median(mine) / statistics.median(other) for mine, other in pairs]
    print(f"ours {medians['ours'] * 1000:.1f} ms, bare {medians['bare'] * 1000:.1f} ms per step")
    print(f"ratio ours / bare: {statistics.median(ratios):.3f} (rounds: {', '.join(f'{r:.3f}' for r in ratios)})")
    print(f"last loss: ours {losses['ours']:.5f}, bare {losses['bare']:.5f}")


if __name__ == "__main__":
    main()
