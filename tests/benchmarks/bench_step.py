"""Time of an optimizer step: ours against a bare transformers.Trainer with peft, on the same batches, interleaved.

Both loops train LoRA on the embedded model, each in a thread, and take turns step by step, so that a busy machine
slows both alike.

Usage: python tests/benchmarks/bench_step.py [--steps 100] [--threads 2]
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as every process of the app has it

import torch  # noqa: E402
import transformers  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from peft_studio.config.resolved_run import resolve  # noqa: E402
from peft_studio.config.run_config import parse_config  # noqa: E402
from peft_studio.runs.events import EventWriter  # noqa: E402
from peft_studio.tasks import get_task  # noqa: E402
from peft_studio.tasks.batching import LengthGroupedBatches  # noqa: E402
from peft_studio.training.formats.formats import Continuation  # noqa: E402
from peft_studio.training.formats.rows import collate  # noqa: E402
from peft_studio.training.load import attach, load_base  # noqa: E402
from peft_studio.training.loop import TrainingLoop  # noqa: E402
from peft_studio.training.quiet import be_quiet  # noqa: E402
from peft_studio.training.step_events import StepCallback  # noqa: E402


class Turns(TrainerCallback):
    """Lets two loops in two threads step in turn, and notes how long each step took, data loading included."""

    def __init__(self, name: str, baton: "Baton") -> None:
        self.name = name
        self.seconds: list[float] = []
        self._baton = baton
        self._resumed = 0.0

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Waits for the first turn."""
        self._baton.wait(self.name)
        self._resumed = time.perf_counter()

    def on_step_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing."""

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Ends a turn and waits for the next."""
        self.seconds.append(time.perf_counter() - self._resumed)
        self._baton.pass_on(self.name)
        self._baton.wait(self.name)
        self._resumed = time.perf_counter()

    def on_train_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Leaves the machine to the other."""
        self._baton.pass_on(self.name)


class Baton:
    """Whose turn it is."""

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        self._turn = names[0]
        self._changed = threading.Condition()

    def wait(self, name: str) -> None:
        """Returns when it is this one's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == name)

    def pass_on(self, name: str) -> None:
        """Gives the turn to the other."""
        with self._changed:
            self._turn = self._names[1 - self._names.index(name)]
            self._changed.notify_all()


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


def bare(model: Any, config: Any, examples: Any, form: Any, turns: Turns) -> float:
    """Trains as a plain script does; returns the last loss."""
    training = config.training
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=training.max_steps, learning_rate=training.learning_rate,
            per_device_train_batch_size=training.batch_size, warmup_steps=0, seed=training.seed,
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = BareTrainer(model, arguments, train_dataset=examples, callbacks=[turns])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.batches = batches(config, examples)
        trainer.padding = form.padding
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses[-1]


def ours(model: Any, config: Any, examples: Any, form: Any, turns: Turns) -> float:
    """Trains as a run does, its events written to a file; returns the last loss."""
    with tempfile.TemporaryDirectory() as folder:
        writer = EventWriter(Path(folder) / "events.jsonl")
        callback = StepCallback(writer.emit, lambda: False, lambda *_: False, config.training.max_steps)
        trainer = TrainingLoop(model, resolve(config), examples, form, callback, [turns])
        trainer.train()
        turns.on_train_end()
        writer.close()
    return callback.loss


def make_model(config: Any) -> Any:
    """The model that both train, the adapter's first values included."""
    transformers.set_seed(config.training.seed)
    return attach(load_base(config.model.id)[0], resolve(config).method, config.method)


def batches(config: Any, examples: Any) -> LengthGroupedBatches:
    """The run's batches."""
    lengths = [len(example.ids) for example in examples]
    training = config.training
    return LengthGroupedBatches(lengths, training.batch_size, training.max_steps, training.seed, megabatch=1)


def main() -> None:
    """Prints medians and the median of the ratios of paired steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    be_quiet()
    config = parse_config({"method": {"name": "lora"}, "training": {"max_steps": options.steps, "warmup_steps": 0}})
    _, tokenizer = load_base(config.model.id)
    form = Continuation(tokenizer)
    examples = form.encode(get_task(config.task.id).load("train"), 256).examples
    baton = Baton(("bare", "ours"))
    turns = {name: Turns(name, baton) for name in ("bare", "ours")}
    models = {name: make_model(config) for name in turns}  # before the threads: PyTorch has one random generator
    with ThreadPoolExecutor(2) as pool:
        losses = {
            name: pool.submit(loop, models[name], config, examples, form, turns[name])
            for name, loop in (("bare", bare), ("ours", ours))
        }
    warm = slice(3, None)
    mine, other = turns["ours"].seconds[warm], turns["bare"].seconds[warm]
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    print(f"ours {statistics.median(mine) * 1000:.1f} ms, bare {statistics.median(other) * 1000:.1f} ms per step")
    print(f"ratio ours / bare: {statistics.median(ratios):.3f} (median of {len(ratios)} pairs on the same batch)")
    print(f"last loss: ours {losses['ours'].result():.5f}, bare {losses['bare'].result():.5f}")


if __name__ == "__main__":
    main()
