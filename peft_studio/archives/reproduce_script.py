"""The text of ``reproduce.py``, the script in an exported adapter that repeats its run without this project's loop."""

import hashlib
import json
from collections.abc import Mapping
from string import Template
from typing import Any

from peft_studio.archives.reproduce_tokens import READING
from peft_studio.config.sections import TrainingConfig
from peft_studio.models.opening import Opening

_SCRIPT = Template(r'''"""Repeats the run $title in plain transformers and peft.

    pip install $requirements
    python reproduce.py [--base FOLDER_OR_HUB_ID] [--rows FILE ...] [--out FOLDER]

Same rows, batches, schedule and seed as the run. $rows_note
$base_note"""

import argparse
import csv
import hashlib
import io
import json
import math
import random
import re
from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed
$imports
HERE = Path(__file__).resolve().parent
BASE = $base
STEPS, WARMUP, BATCH_SIZE, SEED, MAX_LENGTH = $steps, $warmup, $batch_size, $seed, $max_length


FILES, COLUMNS = $files, $columns  # the run's own data files with their encodings; what their columns mean


def rows_of(split, files):
    """Rows of a split: from SPLIT.jsonl beside this file, or out of the run's own data files."""
    packed = HERE / f"{split}.jsonl"
    if packed.is_file() and not files:
        return [json.loads(line) for line in packed.read_text(encoding="utf-8").split("\n") if line]
    places = [next((p for p in (HERE / n, Path.cwd() / n, HERE.parent / n) if p.is_file()), None) for n in FILES]
    found = [Path(file) for file in files] or [place for place in places if place is not None]
    marks = HERE / "row_hashes.json"
    if not found or not marks.is_file():
        told = " and ".join(FILES) or "them"
        raise SystemExit(f"The rows are not here. Give {told} with --rows, or export the run with its rows.")
    wanted = json.loads(marks.read_text(encoding="utf-8"))[split]
    coded = zip(found, [*FILES.values(), *["utf-8"] * len(found)])
    rows = (row for path, encoding in coded for record in records(path, encoding) for row in candidates(record))
    known = {mark(row): row for row in rows}
    missing = sum(name not in known for name in wanted)
    if missing:
        names = " and ".join(path.name for path in found)
        raise SystemExit(f"{names}: {missing} of the run's {len(wanted)} {split} rows are not found there.")
    return [known[name] for name in wanted]


def mark(row):
    """What a row is known by: a hash, so that this zip can name rows without holding them."""
    return hashlib.sha256(f"{row['prompt']}\0{row['target']}".encode()).hexdigest()[:$mark_digits]


def records(path, encoding):
    """The records of a CSV, TSV, JSON, JSON Lines or Parquet file."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8-sig" if encoding == "utf-8" else encoding)
    if kind == ".json":
        whole = json.loads(text)
        parts = [part for part in whole.values() if isinstance(part, list)] if isinstance(whole, dict) else [whole]
        return max(parts, key=len)
    if kind in (".jsonl", ".ndjson"):
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    head = text.split("\n", 1)[0]
    comma = "\t" if kind == ".tsv" else max(",;\t|", key=head.count)
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=comma))


def candidates(record):
    """The ways in which a record may have become a row."""
    def text(cell):
        return ", ".join(map(str, cell)) if isinstance(cell, list) else "" if cell is None else str(cell)

    def filled(match):
        return match[0][0] if match[1] is None else text(values[match[1].strip()])

    values = {str(name).strip(): cell for name, cell in record.items() if name is not None}
    if not {COLUMNS["input"], COLUMNS["target"]} <= values.keys():
        return
    template, target = COLUMNS["template"], values[COLUMNS["target"]]
    slot = r"\{\{|\}\}|\{([^{}]*)\}"
    prompt = re.sub(slot, filled, template) if template else text(values[COLUMNS["input"]]) + "\n"
    first = next((part for part in target if str(part).strip()), "") if isinstance(target, list) else target
    for given in dict.fromkeys((text(first), text(first).rstrip(), text(first).strip())):
        yield from ({"prompt": prompt, "target": space + given} for space in ("", " "))


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
    parser.add_argument("--base", default=BASE, help="folder or Hub id of the base model")
    parser.add_argument("--rows", nargs="+", default=[], help="the run's own data files, where this zip has no rows")
    parser.add_argument("--out", default="reproduced", help="where the adapter is saved")
    options = parser.parse_args()
    set_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    config = PeftConfig.from_pretrained(HERE)
    config.inference_mode = False
    config.base_model_name_or_path = None
    if getattr(config, "tokenizer_name_or_path", None):
        config.tokenizer_name_or_path = options.base
    base = AutoModelForCausalLM.from_pretrained(options.base, dtype="float32")
$base_steps    model = get_peft_model(base, config)
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
    trainer = RunTrainer(model, arguments, train_dataset=list(read("train", options.rows, tokenizer)))
    trainer.train()
    loss = validation_loss(model, list(read("validation", options.rows, tokenizer)))
    print(json.dumps({"eval/loss": loss, "eval/perplexity": math.exp(loss), "recorded eval/loss": $recorded}))
    model.save_pretrained(options.out)


if __name__ == "__main__":
    main()
''')

