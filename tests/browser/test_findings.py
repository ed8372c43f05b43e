"""A run that goes wrong says so on its curve and in its details, and its fix fills the form."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import App, open_app, open_tab

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def diverged(app: App) -> str:
    """A run whose learning rate is a hundred times too high."""
    return app.train("bistro-lora", "--set", "training.max_steps=30", "--set", "training.learning_rate=1.0")


def test_the_chart_shows_a_finding_and_its_fix_fills_the_form(page: Page, app: App, diverged: str) -> None:
    open_app(page, f"{app.url}?runs={diverged}")
    open_tab(page, "Runs")
    finding = page.locator("#runs-chart .ps-finding[data-finding=diverged]")
    expect(finding).to_contain_text("The loss rose instead of falling")
    page.wait_for_function(
        "document.querySelector('#runs-chart .ps-plot').data?.some(one => one.name === 'finding' && one.y[0] > 0)"
    )
    finding.locator("summary").click()
    finding.get_by_role("button", name="Try again with learning rate 0.01").click()
    expect(page.locator("#train-button")).to_be_visible()
    expect(page.locator("#field-learning_rate input")).to_have_value("0.01")
    expect(page.locator("#field-max_steps input")).to_have_value("30")


def test_details_hold_the_findings(page: Page, app: App, diverged: str, runs: tuple[str, str]) -> None:
    open_tab(page, "Runs")
    for run, words in ((diverged, "100 times the 0.01"), (runs[0], "Nothing looks wrong")):
        page.locator(f".ps-run[data-run='{run}']").get_by_role("button", name=re.compile("^Details")).click()
        expect(page.locator(f".ps-details[data-run='{run}'] .ps-findings")).to_contain_text(words)


def test_findings_fit_a_phone(phone: Page, app: App, diverged: str) -> None:
    open_app(phone, f"{app.url}?runs={diverged}")
    open_tab(phone, "Runs")
    phone.locator("#runs-chart .ps-finding summary").first.click()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
