"""An experiment on the command line, from a file to its answer."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

PLAN = {
    "question": "Does | rank matter?",
    "base": {
        "method": {"name": "lora"},
        "training": {"max_steps": 2, "batch_size": 2, "eval_rows": 4, "eval_every": 2, "max_length": 300},
    },
    "vary": [{"field": "method.rank", "values": [1, 4]}],
    "seeds": 1,
    "metric": "eval/loss",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    from tests.conftest import run_studio

    folder = tmp_path_factory.mktemp("experiment")
    plan = {**PLAN, "base": {**PLAN["base"], "model": {"id": str(tiny_model)}}}  # type: ignore[dict-item]
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    done = run_studio("experiment", "start", str(folder / "plan.yaml"), "--json", home=folder / "home", timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "home", json.loads(done.stdout.splitlines()[-1])


def test_an_experiment_answers(made: Any) -> None:
    _, answer = made
    assert answer["done"] and answer["runs"] == {"of": 2, "over": 2, "search_of": 0, "search_over": 0}
    assert answer["state"] == "finished" and answer["seconds"]["told"] > 0 < answer["seconds"]["took"]
    assert [row["name"] for row in answer["table"]] == ["rank 1", "rank 4"]
    small, large = answer["table"]
    assert large["trainable_params"] == 4 * small["trainable_params"] and small["n"] == 1
    assert small["spread"] is None and "cannot be told apart with 1 seed" in answer["words"][0]
    assert answer["words"][1].startswith("The base model without any training has")


def test_it_is_shown_exported_and_complete(made: Any, studio: Any, tmp_path: Path) -> None:
    home, answer = made
    assert answer["id"] in studio("experiment", "list", home=home).stdout
    shown = json.loads(studio("experiment", "show", answer["id"], "--json", home=home).stdout)
    assert shown["curves"][0]["steps"] == [2] and shown["table"] == answer["table"]
    again = studio("experiment", "resume", answer["id"], "--json", home=home)  # nothing is left to do
    assert json.loads(again.stdout.splitlines()[-1]) == answer
    out = tmp_path / "answer.md"
    assert studio("experiment", "export", answer["id"], "--out", str(out), home=home).returncode == 0
    assert r"# Does \| rank matter?" in out.read_text() and answer["words"][0] in out.read_text()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("start", "no.yaml"), "There is no preset file"),
        (("start", "plan"), "neither a YAML file (.yaml or .yml) nor a ready experiment"),
        (("show", "../runs"), "There is no experiment '../runs'"),
    ],
)
def test_mistakes_are_told(studio: Any, home: Path, argv: tuple[str, ...], words: str) -> None:
    done = studio("experiment", *argv, home=home)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
