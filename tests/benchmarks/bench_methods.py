"""Validation loss of every method on one task, each with its own defaults: does every registry entry learn?

    python tests/benchmarks/bench_methods.py [--model nano-lm] [--task bistro] [--steps 100] [--methods lora,ia3]

Prints a line per method: trainable parameters, validation loss before and after, and for classification the share of
right answers beside that of the most frequent label. The exit status is 1 when a method does not improve.
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

from peft_studio.config import RunConfig, parse_config
from peft_studio.jobs.store import RunPaths
from peft_studio.methods import METHODS
from peft_studio.tasks import get_task
from peft_studio.training import trainer
from peft_studio.training.quiet import be_quiet


def learn(config: RunConfig, threads: int) -> list[dict[str, Any]]:
    """Runs a config and returns its events; a generation task's test rows are not answered, which takes longest."""
    events: list[dict[str, Any]] = []
    classifies = bool(get_task(config.task.id).labels)
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder) / "home" / "runs" / "run")
        paths.root.mkdir(parents=True)
        trainer.run(
            config=config,
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


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano-lm")
    parser.add_argument("--task", default="bistro")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rate", type=float, help="one learning rate for all, instead of their own")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    be_quiet()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    worse = 0
    print("| method | trained | loss before | after | accuracy (most frequent) | learning rate |")
    print("|---|---|---|---|---|---|")
    for name in options.methods.split(","):
        training = {"max_steps": options.steps, "eval_every": options.steps, "learning_rate": options.rate}
        config = parse_config(
            {
                "model": {"id": options.model},
                "task": {"id": options.task},
                "method": {"name": name},
                "training": {key: value for key, value in training.items() if value is not None},
            }
        )
        events = learn(config, options.threads)
        found = figures(events)
        (started,) = [event for event in events if event["kind"] == "started"]
        before, after = found["base/eval/loss"], found["eval/loss"]
        shares = (
            f"{found['test/accuracy']:.1f} ({found['base/test/accuracy']:.1f})" if "test/accuracy" in found else ""
        )
        better = after < before or found.get("test/accuracy", 0) > found.get("base/test/accuracy", 100)
        worse += not better
        print(
            f"| {name} | {started['trainable_params']:,} | {before:.3f} | {after:.3f} | {shares} "
            f"| {config.training.learning_rate:g} |{'' if better else ' no better'}",
            flush=True,
        )
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main())
