"""Validation loss of every method on one task, each with its own defaults: does every registry entry learn?

    python tests/benchmarks/bench_methods.py [--model nano-lm] [--task bistro] [--steps 100] [--methods lora,ia3]

Prints a line per method: trainable parameters, size of the adapter file, validation loss before and after, and for
classification accuracy, beside that of the most frequent label, and macro-F1. With ``--out FILE`` each line is also
appended to a file, and methods that are in it already are skipped, so that a broken-off measurement can go on. The
exit status is 1 when a method does not improve.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import transformers

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError
from peft_studio.methods import METHODS
from peft_studio.runs.paths import RunPaths
from peft_studio.tasks import get_task
from peft_studio.training import trainer
from peft_studio.training.quiet import be_quiet

WORSE = " no better"


def learn(config: RunConfig, threads: int) -> list[dict[str, Any]]:
    """Runs a config and returns its events; a generation task's test rows are not answered, which takes longest."""
    events: list[dict[str, Any]] = []
    classifies = bool(get_task(config.task.id).labels)
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder) / "home" / "runs" / "run")
        paths.root.mkdir(parents=True)
        trainer.run(
            resolved=resolve(config),
            paths=paths,
            emit=lambda kind, **fields: events.append({"kind": kind, **fields}),
            should_stop=lambda: not classifies and any(event["kind"] == "saved" for event in events),
            threads=threads,
        )
    return events


def figures(events: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of every metric."""
    found: dict[str, float] = {}
    for event in events:
        if event["kind"] == "eval":
            found |= event["metrics"]
    return found


HEADER = """| method | trained | adapter | loss before | after | accuracy (most frequent) | macro-F1 | learning rate |
|---|---|---|---|---|---|---|---|"""


def line_of(name: str, options: argparse.Namespace) -> str:
    """Trains one method and puts its figures into a row of the table; one that does not improve says so."""
    training = {"max_steps": options.steps, "eval_every": options.steps, "learning_rate": options.rate}
    config = parse_config(
        {
            "model": {"id": options.model},
            "task": {"id": options.task},
            "method": {"name": name},
            "training": {key: value for key, value in training.items() if value is not None},
        }
    )
    try:
        events = learn(config, options.threads)
    except ConfigError as exc:  # BitFit without biases, a prefix where attention takes none
        return f"| {name} | {exc} |"
    found = figures(events)
    told = {event["kind"]: event for event in events}
    before, after = found["base/eval/loss"], found["eval/loss"]
    better = after < before or found.get("test/accuracy", 0) > found.get("base/test/accuracy", 100)
    scores = ["", ""]
    if "test/accuracy" in found:
        majority = found["base/test/accuracy"]
        scores = [f"{found['test/accuracy']:.1f} ({majority:.1f})", f"{found['test/macro_f1']:.1f}"]
    cells = [
        name,
        f"{told['started']['trainable_params']:,}",
        f"{told['saved']['bytes'] / 1e3:,.0f} kB",
        f"{before:.3f}",
        f"{after:.3f}",
        *scores,
        f"{config.training.learning_rate:g}",
    ]
    return f"| {' | '.join(cells)} |{'' if better else WORSE}"


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano-lm")
    parser.add_argument("--task", default="bistro")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rate", type=float, help="one learning rate for all, instead of their own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="file to append lines to; methods in it are not run again")
    options = parser.parse_args()
    be_quiet()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out and options.out.exists() else []
    print("\n".join([HEADER, *lines]), flush=True)
    done = {line.split()[1] for line in lines}
    for name in options.methods.split(","):
        if name in done:
            continue
        lines.append(line_of(name, options))
        print(lines[-1], flush=True)
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(lines[-1] + "\n")
    return int(any(line.endswith(WORSE) for line in lines))


if __name__ == "__main__":
    sys.exit(main())
