"""The Storage section: sizes, stars, freeing, and runs as files; and a list of runs that is longer than a page."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import App, open_tab

pytestmark = pytest.mark.browser


def show(page: Page) -> None:
    """Opens the Storage section with all its lines: other tests' runs may be larger."""
    open_tab(page, "Runs")
    storage = page.locator("#storage")
    storage.get_by_role("button", name="Show", exact=True).click()
    expect(storage.locator(".line").first).to_be_visible()
    more = storage.get_by_role("button", name=re.compile("^Show more"))
    if more.count():
        more.click()


def test_a_run_leaves_as_a_file_and_comes_back(page: Page, app: App, tmp_path: Path) -> None:
    run = app.train("bistro-bitfit", "--name", "To be moved")
    show(page)
    line = page.locator(f"#storage .line[data-run='{run}']")
    with page.expect_download() as download:
        line.get_by_role("link", name=re.compile("^Download")).click()
    archive = tmp_path / "run.zip"
    download.value.save_as(archive)
    assert "run.json" in zipfile.ZipFile(archive).namelist()
    line.get_by_role("button", name=re.compile("^Delete")).click()
    line.get_by_text("Really?").click()
    expect(line).to_have_count(0)
    expect(page.locator(f".ps-run[data-run='{run}']")).to_have_count(0)
    page.locator("#storage input[type=file]").set_input_files(archive)
    expect(page.locator(f".ps-run[data-run='{run}']")).to_contain_text("finished")
    expect(line).to_have_count(1)


def test_a_checkpoint_is_freed_and_a_star_stays(page: Page, app: App, runs: tuple[str, str]) -> None:
    folder = app.home / "runs" / runs[0]
    (folder / "checkpoint").mkdir(exist_ok=True)
    (folder / "checkpoint" / "state.bin").write_bytes(b"x" * 2_000_000)
    show(page)
    line = page.locator(f"#storage .line[data-run='{runs[0]}']")
    line.get_by_role("button", name=re.compile("^Free the checkpoint")).click()
    line.get_by_text("Really?").click()
    expect(line.get_by_role("button", name=re.compile("^Free"))).to_have_count(0)
    assert not (folder / "checkpoint").exists() and (folder / "adapter").exists()
    line.get_by_role("button", name=re.compile("^Keep")).click()
    expect(line.get_by_role("button", name=re.compile("^Keep"))).to_have_attribute("aria-pressed", "true")
    line.get_by_role("button", name=re.compile("^Keep")).click()
    expect(line.get_by_role("button", name=re.compile("^Keep"))).to_have_attribute("aria-pressed", "false")


def test_a_long_list_is_paged_and_searched(page: Page, phone: Page, app: App, runs: tuple[str, str]) -> None:
    original = app.home / "runs" / runs[1]
    copies = []
    for number in range(120):
        copy = app.home / "runs" / f"20200101-{number:06}-bitfit-copy"
        shutil.copytree(original, copy, ignore=shutil.ignore_patterns("adapter"))
        record = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**record, "name": f"copy {number}", "created": 1e9 + number}))
        copies.append(copy)
    try:
        for view in (page, phone):
            open_tab(view, "Runs")
            expect(view.locator("#runs .ps-listhead")).to_contain_text(re.compile(r"1\d\d runs"))
            expect(view.locator(".ps-run")).to_have_count(50)
            view.get_by_placeholder("Search runs").fill("copy 11")
            expect(view.locator(".ps-run")).to_have_count(11)  # 11 and 110 to 119
            view.get_by_placeholder("Search runs").fill("")
            view.locator("#runs").get_by_role("button", name=re.compile("^Show more")).click()
            expect(view.locator(".ps-run")).to_have_count(100)
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        for view in (page, phone):
            view.goto("about:blank")  # or it would ask for a run that is gone
        for copy in copies:
            shutil.rmtree(copy)
