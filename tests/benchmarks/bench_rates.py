"""Recommended learning rates of all methods on the nano models, by successive halving; writes the registry's table.

    python3 tests/benchmarks/bench_rates.py --out FILE [--device cuda] [--processes 16] [--budget-seconds 480]
    python3 tests/benchmarks/bench_rates.py --out FILE --budget-seconds 0 --write    # the table, from what FILE holds

For each method and both kinds of tasks: half-decades around the rate that the registry has now train for a few steps,
one more where the best is at the end of the range; the better ones train longer, with two seeds; and the best two of
those longer still. Every trial is a run of its own with the app's own loop, schedule and batches, as long as it says,
and its figure is the validation loss. Trials of an earlier round come first, so that whenever the time is up, all
methods have been tried alike. Each trial is appended to ``--out`` as a line of JSON; those that are in it already are
not done again. ``--methods`` and ``--kinds`` measure a part, ``--scale`` makes all trials longer or shorter (keep it
for one file); ``prefix:projection=false`` is a method with another setting than its default, measured for comparison
and not written to the table. It needs nothing but this checkout, and no network.

Where there is no time for that, ``--rates 0.01,0.03,0.1 --steps 40`` tries just these, once each.
"""

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import yaml  # noqa: E402

from peft_studio.methods import METHODS  # noqa: E402
from peft_studio.methods.rates import KINDS, TABLE  # noqa: E402

RATES = [float(f"{first}e{power}") for power in range(-5, 0) for first in (1, 3)] + [1.0]
AROUND = range(-2, 4)  # half-decades around the present rate that are tried first
EVAL_ROWS = 150
NEAR = 0.005  # of two losses this close, relative to the larger, the lower rate is taken


@dataclass(frozen=True)
class Round:
    """One round of the halving: how many of the best rates train for how many steps, with how many seeds."""

    rates: int
    steps: int
    seeds: int


@dataclass(frozen=True)
class Place:
    """Where the rates of one kind of task are measured; where a method does not fit the model, on the other model."""

    model: str
    other: str
    task: str
    rounds: tuple[Round, ...]
    rates: tuple[float, ...] = ()  # to be tried instead of half-decades


PLACES = {
    "generation": Place("nano-lm", "nano-lm", "bistro", (Round(6, 40, 1), Round(2, 100, 2), Round(2, 200, 2))),
    "classification": Place("nano-encoder", "nano-lm", "reviews", (Round(6, 80, 1), Round(3, 240, 2))),
}


@dataclass(frozen=True)
class Trial:
    """A short training run."""

    method: str
    kind: str
    rate: float
    steps: int
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """The method and its settings, as a config has them."""
        name, _, told = self.method.partition(":")
        return {"name": name} | (yaml.safe_load(told.replace("=", ": ")) if told else {})

    @property
    def model(self) -> str:
        """The base model that it trains."""
        place = PLACES[self.kind]
        return place.other if "modernbert" in METHODS[self.settings["name"]].not_for else place.model


Results = dict[Trial, float | None]
VARIANTS = ("prefix:projection=false", "prompt:start=random", "prompt:start=text", "parallel:scaling=1.0")


@cache
def prepared(model_id: str, task_id: str) -> Any:
    """Base model, format, training examples and validation batches, once for each process."""
    from peft_studio.tasks import get_task
    from peft_studio.tasks.base import some_rows
    from peft_studio.training.formats.formats import evaluation_batches, format_for
    from peft_studio.training.load import layout_of, load_base

    task = get_task(task_id)
    base, tokenizer = load_base(model_id, labels=task.labels)
    form = format_for(layout_of(base), tokenizer, task.labels)
    examples = form.encode(task.load("train"), 200).examples  # which leaves room for 56 virtual tokens
    held = form.encode(some_rows(task.load("validation"), EVAL_ROWS), 200).examples
    return base, form, examples, evaluation_batches(held, form, 0 if form.classifies else base.config.vocab_size)


