"""Memory of a worker beside what was foretold: peak resident size over estimate, for a spread of real runs.

Each run is a real one: submitted to a job manager, which forks it from the warm server as the app does, or started
cold as the command line does (``--cold``). One at a time, a few steps, then the saved adapter is checked and the test
rows are answered, as ever.

What is measured is the worker's own peak resident size (VmHWM, which the kernel keeps and the run's last event has as
``peak_memory_bytes``). It holds the libraries' pages too. In a forked worker many of those are shared with the warm
server, so that starting it takes less of the machine than it says: the last column is what it shares when it ends
(resident less USS). The estimate means the same thing: the resident size at the peak, libraries included. The kernel
sees every peak, which samples of USS do not, and it is the same forked and cold.

The columns between are the peak so far after each stage: with the libraries only, with the model and its method, with
the rows read, trained, saved and reloaded.

Usage: python tests/benchmarks/bench_memory.py [--only TEXT] [--cold] [--home FOLDER]
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from bench_speed import make_135m  # noqa: E402

from peft_studio.cli.launchers import ByWorker  # noqa: E402
from peft_studio.config.run_config import parse_config  # noqa: E402
from peft_studio.files import read_json  # noqa: E402
from peft_studio.jobs.manager import JobManager  # noqa: E402
from peft_studio.runs.paths import RunPaths  # noqa: E402
from peft_studio.runs.status import Status  # noqa: E402
from peft_studio.settings import Settings  # noqa: E402
from tests.jobs.job_kit import read_events  # noqa: E402

STEPS = 4
METHODS = ("lora", "full", "ia3", "prefix", "houlsby", "top_layers")
STAGES = ("libraries", "loaded", "data", "trained", "saved")
MB = 1e6


def spread(model_135m: str) -> list[tuple[str, dict[str, Any]]]:
    """The runs: names and configs."""
    found = []

    def add(name: str, model: str, task: str, method: str, **training: Any) -> None:
        settings = {"max_steps": STEPS, "eval_every": STEPS, "eval_rows": 40, **training}
        config = {"model": {"id": model}, "task": {"id": task}, "method": {"name": method}, "training": settings}
        found.append((name, config))

    for model, task in (("nano-lm", "bistro"), ("nano-encoder", "reviews"), ("nano-seq2seq", "headlines")):
        for method in (
            METHODS if model == "nano-lm" else ("lora", "full", "houlsby" if model == "nano-encoder" else "prefix")
        ):
            add(f"{model} {method}", model, task, method)
    add("nano-lm lora 300 test rows", "nano-lm", "bistro", "lora", eval_rows=300)
    for batch in (4, 64):
        add(f"nano-lm lora batch {batch}", "nano-lm", "bistro", "lora", batch_size=batch)
        add(f"nano-lm full batch {batch}", "nano-lm", "bistro", "full", batch_size=batch)
    for method in ("lora", "full"):
        add(f"nano-lm {method} bf16", "nano-lm", "bistro", method, precision="bf16", max_steps=20)
    add("nano-lm lora long rows", "nano-lm", "docstrings", "lora", max_length=512)
    add("nano-lm lora long rows batch 64", "nano-lm", "docstrings", "lora", max_length=512, batch_size=64)
    add("nano-lm lora checkpointing", "nano-lm", "docstrings", "lora", max_length=512, gradient_checkpointing=True)
    add("nano-encoder lora bf16 batch 64", "nano-encoder", "defects", "lora", precision="bf16", batch_size=64)
    add("nano-seq2seq lora bf16 batch 64", "nano-seq2seq", "headlines", "lora", precision="bf16", batch_size=64)
    few: dict[str, Any] = {"max_steps": 3, "eval_every": 3, "eval_rows": 24}
    for method in ("lora", "full", "ia3", "top_layers"):
        add(f"135M {method}", model_135m, "bistro", method, **few)
    add("135M lora bf16", model_135m, "bistro", "lora", precision="bf16", **few)
    add("135M lora batch 4", model_135m, "bistro", "lora", batch_size=4, **few)
    return found


def shared_bytes(pid: int) -> int:
    """Resident pages of a process that others have too; 0 when it has gone."""
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(pid).memory_full_info()
        return int(found.rss - found.uss)
    return 0


def finish(manager: JobManager, paths: RunPaths) -> int:
    """Waits for a run's end; returns the bytes that its worker shared when it was last seen."""
    shared = 0
    while not Status((info := manager.library.info(paths.id)).status).is_over:
        event = next((event for event in read_events(paths.events) if event["kind"] == "started"), None)
        shared = (shared_bytes(event["pid"]) if event else 0) or shared
        time.sleep(0.3)
    if info.status != "finished":
        raise SystemExit(f"{paths.id} {info.status}: {info.reason}")
    return shared


def measured(paths: RunPaths) -> dict[str, int]:
    """The peak so far after each stage, and at the end."""
    events = read_events(paths.events)
    stages = [event["peak_memory_bytes"] for event in events if event["kind"] == "stage"]
    return {**dict(zip(STAGES, stages, strict=True)), "peak": events[-1]["summary"]["peak_memory_bytes"]}


def predict(manager: JobManager, paths: RunPaths) -> int:
    """The estimate that a user would have seen."""
    memory = manager.engine.estimate((read_json(paths.config) or {})["config"])["memory"]
    return sum(memory.values())


def main() -> None:
    """Prints a table as it grows, and the range of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument("--cold", action="store_true", help="start workers as the command line does")
    parser.add_argument("--home", type=Path, help="keep the runs there")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "peft-studio-135m")
    options = parser.parse_args()
    runs = [(name, config) for name, config in spread(make_135m(options.folder)) if options.only in name]
    with tempfile.TemporaryDirectory() as folder:
        manager = JobManager(Settings(home=options.home or Path(folder) / "home"))
        manager.start()
        try:
            table(manager, runs, options.cold)
        finally:
            manager.close()


def table(manager: JobManager, runs: list[tuple[str, dict[str, Any]]], cold: bool) -> None:
    """Runs one after the other; megabytes."""
    columns = ["run", "estimate", "peak", "peak / estimate", *STAGES, "shared at the end"]
    print("| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns), sep="\n", flush=True)
    ratios = []
    for name, config in runs:
        if cold:
            manager.queue.pause(True)
        paths = manager.store.paths(manager.submit(parse_config(config), name))
        worker = ByWorker(paths, manager.settings.threads, None) if cold else None
        shared = finish(manager, paths)
        if worker is not None:
            worker.close()
        estimate, peaks = predict(manager, paths), measured(paths)
        ratios.append(peaks["peak"] / estimate)
        sizes = [*(peaks[stage] for stage in STAGES), shared]
        cells = [name, f"{estimate / MB:,.0f}", f"{peaks['peak'] / MB:,.0f}", f"{ratios[-1]:.2f}"]
        print("| " + " | ".join([*cells, *(f"{size / MB:,.0f}" for size in sizes)]) + " |", flush=True)
    print(f"peak / estimate: {min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} runs")


if __name__ == "__main__":
    main()
