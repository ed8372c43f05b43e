"""The real app on a free port with a home of its own, and a real browser that tolerates no error and no other host."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
TINY = ("--set", "training.max_steps=6", "--set", "training.eval_rows=4", "--set", "training.batch_size=4")


expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class App:
    """A running app."""

    process: subprocess.Popen
    url: str
    home: Path

    def train(self, preset: str, *more: str) -> str:
        """Trains a few steps through the command line, in the same home; returns the run's id."""
        argv = [sys.executable, "-m", "peft_studio", "--home", str(self.home), "train", preset, *TINY, *more, "--json"]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout.splitlines()[-1])["run_id"])


@contextmanager
def run_app(home: Path, **more: str) -> Iterator[App]:
    """An app with a home of its own, without the Hub unless ``more`` of the environment says otherwise."""
    port = free_port()
    env = {
        **os.environ,
        "PEFT_STUDIO_HOME": str(home),
        "GRADIO_SERVER_PORT": str(port),
        "PEFT_STUDIO_MAX_RUNNING": "2",
        "HF_HUB_OFFLINE": "1",
        "PEFT_STUDIO_NO_TOKEN": "1",
        "HF_DATASETS_CACHE": str(home / "datasets-cache"),
        **more,
    }
    log = (home / "app.log").open("w")
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=log, stderr=log)
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"the app ended: {(home / 'app.log').read_text()}")
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield App(process, f"http://127.0.0.1:{port}/", home)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    log.close()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One app for all browser tests."""
    with run_app(tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, as found by tests/run.sh, or playwright's own."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=ARGS)
        yield found
        found.close()


@dataclass
class Watch:
    """What a page must not do."""

    origin: str
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def on_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.strangers.append(request.url)


def watched(browser: Browser, app: App, **context: Any) -> tuple[Page, Watch]:
    """A page that is being watched."""
    page = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **context}).new_page()
    page.set_default_timeout(60_000)
    watch = Watch(app.url)
    page.on("console", watch.on_console)
    page.on("pageerror", lambda error: watch.errors.append(str(error)))
    page.on("request", watch.on_request)
    return page, watch


@pytest.fixture
def page(app: App, browser: Browser) -> Iterator[Page]:
    """The app in a fresh browser profile; fails on any console error and any request to another host."""
    page, watch = watched(browser, app)
    open_app(page, app.url)
    yield page
    page.context.close()
    assert watch.errors == []
    assert watch.strangers == []


@pytest.fixture
def phone(app: App, browser: Browser) -> Iterator[Page]:
    """The same, 390 pixels wide."""
    page, watch = watched(browser, app, viewport={"width": 390, "height": 844})
    open_app(page, app.url)
    yield page
    page.context.close()
    assert watch.errors == []


def open_app(page: Page, url: str) -> None:
    """Goes to an address and waits for the first estimate."""
    page.goto(url)
    page.wait_for_selector("#estimate[data-ready='1']", state="attached")  # another tab may be open


def open_tab(page: Page, name: str) -> None:
    """Opens one of the app's tabs; on a phone, perhaps from the menu of those that have no room."""
    head = page.locator("#tabs [role=tab]").get_by_text(name, exact=True)
    entry = page.locator("#tabs > .tab-wrapper .overflow-dropdown button").get_by_text(name, exact=True)
    expect(head.or_(entry).first).to_be_attached()
    if head.count():
        head.click()
    else:
        page.locator("#tabs > .tab-wrapper .overflow-menu > button").click()
        entry.click()


@pytest.fixture(scope="session")
def runs(app: App) -> tuple[str, str]:
    """Two short finished runs."""
    return app.train("bistro-lora"), app.train("bistro-bitfit", "--name", "Just the biases")
