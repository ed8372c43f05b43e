"""Measures what 20 viewers of 6 live runs cost the web process: share of a core, bytes per viewer and second.

``python -m tests.benchmarks.bench_viewers`` starts the app on a home with six runs that grow by five steps a second
and polls it as the page does, once a second per viewer. Prints one JSON object.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx

from peft_studio.config.run_config import parse_config
from peft_studio.methods import METHODS
from peft_studio.runs.claims import claim_run
from peft_studio.runs.events import EventWriter
from peft_studio.runs.store import RunStore
from tests.benchmarks.bench_startup import cpu_seconds, running_app

VIEWERS, RUNS, SECONDS = 20, 6, 15
STEPS_PER_SECOND = 5
HEADERS = {"Accept-Encoding": "br, gzip", "Connection": "keep-alive"}


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


async def view(url: str, ids: list[str], end: float, sizes: list[int], waits: list[float]) -> None:
    """One page: first everything, then what is new, once a second."""
    since = dict.fromkeys(ids, 0)
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=30) as client:
        await asyncio.sleep(random.random())
        while time.monotonic() < end:
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


async def all_views(url: str, ids: list[str], viewers: int, seconds: float) -> tuple[list[int], list[float]]:
    """All viewers; the sizes are of ticks after each page's first."""
    every_size: list[list[int]] = [[] for _ in range(viewers)]
    waits: list[float] = []
    end = time.monotonic() + seconds
    await asyncio.gather(*(view(url, ids, end, sizes, waits) for sizes in every_size))
    return [size for sizes in every_size for size in sizes[1:]], waits


def measure_idle(pid: int, seconds: float = 5.0) -> float:
    """Share of a core that the app uses while nobody looks, in percent."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return round(100 * (cpu_seconds(pid) - before) / seconds, 1)


def measure(pid: int, url: str, runs: LiveRuns, viewers: int = VIEWERS, seconds: float = SECONDS) -> dict[str, float]:
    """What a number of viewers costs."""
    writer = threading.Thread(target=runs.grow_for, args=(seconds,))
    writer.start()
    before, began = cpu_seconds(pid), time.monotonic()
    sizes, waits = asyncio.run(all_views(url, [paths.id for paths in runs.paths], viewers, seconds))
    busy = (cpu_seconds(pid) - before) / (time.monotonic() - began)
    writer.join()
    return {
        "viewers": viewers,
        "live_runs": RUNS,
        "percent_of_a_core": round(100 * busy, 1),
        "bytes_per_viewer_second": round(statistics.mean(sizes)),
        "poll_ms_median": round(1000 * statistics.median(waits), 1),
        "poll_ms_p95": round(1000 * statistics.quantiles(waits, n=20)[-1], 1),
    }


def main() -> None:
    """Measures and prints."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = LiveRuns(Path(folder))
        with running_app(folder) as (pid, url, _):
            time.sleep(15)  # engine and warm server load meanwhile
            idle = {"idle_percent_of_a_core": measure_idle(pid)}
            print(json.dumps(idle | measure(pid, url, runs)))


if __name__ == "__main__":
    main()
