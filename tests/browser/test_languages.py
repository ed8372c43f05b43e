"""The page in Chinese: by the browser's language or the switch, at once, and with the form as it was."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from peft_studio.ui.shell import SCRIPTS
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
    expect(chinese.locator("#figures")).to_contain_text("可训练参数")
    assert chinese.locator("html").get_attribute("lang") == "zh-CN"
    chinese.locator("#run-name input, #run-name textarea").fill("my runs")
    chinese.locator("#language-toggle").click()
    expect(tabs.first).to_have_text("Train")
    expect(chinese.locator("#figures")).to_contain_text("Trainable")
    expect(chinese.locator("#run-name input, #run-name textarea")).to_have_value("my runs")
    assert any(one["name"] == "studio_language" and one["value"] == "en" for one in chinese.context.cookies())
    chinese.reload()
    expect(tabs.first).to_have_text("Train")


TRANSLATE = """async ([address, texts]) => {
  const { template } = await import(address);
  const table = { "Log": "日志", "{0} runs wait": "{0} 个运行在等待", "{0}; the queue is paused": "{0};队列已暂停",
    "There is no task {0}. {1}": "没有任务 {0}。{1}", "Allowed: {0}.": "可用的有：{0}。" };
  return texts.map((text) => template(table)(text));
}"""


def test_texts_are_found_whole_by_template_and_in_parts(page: Page) -> None:
    texts = [
        "Log",
        "3 runs wait; the queue is paused",
        "There is no task 'a'. Allowed: b, c.",
        "Log · mine",
        "My own log.",
    ]
    told = page.evaluate(TRANSLATE, [f"{page.url.rstrip('/')}/{SCRIPTS}/templates.js", texts])
    assert told[:2] == ["日志", "3 个运行在等待;队列已暂停"]
    assert told[2:] == ["没有任务 'a'。可用的有：b, c。", "日志 · mine", "My own log."]
