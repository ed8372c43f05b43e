"""Measures long lists: 2,000 runs and a run of 200,000 steps, in the app's process and through a browser.

``python -m tests.benchmarks.bench_long [--page]`` prints one JSON object. Milliseconds in the process are CPU time:
other work on the machine changes it little. With ``--page``, a real app is started on an empty home, on that home
without its cache, and with it, in wall time; then Chromium opens the list.
"""

import argparse
import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings
from peft_studio.ui.runlist import RunList
from tests.benchmarks.bench_jobs import fill, milliseconds
from tests.benchmarks.bench_startup import BROWSER_ARGS, start_app

RUNS, STEPS = 2000, 60
LONG = 200_000


def cpu(work: Callable[[], object], repeats: int = 1) -> float:
    """Mean CPU time of a call in milliseconds."""
    began = time.process_time()
    for _ in range(repeats):
        work()
    return round((time.process_time() - began) * 1000 / repeats, 2)


def bench_process(home: Path) -> dict[str, float]:
    """List, changes of the list, curve, findings and disk use, without and with the cache of an earlier start."""
    settings = Settings(home=home)
    first = JobManager(settings)
    figures = {"list_no_cache_ms": cpu(first.list)}
    manager = JobManager(settings)
    figures["list_ms"] = cpu(manager.list)
    long = max(manager.list(), key=lambda info: info.step).id
    runs = RunList(manager.list)
    figures["all_changes_ms"] = cpu(lambda: json.dumps(runs.since(0)))
    following = runs.since(0)["v"]

    def later() -> None:
        manager._index.changed()
        runs.since(following)

    figures["no_changes_ms"] = cpu(later, 20)
    figures["curve_ms"] = cpu(lambda: json.dumps(manager.series(long)))
    figures["curve_again_ms"] = cpu(lambda: json.dumps(manager.series(long)), 10)
    figures["findings_ms"] = cpu(lambda: manager.findings(long))
    figures["findings_again_ms"] = cpu(lambda: manager.findings(long), 10)
    figures["disk_ms"] = cpu(lambda: manager.keeper.measure(manager.list()))
    figures["disk_again_ms"] = cpu(lambda: manager.keeper.measure(manager.list()))
    return figures


def bench_app(home: Path) -> dict[str, Any]:
    """Start of the app, first list over HTTP, and the list on screen."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as empty:
        process, _, seconds = start_app(empty)
        process.terminate()
        process.wait(30)
    figures: dict[str, Any] = {"start_empty_s": round(seconds, 2)}
    for name in ("no_cache", "cache"):
        if name == "no_cache":
            (home / "cache" / "runs.json").unlink(missing_ok=True)
        process, url, seconds = start_app(str(home))
        try:
            figures[f"start_{name}_s"] = round(seconds, 2)
            ask = f"{url}studio/runs.json?since=0"
            figures[f"http_list_{name}_ms"] = milliseconds(lambda ask=ask: urllib.request.urlopen(ask).read())
            time.sleep(3)  # the cache is written with a list
            figures[f"http_list_{name}_again_ms"] = milliseconds(lambda ask=ask: urllib.request.urlopen(ask).read())
            if name == "cache":
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(
                        executable_path=os.environ.get("CHROMIUM") or None, args=BROWSER_ARGS
                    )
                    figures |= on_screen(browser.new_page(viewport={"width": 1440, "height": 900}), url)
                    browser.close()
        finally:
            process.terminate()
            process.wait(30)
    return figures


def on_screen(page: Any, url: str) -> dict[str, float]:
    """How long a look at the list and a search in it take."""
    page.goto(url)
    page.wait_for_selector("#estimate[data-ready='1']", timeout=60_000)
    began = time.perf_counter()
    page.get_by_role("tab", name="Runs", exact=True).click()
    page.wait_for_selector(".ps-run")
    figures = {"tab_ms": round((time.perf_counter() - began) * 1000, 1)}
    figures["rows_drawn"] = page.locator(".ps-run").count()
    began = time.perf_counter()
    page.get_by_placeholder("Search runs").fill("no such run")
    page.wait_for_function("document.querySelectorAll('.ps-run').length === 0")
    figures["search_ms"] = round((time.perf_counter() - began) * 1000, 1)
    return figures


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="also start the app and open it in Chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        manager = JobManager(Settings(home=home))
        fill(manager, RUNS, STEPS)
        fill(manager, 1, LONG)
        figures = bench_process(home)
        if options.page:
            figures |= bench_app(home)
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
