"""What an experiment answers: differences that are more than chance, and ties."""

import json
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
from scipy.stats import bootstrap

from peft_studio.errors import DataError
from peft_studio.experiments.sentences import words_of
from peft_studio.experiments.verdict import (
    RowStatistics,
    chance_of,
    draw,
    duels,
    ends_of,
    interval_of,
    read_answers,
    row_of,
)


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


def corpus(seed: int, worse: int) -> list[str]:
    words = [
        "the",
        "old",
        "mill",
        "by",
        "the",
        "river",
        "serves",
        "cheap",
        "Thai",
        "food",
        "and",
        "is",
        "near",
        "the",
        "bridge",
    ]
    chance = np.random.default_rng(seed)
    said = []
    for row in range(60):
        kept = [word for word in words if chance.random() > worse / 10]
        said.append(f"{row} {' '.join(kept)}")
    return said


RIGHT = [f"{row} the old mill by the river serves cheap Thai food and is near the bridge" for row in range(60)]


def written(path: Path, said: list[str]) -> Path:
    rows = [{"prediction": text, "references": [right]} for text, right in zip(said, RIGHT, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("metric", "kind"), [("test/bleu", BLEU), ("test/chrf", CHRF)])
def test_with_one_seed_it_is_sacrebleus_paired_bootstrap(tmp_path: Path, metric: str, kind: type) -> None:
    """Same draws, so the same scores, interval and p; sacrebleu rounds counts to 32 bits."""
    said = {"a": corpus(1, 1), "b": corpus(2, 2), "near": corpus(3, 1)}
    answers = {name: read_answers(written(tmp_path / name, text), metric) for name, text in said.items()}
    drawn = draw({name: [one] for name, one in answers.items() if one is not None})
    scores = {name: kind().corpus_score(text, [RIGHT]).score for name, text in said.items()}
    systems = [("a", said["a"]), ("b", said["b"]), ("near", said["near"])]
    test = PairedTest(systems, {kind.__name__: kind()}, [RIGHT], test_type="bs", n_samples=1000)
    _, results = test()
    (theirs,) = [values for name, values in results.items() if name != "System"]
    for place, name in ((1, "b"), (2, "near")):
        p = chance_of(drawn["a"] - drawn[name], abs(scores["a"] - scores[name]))
        assert p == pytest.approx(theirs[place].p_value, abs=0.05), name
        low, high = ends_of(drawn[name])
        assert (high - low) / 2 == pytest.approx(theirs[place].ci, rel=0.15)
        assert drawn[name].mean() == pytest.approx(theirs[place].mean, rel=0.02)


def test_of_one_cell_it_is_scipys_bootstrap_over_rows() -> None:
    right = [1] * 70 + [0] * 30
    low, high = ends_of(draw({"a": [hits(right)]})["a"])
    theirs = bootstrap((right,), np.mean, method="percentile", n_resamples=9999, rng=1).confidence_interval
    assert (low, high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1.5)
    seeds = [1.0, 1.4, 1.1, 1.2]
    direct = bootstrap((seeds,), np.mean, method="percentile", rng=0).confidence_interval
    assert interval_of(seeds) == pytest.approx((direct.low, direct.high))
    assert interval_of([2.0]) == (None, None) and interval_of([2.0, 2.0]) == (2.0, 2.0)


def test_p_over_seeds_is_counted_exactly() -> None:
    """Of four pairs there are 16 exchanges of names, two of which give a gap as large."""
    rows = [row_of("low", [1.0, 1.1, 1.2, 1.3]), row_of("high", [2.0, 2.2, 2.1, 2.3])]
    (duel,) = duels(rows, lower_is_better=True)
    assert duel.p == pytest.approx(2 / 16) and not duel.tie
    (alone,) = duels([row_of("a", [1.0]), row_of("b", [2.0])], lower_is_better=True)
    assert alone.p is None


def test_words_begin_with_the_leader() -> None:
    values = {"first": [1.0, 1.01], "second": [1.0, 1.02], "30 rows": [3.0, 3.01]}
    rows = [row_of(name, found) for name, found in values.items()]
    said = words_of(rows, duels(rows, lower_is_better=True), "eval/loss", lower_is_better=True)
    assert said[0] == "In front: first, which cannot be told apart from second; the others are behind."
    assert said[1] == "first and second cannot be told apart with 2 seeds." and said[2].startswith(
        "first beats 30 rows"
    )
    rows = [row_of("30 rows", [1.0, 1.01]), row_of("b", [2.0, 2.01]), row_of("c", [3.0, 3.01])]
    said = words_of(rows, duels(rows, lower_is_better=True), "eval/loss", lower_is_better=True)
    assert said[0] == "Best by more than chance: 30 rows."
    assert words_of([row_of("a", [1.0])], [], "eval/loss", lower_is_better=True) == []
