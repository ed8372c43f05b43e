"""What checkpoints cost: milliseconds for one, their size, and their share of the time of a training run.

For each method the steps of a real run on the embedded model, with a checkpoint after every tenth step, which is far
more often than a run writes them; the share is then taken for one in ``CHECKPOINT_SECONDS``.

Usage: python tests/benchmarks/bench_checkpoint.py [--steps 60] [--threads 2] [--methods lora full]
"""

import argparse
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

from peft_studio.config.resolved_run import resolve  # noqa: E402
from peft_studio.config.run_config import parse_config  # noqa: E402
from peft_studio.runs.housekeeping import tree_bytes  # noqa: E402
from peft_studio.runs.paths import RunPaths  # noqa: E402
from peft_studio.training import trainer  # noqa: E402
from peft_studio.training.checkpoints import checkpointing  # noqa: E402

EVERY = 10


class Stopwatch:
    """Times checkpoints, copies of good weights, and steps."""

    def __init__(self) -> None:
        self.writes: list[float] = []
        self.copies: list[float] = []
        self.steps: list[tuple[int, float]] = []

    def emit(self, kind: str, **fields: Any) -> None:
        """Takes the events of a run."""
        if kind == "step":
            self.steps.append((fields["step"], fields["elapsed"]))

    def timed(self, real: Any, into: list[float]) -> Any:
        """A function that notes how long the real one takes."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                into.append(time.perf_counter() - began)

        return call

    def step_seconds(self) -> float:
        """Median time of a step, checkpoints not counted."""
        gaps = [b[1] - a[1] for a, b in zip(self.steps, self.steps[1:], strict=False)]
        return statistics.median(gaps)


class EveryTenth(checkpointing.Throttle):
    """Due after every so many looks."""

    looks = 0

    def due(self, now: float) -> bool:
        """Whether it is time."""
        self.looks += 1
        return self.looks % EVERY == 0


def measure(method: str, options: argparse.Namespace) -> None:
    """Trains a method for some steps and prints what keeping it safe cost."""
    watch = Stopwatch()
    training = {"max_steps": options.steps, "eval_every": 10**6}
    config = parse_config({"method": {"name": method}, "training": training})
    checkpointer, copies = checkpointing.Checkpointer, checkpointing.LastGoodWeights
    real = checkpointer._write, copies.copy, checkpointer.__init__

    def make(self: checkpointing.Checkpointer, *args: Any, **kwargs: Any) -> None:
        real[2](self, *args, **kwargs)
        self._throttle = EveryTenth(0.0, 1.0)

    checkpointer._write = watch.timed(real[0], watch.writes)
    copies.copy = watch.timed(real[1], watch.copies)
    checkpointer.__init__ = make
    try:
        with tempfile.TemporaryDirectory(dir=ROOT if options.here else None) as home:
            paths = RunPaths(Path(home) / "runs" / "run")
            paths.root.mkdir(parents=True)

            def ask() -> str:
                return "pause" if watch.steps and watch.steps[-1][0] >= options.steps - 1 else ""

            trainer.run(
                resolved=resolve(config), paths=paths, emit=watch.emit, should_stop=ask, threads=options.threads
            )
            size = tree_bytes(paths.checkpoint)
    finally:
        checkpointer._write, copies.copy, checkpointer.__init__ = real
    write, step = statistics.median(watch.writes), watch.step_seconds()
    share = write / max(checkpointing.CHECKPOINT_SECONDS, write / checkpointing.CHECKPOINT_SHARE)
    copying = sum(watch.copies) / watch.steps[-1][1]
    print(
        f"{method}: {write * 1000:.1f} ms for a checkpoint of {size / 1e6:.1f} MB, {write / step:.2f} steps of "
        f"{step * 1000:.1f} ms; {share:.2%} of the time; copies of good weights {copying:.2%}"
    )


def main() -> None:
    """Prints a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=["lora", "full"])
    parser.add_argument("--here", action="store_true", help="write beside the code instead of the temporary folder")
    options = parser.parse_args()
    for method in options.methods:
        measure(method, options)


if __name__ == "__main__":
    main()