_BASE_NOTES = {
    "hub": "",
    "folder": "\nThe base model {name} is not on the Hub: pass its folder as --base.\n",
    "embedded": "\nThe base model {name} is in the folder {name} beside this file.\n",
}
_MARK_DIGITS = 16


def mark_of(prompt: str, target: str) -> str:
    """What a row is known by in an export that does not hold it; the script has the same function."""
    return hashlib.sha256(f"{prompt}\0{target}".encode()).hexdigest()[:_MARK_DIGITS]


def reproduce_script(
    *,
    title: str,
    base: tuple[str, str],
    opening: Opening,
    training: Mapping[str, Any],
    megabatch: int,
    versions: Mapping[str, str],
    recorded: float | None,
    source: Mapping[str, Any],
) -> str:
    """Writes the script.

    Args:
        title: The run's title.
        base: Name of the base model, and where it is found: ``hub``, ``embedded`` or ``folder``.
        opening: What the adapter needs beside PEFT.
        training: ``RunConfig.training`` as plain values, the method's virtual tokens already taken off ``max_length``.
        megabatch: Batches that the run sorted by length together.
        versions: Library versions of the run.
        recorded: The run's last validation loss.
        source: The run's own data: ``files`` with their encodings by name, ``input`` and ``target`` columns, and the
            ``template``; empty for a built-in task.
    """
    name, where = base
    needed = [f"{key}=={str(versions[key]).partition('+')[0]}" for key in _REQUIRED if key in versions]
    files = source.get("files", {})
    kept = f", or the run's own data ({', '.join(files)})" if files else ""
    return _SCRIPT.substitute(
        title=" ".join(title.replace("\\", "").replace('"', "'").split()),
        requirements=" ".join(needed or _REQUIRED),
        rows_note=f"It reads train.jsonl and validation.jsonl beside this file{kept}.",
        base_note=_BASE_NOTES[where].format(name=name),
        imports="".join(f"\n{line}" for line in opening.imports) + ("\n" if opening.imports else ""),
        base_steps="".join(f"    {line}\n" for line in opening.base_steps),
        base=f"str(HERE / {name!r})" if where == "embedded" else json.dumps(name),
        files=repr(dict(files)),
        columns=repr({name: source.get(name, "") for name in ("input", "target", "template")}),
        mark_digits=_MARK_DIGITS,
        steps=training["max_steps"],
        batch_size=training["batch_size"],
        seed=training["seed"],
        max_length=training["max_length"],
        megabatch=megabatch,
        learning_rate=repr(training["learning_rate"]),
        falling=_FALLING[training["scheduler"]],
        warmup=TrainingConfig.model_validate(training).warmup_of(training["max_steps"]),
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        recorded=repr(recorded),
        reading=READING,
    )


_FALLING = {"linear": "1 - done", "cosine": "(1 + math.cos(math.pi * done)) / 2", "constant": "1.0"}
"""What follows the warm-up, as `TrainingConfig.rate_factor` has it."""
_REQUIRED = ("torch", "transformers", "peft", "accelerate")
