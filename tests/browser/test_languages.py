"""The page in Chinese: by the browser's language or the switch, at once, and with the form as it was."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import App, watched
from tests.browser.test_runs import pytestmark as pytestmark


@pytest.fixture
def chinese(app: App, browser: Browser) -> Iterator[Page]:
    page, watch = watched(browser, app, locale="zh-CN")
    page.goto(app.url)
    yield page
    page.context.close()
    assert watch.errors == []
    assert watch.strangers == []


def test_the_browsers_language_and_the_switch(chinese: Page) -> None:
    tabs = chinese.locator("#tabs [role=tab]")
    expect(tabs.first).to_have_text("训练")
    expect(chinese.locator("#run-name")).to_contain_text("运行名称")
    expect(chinese.locator("#estimate")).to_contain_text("可训练参数")
    assert chinese.locator("html").get_attribute("lang") == "zh-CN"
    chinese.locator("#run-name input, #run-name textarea").fill("my runs")
    chinese.locator("#language-toggle").click()
    expect(tabs.first).to_have_text("Train")
    expect(chinese.locator("#estimate")).to_contain_text("Trainable parameters")
    expect(chinese.locator("#run-name input, #run-name textarea")).to_have_value("my runs")
    assert any(one["name"] == "studio_language" and one["value"] == "en" for one in chinese.context.cookies())
    chinese.reload()
    expect(tabs.first).to_have_text("Train")
