"""Measures the job manager: fork of a worker, and the scheduler's look at 500 runs. For lists, see ``bench_scaling``.

``python -m tests.benchmarks.bench_jobs`` prints one JSON object; times in milliseconds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.methods import METHODS
from peft_studio.processes.warm_client import WarmClient
from peft_studio.settings import Settings, prepare_home

STEP = b'{"v":1,"kind":"step","t":1.5,"step":%d,"loss":%.6f,"lr":0.001,"grad_norm":1.25,"tokens":%d,"elapsed":%.4f}\n'


def milliseconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Mean wall time of a call."""
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return round((time.perf_counter() - began) * 1000 / repeats, 3)


def fill(manager: JobManager, runs: int, steps: int) -> str:
    """Makes finished runs; returns the last one's id."""
    config = parse_config({"method": {"name": next(iter(METHODS))}, "training": {"max_steps": steps}})
    for _ in range(runs):
        paths = manager.store.create(config)
        losses = [4 / step**0.5 + step * 7919 % 1000 / 1e4 for step in range(1, steps + 1)]
        lines = [STEP % (step, loss, step * 50, step * 0.01) for step, loss in enumerate(losses, 1)]
        paths.events.write_bytes(b"".join(lines) + b'{"v":1,"kind":"finished","t":2,"step":1,"summary":{}}\n')
        paths.claim.write_text('{"pid": 1, "process_start": 1}')
        paths.exit.write_text('{"code": 0, "signal": null}')
    return paths.id


def bench_scheduler(home: Path) -> dict[str, float]:
    """The scheduler's look at all runs."""
    manager = JobManager(Settings(home=home))
    fill(manager, 500, 300)
    figures = {"scheduler_first_look_500_ms": milliseconds(manager._scheduler.tick)}
    figures["scheduler_look_500_ms"] = milliseconds(manager._scheduler.tick, 50)
    return figures


def bench_fork(home: Path) -> dict[str, float]:
    """From asking for a worker to the answer, with everything loaded."""
    settings = Settings(home=home)
    prepare_home(settings)
    warm = WarmClient(settings.cache_dir / "warm.log", settings.threads)
    warm.open()
    began = time.perf_counter()
    warm.wait_ready(120)
    figures = {"warm_server_ready_s": round(time.perf_counter() - began, 2)}
    log = home / "fork.log"
    figures["fork_ms"] = milliseconds(lambda: warm.fork("this", [], log), 20)
    began = time.perf_counter()
    size = log.stat().st_size if log.exists() else 0
    warm.fork("this", [], log)
    while log.stat().st_size == size:
        time.sleep(0.0005)
    figures["fork_to_output_ms"] = round((time.perf_counter() - began) * 1000, 1)
    warm.close()
    return figures


def main() -> None:
    """Measures and prints."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(bench_scheduler(Path(folder) / "a") | bench_fork(Path(folder) / "b")))


if __name__ == "__main__":
    main()
