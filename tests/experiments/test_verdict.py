"""What an experiment answers: differences that are more than chance, and ties."""

import json
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from peft_studio.errors import DataError
from peft_studio.experiments.verdict import RowStatistics, draw, duels, read_answers, row_of


def test_spread_over_seeds_decides_about_a_loss() -> None:
    rows = [row_of("near", [1.00, 1.02, 0.98]), row_of("same", [1.01, 0.99, 1.03]), row_of("far", [2.0, 2.02, 1.98])]
    found = {frozenset((duel.better, duel.worse)): duel for duel in duels(rows, lower_is_better=True)}
    far = found[frozenset(("near", "far"))]
    assert far.better == "near" and not far.tie and far.low is not None and far.low < 1 < (far.high or 0)
    assert far.words("eval/loss").startswith("near beats far by 1.000 nats [0.9")
    assert found[frozenset(("near", "same"))].words("eval/loss") == "near and same cannot be told apart with 3 seeds."


def test_one_seed_of_a_loss_says_nothing_and_missing_figures_are_left_out() -> None:
    (duel,) = duels([row_of("a", [1.0]), row_of("b", [3.0]), row_of("gone", [], failed=2)], lower_is_better=True)
    assert duel.tie and "with 1 seed" in duel.words("eval/loss")


def hits(right: list[int]) -> RowStatistics:
    return RowStatistics(np.array([[one, 1] for one in right]), lambda total: 100 * total[0] / total[1])


def test_draws_have_the_spread_of_chance() -> None:
    """A share of 0.8 of 400 rows has a standard error of 2 points, and a paired difference with itself has none."""
    answers = hits([1] * 320 + [0] * 80)
    drawn = draw({"a": [answers], "b": [answers], "c": [hits([1] * 200 + [0] * 200)]})
    assert drawn["a"].std() == pytest.approx(2.0, rel=0.1) and drawn["a"].mean() == pytest.approx(80, abs=0.3)
    assert (drawn["a"] == drawn["b"]).all()
    rows = [row_of("a", [80.0]), row_of("b", [80.0]), row_of("c", [50.0])]
    found = {(duel.better, duel.worse): duel for duel in duels(rows, False, drawn)}
    assert found["a", "b"].tie
    assert "a beats c by 30.0 % accuracy [" in found["a", "c"].words("test/accuracy")


def test_scores_of_all_rows_are_the_librarys(tmp_path: Path) -> None:
    references = [["the cat sat on the mat today", "a cat sat here"], ["two dogs ran in the park"]]
    said = ["the cat sat on a mat", "two dogs ran in a big park"]
    path = tmp_path / "predictions.jsonl"
    rows = [{"prediction": f" {text}", "references": more} for text, more in zip(said, references, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    answers = read_answers(path, "test/bleu")
    assert answers is not None
    streams = [["the cat sat on the mat today", "two dogs ran in the park"], ["a cat sat here", None]]
    theirs = BLEU().corpus_score(said, streams).score  # type: ignore[arg-type]
    assert answers.score(answers.statistics.sum(axis=0)) == pytest.approx(theirs)
    assert read_answers(path, "eval/loss") is None and read_answers(path, "test/rouge1") is None
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError):
        read_answers(path, "test/bleu")
