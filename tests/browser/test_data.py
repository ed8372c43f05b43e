"""One's own data, the method picker and the token preview, in the real page."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from peft_studio.methods import get_method
from tests.browser.conftest import App, open_tab

pytestmark = pytest.mark.browser


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A file with a harmless attack in it."""
    path = tmp_path / "places & <b>.csv"
    rows = "".join(
        f"Place {i} <img src=x onerror=alert(1)>,The place {i} is nice. {'Very. ' * (i % 9)}\n" for i in range(40)
    )
    path.write_text(f"question,answer\n{rows},lost\n", encoding="utf-8")
    return path


def choose_task(page: Page, title: str) -> None:
    page.locator("#task input").click()
    page.get_by_role("option", name=title).click()


def upload(page: Page, path: Path) -> None:
    choose_task(page, "Your own data")
    page.set_input_files("#drop-train_file input[type=file]", str(path))


def look(page: Page) -> None:
    page.click("#look-button")
    expect(page.locator("#look-button")).to_be_enabled()


def test_tokens_of_a_built_in_task(page: Page) -> None:
    look(page)
    expect(page.locator(".ps-tokenrow")).to_have_count(5)
    assert page.locator(".ps-tokenrow u.ps-token.target").count() > 20
    expect(page.locator(".ps-preview table tbody tr")).to_have_count(3)
    assert page.locator(".ps-bars i").count() > 5
    page.get_by_role("button", name="Hide").click()
    expect(page.locator(".ps-tokenrow")).to_have_count(0)


def test_own_data_is_kept_guessed_and_previewed(page: Page, app: App, table: Path) -> None:
    choose_task(page, "Your own data")
    expect(page.locator("#estimate .ps-wait")).to_contain_text("Choose a training file")
    page.set_input_files("#drop-train_file input[type=file]", str(table))
    expect(page.locator("#data-input_column input")).to_have_value("question")
    expect(page.locator("#data-target_column input")).to_have_value("answer")
    expect(page.locator("#data-facts")).to_contain_text("Left out: 1 with an empty input")
    (kept,) = (app.home / "uploads").rglob("*.csv")
    expect(page.locator("#data-train_file").locator("input, textarea")).to_have_value(str(kept))
    expect(page.locator("#estimate .ps-mapcard")).to_be_visible()
    look(page)
    expect(page.locator(".ps-tokenrow").first).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator(".ps-tokenrow img").count() == 0
    expect(page.locator("#preview-card")).to_contain_text("left out of the files: 1 with an empty input")


def test_a_wrong_template_is_explained_and_loses_nothing(page: Page, table: Path) -> None:
    upload(page, table)
    expect(page.locator("#data-input_column input")).to_have_value("question")
    box = page.locator("#data-template textarea")
    box.fill("Q: {questoin}")
    expect(page.locator("#data-facts .ps-problem")).to_contain_text("questoin")
    expect(page.locator("#estimate .ps-problem")).to_contain_text("questoin")
    box.fill("Q: {question}")
    expect(page.locator("#data-facts .ps-example")).to_contain_text("Q: Place")
    expect(page.locator("#estimate .ps-problem")).to_have_count(0)
    expect(page.locator("#data-target_column input")).to_have_value("answer")


def test_the_page_comes_to_rest_after_an_upload(page: Page, table: Path) -> None:
    asked: list[str] = []
    upload(page, table)
    expect(page.locator("#data-facts .ps-example")).to_be_visible()
    page.wait_for_timeout(3000)
    page.on("request", lambda request: asked.append(request.url) if "run/predict" in request.url else None)
    page.wait_for_timeout(1500)
    assert asked == []


def test_a_run_on_own_data_can_be_done_again(page: Page, app: App, table: Path) -> None:
    sets = {"id": "custom", "train_file": str(table), "template": "Q: {question}"}
    overrides = [part for key, value in sets.items() for part in ("--set", f"task.{key}='{value}'")]
    run = app.train("bistro-lora", *overrides)
    open_tab(page, "Runs")
    page.locator(f".ps-run[data-run='{run}']").get_by_role("button", name=re.compile("^Same again")).click()
    expect(page.locator("#data-panel")).to_be_visible()
    expect(page.locator("#data-train_file").locator("input, textarea")).to_have_value(str(table))
    expect(page.locator("#data-target_column input")).to_have_value("answer")
    expect(page.locator("#data-template textarea")).to_have_value("Q: {question}")
    expect(page.locator("#estimate .ps-mapcard")).to_be_visible()


def test_search_finds_methods_and_keeps_the_chosen_one(page: Page) -> None:
    tiles = page.locator("#method label")
    page.locator("#method-search").locator("input, textarea").fill("butterfly")
    expect(page.locator("#method-told")).to_contain_text("Under All")
    expect(tiles).to_have_text(["LoRA"])
    page.locator("#method-tier label", has_text="All").click()
    expect(tiles).to_have_count(2)
    page.locator("#method label", has_text="BOFT").click()
    expect(page.locator("#method-summary")).to_contain_text(get_method("boft").summary[:20])
    page.locator("#method-search").locator("input, textarea").fill("no such thing")
    expect(tiles).to_have_text(["BOFT"])
    expect(page.locator("#method-told")).to_contain_text("No method matches")


def test_learning_rate_follows_the_models_size(page: Page) -> None:
    rate = page.locator("#field-learning_rate").locator("input, textarea")
    expect(rate).to_have_value("0.01")
    box = page.locator("#model input")
    box.fill("someone/large")
    box.press("Enter")
    expect(rate).to_have_value("2e-4")


def test_an_encoder_for_a_writing_task_is_explained(page: Page, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (tmp_path / "model.safetensors").touch()
    box = page.locator("#model input")
    box.fill(str(tmp_path))
    box.press("Enter")
    expect(page.locator("#estimate .ps-problem")).to_contain_text("cannot write text")
    look(page)
    expect(page.locator("#preview-card .ps-problem")).to_contain_text("cannot write text")


def test_phone_shows_own_data_and_tokens(phone: Page, table: Path) -> None:
    upload(phone, table)
    expect(phone.locator("#data-facts .ps-example")).to_be_visible()
    look(phone)
    expect(phone.locator(".ps-tokenrow")).to_have_count(5)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
