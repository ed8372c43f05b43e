"""The method picker finds by level, words and properties, and never loses the chosen method."""

import gradio as gr
import pytest

from peft_studio.methods import METHODS, get_method
from peft_studio.ui.methods import ALL, FILTERS, MethodPicker, choices, has, known, matching, told


def test_levels_share_out_all_methods() -> None:
    tiers = [matching(tier) for tier in ("common", "more", "research")]
    assert sorted(name for names in tiers for name in names) == sorted(METHODS) == sorted(matching(ALL))
    assert 8 <= len(tiers[0]) < len(METHODS)


@pytest.mark.parametrize(
    ("query", "name"),
    [("LORA", "lora"), ("butterfly", "boft"), ("soft prompt", "prefix"), ("houlsby", "houlsby")],
)
def test_search_looks_at_names_titles_summaries_and_tags(query: str, name: str) -> None:
    assert name in matching(ALL, query)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_found_by_its_title_and_its_paper(name: str) -> None:
    method = get_method(name)
    assert name in matching(method.tier, method.title)
    assert name in matching(ALL, method.paper.title)


def test_filters_hold() -> None:
    for _, prop in FILTERS:
        found = matching(ALL, properties=[prop])
        assert found and len(found) < len(METHODS)
        assert found == [name for name, method in METHODS.items() if has(method, prop)]
    assert "prefix" not in matching(ALL, properties=["no_latency"])
    assert "lora" in matching(ALL, properties=[prop for _, prop in FILTERS])


def test_the_chosen_method_stays_among_the_tiles(blocks: gr.Blocks) -> None:
    assert [name for _, name in choices([], "boft")] == ["boft"]
    picker = MethodPicker("method", "Method", "method")
    tiles, words = picker.narrow("boft", "common", "nothing like this", [])
    assert tiles["choices"] == [("BOFT", "boft")] and "No method matches" in words


def test_hint_says_where_to_look() -> None:
    assert told(matching("common"), matching(ALL)).startswith(f"{len(matching('common'))} of {len(METHODS)}")
    assert "Under All there is 1" in told([], matching(ALL, "butterfly"))
    assert "Under All there are 2" in told([], ["boft", "oft"])
    assert "No method" in told([], [])


@pytest.mark.parametrize("name", ["lora", "boft", "tinylora"])
def test_showing_a_method_opens_its_level(name: str, blocks: gr.Blocks) -> None:
    picker = MethodPicker("method", "Method", "method")
    updates = picker.show(name)
    assert updates[picker.tier] == get_method(name).tier
    assert name in [value for _, value in updates[picker.chosen]["choices"]]
    assert updates[picker.query] == "" and updates[picker.filters] == []


def test_methods_out_of_sight_are_accepted_and_others_not(blocks: gr.Blocks) -> None:
    picker = MethodPicker("method", "Method", "method")
    assert "tinylora" not in matching("common") and picker.chosen.preprocess("tinylora") == "tinylora"
    with pytest.raises(gr.Error):
        known("nothing")
