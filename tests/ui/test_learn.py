"""The Learn tab's words: pages, filters, the table of what works where."""

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from peft_studio.jobs.manager import JobManager
from peft_studio.methods import METHODS, Method
from peft_studio.methods.not_offered import NOT_OFFERED
from peft_studio.settings import Settings
from peft_studio.ui.form import show_number
from peft_studio.ui.learn import page
from peft_studio.ui.methods import (
    ALL,
    ANY,
    FAMILIES,
    NO_PARAMETERS,
    MethodPicker,
    library,
    matching,
    outcomes,
    works_on,
)
from peft_studio.ui.routes import routes


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_page_is_complete(method: Method) -> None:
    text = page(method)
    assert method.title in text and method.formula in text and method.count in text and method.paper.url in text
    for rate in method.rates.values():
        assert f"{show_number(rate.rate)} where they" in text and rate.origin in text
    assert f"{show_number(method.learning_rate_large)} for larger ones" in text
    assert "Source: " in text or "no source" in text
    assert "Source: ." not in text and ".." not in text.replace("...", "")
    assert all(tag in text for tag in method.tags)


def test_filters_by_architecture() -> None:
    everything = matching(ALL, "", (), ANY)
    assert everything == list(METHODS)
    assert set(everything) - set(matching(ALL, "", (), "distilbert")) == {"prefix"}
    assert "bitfit" not in matching("common", "", (), "llama")
    assert matching("research", "pissa", (), ANY) == ["pissa"]
    assert "prefix" not in matching(ALL, "", ("no_latency",), ANY)


def test_says_where_else_to_look(blocks: gr.Blocks) -> None:
    library = MethodPicker("learn", "Methods", "learn-method", by_family=True)
    assert (
        library.narrow("lora", "common", "PiSSA", (), ANY)[1]
        == "Nothing here matches. Under All there is 1 that would."
    )
    assert library.narrow("lora", "common", "bitfit", (), "llama")[1].startswith("No method matches")


def test_narrowing_keeps_the_chosen_method(blocks: gr.Blocks) -> None:
    shown_library = MethodPicker("learn", "Methods", "learn-method", by_family=True)
    tiles, hint = shown_library.narrow("lora", "more", None, None, None)
    names = [name for _, name in tiles["choices"]]
    assert names[0] == "lora" and "boft" in names and hint.startswith("10 of")
    shown = shown_library.show("waveft")
    assert shown[shown_library.tier] == "research" and shown[shown_library.chosen]["value"] == "waveft"


def test_the_table_is_the_tests_outcome() -> None:
    table = library()
    assert {family for row in outcomes().values() for family in row} == set(FAMILIES)
    rows = [method for tier in table["tiers"] for method in tier["methods"]]
    assert {row["name"] for row in rows} == set(METHODS) == set(outcomes())
    for row in rows:
        method = METHODS[row["name"]]
        for family, cell in zip(FAMILIES, row["cells"], strict=True):
            outcome = outcomes()[row["name"]][family]
            assert (cell["mark"] == "no") == (outcome == "no") == (not works_on(row["name"], family))
            assert (cell["mark"] == "yes") == (outcome == "yes" and method.mergeable)


def test_every_no_has_a_reason() -> None:
    cells = {
        (method["name"], family["id"]): cell["says"]
        for tier in library()["tiers"]
        for method in tier["methods"]
        for family, cell in zip(library()["families"], method["cells"], strict=True)
        if cell["mark"] == "no"
    }
    assert METHODS["prefix"].not_for["distilbert"] in cells["prefix", "distilbert"]
    assert NO_PARAMETERS in cells["bitfit", "llama"]


def test_library_is_served(tmp_path_factory: pytest.TempPathFactory) -> None:
    manager = JobManager(Settings(home=tmp_path_factory.mktemp("home")))
    with TestClient(Starlette(routes=routes(manager))) as client:
        found = client.get("/studio/library.json").json()
    assert [entry["name"] for entry in found["notOffered"]] == [entry.name for entry in NOT_OFFERED]
