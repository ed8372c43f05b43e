"""The audit: this project's figures and exports beside scripts and command lines that know nothing of it.

    python tests/audit/independent.py [--home FOLDER] [--only methods|metrics|exports]

Fifteen methods train a few steps on ``nano-lm`` and are exported; ``plain.py``, in a process that cannot import the
project, trains each again from the exported rows and settings with transformers and PEFT, and opens each adapter by
the lines of its card. Metrics are compared with sacrebleu's and rouge_score's command lines and with scikit-learn.
Prints a table in Markdown; exits with 1 where something differs. Takes some minutes on two cores, needs no network.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: on a busy machine, waiting threads take its time

METHODS = (
    "lora", "ia3", "vera", "loha", "lokr", "hra", "miss", "road", "delora", "prompt",
    "houlsby", "full", "bitfit", "ln_tuning", "top_layers",
)  # fmt: skip
OWN = ("houlsby", "full", "bitfit", "ln_tuning", "top_layers")
"""Methods that PEFT does not have: elsewhere they need this project's one import."""
ROWS, STEPS = 12, 8
TRAINING = {
    "max_steps": STEPS, "batch_size": ROWS, "eval_every": STEPS, "eval_rows": ROWS, "warmup_steps": 0,
    "precision": "fp32", "seed": 3,
}  # fmt: skip
LOSS = 1e-2  # relative, of losses: sums in another order, and what training makes of it
SCORE = 1e-6  # of scores from 0 to 100
TEXTS = {
    "english": ("13a", ["the cat sat on the mat today", "a dog ran"], ["the cat sat on a mat", "the dog ran"]),
    "chinese": (
        "zh",
        ["今天天气很好我们去公园", "他喜欢喝茶和看书"],
        ["今天天气不错我们去公园", "他喜欢喝咖啡和看书"],
    ),
    "thai": ("char", ["วันนี้อากาศดีมากครับ", "เขาชอบดื่มชา"], ["วันนี้อากาศไม่ดีครับ", "เขาชอบดื่มกาแฟ"]),
}
"""Right answers and half right ones by language, with the tokenizer that sacrebleu's documentation has for it."""


@dataclass(frozen=True)
class Line:
    """One comparison."""

    what: str
    ours: str
    theirs: str
    equal: bool


