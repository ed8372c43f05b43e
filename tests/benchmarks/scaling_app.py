"""The part of ``bench_scaling`` that is about the app: what it costs with more runs, viewers and points."""

import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings
from tests.benchmarks.bench_jobs import fill, milliseconds
from tests.benchmarks.bench_long import cpu
from tests.benchmarks.bench_startup import cpu_seconds, running_app
from tests.benchmarks.bench_viewers import LiveRuns, measure, measure_idle

RUNS = (1, 100, 500, 2000)
VIEWERS = (1, 5, 20, 50)
POINTS = (1_000, 10_000, 100_000, 200_000)


def table(title: str, heads: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """Prints a Markdown table row by row."""
    print(f"\n{title}\n\n| " + " | ".join(heads) + " |\n| " + " | ".join(["---"] * len(heads)) + " |", flush=True)
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def bench_runs() -> None:
    """The app with so many finished runs of 60 steps."""

    def rows() -> Iterator[Sequence[str]]:
        for count in RUNS:
            with tempfile.TemporaryDirectory() as home:
                fill(JobManager(Settings(home=Path(home))), count, 60)
                with running_app(home) as (pid, url, _):
                    up, first = cpu_seconds(pid), 1000 * cpu_of_polls(pid, url, 1)
                    time.sleep(15)  # engine and warm server load meanwhile
                    idle = measure_idle(pid, 10)
                    poll = 1000 * cpu_of_polls(pid, url, 20) - 10 * idle  # of the second between two polls
                    memory = psutil.Process(pid).memory_info().rss / 1e6
                    asked = milliseconds(lambda url=url: urllib.request.urlopen(f"{url}studio/runs.json").read(), 5)
                with running_app(home) as (pid, _, _):
                    again = cpu_seconds(pid)
            yield (
                f"{count:,}", f"{up:.2f}", f"{again:.2f}", f"{first:.0f}", f"{poll:.1f}", f"{asked:.0f}",
                f"{idle:.1f} %", f"{memory:.0f}",
            )  # fmt: skip

    heads = (
        "runs", "CPU s to the page", "the same with the cache", "first list, CPU ms", "poll, CPU ms",
        "whole list over HTTP, ms", "idle, of a core", "MB",
    )  # fmt: skip
    table("Runs in the list (one viewer that asks once a second what changed)", heads, rows())


def cpu_of_polls(pid: int, url: str, count: int) -> float:
    """CPU seconds of the app for one poll of a page, a second apart; the first one asks for everything."""
    version, before = 0, cpu_seconds(pid)
    for place in range(count):
        with urllib.request.urlopen(f"{url}studio/runs.json?since={version}") as answer:
            version = json.load(answer)["v"]
        if place + 1 < count:
            time.sleep(1)
    return (cpu_seconds(pid) - before) / count


def bench_viewers() -> None:
    """The app with so many pages that look at six live runs."""
    with tempfile.TemporaryDirectory() as home:
        runs = LiveRuns(Path(home))
        with running_app(home) as (pid, url, _):
            time.sleep(15)  # engine and warm server load meanwhile

            def rows() -> Iterator[Sequence[str]]:
                for count in VIEWERS:
                    found = measure(pid, url, runs, count, 20)
                    megabytes = psutil.Process(pid).memory_info().rss / 1e6
                    yield (
                        str(count), f"{found['percent_of_a_core']} %", f"{found['bytes_per_viewer_second']:,}",
                        str(found["poll_ms_median"]), str(found["poll_ms_p95"]), f"{megabytes:.0f}",
                    )  # fmt: skip

            heads = ("viewers", "of a core", "bytes per viewer and second", "poll, ms: median", "95th of 100", "MB")
            table("Viewers of six live runs", heads, rows())


def bench_points() -> None:
    """The curve of a run with so many steps."""

    def rows() -> Iterator[Sequence[str]]:
        for count in POINTS:
            with tempfile.TemporaryDirectory() as home:
                manager = JobManager(Settings(home=Path(home)))
                run_id = fill(manager, 1, count)
                manager.library.list()  # as every page does first
                first = cpu(lambda manager=manager, run_id=run_id: json.dumps(manager.library.series(run_id)))
                columns = manager._series._runs[run_id]._columns()
                kept = sum(len(column) * column.itemsize for column in columns)
                again = cpu(lambda manager=manager, run_id=run_id: json.dumps(manager.library.series(run_id)), 10)
                answer = manager.library.series(run_id)
                tick = cpu(lambda: manager.library.series(run_id, answer["next"]), 1000)  # noqa: B023
                later = JobManager(Settings(home=Path(home)))
                later.library.list()
                start = cpu(lambda: json.dumps(later.library.series(run_id)))  # noqa: B023
                findings = cpu(lambda manager=manager, run_id=run_id: manager.library.findings(run_id))
            yield (
                f"{count:,}", f"{first:.1f}", f"{start:.1f}", f"{again:.1f}", f"{tick:.2f}", f"{findings:.1f}",
                f"{len(json.dumps(answer)) / 1e3:.0f}", f"{kept / 1e6:.1f}",
            )  # fmt: skip

    heads = (
        "points", "first opening, CPU ms", "after a restart", "another viewer", "a poll with nothing new",
        "findings, CPU ms", "answer, kB", "kept in memory, MB",
    )  # fmt: skip
    table("Points of a curve", heads, rows())
