"""Measures the web process: seconds until it answers, its memory, whether torch is in it; then, as a user sees it, the
time from the click on Train to the first loss point with where it goes, and from a change of the form to new figures.

Usage: python tests/benchmarks/bench_startup.py [--attempts 5]
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, Request, Response, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BROWSER_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
OVER = "studio.runs.every((run) => ['stopped', 'finished', 'failed'].includes(run.status))"
LOOK = 0.005  # seconds between two looks at a run's folder


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, without its children's."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@contextlib.contextmanager
def running_app(home: str) -> Iterator[tuple[int, str, float]]:
    """Starts the app and ends it; gives its process id, its address and the seconds until the page was served."""
    port = free_port()
    env = {**os.environ, "PEFT_STUDIO_HOME": home, "GRADIO_SERVER_PORT": str(port), "PEFT_STUDIO_NO_TOKEN": "1"}
    begun = time.perf_counter()
    app = [sys.executable, os.environ.get("BENCH_APP", "app.py")]
    process = subprocess.Popen(app, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_until_up(url, process)
        yield process.pid, url, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(30)


def wait_until_up(url: str, process: subprocess.Popen) -> None:
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
            time.sleep(0.02)


class Timeline:
    """When each part of a start was over, in seconds since the epoch, from the page's requests and the run's folder.

    Args:
        home: The app's home folder.
        page: The page on which Train is clicked.
    """

    def __init__(self, home: Path, page: Page) -> None:
        self._runs = home / "runs"
        self._page = page
        self.times: dict[str, float] = {}
        self.cpu = 0.0

    def measure(self) -> float:
        """Clicks and waits; returns the seconds until a point is on the screen."""
        self.times, self.cpu = {}, 0.0
        known = self._folders()
        watcher = threading.Thread(target=self._watch, args=(known,), daemon=True)
        before = self._page.evaluate("window.studio ? studio.pointsDrawn() : 0")
        self._page.on("request", self._note_request)
        self._page.on("response", self._note_response)
        watcher.start()
        begun = time.time()
        self._page.click("#train-button")
        self._note("click handled")
        self._page.wait_for_function(
            "before => studio.pointsDrawn() !== before && studio.pointsDrawn() > 0", arg=before
        )
        self._note("point drawn")
        self._page.remove_listener("request", self._note_request)
        self._page.remove_listener("response", self._note_response)
        watcher.join(5)
        self.times = {"click": begun, **self.times}
        return self.times["point drawn"] - begun

    def _folders(self) -> set[Path]:
        return set(self._runs.iterdir()) if self._runs.is_dir() else set()

    def _note(self, name: str, at: float | None = None) -> None:
        self.times.setdefault(name, time.time() if at is None else at)

    def _note_request(self, request: Request) -> None:
        if "/gradio_api/" in request.url and request.method == "POST":
            self._note("page sent the form")

    def _note_response(self, response: Response) -> None:
        if "/gradio_api/" in response.url and response.request.method == "POST":
            self._note("page has the run's id")
        elif "metrics.json" in response.url and "first step written" in self.times:
            self._note("page asked and got points")

    def _watch(self, known: set[str]) -> None:
        """Follows the new run's folder until its first step is written."""
        folder = None
        while folder is None:
            time.sleep(LOOK)
            folder = next((new for new in self._folders() - known if (new / "config.json").exists()), None)
        self._note("submitted")
        while not (folder / "claim.json").exists():
            time.sleep(LOOK)
        self._note("claimed by a forked worker")
        pid = 0
        while "first step written" not in self.times:
            time.sleep(LOOK)
            for event in _events(folder):
                pid = event.get("pid", pid)
                names = {"stage": f"{event.get('name')} begins", "started": "ready", "step": "first step written"}
                if event["kind"] in names:
                    self._note(names[event["kind"]], event["t"])
        times = psutil.Process(pid).cpu_times()
        self.cpu = times.user + times.system

    def parts(self) -> list[tuple[str, float]]:
        """What happened, in order, and the seconds that passed before it."""
        ordered = sorted(self.times.items(), key=lambda item: item[1])
        return [(name, at - before) for (_, before), (name, at) in pairwise(ordered)]


def _events(folder: Path) -> list[dict[str, Any]]:
    try:
        text = (folder / "events.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def first_point(page: Page, home: Path, attempts: int) -> list[float]:
    """Seconds from the click on Train to the first loss point drawn, on a warm app, for each attempt."""
    seconds = []
    for _ in range(attempts):
        timeline = Timeline(home, page)
        seconds.append(timeline.measure())
        print(f"  {seconds[-1]:.2f} s, the worker's CPU until its first step {timeline.cpu:.2f} s:", flush=True)
        for name, part in timeline.parts():
            print(f"    {1000 * part:6.0f} ms  {name}", flush=True)
        page.wait_for_timeout(1000)
        page.evaluate("studio.stopAll && studio.stopAll()")
        page.wait_for_function(OVER)
        page.wait_for_timeout(2000)
    return seconds


def new_figures(page: Page, attempts: int) -> list[float]:
    """Seconds from a change of LoRA's rank, never the same one, to the new figures on the page, for each attempt."""
    box = page.locator("#field-rank input[type=number]").first
    shown = "n => document.querySelector('#estimate').dataset.trainable !== n"
    seconds = []
    for rank in range(9, 9 + attempts):
        before = page.get_attribute("#estimate", "data-trainable")
        begun = time.perf_counter()
        box.fill(str(rank))
        page.wait_for_function(shown, arg=before)
        seconds.append(time.perf_counter() - begun)
        page.wait_for_timeout(1500)
    return seconds


def told(what: str, seconds: list[float]) -> str:
    """A line with the median and each value."""
    return f"{what}: median {statistics.median(seconds):.2f} s of {', '.join(f'{each:.2f}' for each in seconds)}"


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, running_app(home) as (pid, url, seconds):
        work = cpu_seconds(pid)
        time.sleep(12)
        memory = psutil.Process(pid).memory_info().rss / 2**20
        maps = Path(f"/proc/{pid}/maps")
        torch = "libtorch" in maps.read_text() if maps.exists() else None
        print(f"up in {seconds:.2f} s ({work:.2f} s of CPU time); {memory:.0f} MB resident; torch loaded: {torch}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=BROWSER_ARGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(url)
            page.wait_for_selector("#estimate[data-ready='1']", timeout=60_000)
            print(told("change of the form to new figures, nano-lm", new_figures(page, options.attempts)), flush=True)
            page.locator("#field-rank input[type=number]").first.fill("8")
            page.wait_for_timeout(2000)
            print(told("click to first point", first_point(page, Path(home), options.attempts)))
            browser.close()


if __name__ == "__main__":
    main()