def train(trial: Trial, device: str) -> float | None:
    """The validation loss after a trial; None when the loss was not finite on the way."""
    import copy

    import transformers

    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import parse_config
    from peft_studio.errors import NonFiniteLossError
    from peft_studio.training import evaluate
    from peft_studio.training.load import attach
    from peft_studio.training.loop import TrainingLoop
    from peft_studio.training.placing import place
    from peft_studio.training.step_events import StepCallback

    task = PLACES[trial.kind].task
    training = {"max_steps": trial.steps, "learning_rate": trial.rate, "seed": trial.seed}
    training["warmup_steps"] = trial.steps // 20
    config = parse_config(
        {"model": {"id": trial.model}, "task": {"id": task}, "method": trial.settings, "training": training}
    )
    run = resolve(config)
    base, form, examples, held = prepared(trial.model, task)
    transformers.set_seed(trial.seed)
    batch = config.training.batch_size
    looked = [form.inputs(examples[n : n + batch]) for n in range(0, 8 * batch, batch)]
    sample = looked if run.method.looks_at_data else []
    model = place(attach(copy.deepcopy(base), run.method, config.method, trial.steps, sample), device)
    callback = StepCallback(lambda *_, **__: None, lambda: False, lambda *_: False, trial.steps + 1)
    try:
        TrainingLoop(model, run, examples, form, callback).train()
    except NonFiniteLossError:
        return None
    found = evaluate.measure_loss(model, form, held, lambda: False)
    return found.loss if found is not None and math.isfinite(found.loss) else None


def begin(threads: int) -> None:
    """Prepares a process for trials."""
    import torch
    import transformers

    from peft_studio.training.quiet import be_quiet

    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    be_quiet()


def nearest(rate: float) -> int:
    """The number of the half-decade nearest to a rate."""
    return min(range(len(RATES)), key=lambda number: abs(math.log(RATES[number] / rate)))


def mean(found: Sequence[float | None]) -> float:
    """The mean of some losses; infinite when one was not finite."""
    return math.inf if None in found else statistics.fmean(loss for loss in found if loss is not None)


def losses(method: str, kind: str, results: Results, steps: int, seeds: int) -> dict[float, float]:
    """Mean losses by rate, of the rates that have been tried with all seeds for so many steps."""
    by_rate: dict[float, list[float | None]] = defaultdict(list)
    for trial, loss in results.items():
        if (trial.method, trial.kind, trial.steps) == (method, kind, steps) and trial.seed < seeds:
            by_rate[trial.rate].append(loss)
    return {rate: mean(found) for rate, found in sorted(by_rate.items()) if len(found) == seeds}


def ranked(found: dict[float, float]) -> list[float]:
    """Rates from the best on."""
    return sorted(found, key=lambda rate: found[rate])


def first_rates(method: str, kind: str, tried: dict[float, float]) -> list[float]:
    """The half-decades of the first round: around the present rate, and beyond where the best is at the end."""
    if PLACES[kind].rates:
        return list(PLACES[kind].rates)
    place = nearest(METHODS[method.partition(":")[0]].rates[kind].rate)
    low = max(0, min(place + AROUND[0], len(RATES) - len(AROUND)))
    numbers = set(range(low, low + len(AROUND))) | {nearest(rate) for rate in tried}
    if all(RATES[number] in tried for number in numbers):
        best = nearest(ranked(tried)[0])
        numbers |= {number for number in (best - 1, best + 1) if 0 <= number < len(RATES)}
    return [RATES[number] for number in sorted(numbers)]


def due(method: str, kind: str, results: Results) -> tuple[int, list[Trial]]:
    """The round that a method is in, and its trials that are still to be done; none when all rounds are over."""
    chosen: list[float] = []
    for number, turn in enumerate(PLACES[kind].rounds):
        done = losses(method, kind, results, turn.steps, turn.seeds)
        rates = chosen[: turn.rates] if number else first_rates(method, kind, done)
        wanted = [Trial(method, kind, rate, turn.steps, seed) for rate in rates for seed in range(turn.seeds)]
        missing = [trial for trial in wanted if trial not in results]
        if missing:
            return number, missing
        chosen = [rate for rate in ranked(done) if rate in rates]
    return len(PLACES[kind].rounds), []


def waiting(methods: Sequence[str], kinds: Sequence[str], results: Results, running: set[Trial]) -> list[Trial]:
    """All trials that can be done now, those of the earliest round first."""
    found: list[tuple[int, Trial]] = []
    for method in methods:
        for kind in kinds if method in METHODS else kinds[:1]:
            number, missing = due(method, kind, results)
            found.extend((number, trial) for trial in missing if trial not in running)
    return [trial for _, trial in sorted(found, key=lambda pair: pair[0])]


