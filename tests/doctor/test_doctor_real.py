"""The doctor on runs that are really trained: a few dozen steps of nano-lm, well set and badly set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SIZE = ("training.max_steps=40", "training.batch_size=4", "training.eval_every=10", "training.eval_rows=8")


def findings(studio: Callable[..., Any], home: Path, *changes: str) -> list[dict[str, Any]]:
    """What the command line says about a run of the default preset with some changes."""
    options = [word for change in (*SIZE, *changes) for word in ("--set", change)]
    trained = studio("train", "bistro-lora", *options, "--json", home=home)
    run_id = json.loads(trained.stdout.splitlines()[-1])["run_id"]
    done = studio("doctor", run_id, "--json", home=home)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_healthy_run_has_no_finding(studio: Callable[..., Any], tmp_path: Path) -> None:
    assert findings(studio, tmp_path) == []


@pytest.mark.parametrize(
    ("rate", "expected", "severity"), [("1.0", "diverged", "problem"), ("0.00001", "rate_low", "warning")]
)
def test_a_bad_learning_rate_is_named(
    rate: str, expected: str, severity: str, studio: Callable[..., Any], tmp_path: Path
) -> None:
    (found,) = findings(studio, tmp_path, f"training.learning_rate={rate}")
    assert (found["id"], found["severity"]) == (expected, severity)
    assert found["settings"] == {"training.learning_rate": 0.01} and found["change"] == "learning rate 0.01"


def test_rows_that_do_not_fit_are_counted(studio: Callable[..., Any], tmp_path: Path) -> None:
    found = {item["id"]: item for item in findings(studio, tmp_path, "training.max_length=56")}
    assert "%" in found["rows_cut"]["title"] and found["rows_cut"]["settings"] == {"training.max_length": 112}
