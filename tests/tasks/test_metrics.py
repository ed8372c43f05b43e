"""Metrics against the public libraries themselves, and against counting by hand."""

import pytest
import sacrebleu
import sklearn.metrics
from rouge_score.rouge_scorer import RougeScorer

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


def test_rouge_equals_the_library() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for name, value in metrics.rouge_scores(REFERENCES, TEXTS).items():
        best = [
            max(scorer.score(reference, text)[name].fmeasure for reference in row)
            for row, text in zip(REFERENCES, TEXTS, strict=True)
        ]
        assert value == pytest.approx(100 * sum(best) / 3)


def test_rouge_does_not_stem_and_takes_empty_texts() -> None:
    assert metrics.rouge_scores([["dogs bark"]], ["dog barks"])["rouge1"] == 0
    figures = metrics.rouge_scores([["a b", "c d"], ["x y"]], ["c d", ""])
    assert figures == {"rouge1": 50.0, "rouge2": 50.0, "rougeL": 50.0}


TRUTH = ["a", "a", "b", "b", "c", "a"]
ANSWERS = ["a", "b", "b", "b", "what", "a"]


def test_classification_equals_counting() -> None:
    figures = metrics.classification_scores(TRUTH, ANSWERS, ["a", "b", "c"])
    assert figures["accuracy"] == pytest.approx(100 * 4 / 6)
    assert figures["macro_f1"] == pytest.approx(100 * (2 * 2 / 5 + 2 * 2 / 5 + 0) / 3)
    assert metrics.classification_scores(TRUTH, TRUTH, ["a", "b", "c"]) == {"accuracy": 100.0, "macro_f1": 100.0}


def test_confusion_matrix_equals_the_library() -> None:
    labels = ["c", "a", "b"]
    matrix = metrics.confusion_matrix(TRUTH, ANSWERS, labels)
    assert matrix == [[0, 0, 0], [0, 2, 1], [0, 0, 2]]
    known = [(truth, answer) for truth, answer in zip(TRUTH, ANSWERS, strict=True) if answer in labels]
    assert matrix == sklearn.metrics.confusion_matrix(*zip(*known, strict=True), labels=labels).tolist()


def test_what_cannot_be_compared() -> None:
    for rows, texts in (([], []), (["a"], ["a", "b"])):
        for function in (metrics.classification_scores, metrics.confusion_matrix):
            with pytest.raises(DataError):
                function(rows, texts, ["a", "b"])
        with pytest.raises(DataError):
            metrics.rouge_scores([[row] for row in rows], texts)
