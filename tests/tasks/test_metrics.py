"""Corpus metrics against sacrebleu itself."""

import pytest
import sacrebleu

from peft_studio.errors import DataError
from peft_studio.tasks import metrics

REFERENCES = [
    ["the cat sat on the mat", "a cat sat there today"],
    ["dogs bark at night in town"],
    ["a b c d e", "x y", "z"],
]
TEXTS = ["the cat sat on a mat", " dogs bark in town at night ", "a b c d"]


def test_uneven_references_become_padded_streams() -> None:
    assert metrics.reference_streams(REFERENCES) == [
        ["the cat sat on the mat", "dogs bark at night in town", "a b c d e"],
        ["a cat sat there today", None, "x y"],
        [None, None, "z"],
    ]


def test_scores_equal_sacrebleu() -> None:
    streams = metrics.reference_streams(REFERENCES)
    texts = [text.strip() for text in TEXTS]
    assert metrics.corpus_scores(REFERENCES, TEXTS) == {
        "bleu": sacrebleu.corpus_bleu(texts, streams).score,
        "chrf": sacrebleu.corpus_chrf(texts, streams).score,
    }


def test_every_reference_counts() -> None:
    texts = [row[-1] for row in REFERENCES]
    assert metrics.corpus_scores(REFERENCES, texts)["chrf"] == pytest.approx(100)


def test_what_cannot_be_scored() -> None:
    for references, texts in (([], []), ([["a"], []], ["a", "b"]), ([["a"]], ["a", "b"])):
        with pytest.raises(DataError):
            metrics.corpus_scores(references, texts)
    with pytest.raises(DataError):
        metrics.percent([])


def test_percent() -> None:
    assert metrics.percent([True, False, True, True]) == 75.0
