"""The text of ``reproduce.py``, the script in an exported adapter that repeats its run without this project's loop."""

import json
from collections.abc import Mapping
from string import Template
from typing import Any

from peft_studio.archives.reproduce_tokens import READING
from peft_studio.config.sections import TrainingConfig

_SCRIPT = Template('''"""Repeats the run $title in plain transformers and peft.

    pip install $requirements
    python reproduce.py [--base FOLDER_OR_HUB_ID] [--out FOLDER]

It reads train.jsonl and validation.jsonl beside this file: same rows, batches, schedule and seed as the run.
$base_note"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed
$tuner_import
HERE = Path(__file__).resolve().parent
BASE = $base
STEPS, WARMUP, BATCH_SIZE, SEED, MAX_LENGTH = $steps, $warmup, $batch_size, $seed, $max_length


$reading


def batches(lengths):
    """Row numbers of every step: shuffled epochs, sorted by length $megabatch batches at a time."""
    rng, order, left = random.Random(SEED), list(range(len(lengths))), []
    for done in range(0, STEPS, $megabatch):
        count = min(STEPS - done, $megabatch)
        while len(left) < count * BATCH_SIZE:
            rng.shuffle(order)
            left += order
        rows, left = left[: count * BATCH_SIZE], left[count * BATCH_SIZE :]
        rows.sort(key=lambda row: lengths[row])
        chunk = [rows[i : i + BATCH_SIZE] for i in range(0, len(rows), BATCH_SIZE)]
        rng.shuffle(chunk)
        yield from chunk


def rate_factor(step):
    """Learning rate over its peak, after so many steps."""
    if step < WARMUP:
        return (step + 1) / (WARMUP + 1)
    done = min(1.0, (step - WARMUP) / max(1, STEPS - WARMUP))
    return $falling


class RunTrainer(Trainer):
    """The stock Trainer over the run's batches."""

    def create_scheduler(self, num_training_steps, optimizer=None):
        """The library's schedule, but for a first step whose learning rate is not 0."""
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rate_factor)
        return self.lr_scheduler

    def get_train_dataloader(self):
        order = list(batches([len(ids) for ids, _ in self.train_dataset]))
        return DataLoader(self.train_dataset, batch_sampler=order, collate_fn=collate)


@torch.inference_mode()
def validation_loss(model, rows):
    """Mean loss of all target tokens, in nats."""
    model.eval()
    total = tokens = 0
    for i in range(0, len(rows), 16):
        batch = {name: value.to(model.device) for name, value in collate(rows[i : i + 16]).items()}
        count = int((batch["labels"] != -100).sum())
        total, tokens = total + float(model(**batch).loss) * count, tokens + count
    return total / tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=$base_default, help="folder or Hub id of the base model")
    parser.add_argument("--out", default="reproduced", help="where the adapter is saved")
    options = parser.parse_args()
    set_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    config = PeftConfig.from_pretrained(HERE)
    config.inference_mode = False
    config.base_model_name_or_path = None
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(options.base, dtype="float32"), config)
    model.print_trainable_parameters()
    arguments = TrainingArguments(
        output_dir=options.out,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=$learning_rate,
        weight_decay=$weight_decay,
        max_grad_norm=$max_grad_norm,
        optim="adamw_torch_fused",
        seed=SEED,
        logging_steps=max(1, STEPS // 20),
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
    )
    trainer = RunTrainer(model, arguments, train_dataset=list(read("train.jsonl", tokenizer)))
    trainer.train()
    loss = validation_loss(model, list(read("validation.jsonl", tokenizer)))
    print(json.dumps({"eval/loss": loss, "eval/perplexity": math.exp(loss), "recorded eval/loss": $recorded}))
    model.save_pretrained(options.out)


if __name__ == "__main__":
    main()
''')

_LOCAL_NOTE = """
The base model {name} is not on the Hub: pass its folder as --base.
"""
_CATALOGUE_NOTE = """
The base model {name} comes with PEFT Studio, folder peft_studio/models/{name}: pass that as --base, or have
peft_studio importable and it is found.
"""
_FIND = '''

def find_base():
    """The embedded model's folder, when PEFT Studio is importable."""
    try:
        from peft_studio.models.catalog import resolve_model
    except ImportError:
        return BASE
    return resolve_model(BASE)
'''


def reproduce_script(
    *,
    title: str,
    base: tuple[str, str],
    tuner_import: str,
    training: Mapping[str, Any],
    max_length: int,
    megabatch: int,
    versions: Mapping[str, str],
    recorded: float | None,
) -> str:
    """Writes the script.

    Args:
        title: The run's title.
        base: Name of the base model, and where it is found: ``hub``, ``catalogue`` or ``folder``.
        tuner_import: An import line that the adapter's type needs; empty for PEFT's own.
        training: ``RunConfig.training`` as plain values.
        max_length: Longest row in tokens, the method's virtual tokens already taken off.
        megabatch: Batches that are sorted by length together.
        versions: Library versions of the run.
        recorded: The run's last validation loss.
    """
    name, where = base
    notes = {"hub": "", "folder": _LOCAL_NOTE, "catalogue": _CATALOGUE_NOTE}
    needed = [f"{key}=={str(versions[key]).partition('+')[0]}" for key in _REQUIRED if key in versions]
    script = _SCRIPT.substitute(
        title=" ".join(title.replace("\\", "").replace('"', "'").split()),
        requirements=" ".join(needed or _REQUIRED),
        base_note=notes[where].format(name=name),
        tuner_import=f"\n{tuner_import}  # teaches PEFT this adapter's type\n" if tuner_import else "",
        base=json.dumps(name),
        base_default="find_base()" if where == "catalogue" else "BASE",
        steps=training["max_steps"],
        batch_size=training["batch_size"],
        seed=training["seed"],
        max_length=max_length,
        megabatch=megabatch,
        learning_rate=repr(training["learning_rate"]),
        falling=_FALLING[training["scheduler"]],
        warmup=TrainingConfig.model_validate(training).warmup_of(training["max_steps"]),
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        recorded=repr(recorded),
        reading=READING,
    )
    if where == "catalogue":
        script = script.replace("\n\nclass Seam:", f"{_FIND}\n\nclass Seam:", 1)
    return script


_FALLING = {"linear": "1 - done", "cosine": "(1 + math.cos(math.pi * done)) / 2", "constant": "1.0"}
"""What follows the warm-up, as `TrainingConfig.rate_factor` has it."""
_REQUIRED = ("torch", "transformers", "peft", "accelerate")
