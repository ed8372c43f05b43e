"""Lists of 200 experiments with 2,000 runs: the first look after a start, later looks, and one look of the conductor.

python -m tests.benchmarks.bench_experiments [--experiments 200] [--runs 10]
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peft_studio.experiments.conductor import Conductor
from peft_studio.experiments.lab import Lab
from tests.experiments.conftest import PLAN, finish, make_lab


def fill(lab: Lab, experiments: int, runs: int) -> None:
    """Makes experiments whose runs are over, and their statistics: of the first really, of the others as copies."""
    plan = {**PLAN, "vary": [{"field": "method", "values": ["lora", "ia3"]}], "seeds": runs // 2}
    conductor = Conductor(lab)
    conductor._at_once = runs
    for _ in range(experiments):
        made = lab.start(plan)
        experiment = lab.store.load(made)
        conductor._make(experiment, [])
        for part in conductor_parts(lab, made):
            run = lab.manager.store.create(experiment.cells[part.cell].config, "x").id
            lab.store.add(made, part, run)
            finish(lab, run, "aab" if part.cell else "abb")
        lab.settle(made)


def conductor_parts(lab: Lab, made: str) -> list:
    """The runs that an experiment is to have."""
    from peft_studio.experiments.state import due_of

    return due_of(lab.store.load(made), {})


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-experiments-"))
    try:
        fill(make_lab(folder), options.experiments, options.runs)
        lab = make_lab(folder)
        print(f"all runs, first look: {seconds(lab.manager.library.all):.3f} s")
        print(f"list, first look: {seconds(lab.all):.3f} s")
        print(f"list, later looks: {min(seconds(lab.all) for _ in range(5)):.4f} s")
        one = lab.all()[0]["id"]
        print(f"answer, first look: {seconds(lambda: lab.answer(one)):.4f} s")
        print(f"answer, later looks: {min(seconds(lambda: lab.answer(one)) for _ in range(5)):.4f} s")
        conductor = Conductor(lab)
        print(f"conductor, first look: {seconds(conductor.tick):.3f} s")
        print(f"conductor, later looks: {min(seconds(conductor.tick) for _ in range(5)):.4f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
