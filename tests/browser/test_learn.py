"""The Learn tab and the details of runs in a real browser."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import App, open_tab
from tests.browser.test_runs import pytestmark as pytestmark


def test_search_filters_and_one_page_at_a_time(page: Page) -> None:
    open_tab(page, "Learn")
    expect(page.locator("#learn-page h2")).to_have_text("LoRA")
    page.locator("#learn-tier label", has_text="All").click()
    expect(page.locator("#learn-told")).to_have_text("48 of 48 methods")
    page.locator("#learn-search input, #learn-search textarea").fill("butterfly")
    expect(page.locator("#learn-told")).to_have_text("1 of 48 methods")
    page.locator("#learn-method label", has_text="BOFT").click()
    expect(page.locator("#learn-page h2")).to_have_text("BOFT")
    expect(page.locator("#learn-page h2")).to_have_count(1)
    expect(page.locator("#learn-figure .ps-map")).to_be_visible()


def test_table_explains_and_chooses(page: Page) -> None:
    open_tab(page, "Learn")
    rows = page.locator(".ps-matrix tr[data-method]")
    expect(rows).to_have_count(48)
    expect(page.locator(".ps-refusals li")).to_have_count(2)
    page.locator(".ps-matrix tr[data-method=waveft]").get_by_role("button").click()
    expect(page.locator("#learn-page h2")).to_have_text("WaveFT")
    expect(page.locator("#learn-method label.selected")).to_have_text("WaveFT")
    entry = page.locator(".ps-leftout details", has_text="X-LoRA")
    expect(entry.get_by_text("When tried")).to_be_hidden()
    entry.locator("summary").click()
    expect(entry.get_by_text("When tried")).to_be_visible()


def test_table_scrolls_in_its_own_box_on_a_phone(phone: Page) -> None:
    open_tab(phone, "Learn")
    box = phone.locator(".ps-matrixcard .ps-scroll")
    expect(box).to_be_visible()
    assert box.evaluate("node => node.scrollWidth > node.clientWidth")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_details_show_figures_and_ranks(page: Page, app: App) -> None:
    run = app.train("bistro-adalora", "--set", "training.max_steps=12")
    open_tab(page, "Runs")
    page.locator(f".ps-run[data-run='{run}']").get_by_role("button", name=re.compile("^Details")).click()
    card = page.locator(".ps-details")
    expect(card.get_by_text("BLEU")).to_be_visible()
    expect(card.get_by_text(re.compile("^Reloaded and compared: equal within"))).to_be_visible()
    expect(card.locator(".ps-ranks tbody tr").first).to_contain_text("Layer 0")
    card.get_by_role("button", name="Close the details").click()
    expect(card).to_have_count(0)
