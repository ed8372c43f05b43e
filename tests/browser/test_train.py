"""Open, choose, see the cost, train, watch, reload, stop."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import open_app, open_tab

pytestmark = pytest.mark.browser


def trainable(page: Page) -> int:
    return int(page.get_attribute("#estimate", "data-trainable") or 0)


def choose(page: Page, title: str) -> None:
    page.locator("#method label", has_text=re.compile(rf"^\s*{re.escape(title)}\s*$")).click()


def set_number(page: Page, field: str, value: str) -> None:
    box = page.locator(f"#{field} input[type=number], #{field} textarea, #{field} input[type=text]").first
    box.fill(value)
    box.press("Tab")


def wait_for_count(page: Page, other_than: int) -> int:
    page.wait_for_function("n => +document.querySelector('#estimate').dataset.trainable !== n", arg=other_than)
    return trainable(page)


def test_count_follows_method_and_parameters(page: Page) -> None:
    lora = trainable(page)
    choose(page, "BitFit")
    bitfit = wait_for_count(page, lora)
    assert bitfit < lora
    choose(page, "LoRA")
    assert wait_for_count(page, bitfit) == lora
    set_number(page, "field-rank", "16")
    assert wait_for_count(page, lora) == 2 * lora


def test_learning_rate_follows_the_method_and_nonsense_is_explained(page: Page) -> None:
    box = page.locator("#field-learning_rate").locator("input, textarea")
    before = box.input_value()
    choose(page, "(IA)³")
    expect(box).not_to_have_value(before)
    for wrong in ("inf", "-1", "fast", "nan"):
        box.fill(wrong)
        expect(page.locator(".ps-problem")).to_contain_text("training.learning_rate")
    box.fill("1e-3")
    expect(page.locator(".ps-problem")).to_have_count(0)


def test_unknown_model_is_explained(page: Page) -> None:
    box = page.locator("#model input")
    box.fill("nano-ml")
    box.press("Enter")
    expect(page.locator(".ps-problem")).to_contain_text("Did you mean 'nano-lm'")


def test_train_watch_reload_stop(page: Page) -> None:
    set_number(page, "field-max_steps", "2000")
    set_number(page, "field-batch_size", "4")
    page.click("#train-button")
    page.wait_for_function("studio.pointsDrawn() > 0")
    first = page.evaluate("studio.pointsDrawn()")
    page.wait_for_function("n => studio.pointsDrawn() > n + 3", arg=first)
    assert re.search(r"[?&]runs=\d{8}-\d{6}-lora-", page.url)
    page.reload()
    page.wait_for_function("window.studio?.pointsDrawn?.() > 0")
    open_tab(page, "Runs")
    run = page.locator(".ps-run").first
    expect(run.locator(".ps-pill")).to_have_text("running")
    run.get_by_role("button", name=re.compile("^Stop")).click()
    expect(run.locator(".ps-pill")).to_have_text("stopped")
    expect(run.get_by_role("link", name="Export")).to_be_visible()


def test_first_loss_does_not_wait_for_the_list_of_runs(page: Page) -> None:
    set_number(page, "field-max_steps", "2000")
    set_number(page, "field-batch_size", "4")
    page.wait_for_function("document.querySelector('#estimate').dataset.ready === '1'")
    page.wait_for_function("studio.queue !== null")  # the list has come once; from now on it says that nothing changed
    page.route("**/studio/runs.json*", lambda route: route.fulfill(json={"v": int(route.request.url.split("=")[1])}))
    page.click("#train-button")
    page.wait_for_function("studio.pointsDrawn() > 0")
    page.unroute("**/studio/runs.json*")
    page.wait_for_function("studio.runs.some((run) => run.status === 'running')")
    page.evaluate("studio.stopAll()")
    page.wait_for_function("studio.runs.every((run) => run.status === 'stopped' || run.status === 'finished')")


def test_form_works_by_keyboard(page: Page) -> None:
    before = trainable(page)
    page.locator("#method input[type=radio]").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#method label.selected")).to_have_text("LoRA+")  # it has as many parameters as LoRA
    page.keyboard.press("ArrowDown")
    wait_for_count(page, before)
    cell = page.locator(".ps-map button").first
    cell.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#estimate .ps-told")).to_contain_text("layer 0")


def test_preset_fills_the_form(page: Page) -> None:
    before = trainable(page)
    page.locator("#preset input").click()
    page.get_by_role("option", name="bistro-houlsby").click()
    wait_for_count(page, before)
    expect(page.locator("#method label.selected")).to_have_text("Houlsby adapters")


INVISIBLE = """[...document.querySelectorAll('button')].filter((button) => {
  let opacity = 1;
  for (let node = button; node; node = node.parentElement) opacity *= Number(getComputedStyle(node).opacity);
  return button.offsetParent && button.tabIndex >= 0 && opacity === 0;
}).length"""


@pytest.mark.parametrize("text", ["", "no such preset"])
def test_a_preset_that_is_left_blank_changes_nothing(page: Page, text: str) -> None:
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.locator("#preset input").click()
    page.locator("#preset input").fill(text)
    with page.expect_response(lambda answer: "/run/predict" in answer.url):
        page.keyboard.press("Tab")
    page.wait_for_timeout(500)
    assert failed == [] and page.evaluate(INVISIBLE) == 0


def test_a_rate_that_is_far_off_is_told(page: Page) -> None:
    rate = page.locator("#field-learning_rate").get_by_role("textbox")
    for value, words in (("5", "500 times"), ("1e-9", "Hardly anything")):
        rate.fill(value)
        rate.blur()
        expect(page.locator("#train-warnings .ps-problem")).to_contain_text(words)
    rate.fill("0.01")
    rate.blur()
    expect(page.locator("#train-warnings .ps-problem")).to_have_count(0)


def test_tokens_are_those_of_the_chosen_model(page: Page) -> None:
    page.locator("#look-button").click()
    expect(page.locator("#preview-card")).to_contain_text("as nano-lm reads it")
    page.locator("#model input").click()
    page.locator("[role=option]:visible").nth(1).click()
    expect(page.locator(".ps-tokenrow")).to_have_count(0)
    expect(page.locator("#preview-card")).not_to_contain_text("nano-lm")


def test_scripts_are_few_and_come_from_the_cache_the_second_time(page: Page, app) -> None:
    sizes = (
        "performance.getEntriesByType('resource').filter(({ name }) => /static\\/[0-9a-f]{12}\\/.*js$/.test(name))"
        ".map(({ transferSize }) => transferSize)"
    )
    first = page.evaluate(sizes)
    assert 10 < len(first) < 80 and all(first)
    open_app(page, app.url)
    assert page.evaluate(sizes) == [0] * len(first)
    assert page.evaluate("Object.keys(window).filter((name) => /studio/i.test(name))") == ["studio"]


def test_dark_mode_is_remembered(page: Page, app) -> None:
    page.click("#theme-toggle")
    assert page.evaluate("document.body.classList.contains('dark')")
    open_app(page, app.url)
    assert page.evaluate("document.body.classList.contains('dark')")


@pytest.mark.parametrize("tab", ["Train", "Runs", "Compare", "Experiments", "Generate", "Inside", "Learn"])
def test_phone_shows_everything_without_sideways_scrolling(phone: Page, tab: str) -> None:
    open_tab(phone, tab)
    phone.wait_for_timeout(400)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    too_wide = phone.evaluate(
        "[...document.querySelectorAll('.ps-card, .ps-form')].filter(e => e.offsetParent"
        " && e.getBoundingClientRect().right > 391).map(e => e.className)"
    )
    assert too_wide == []
