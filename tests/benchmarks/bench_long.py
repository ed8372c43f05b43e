"""Measures long lists: 2,000 runs and a run of 200,000 steps, in the app's process and through a browser.

``python -m tests.benchmarks.bench_long [--page]`` prints one JSON object. Milliseconds in the process are CPU time:
other work on the machine changes it little. With ``--page``, a real app is started on an empty home, on that home
without its cache, and with it, in wall time; then Chromium opens the list.
"""

import argparse
import gc
import json
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_studio.jobs.manager import JobManager
from peft_studio.jobs.run_list import RunList
from peft_studio.settings import Settings
from tests.benchmarks.bench_jobs import fill, milliseconds
from tests.benchmarks.bench_startup import BROWSER_ARGS, cpu_seconds, running_app

RUNS, STEPS = 2000, 60
LONG = 200_000


def cpu(work: Callable[[], object], repeats: int = 1) -> float:
    """Mean CPU time of a call in milliseconds."""
    gc.collect()  # what was made before is not to be looked through meanwhile
    began = time.process_time()
    for _ in range(repeats):
        work()
    return round((time.process_time() - began) * 1000 / repeats, 2)


def bench_process(home: Path) -> dict[str, float]:
    """List, changes of the list, curve, findings and disk use, without and with the cache of an earlier start."""
    settings = Settings(home=home)
    first = JobManager(settings)
    figures = {"list_no_cache_ms": cpu(first.library.list)}
    manager = JobManager(settings)
    figures["list_ms"] = cpu(manager.library.list)
    long = max(manager.library.list(), key=lambda info: info.step).id
    runs = RunList(manager.library.list)
    figures["all_changes_ms"] = cpu(lambda: json.dumps(runs.since(0)))
    following = runs.since(0)["v"]

    def later() -> None:
        manager._index.changed()
        runs.since(following)

    figures["no_changes_ms"] = cpu(later, 20)
    figures["curve_ms"] = cpu(lambda: json.dumps(manager.library.series(long)))
    figures["curve_again_ms"] = cpu(lambda: json.dumps(manager.library.series(long)), 10)
    after = JobManager(settings)
    figures["curve_after_start_ms"] = cpu(lambda: json.dumps(after.library.series(long)))
    figures["findings_ms"] = cpu(lambda: manager.library.findings(long))
    figures["findings_again_ms"] = cpu(lambda: manager.library.findings(long), 10)
    figures["disk_ms"] = cpu(lambda: manager.keeper.measure(manager.library.list()))
    figures["disk_again_ms"] = cpu(lambda: manager.keeper.measure(manager.library.list()))
    return figures


def bench_app(home: Path) -> dict[str, Any]:
    """Start of the app, first list over HTTP, and the list on screen."""
    with tempfile.TemporaryDirectory() as empty, running_app(empty) as (pid, _, seconds):
        figures: dict[str, Any] = {"start_empty_s": round(seconds, 2), "start_empty_cpu_s": round(cpu_seconds(pid), 2)}
    for name in ("no_cache", "cache"):
        if name == "no_cache":
            shutil.rmtree(home / "cache", ignore_errors=True)
        with running_app(str(home)) as (pid, url, seconds):
            figures[f"start_{name}_s"] = round(seconds, 2)
            figures[f"start_{name}_cpu_s"] = round(cpu_seconds(pid), 2)
            ask = f"{url}studio/runs.json?since=0"
            figures[f"http_list_{name}_ms"] = milliseconds(lambda ask=ask: urllib.request.urlopen(ask).read())
            time.sleep(3)  # the cache is written with a list
            figures[f"http_list_{name}_again_ms"] = milliseconds(lambda ask=ask: urllib.request.urlopen(ask).read())
            if name == "cache":
                time.sleep(10)  # engine and warm server load meanwhile
                figures |= in_browser(url)
    return figures


def in_browser(url: str) -> dict[str, float]:
    """What Chromium shows of the app."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=BROWSER_ARGS)
        try:
            return on_screen(browser.new_page(viewport={"width": 1440, "height": 900}), url)
        finally:
            browser.close()


def on_screen(page: Any, url: str) -> dict[str, float]:
    """Milliseconds from a click to what it shows, and the longest time in which the page answers nothing."""
    page.goto(url)
    page.wait_for_selector("#estimate[data-ready='1']", timeout=60_000)
    page.wait_for_timeout(4000)  # the chart's library is loaded once the page is up
    page.evaluate(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach((task) => "
        "{ longest = Math.max(longest, task.duration); })).observe({ type: 'longtask' })"
    )

    def timed(act: Callable[[], object], shown: str) -> float:
        began = time.perf_counter()
        act()
        page.wait_for_function(shown)
        return round((time.perf_counter() - began) * 1000, 1)

    rows = "document.querySelectorAll('.ps-run').length"
    search = page.get_by_placeholder("Search runs")
    tab = page.get_by_role("tab", name="Runs", exact=True)
    figures = {"tab_ms": timed(tab.click, f"{rows} > 0"), "rows_drawn": page.locator(".ps-run").count()}
    figures["search_ms"] = timed(lambda: search.fill("no such run"), f"{rows} === 0")
    figures["search_end_ms"] = timed(lambda: search.fill(""), f"{rows} > 0")
    figures["more_ms"] = timed(page.get_by_role("button", name="Show more").click, f"{rows} > 50")
    longest = page.evaluate("studio.runs.reduce((a, b) => (a.step > b.step ? a : b)).id")
    figures["search_one_ms"] = timed(lambda: search.fill(longest), f"{rows} === 1")
    box = page.locator(".ps-run input[type=checkbox]")
    figures["curve_drawn_ms"] = timed(box.check, "studio.pointsDrawn() > 0")
    details = page.locator(".ps-run").get_by_role("button", name="Details")
    figures["details_ms"] = timed(details.click, "document.querySelectorAll('.ps-detailbody > div').length >= 2")
    compare = page.get_by_role("tab", name="Compare", exact=True)
    figures["compare_ms"] = timed(compare.click, "document.querySelectorAll('table.ps-table tbody tr').length > 50")
    figures["longest_task_ms"] = page.evaluate("longest")
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
