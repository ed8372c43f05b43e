"""Measures the web process: seconds until it answers, its memory, whether torch is in it, click to first loss point.

Usage: python tests/benchmarks/bench_startup.py
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BROWSER_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


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
    env = {**os.environ, "PEFT_STUDIO_HOME": home, "GRADIO_SERVER_PORT": str(port)}
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


def first_point(url: str, attempts: int = 3) -> list[float]:
    """Seconds from the click on Train to the first loss point drawn, on a warm app, for each attempt."""
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=BROWSER_ARGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        page.wait_for_selector("#estimate[data-ready='1']", timeout=60_000)
        for _ in range(attempts):
            before = page.evaluate("window.studio ? studio.pointsDrawn() : 0")
            begun = time.perf_counter()
            page.click("#train-button")
            page.wait_for_function("before => studio.pointsDrawn() !== before && studio.pointsDrawn() > 0", arg=before)
            seconds.append(time.perf_counter() - begun)
            page.wait_for_timeout(1000)
            page.evaluate("studio.stopAll && studio.stopAll()")
            page.wait_for_timeout(6000)
        browser.close()
    return seconds


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory() as home, running_app(home) as (pid, url, seconds):
        work = cpu_seconds(pid)
        time.sleep(12)
        memory = psutil.Process(pid).memory_info().rss / 2**20
        maps = Path(f"/proc/{pid}/maps")
        torch = "libtorch" in maps.read_text() if maps.exists() else None
        print(f"up in {seconds:.2f} s ({work:.2f} s of CPU time); {memory:.0f} MB resident; torch loaded: {torch}")
        points = first_point(url)
        print(f"click to first point: median {statistics.median(points):.2f} s of {len(points)}: {points}")


if __name__ == "__main__":
    main()
