"""The Experiments tab: the list, an answer in words, tables and plots, and a question of one's own that is started."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from peft_studio.experiments.conductor import Conductor
from tests.browser.conftest import App, open_app, run_app, watched
from tests.experiments.conftest import BASE, PLAN, finish, make_lab

pytestmark = pytest.mark.browser

METHODS = {
    "question": "Which of two methods?", "vary": [{"field": "method", "values": ["lora", "ia3"]}], "own_rates": True,
}  # fmt: skip
GRID = {
    "question": "Rank or rate?", "base": {**BASE, "method": {"name": "lora"}}, "seeds": 1,
    "vary": [{"field": "method.rank", "values": [2, 8]}, {"field": "training.learning_rate", "values": [0.001, 0.01]}],
}  # fmt: skip


def _fill(home: Path) -> dict[str, str]:
    """Two experiments whose runs are over, without a step of training; their ids by question."""
    lab, chance = make_lab(home), random.Random(0)
    conductor = Conductor(lab)
    conductor._at_once = 99
    made = {}
    for plan, right in ((METHODS, [0.9, 0.3]), (GRID, [0.2, 0.4, 0.6, 0.8])):
        experiment = lab.start({**PLAN, **plan})
        for _ in range(3):  # two rounds of rates, then what counts
            conductor.tick()
            infos = lab.infos()
            for part, run in lab.store.load(experiment).runs.items():
                if infos.get(run) is None or infos[run].status == "queued":
                    answers = "".join("a" if chance.random() < right[part.cell] else "b" for _ in range(60))
                    finish(lab, run, answers, loss=2 - right[part.cell])
        lab.settle(experiment)
        made[str(plan["question"])] = experiment
    return made


@pytest.fixture(scope="module")
def lab_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, dict[str, str]]]:
    home = tmp_path_factory.mktemp("lab")
    made = _fill(home)
    with run_app(home) as app:
        yield app, made


@pytest.fixture
def lab_page(lab_app: tuple[App, dict[str, str]], browser: Browser, request: Any) -> Iterator[Page]:
    """The Experiments tab; fails on a console error and on a request to another host."""
    page, watch = watched(browser, lab_app[0], **getattr(request, "param", {}))
    open_app(page, f"{lab_app[0].url}?tab=experiments")
    yield page
    page.context.close()
    assert watch.errors == []
    assert watch.strangers == []


def test_an_answer_is_told_in_words_tables_and_plots(lab_page: Page) -> None:
    lines = lab_page.locator(".ps-experiment")
    expect(lines).to_have_count(2)
    expect(lines.filter(has_text="Which of two methods?")).to_contain_text("LoRA")
    lab_page.get_by_role("button", name="Open: Which of two methods?").click()
    answer = lab_page.locator(".ps-answer")
    expect(answer.locator(".ps-verdict .first")).to_contain_text("LoRA")
    expect(answer.locator(".ps-answertable tr.best th")).to_contain_text("LoRA")
    expect(answer.locator(".ps-answertable tr.base")).to_contain_text("25.0")
    for plot in answer.locator(".ps-answerplot .ps-plot:visible").all():
        expect(plot.locator(".main-svg").first).to_be_visible()
        assert plot.get_attribute("aria-label")
    answer.get_by_text("The search for learning rates").click()
    expect(answer.get_by_role("region", name="Search for rates")).to_contain_text("Learning rate")
    runs = answer.get_by_role("link", name="Compare the runs of LoRA")
    assert re.search(r"tab=compare.*runs=|runs=.*tab=compare", runs.get_attribute("href") or "")
    with lab_page.expect_download() as download:
        answer.get_by_role("link", name="CSV").click()
    assert "LoRA" in download.value.path().read_text()
    lab_page.go_back()
    expect(lines.first).to_be_visible()


def test_a_link_opens_an_answer_with_its_heat_map(lab_page: Page, lab_app: tuple[App, dict[str, str]]) -> None:
    app, made = lab_app
    lab_page.goto(f"{app.url}?tab=experiments&experiment={made['Rank or rate?']}")
    expect(lab_page.locator(".ps-heat tbody tr")).to_have_count(2)
    expect(lab_page.locator(".ps-heat tbody td")).to_have_count(4)


@pytest.mark.parametrize("lab_page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_a_phone_shows_an_answer_without_scrolling_the_page_sideways(lab_page: Page) -> None:
    lab_page.get_by_role("button", name="Open: Which of two methods?").click()
    expect(lab_page.locator(".ps-verdict .first")).to_be_visible()
    assert lab_page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("lab_page", [{"locale": "zh-CN"}], indirect=True)
def test_a_question_of_ones_own_starts_stops_and_goes_in_chinese(lab_page: Page) -> None:
    """By a click from the form; the page finds its tab in every language."""
    lab_page.locator(".ps-ownfold > summary").click()
    lab_page.get_by_label("问题").fill("Mine?")
    lab_page.get_by_label("每次运行的步数").fill("2")
    start = lab_page.get_by_role("button", name="开始实验")
    expect(lab_page.locator(".ps-cost")).to_be_visible()
    expect(start).to_be_enabled()
    with lab_page.expect_response(lambda one: one.url.endswith("studio/experiments") and one.status == 200) as told:
        start.click()
    made = json.loads(told.value.text())["id"]
    expect(lab_page.locator(".ps-answerhead")).to_contain_text("Mine?")
    assert f"experiment={made}" in lab_page.url
    lab_page.get_by_role("button", name="停止此实验及其运行").click()
    expect(lab_page.locator(".ps-answerhead .ps-pill.stopped")).to_be_visible()
    delete = lab_page.get_by_role("button", name="删除此实验；其运行保留")
    delete.click()
    delete.click()
    expect(lab_page.locator(".ps-experiment")).to_have_count(2)
