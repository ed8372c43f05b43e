"""A public app in two browsers: its owner shows a run by a link; a stranger looks, and has things of their own. And a
page of another site that frames the app.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect

from peft_studio.access.cookies import Cookies
from peft_studio.settings import Access, Settings
from tests.browser.conftest import App, open_app, open_tab, run_app, watched

pytestmark = pytest.mark.browser
TOKEN = "the token of the owner"


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A public app."""
    home = tmp_path_factory.mktemp("public")
    with run_app(home, PEFT_STUDIO_ACCESS="public", PEFT_STUDIO_TOKEN=TOKEN) as found:
        yield found


@pytest.fixture(scope="module")
def run(public: App) -> str:
    """A short run of the owner's."""
    return public.train("bistro-bitfit", "--name", "To be shown")


@pytest.fixture
def people(public: App, browser: Browser, run: str) -> Iterator[tuple[Page, Page]]:
    """The owner's page and a stranger's, both watched."""
    both = [watched(browser, public) for _ in range(2)]
    open_app(both[0][0], f"{public.url}?token={TOKEN}&runs={run}")
    open_app(both[1][0], public.url)
    yield both[0][0], both[1][0]
    for page, watch in both:
        page.context.close()
        assert watch.errors == [] and watch.strangers == []


def test_a_link_shows_a_run_until_it_is_taken_back(people: tuple[Page, Page], run: str) -> None:
    owner, guest = people
    open_tab(owner, "Runs")
    owner.context.grant_permissions(["clipboard-read", "clipboard-write"])
    owner.locator(f".ps-run[data-run='{run}']").get_by_role("button", name="Share To be shown by a link").click()
    expect(owner.get_by_text("The link is copied.")).to_be_visible()
    link = owner.locator("#sharing input").input_value()
    assert owner.evaluate("navigator.clipboard.readText()") == link and "share=" in link
    open_tab(guest, "Runs")
    expect(guest.locator("#runs")).to_contain_text("No runs yet")
    open_app(guest, link)
    line = guest.locator(f".ps-run[data-run='{run}']")
    expect(line).to_be_visible()  # on the Runs tab, which opens by itself
    expect(line).to_contain_text("Somebody else's, read-only")
    expect(line.get_by_role("checkbox")).to_be_checked()
    expect(guest.locator("#runs-chart .js-plotly-plot").first).to_be_visible()
    for name in ("Delete", "Log", "Share", "Train longer"):
        expect(line.get_by_role("button", name=re.compile(f"^{name}"))).to_have_count(0)
    expect(line.get_by_role("link", name="Export")).to_have_count(0)
    line.get_by_role("button", name=re.compile("^Details")).click()
    expect(guest.locator(".ps-details")).to_contain_text("Test")
    open_tab(guest, "Compare")
    expect(guest.locator("#compare")).to_contain_text("To be shown")
    if folder := os.environ.get("SCREENSHOTS"):
        open_tab(guest, "Runs")
        guest.screenshot(path=f"{folder}/shared-guest.png", full_page=True)
        owner.screenshot(path=f"{folder}/shared-owner.png", full_page=True)
    owner.locator("#sharing").get_by_role("button", name=re.compile("^Take back")).click()
    owner.locator("#sharing").get_by_text("Really?").click()
    expect(owner.locator("#sharing .line")).to_have_count(0)
    guest.reload()
    open_tab(guest, "Runs")
    expect(guest.locator("#runs")).to_contain_text("No runs yet")


def test_what_is_mine_is_counted_leaves_and_goes(
    people: tuple[Page, Page], public: App, run: str, tmp_path: Path
) -> None:
    guest = people[1]
    cookies = Cookies(Settings(home=public.home, port=int(public.url.split(":")[2][:-1]), access=Access.PUBLIC))
    value = next(one["value"] for one in guest.context.cookies() if one["name"] == cookies.name)
    visitor = cookies.read(value)
    assert visitor is not None
    mine = public.home / "runs" / "20260101-000000-bitfit-mine"
    shutil.copytree(public.home / "runs" / run, mine)
    record = json.loads((mine / "config.json").read_text())
    (mine / "config.json").write_text(json.dumps({**record, "owner": visitor.id, "name": "Mine"}))
    open_tab(guest, "Runs")
    card = guest.locator("#mine")
    expect(card).to_contain_text("runs: 1, files: 0")
    expect(card).to_contain_text("Without a visit for 14 days all of this is deleted")
    card.get_by_role("button", name="Show my limits").click()
    expect(card.get_by_role("row", name=re.compile("Runs in the queue"))).to_contain_text("4")
    if folder := os.environ.get("SCREENSHOTS"):
        guest.screenshot(path=f"{folder}/mine-light.png", full_page=True)
        guest.locator("#theme-toggle").click()
        guest.set_viewport_size({"width": 390, "height": 844})
        guest.screenshot(path=f"{folder}/mine-phone-dark.png", full_page=True)
        guest.set_viewport_size({"width": 1440, "height": 900})
    with guest.expect_download() as download:
        card.get_by_role("link", name="Take along").click()
    download.value.save_as(tmp_path / "mine.zip")
    assert f"runs/{mine.name}.zip" in zipfile.ZipFile(tmp_path / "mine.zip").namelist()
    card.get_by_role("button", name=re.compile("^Delete all my")).click()
    assert mine.exists()
    card.get_by_text("Delete everything?").click()
    expect(card).to_contain_text("runs: 0")
    assert not mine.exists() and (public.home / "runs" / run).exists()


def test_no_other_site_frames_the_app(browser: Browser, public: App, tmp_path: Path) -> None:
    (tmp_path / "evil.html").write_text(f'<iframe id="framed" src="{public.url}"></iframe>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = browser.new_context().new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(f"http://127.0.0.1:{server.server_port}/evil.html")
        page.wait_for_timeout(500)
        assert any("frame-ancestors 'self'" in text for text in refused), refused
        framed = page.frames[1]
        assert "PEFT Studio" not in framed.content()
        page.context.close()
    finally:
        server.shutdown()
        server.server_close()
