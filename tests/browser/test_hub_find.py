"""Models and data sets of the Hub on the Train tab: without the Hub, and with one that the test plays."""

import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import App, open_app, run_app, watched

pytestmark = pytest.mark.browser

MODELS = [
    {
        "id": "someone/small", "config": {"model_type": "gpt2"}, "tags": ["license:mit"], "downloads": 9,
        "safetensors": {"parameters": {"F32": 124_000_000}, "total": 124_000_000}, "pipeline_tag": "text-generation",
    },
    {
        "id": "someone/huge", "config": {"model_type": "llama"}, "tags": ["license:<b>x</b>"], "downloads": 8,
        "safetensors": {"parameters": {"F32": 10**13}, "total": 10**13},
    },
    {"id": "someone/vision", "config": {"model_type": "vit"}, "tags": [], "downloads": 7},
]  # fmt: skip
DATASETS = [{"id": "someone/news", "tags": ["license:mit", "task_categories:summarization"], "downloads": 12_000}]


class FakeHub(BaseHTTPRequestHandler):
    """Answers the searches as the Hub's HTTP interface does."""

    def do_GET(self) -> None:
        known = {"/api/models": MODELS, "/api/datasets": DATASETS}
        path = urllib.parse.urlsplit(self.path).path
        data = json.dumps(known.get(path)).encode()
        self.send_response(200 if path in known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app whose Hub is the one above."""
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        env = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        with run_app(tmp_path_factory.mktemp("online"), **env) as app:
            yield app
        server.shutdown()


@pytest.fixture
def hub_page(online: App, browser: Browser) -> Iterator[Page]:
    page, watch = watched(browser, online)
    open_app(page, online.url)
    yield page
    page.context.close()
    assert watch.errors == [] and watch.strangers == []


def search(page: Page, place: str, words: str) -> None:
    page.fill(f"{place} input[type=search]", words)
    page.press(f"{place} input[type=search]", "Enter")


def own_data(page: Page) -> None:
    page.locator("#task input").click()
    page.get_by_role("option", name="Your own data").click()
    page.click("#hub-data summary")


def test_without_the_hub_the_catalogue_is_there_and_one_sentence(page: Page) -> None:
    page.click("#hub-models summary")
    lines = page.locator("#hub-models li")
    expect(lines.filter(has_text="HuggingFaceTB/SmolLM2-135M")).to_have_count(1)
    every = lines.count()
    page.get_by_role("button", name="Choose labels", exact=True).click()
    assert lines.count() < every
    page.fill("#hub-models input", "codebert")
    expect(lines).to_have_count(1)
    search(page, "#hub-models", "smol")
    told = page.locator("#hub-models [role=status]")
    expect(told).to_have_text("The Hub cannot be reached from here; models on this machine still work.")
    expect(page.locator(".toast-wrap, .ps-toast").get_by_text("Hub")).to_have_count(0)


def test_picking_a_model_fills_the_form(page: Page) -> None:
    before = page.get_attribute("#estimate", "data-trainable")
    rate = page.locator("#field-learning_rate").locator("input, textarea")
    page.click("#hub-models summary")
    page.get_by_role("button", name="Use nano-encoder").click()
    expect(page.locator("#model input")).to_have_value(re.compile("^nano-encoder"))
    expect(page.locator("#estimate .ps-problem")).to_contain_text("cannot write text")
    page.get_by_role("button", name="Use nano-seq2seq").click()
    expect(page.locator("#estimate .ps-problem")).to_have_count(0)
    page.wait_for_function("n => document.querySelector('#estimate').dataset.trainable !== n", arg=before)
    page.get_by_role("button", name="Use HuggingFaceTB/SmolLM2-135M").click()
    expect(rate).to_have_value("2e-4")
    expect(page.locator("#hub-models [role=status]")).to_contain_text("SmolLM2 135M is the base model now")


def test_the_hub_is_searched_for_models(hub_page: Page) -> None:
    hub_page.click("#hub-models summary")
    search(hub_page, "#hub-models", "small words")
    lines = hub_page.locator("#hub-models li")
    expect(lines).to_have_count(2)
    expect(lines.first).to_contain_text("124.0 M · gpt2, decoder · mit")
    expect(lines.last).to_contain_text("Too large for this machine: needs at least 80,000.4 GB of")
    expect(lines.last).to_contain_text("<b>x</b>")
    expect(lines.last.get_by_role("button")).to_be_disabled()
    lines.first.get_by_role("button").click()
    expect(hub_page.locator("#model input")).to_have_value("someone/small")
    hub_page.get_by_role("button", name="Back to the list").click()
    assert lines.count() > 10


def test_the_hub_is_searched_for_data_sets(hub_page: Page) -> None:
    own_data(hub_page)
    search(hub_page, "#hub-data", "news")
    expect(hub_page.locator("#hub-data li")).to_have_count(1)
    expect(hub_page.locator("#hub-data li")).to_contain_text("12 K downloads a month")


def write_rows(folder: Path) -> Path:
    folder.mkdir()
    rows = [{"text": f"Row {at} is fine.", "label": ("good", "bad")[at % 2]} for at in range(40)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_data_set_is_fetched_and_fills_the_panel(page: Page, app: App, tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "set")
    own_data(page)
    expect(page.locator("#hub-data li").filter(has_text="GEM/e2e_nlg")).to_have_count(1)
    page.fill("#hub-data input[type=search]", str(folder))
    page.locator("#hub-data .ps-anyid").get_by_role("button").click()
    expect(page.locator("#hub-data .ps-fetch")).to_contain_text("is here", timeout=120_000)
    expect(page.locator("#data-input_column input")).to_have_value("text")
    expect(page.locator("#data-target_column input")).to_have_value("label")
    train = page.locator("#data-train_file").locator("input, textarea").input_value()
    assert Path(train).parent.parent == app.home / "datasets"
    expect(page.locator("#data-facts")).to_contain_text("good")
    expect(page.locator("#data-references_column")).to_be_hidden()
    page.locator("#data-kind label").first.click()
    expect(page.locator("#data-references_column")).to_be_visible()


def test_a_reloaded_page_finds_its_data_set_again(page: Page, app: App, tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "again")
    own_data(page)
    page.fill("#hub-data input[type=search]", str(folder))
    page.locator("#hub-data .ps-anyid").get_by_role("button").click()
    expect(page.locator("#hub-data .ps-fetch")).to_contain_text("Cancel")
    open_app(page, app.url)
    own_data(page)
    page.get_by_role("button", name="Use it").click(timeout=120_000)
    expect(page.locator("#data-target_column input")).to_have_value("label")


def test_a_fetch_can_be_cancelled_and_the_hub_missed_calmly(page: Page, tmp_path: Path) -> None:
    own_data(page)
    page.fill("#hub-data input[type=search]", str(write_rows(tmp_path / "set")))
    page.locator("#hub-data .ps-anyid").get_by_role("button").click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#hub-data .ps-fetch")).to_contain_text("was cancelled")
    page.fill("#hub-data input[type=search]", "")
    page.get_by_role("button", name="Get GEM/dart").click()
    expect(page.locator("#hub-data .ps-fetch")).to_contain_text("The Hub cannot be reached", timeout=120_000)
    expect(page.locator("#hub-data .ps-problem")).to_have_count(0)


def test_lsg_settings_are_shown_with_lsg_only(page: Page) -> None:
    page.get_by_role("button", name="More settings").first.click()
    block = page.locator("#field-lsg_block_size input[type=number]")
    expect(block).to_be_hidden()
    page.locator("#field-attention label", has_text="lsg").click()
    expect(block).to_be_visible()
    page.locator("#field-lsg_sparsity_factor input[type=number]").fill("3")
    page.locator("#field-lsg_sparsity_factor input[type=number]").press("Tab")
    expect(page.locator("#estimate .ps-problem")).to_contain_text("model.lsg_block_size is 64")
    page.locator("#field-attention label", has_text="full").click()
    expect(block).to_be_hidden()
    expect(page.locator("#estimate .ps-problem")).to_have_count(0)


def test_phone_shows_the_lists(phone: Page) -> None:
    phone.click("#hub-models summary")
    expect(phone.locator("#hub-models li").first).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
