"""Takes the README's screenshots: starts the app on a home of its own, trains short runs, and visits every tab.

Usage: python tests/tour/take.py [--steps 120] [--home FOLDER]
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent
PRESETS = ("bistro-lora", "bistro-bitfit", "bistro-prefix", "bistro-houlsby")


def start(home: str) -> tuple[subprocess.Popen, str]:
    """Starts the app; returns its process and address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    argv = [sys.executable, "app.py", "--home", home, "--port", str(port), "--no-token"]
    process = subprocess.Popen(argv, cwd=ROOT)
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.1)
    return process, f"http://127.0.0.1:{port}/"


def train(home: str, preset: str, steps: int) -> str:
    """Trains a preset in the app's home; returns the run's id."""
    sets = [
        "--set",
        f"training.max_steps={steps}",
        "--set",
        "training.eval_every=20",
        "--set",
        "training.eval_rows=60",
    ]
    argv = [sys.executable, "-m", "peft_studio", "--home", home, "train", preset, *sets, "--json"]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = re.search(r'"run_id": "([^"]+)"', done.stdout)
    assert found
    return found.group(1)


def open_page(browser: Browser, url: str, width: int, theme: str) -> Page:
    """A page with the first estimate drawn."""
    page = browser.new_page(viewport={"width": width, "height": 900 if width > 500 else 844})
    page.goto(f"{url}{'&' if '?' in url else '?'}__theme={theme}")
    page.wait_for_selector("#estimate[data-ready='1']", timeout=90_000)
    return page


def shoot(page: Page, tab: str, name: str) -> None:
    """Opens a tab and keeps a picture of it."""
    page.get_by_role("tab", name=tab, exact=True).click()
    page.wait_for_timeout(2500)
    page.screenshot(path=FOLDER / f"{name}.png")


def answer(page: Page) -> None:
    """Lets the base model and two adapters answer a row of the test set."""
    page.get_by_role("tab", name="Generate", exact=True).click()
    for _ in range(2):
        page.locator("#adapters input").click()
        page.locator("#adapters [role=option]:not([aria-selected=true])").first.click()
    page.keyboard.press("Escape")
    page.locator("#row-number input").fill("2")
    page.locator("#row-number input").press("Tab")
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('name:')")
    page.click("#generate-button")
    page.wait_for_selector(".ps-column.busy", timeout=30_000)
    page.wait_for_selector(".ps-columns:not(:has(.busy))", timeout=90_000)


def main() -> None:
    """Takes every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--home")
    args = parser.parse_args()
    home = args.home or tempfile.mkdtemp()
    process, url = start(home)
    try:
        runs = ",".join(train(home, preset, args.steps) for preset in PRESETS)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox", "--disable-gpu"]
            )
            page = open_page(browser, f"{url}?runs={runs}", 1440, "light")
            for tab in ("Train", "Runs", "Compare", "Learn"):
                shoot(page, tab, tab.lower())
            answer(page)
            shoot(page, "Generate", "generate")
            page = open_page(browser, f"{url}?runs={runs}", 1440, "dark")
            for tab in ("Train", "Runs"):
                shoot(page, tab, f"{tab.lower()}-dark")
            page = open_page(browser, f"{url}?runs={runs}", 390, "light")
            for tab in ("Train", "Runs"):
                shoot(page, tab, f"{tab.lower()}-phone")
            browser.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