def read(path: Path) -> Results:
    """What earlier runs of this script have found."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return {Trial(**{key: one[key] for key in Trial.__dataclass_fields__}): one["loss"] for one in found}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Does trials until none is left or the time is up."""
    ends = time.monotonic() + options.budget_seconds
    context = multiprocessing.get_context("spawn")
    running: dict[Future[float | None], Trial] = {}
    with (
        ProcessPoolExecutor(options.processes, context, begin, (options.threads,)) as pool,
        options.out.open("a", encoding="utf-8") as file,
    ):
        while True:
            free = options.processes - len(running) if time.monotonic() < ends else 0
            ready = waiting(options.methods, options.kinds, results, set(running.values()))[:free] if free else []
            running |= {pool.submit(train, trial, options.device): trial for trial in ready}
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                trial = running.pop(future)
                if failure := future.exception():  # not written down, so that the next call tries it again
                    print(f"{trial} failed: {failure!r}", file=sys.stderr, flush=True)
                    results[trial] = None
                    continue
                results[trial] = future.result()
                file.write(json.dumps({**asdict(trial), "loss": results[trial]}) + "\n")
                file.flush()


def best(method: str, kind: str, results: Results) -> dict[str, Any] | None:
    """A method's entry in the table, by its last full round; None when not even the first is over."""
    for turn in reversed(PLACES[kind].rounds):
        found = losses(method, kind, results, turn.steps, turn.seeds)
        if len(found) < turn.rates:
            continue
        lowest = min(found.values())
        near = [rate for rate, loss in found.items() if loss <= lowest * (1 + NEAR)]
        return {
            "rate": min(near),
            "loss": round(found[min(near)], 4),
            "steps": turn.steps,
            "seeds": turn.seeds,
            "tried": len(losses(method, kind, results, PLACES[kind].rounds[0].steps, 1)),
            "model": Trial(method, kind, 1.0, 1, 0).model,
            "task": PLACES[kind].task,
        }
    return None


def report(methods: Sequence[str], results: Results) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| method | kind | rate | validation loss | steps, seeds | others: rate (loss) |\n|---|---|---|---|---|---|"
    for kind in KINDS:
        for method in methods:
            entry = best(method, kind, results)
            if entry is None:
                continue
            tried = losses(method, kind, results, PLACES[kind].rounds[0].steps, 1)
            others = ", ".join(f"{rate:g} ({loss:.3f})" for rate, loss in tried.items())
            figures = f"{entry['rate']:g} | {entry['loss']:.3f} | {entry['steps']}, {entry['seeds']}"
            yield f"| {method} | {kind} | {figures} | {others} |"


def write(methods: Sequence[str], results: Results) -> None:
    """Puts what was found into the registry's table; what was not measured stays."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    for method in filter(METHODS.__contains__, methods):
        for kind in KINDS:
            if entry := best(method, kind, results):
                table.setdefault(method, {})[kind] = entry
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def planned(place: Place, scale: float, rates: Sequence[float], steps: int) -> Place:
    """A place with longer or shorter rounds, or with a single one that tries just these rates."""
    if rates:
        return replace(place, rounds=(Round(len(rates), steps, 1),), rates=tuple(rates))
    rounds = tuple(replace(turn, steps=max(2, round(turn.steps * scale))) for turn in place.rounds)
    return replace(place, rounds=rounds)


def main() -> None:
    """Measures, prints the table and, if asked to, writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of trials, read first and appended to")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=[*METHODS, *VARIANTS])
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--budget-seconds", type=float, default=math.inf, help="no trial is begun after them")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps of all rounds")
    parser.add_argument("--rates", type=lambda text: [float(part) for part in text.split(",")], default=[])
    parser.add_argument("--steps", type=int, default=40, help="of the trials of --rates")
    parser.add_argument("--write", action="store_true", help="put the rates into the registry's table")
    options = parser.parse_args()
    results = read(options.out)
    for kind, place in PLACES.items():
        PLACES[kind] = planned(place, options.scale, options.rates, options.steps)
    measure(options, results)
    print("\n".join(report(options.methods, results)))
    if options.write:
        write(options.methods, results)


if __name__ == "__main__":
    main()
