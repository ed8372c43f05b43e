"""The Train tab's first screen: cause and effect in one view, few presses of the Tab key, figures that stay."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

ON_ONE_SCREEN = (
    "#preset", "#model", "#task", "#method", "#method-summary", "#field-rank", "#field-max_steps", "#field-batch_size",
    "#field-learning_rate", "#field-seed", "#figures", "#train-button", ".ps-map",
)  # fmt: skip
FOCUSED = "document.activeElement.id"


def bottom(place: Locator) -> float:
    box = place.first.bounding_box()
    assert box is not None
    return box["y"] + box["height"]


def test_all_is_on_one_screen_and_the_figures_stay(page: Page) -> None:
    page.evaluate("document.querySelector('#ready').style.minHeight = '60px'")  # as in an empty home
    low = {place: bottom(page.locator(place)) for place in ON_ONE_SCREEN}
    assert {place: at for place, at in low.items() if at > 900} == {}
    expect(page.locator("#figures .ps-stat")).to_have_count(5)
    expect(page.locator("#figures .ps-stat").last).to_contain_text(re.compile(r"Expected time\d"))
    page.mouse.move(700, 600)
    page.mouse.wheel(0, 600)
    page.wait_for_function("scrollY > 100")
    for place in ("#figures", "#train-button"):
        expect(page.locator(place)).to_be_in_viewport()


def test_few_presses_of_tab_lead_to_train(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".ps-skip")).to_be_focused()
    presses = 1
    while page.evaluate(FOCUSED) != "train-button" and presses < 20:
        page.keyboard.press("Tab")
        presses += 1
    assert presses <= 15


def test_the_skip_link_leads_to_the_form(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('#pick') !== null")


def test_tabs_are_one_stop_and_arrows_go_on(page: Page) -> None:
    page.get_by_role("tab", name="Train", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Runs", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#runs-chart")).to_be_visible()


def test_libraries_are_shown_when_asked_for(page: Page) -> None:
    card = page.locator("#estimate .ps-ledger")
    expect(card.locator("i.runtime")).to_have_count(0)
    card.get_by_role("button").click()
    expect(card.locator("i.runtime").first).to_be_visible()


def test_the_figures_are_a_bar_on_a_phone(phone: Page) -> None:
    for place in ("#figures", "#train-button"):
        expect(phone.locator(place)).to_be_in_viewport()
        assert bottom(phone.locator(place)) <= 844
    phone.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(phone.locator("#train-button")).to_be_in_viewport()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