def main() -> int:
    """Runs the audit; 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="where runs and exports are kept, and used again if they are there")
    parser.add_argument("--only", choices=("methods", "metrics", "exports"), help="a part of it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audit-") as name:
        lines = list(audit((options.home or Path(name)).resolve(), options.only))
    print("| what | here | independent | equal |\n| --- | --- | --- | --- |")
    for line in lines:
        print(f"| {line.what} | {line.ours} | {line.theirs} | {'yes' if line.equal else '**no**'} |")
    wrong = [line.what for line in lines if not line.equal]
    print(f"\n{len(lines)} comparisons, {len(wrong)} differ{': ' + ', '.join(wrong) if wrong else ''}.")
    return int(bool(wrong))


def audit(home: Path, only: str | None) -> Iterator[Line]:
    """All comparisons, or those of one part."""
    if only in (None, "metrics"):
        with tempfile.TemporaryDirectory(prefix="audit-texts-") as name:
            yield from compare_texts(Path(name))
        yield compare_labels()
    if only == "metrics":
        return
    figures = train_all(home)
    exports = {name: home / "exports" / name for name in figures}
    if only in (None, "methods"):
        for found in plain("train", [exports[name] for name in METHODS]):
            yield from compare_method(found["folder"], figures[found["folder"]], found)
    if only in (None, "exports"):
        others = [folder for name, folder in exports.items() if name not in OWN]
        for found in (*plain("open", others), *plain("open", [exports[name] for name in OWN], project=True)):
            yield compare_answers(found)


def train_all(home: Path) -> dict[str, dict[str, float]]:
    """Trains and exports every method, in this process; returns what the runs recorded."""
    import torch

    from peft_studio.tasks.bistro import BISTRO
    from peft_studio.tasks.reviews import REVIEWS
    from peft_studio.training.quiet import be_quiet

    torch.set_num_threads(1)  # the same on a busy machine
    be_quiet()
    home.mkdir(parents=True, exist_ok=True)
    kept = home / "figures.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    texts = {"kind": "generation", **write_rows(home / "texts", BISTRO)}
    figures = {name: train_one(home, name, "nano-lm", {"name": name}, texts) for name in METHODS}
    labels = {"kind": "classification", **write_rows(home / "labels", REVIEWS)}
    figures["classifier"] = train_one(home, "classifier", "nano-encoder", {"name": "lora"}, labels)
    kept.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def write_rows(folder: Path, task: Any) -> dict[str, str]:
    """Writes a few rows of a built-in task as somebody's own files; returns what names them in a config."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation", "test"):
        rows = task.load(split)[: 4 if split == "test" else ROWS]
        lines = [json.dumps({"prompt": row.prompt.rstrip("\n"), "completion": row.target}) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {f"{split}_file": str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    return {**files, "input_column": "prompt", "target_column": "completion"}


def train_one(home: Path, name: str, model: str, method: dict[str, str], task: dict[str, str]) -> dict[str, float]:
    """Trains one run with the project's own loop and unpacks its export."""
    from peft_studio.archives.adapter_archive import export_zip
    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import parse_config
    from peft_studio.runs.events import EventWriter
    from peft_studio.runs.store import RunStore
    from peft_studio.tasks.batching import LengthGroupedBatches
    from peft_studio.training import loop
    from peft_studio.training.trainer import run

    config = parse_config(
        {"model": {"id": model}, "task": {"id": "custom", **task}, "method": method, "training": TRAINING}
    )
    paths = RunStore(home / "runs").create(config)
    writer = EventWriter(paths.events)
    batches: list[list[int]] = []

    class Noted(LengthGroupedBatches):
        """Takes down the rows of every batch: which data comes when is the one thing that both share."""

        def __iter__(self) -> Iterator[list[int]]:
            for rows in super().__iter__():
                batches.append(list(rows))
                yield rows

    loop.LengthGroupedBatches = Noted
    run(resolved=resolve(config), paths=paths, emit=writer.emit, should_stop=lambda: "", threads=1)
    writer.close()
    export_zip(paths, home / f"{name}.zip", rows=True)
    with zipfile.ZipFile(home / f"{name}.zip") as archive:
        archive.extractall(home / "exports" / name)
    (home / "exports" / name / "batches.json").write_text(json.dumps(batches), encoding="utf-8")
    events = [json.loads(line) for line in paths.events.read_text(encoding="utf-8").splitlines()]
    steps = {event["step"]: event["loss"] for event in events if event["kind"] == "step"}
    losses = [event["metrics"]["eval/loss"] for event in events if "eval/loss" in event.get("metrics", {})]
    trainable = next(event["trainable_params"] for event in events if event["kind"] == "started")
    print(f"trained {name}", file=sys.stderr)
    return {"trainable": trainable, "first": steps[1], "loss": losses[-1]}


def plain(work: str, folders: Sequence[Path], project: bool = False) -> list[dict[str, Any]]:
    """What ``plain.py`` finds, in an empty folder and without the project unless it is asked for."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | quiet
    if project:
        env["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="audit-empty-") as empty:
        script = Path(empty, "plain.py")
        script.write_bytes((Path(__file__).parent / "plain.py").read_bytes())
        command = [sys.executable, str(script), work, *map(str, folders)]
        done = subprocess.run(command, cwd=empty, env=env, stdout=subprocess.PIPE, text=True, check=True)
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"folder"')]
    return found


def compare_method(name: str, ours: dict[str, float], theirs: dict[str, Any]) -> Iterator[Line]:
    """Count, first loss and validation loss of a method."""
    if "error" in theirs:
        yield Line(f"{name}: trained again", "ran", theirs["error"], False)
        return
    count = f"{ours['trainable']:,}"
    yield Line(f"{name}: trainable parameters", count, f"{theirs['trainable']:,}", count == f"{theirs['trainable']:,}")
    for key, words in (("first", "first loss"), ("loss", f"validation loss after {STEPS} steps")):
        near = abs(ours[key] - theirs[key]) <= LOSS * abs(theirs[key])
        yield Line(f"{name}: {words}", f"{ours[key]:.6f}", f"{theirs[key]:.6f}", near)


def compare_answers(found: dict[str, Any]) -> Line:
    """Whether an adapter that was opened elsewhere answers the test rows as the run did."""
    what = f"{found['folder']}: answers of the export"
    if "error" in found:
        return Line(what, "answered", found["error"], False)
    pairs = found["answers"]
    # Each stops at the longest answer that it allows, so one may go on where the other was cut.
    same = sum(
        bool(told) and (told.startswith(answer) or answer.startswith(told)) for answer, told in map(_bare, pairs)
    )
    return Line(what, f"{len(pairs)} rows", f"{same} the same", same == len(pairs))


def _bare(pair: Sequence[str]) -> tuple[str, str]:
    """Answers without a character that was cut in its middle."""
    told, answer = (text.rstrip("\ufffd") for text in pair)
    return answer, told


def compare_texts(folder: Path) -> Iterator[Line]:
    """BLEU, chrF and ROUGE of half right answers beside the libraries' command lines."""
    from peft_studio.tasks.base import Row
    from peft_studio.tasks.metrics import score_texts

    for language, (tokenizer, right, said) in TEXTS.items():
        ours = score_texts([Row("", text, (text,)) for text in right], said)
        (folder / "right.txt").write_text("\n".join(right) + "\n", encoding="utf-8")
        (folder / "said.txt").write_text("\n".join(said) + "\n", encoding="utf-8")
        for metric, theirs in sacrebleu(folder, tokenizer).items():
            what = f"{language}: {metric}" + (f" ({tokenizer})" if metric == "bleu" else "")
            yield Line(what, f"{ours[metric]:.4f}", f"{theirs:.4f}", abs(ours[metric] - theirs) <= SCORE)
        if language == "english":
            for metric, theirs in rouge(folder).items():
                yield Line(
                    f"{language}: {metric}", f"{ours[metric]:.4f}", f"{theirs:.4f}", abs(ours[metric] - theirs) < 1e-4
                )


def sacrebleu(folder: Path, tokenizer: str) -> dict[str, float]:
    """What ``sacrebleu`` prints."""
    scores = {}
    for metric, more in (("bleu", ["--tokenize", tokenizer]), ("chrf", [])):
        command = [sys.executable, "-m", "sacrebleu", "right.txt", "-i", "said.txt", "-m", metric, "-b", "-w", "10"]
        done = subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True, check=True)
        scores[metric] = float(done.stdout)
    return scores


def rouge(folder: Path) -> dict[str, float]:
    """What ``rouge_score.rouge`` writes: mean F-measures, as percentages."""
    types = ("rouge1", "rouge2", "rougeL")
    command = [
        sys.executable, "-m", "rouge_score.rouge", "--target_filepattern=right.txt",
        "--prediction_filepattern=said.txt", "--output_filename=rouge.csv", f"--rouge_types={','.join(types)}",
        "--use_stemmer=false", "--aggregate=false",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    with (folder / "rouge.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: 100 * sum(float(row[f"{name}-F"]) for row in rows) / len(rows) for name in types}


def compare_labels() -> Line:
    """Accuracy and macro-F1 of labels beside scikit-learn's."""
    from sklearn.metrics import accuracy_score, f1_score

    from peft_studio.tasks.base import Row
    from peft_studio.tasks.metrics import score_labels

    labels = ("bad", "good", "mixed")
    right, said = [labels[number % 3] for number in range(20)], [labels[number % 7 % 3] for number in range(20)]
    ours = score_labels([Row("", label, (label,)) for label in right], said, labels)
    theirs = {
        "accuracy": accuracy_score(right, said),
        "macro_f1": f1_score(right, said, average="macro", labels=labels),
    }
    shown = [", ".join(f"{name} {value:.4f}" for name, value in found.items()) for found in (
        {name: ours[name] for name in theirs}, {name: 100 * value for name, value in theirs.items()},
    )]  # fmt: skip
    return Line("labels: scikit-learn", *shown, all(abs(ours[name] - 100 * theirs[name]) <= SCORE for name in theirs))


if __name__ == "__main__":
    sys.exit(main())
