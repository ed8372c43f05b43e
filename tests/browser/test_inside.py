"""The Inside tab: the change map and its table, the time machine, what was forgotten, by address, key and phone."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import App, open_tab

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def grown(app: App) -> str:
    """A run with snapshots at three steps."""
    return app.train("bistro-lora", "--set", "training.eval_every=2", "--name", "Grown")


def open_inside(page: Page, app: App, run: str) -> None:
    """Goes to a run's Inside by its address."""
    page.goto(f"{app.url}?tab=inside&inside={run}")
    expect(page.locator("#inside .ps-changemap button").first).to_be_visible(timeout=60_000)


def test_the_map_is_what_the_engine_found(page: Page, app: App, grown: str) -> None:
    """Every weight has its cell and its row, with the same numbers; a click shows all of one."""
    open_inside(page, app, grown)
    found = json.loads(page.request.get(f"{app.url}studio/runs/{grown}/inside/inspect").text())
    changed = [one for one in found["views"]["matrices"] if one["change"]]
    assert len(changed) == 42
    cells = page.locator("#inside .ps-changemap button:not(.none)")
    expect(cells).to_have_count(42)
    page.locator("#inside .ps-mapcard summary").click()
    expect(page.locator("#inside .ps-mapcard tbody tr")).to_have_count(42)
    expect(page.locator("#inside .ps-mapcard tbody tr").first).to_contain_text("self_attn.q_proj")
    cells.first.click()
    detail = page.locator("#inside .ps-insidedetail")
    expect(detail).to_contain_text(f"has rank {changed[0]['rank']}, but uses")
    expect(detail.locator(".ps-spectrum li")).to_have_count(len(changed[0]["values"]))
    page.get_by_label("What the map shows").select_option("effective_rank")
    expect(page.locator("#inside .ps-mapcard .ps-insidetext")).to_contain_text("How many directions")
    page.keyboard.press("Tab")
    page.locator("#inside .ps-changemap button[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#inside .ps-told")).to_contain_text("Layer 0")


def test_the_time_machine_goes_back(page: Page, app: App, grown: str) -> None:
    """At an earlier snapshot the weights have changed less, and the rows are answered anew."""
    open_inside(page, app, grown)
    first = page.locator("#inside .ps-changemap button:not(.none) b").first
    at_end = first.inner_text()
    page.get_by_role("button", name="Answers to three test rows").click()
    expect(page.locator("#inside .ps-answers tbody tr")).to_have_count(3, timeout=60_000)
    slider = page.get_by_role("slider", name="Snapshot")
    slider.focus()
    slider.press("Home")
    expect(page.locator("#inside .ps-scrub output")).to_have_text("step 2 of 6")
    expect(first).not_to_have_text(at_end)
    assert float(first.inner_text().split()[0]) < float(at_end.split()[0])
    expect(page.locator("#inside .ps-answers thead")).to_contain_text("At step 2 of 6", timeout=60_000)
    page.get_by_role("button", name="Measure forgetting").click()
    expect(page.locator("#inside .ps-forgetting")).to_contain_text("held-out documents", timeout=60_000)
    page.locator("#inside .ps-forgetting summary").click()
    expect(page.locator("#inside .ps-forgetting tbody tr")).to_have_count(5)


def test_a_run_leads_to_its_inside(page: Page, app: App, grown: str) -> None:
    open_tab(page, "Runs")
    page.get_by_role("button", name="Inside Grown").click()
    expect(page.get_by_label("Run to look into")).to_have_value(grown)
    expect(page.locator("#inside .ps-changemap")).to_be_visible(timeout=60_000)
    page.wait_for_function(f"location.search.includes('inside={grown}')")


def test_inside_fits_a_phone(phone: Page, app: App, grown: str) -> None:
    open_inside(phone, app, grown)
    phone.locator("#inside .ps-changemap button:not(.none)").first.click()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
