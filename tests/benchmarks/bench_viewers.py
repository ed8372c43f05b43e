"""Measures what 20 viewers of 6 live runs cost the web process: share of a core, bytes per viewer and second.

``python -m tests.benchmarks.bench_viewers`` starts the app on a home with six runs that grow by five steps a second
and polls it as the page does, once a second per viewer. Prints one JSON object.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import httpx
import psutil

from peft_studio.config import parse_config
from peft_studio.jobs.claims import claim_run
from peft_studio.jobs.events import EventWriter
from peft_studio.jobs.store import RunStore
from peft_studio.methods import METHODS

VIEWERS, RUNS, SECONDS = 20, 6, 15
STEPS_PER_SECOND = 5
HEADERS = {"Accept-Encoding": "br, gzip", "Connection": "keep-alive"}
ROOT = Path(__file__).resolve().parents[2]


class LiveRuns:
    """Runs that look to the app as if workers were training them."""

    def __init__(self, home: Path) -> None:
        store = RunStore(home / "runs")
        config = parse_config({"method": {"name": next(iter(METHODS))}, "training": {"max_steps": 100_000}})
        self.paths = [store.create(config) for _ in range(RUNS)]
        self._writers = []
        for paths in self.paths:
            claim_run(paths, "bench")
            writer = EventWriter(paths.events)
            writer.emit("started", max_steps=100_000, trainable_params=175_104, total_params=3_236_928)
            writer.emit("stage", name="training")
            self._writers.append(writer)
        self._step = 0
        self.grow(1000)

    def grow(self, steps: int) -> None:
        """Appends steps, with a validation loss every 50."""
        for _ in range(steps):
            self._step += 1
            elapsed = self._step / STEPS_PER_SECOND
            for writer in self._writers:
                loss = 4 / math.sqrt(self._step) + random.gauss(0, 0.05)
                common = {"step": self._step, "tokens": self._step * 1456, "elapsed": round(elapsed, 4)}
                writer.emit("step", **common, loss=loss, lr=0.005, grad_norm=random.random())
                if self._step % 50 == 0:
                    writer.emit("eval", **common, metrics={"eval/loss": loss, "eval/perplexity": math.exp(loss)})

    def grow_for(self, seconds: float) -> None:
        """Appends steps in real time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.grow(1)
            time.sleep(1 / STEPS_PER_SECOND)


async def view(url: str, ids: list[str], began: float, sizes: list[int], waits: list[float]) -> None:
    """One page: first everything, then what is new, once a second."""
    since = dict.fromkeys(ids, 0)
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=30) as client:
        await asyncio.sleep(random.random())
        while time.monotonic() < began + SECONDS:
            tick = time.monotonic()
            size = 0
            query = ",".join(f"{run_id}:{count}" for run_id, count in since.items())
            for path in (f"/studio/metrics.json?runs={query}", "/studio/runs.json"):
                response = await client.get(path)
                response.raise_for_status()
                size += response.num_bytes_downloaded + sum(len(k) + len(v) + 4 for k, v in response.headers.raw)
                if "metrics" in path:
                    since = {delta["id"]: delta["next"] for delta in response.json()}
            sizes.append(size)
            waits.append(time.monotonic() - tick)
            await asyncio.sleep(max(0.0, tick + 1 - time.monotonic()))


async def all_views(url: str, ids: list[str]) -> tuple[list[int], list[float]]:
    """All viewers; the sizes are of ticks after each page's first."""
    every_size: list[list[int]] = [[] for _ in range(VIEWERS)]
    waits: list[float] = []
    began = time.monotonic()
    await asyncio.gather(*(view(url, ids, began, sizes, waits) for sizes in every_size))
    return [size for sizes in every_size for size in sizes[1:]], waits


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def measure(process: psutil.Process, url: str, runs: LiveRuns) -> dict[str, float]:
    """Idle first, then with all viewers."""
    before = cpu_seconds(process)
    time.sleep(5)
    idle = (cpu_seconds(process) - before) / 5
    writer = threading.Thread(target=runs.grow_for, args=(SECONDS,))
    writer.start()
    before, began = cpu_seconds(process), time.monotonic()
    sizes, waits = asyncio.run(all_views(url, [paths.id for paths in runs.paths]))
    busy = (cpu_seconds(process) - before) / (time.monotonic() - began)
    writer.join()
    return {
        "viewers": VIEWERS,
        "live_runs": RUNS,
        "idle_percent_of_a_core": round(100 * idle, 1),
        "percent_of_a_core": round(100 * busy, 1),
        "bytes_per_viewer_second": round(statistics.mean(sizes)),
        "poll_ms_median": round(1000 * statistics.median(waits), 1),
        "poll_ms_p95": round(1000 * statistics.quantiles(waits, n=20)[-1], 1),
    }


def wait_until_up(url: str, process: psutil.Popen) -> None:
    """Waits for the first page.

    Raises:
        SystemExit: The app ended.
    """
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            if process.poll() is not None:
                raise SystemExit("the app ended") from None
            time.sleep(0.1)


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        runs = LiveRuns(home)
        port = random.randrange(20_000, 60_000)
        env = {**os.environ, "PEFT_STUDIO_HOME": str(home), "GRADIO_SERVER_PORT": str(port)}
        url = f"http://127.0.0.1:{port}"
        process = psutil.Popen([sys.executable, os.environ.get("BENCH_APP", "app.py")], cwd=ROOT, env=env)
        try:
            wait_until_up(url, process)
            time.sleep(15)  # engine and warm server load meanwhile
            print(json.dumps(measure(process, url, runs)))
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main()
