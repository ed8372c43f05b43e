"""An answer as files to take away: they stand alone, and nothing that people wrote becomes code in them."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import nbformat
import pytest
import yaml
from PIL import Image

from peft_studio.errors import ConfigError
from peft_studio.experiments.charts import FIGURES, short, ticks
from peft_studio.experiments.conductor import Conductor
from peft_studio.experiments.exports import TYPES, export
from peft_studio.experiments.lab import Lab
from peft_studio.experiments.plan import parse_plan
from tests.experiments.conftest import PLAN, finish, make_lab

EVIL = '=2+2 </title><script>alert(1)</script> | "&'
VARY = [{"field": "method.rank", "values": [2, 4]}, {"field": "training.max_steps", "values": [30, 60]}]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, dict[str, Any]]:
    lab = make_lab(tmp_path_factory.mktemp("exports"))
    plan = {**PLAN, "question": EVIL, "base": {**PLAN["base"], "method": {"name": "lora"}}, "vary": VARY}  # type: ignore[dict-item]
    made = lab.start(plan)
    conductor = Conductor(lab)
    conductor._at_once = 99
    conductor.tick()
    for part, run in lab.store.load(made).runs.items():
        finish(lab, run, "a" * (part.cell + 1) + "b" * (3 - part.cell), loss=1.0 + part.seed / 10 + part.cell)
    lab.settle(made)
    return lab, lab.answer(made)


def take(finished: tuple[Lab, dict[str, Any]], kind: str, figure: str = "") -> bytes:
    lab, answer = finished
    return export(answer, kind, lab.manager.settings.runs_dir, figure).content


class Outside(HTMLParser):
    """Collects what a page asks for, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag in ("script", "link", "iframe", "img", "object", "embed") or {"src", "href", "onload"} & set(names):
            self.found.append(tag)


def test_the_page_stands_alone(finished: Any) -> None:
    text = take(finished, "html").decode()
    parser = Outside()
    parser.feed(text)
    assert parser.found == [] and "url(" not in text and text.count("<svg") == len(FIGURES)
    assert "default-src 'none'" in text and "&lt;script&gt;alert(1)" in text
    assert finished[1]["words"][0].split(" by ")[0] in text and "rank 4, 60 steps" in text


def test_a_table_for_spreadsheets_computes_nothing(finished: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(take(finished, "csv").decode())))
    assert rows[0]["name"] == "rank 2, 30 steps"
    assert [float(row["mean"]) for row in rows] == [25.0, 50.0, 75.0, 100.0]
    assert rows[0]["method.rank"] == "2" and rows[0]["figures"] == "25.0 25.0"
    text = take(finished, "md").decode()
    assert "<script>" not in text and "\\|" in text.splitlines()[0]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 8 for line in text.splitlines() if line.startswith("|"))


def test_plan_and_answer_can_be_read_again(finished: Any) -> None:
    assert parse_plan(yaml.safe_load(take(finished, "yaml"))).question == EVIL
    assert json.loads(take(finished, "json"))["duels"] == finished[1]["duels"]


@pytest.mark.parametrize("figure", ["", *FIGURES])
def test_every_figure_is_drawn_both_ways(finished: Any, figure: str) -> None:
    text = take(finished, "svg", figure).decode()
    assert (
        text.startswith("<svg xmlns=") and "<script>" not in text and "http" not in text.replace("/2000/svg", "")[30:]
    )
    image = Image.open(io.BytesIO(take(finished, "png", figure)))
    assert image.size[0] == 1520 and len(image.getcolors(1 << 20) or []) > 4


def test_a_notebook_is_one_and_computes(finished: Any) -> None:
    book = json.loads(take(finished, "ipynb"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    names: dict[str, Any] = {}
    for cell in book["cells"]:
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            source = "".join(cell["source"])
            compile(source, "cell", "exec")
            if "matplotlib" not in source:
                exec(source, names)
    assert [row["mean"] for row in names["RESULTS"]] == [25.0, 50.0, 75.0, 100.0]
    nbformat.validate(nbformat.from_dict(book))


def test_what_there_is_not_is_said(finished: Any) -> None:
    for kind, figure in (("exe", ""), ("svg", "pie")):
        with pytest.raises(ConfigError, match="There is no"):
            take(finished, kind, figure)
    assert set(TYPES) == {"html", "ipynb", "csv", "md", "json", "yaml", "svg", "png"}


def test_round_numbers() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0] and ticks(31.2, 38.9) == [32, 34, 36, 38]
    assert ticks(5, 5) == [5] and [short(value) for value in (None, 3.0, 12_345, 2.5e6)] == [
        "–",
        "3",
        "12.3 k",
        "2.5 M",
    ]
