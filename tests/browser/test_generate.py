"""Answers side by side, and the Learn pages."""

import re

import pytest
from playwright.sync_api import Page, expect

from peft_studio.methods import METHODS
from tests.browser.conftest import App, open_tab

pytestmark = pytest.mark.browser


def pick_adapters(page: Page, count: int) -> None:
    for _ in range(count):
        page.locator("#adapters input").click()
        page.locator("#adapters [role=option]:not([aria-selected=true])").first.click()
    page.keyboard.press("Escape")


def test_base_and_adapters_answer_side_by_side(page: Page, runs: tuple[str, str]) -> None:
    open_tab(page, "Generate")
    pick_adapters(page, 2)
    page.locator("#row-number input").fill("3")
    page.locator("#row-number input").press("Tab")
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("name: "))
    expect(page.locator("#references li")).not_to_have_count(0)
    page.click("#generate-button")
    expect(page.locator(".ps-column")).to_have_count(3)
    expect(page.locator(".ps-column.busy")).to_have_count(0)
    for said in page.locator(".ps-column .said").all_text_contents():
        assert said not in ("", "…")
    expect(page.locator(".ps-column .ps-facts")).to_have_count(3)
    assert page.locator(".ps-column h2").first.text_content() == "Base model"


def test_more_is_asked_of_answers(page: Page, runs: tuple[str, str]) -> None:
    """Token by token, strength, merge and one step; what was selected on the Runs tab comes along."""
    page.goto(f"{page.url.split('?')[0]}?runs={','.join(runs)}")
    open_tab(page, "Generate")
    expect(page.locator("#adapters .token")).to_have_count(2)
    page.click("#generate-button")
    tools = page.locator(".ps-ask .ps-asktool")
    expect(tools).to_have_count(5)
    tools.filter(has_text="Token by token").locator("summary").first.click()
    expect(page.locator(".ps-tokens .ps-token").first).to_be_visible()
    page.locator(".ps-tokens .ps-token").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".ps-tokensaid")).to_contain_text("Token 2 of ")
    expect(page.locator(".ps-tokensaid .ps-tokenline")).to_have_count(3)
    tools.filter(has_text="Strength").locator("summary").first.click()
    page.locator(".ps-slider input").fill("0")
    expect(page.locator(".ps-askbody .ps-column.at h3")).to_have_text("Strength 0.00")
    said = page.locator(".ps-askbody .ps-column .said").all_text_contents()
    assert said[0] == said[1] != "…"
    tools.filter(has_text="One step").locator("summary").first.click()
    page.get_by_role("button", name="Take the step").click()
    expect(page.locator(".ps-steprows li").first).to_be_visible()
    tools.filter(has_text="Merge").locator("summary").first.click()
    page.get_by_role("button", name="Merge and check").click()
    expect(tools.filter(has_text="Merge").locator(".ps-problem, .ps-table")).to_have_count(1)


def test_labels_are_bars_with_the_right_one_marked(page: Page, app: App) -> None:
    run = app.train("reviews-lora")
    open_tab(page, "Generate")
    page.locator("#adapters input").click()
    page.locator("#adapters [role=option]").filter(has_text=run[-4:]).click()
    page.keyboard.press("Escape")
    page.locator("#row-task input").click()
    page.locator("#row-task [role=option]").filter(has_text="Reviews").click()
    expect(page.locator("#references")).to_contain_text("Its label: ")
    page.click("#generate-button")
    expect(page.locator(".ps-labels li")).to_have_count(2)
    expect(page.locator(".ps-labels li.right")).to_have_count(1)
    expect(page.locator(".ps-column .said.aside")).to_contain_text("no head for this task")


def test_empty_prompt_is_explained(page: Page) -> None:
    open_tab(page, "Generate")
    page.locator("#prompt textarea").fill("")
    page.click("#generate-button")
    expect(page.locator("#columns .ps-problem")).to_contain_text("The prompt is empty")


def test_stop_ends_the_text(page: Page) -> None:
    open_tab(page, "Generate")
    page.locator("#prompt textarea").fill("Zorvil walked to")
    page.locator("#field-max_new_tokens input[type=number]").fill("400")
    page.locator("#field-temperature input[type=number]").fill("1")
    page.locator("#field-temperature input[type=number]").press("Tab")
    page.click("#generate-button")
    page.wait_for_function("document.querySelector('.ps-column .said')?.textContent.length > 3")
    page.click("#generate-stop")
    expect(page.locator(".ps-column.busy")).to_have_count(0)
    text = page.locator(".ps-column .said").text_content()
    page.wait_for_timeout(1000)
    assert page.locator(".ps-column .said").text_content() == text


def test_methods_have_pages(page: Page) -> None:
    """A few of them; ``tests/ui/test_learn.py`` reads what all of them say."""
    open_tab(page, "Learn")
    page.locator("#learn-tier label", has_text="All").click()
    expect(page.locator("#learn-method label")).to_have_count(len(METHODS))
    for method in list(METHODS.values())[::8]:
        page.locator("#learn-method label", has_text=re.compile(rf"^\s*{re.escape(method.title)}\s*$")).click()
        expect(page.locator("#learn-page h2")).to_have_text(method.title)
        assert page.locator(f"#learn-page a[href='{method.paper.url}']").count() >= 1
    expect(page.locator("#learn-figure .ps-map")).to_be_visible()


def test_try_it_fills_the_form(page: Page) -> None:
    open_tab(page, "Learn")
    page.locator("#learn-method label", has_text="Prefix tuning").click()
    expect(page.locator("#learn-page h2")).to_have_text("Prefix tuning")
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("#train-button")).to_be_visible()
    expect(page.locator("#method label.selected")).to_have_text("Prefix tuning")
