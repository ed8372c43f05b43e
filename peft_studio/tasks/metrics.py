"""Metrics of generated text and of classes, through the field's own libraries so that they match what papers report.

The libraries are imported where they are used: a process that only lists tasks never loads them.
"""

from collections import Counter
from collections.abc import Sequence

from peft_studio.errors import DataError
from peft_studio.tasks.base import Row


def _check_counts(rows: int, predictions: int) -> None:
    if not rows:
        raise DataError("Scoring needs at least one row.")
    if rows != predictions:
        raise DataError(f"{predictions} predictions were given for {rows} rows.")


def _check_references(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> None:
    _check_counts(len(references), len(predictions))
    if not all(references):
        raise DataError("Scoring needs at least one reference in every row.")


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Turns references per row into streams per position, as sacrebleu wants them.

    Args:
        references: For each row its references; the number may differ between rows.

    Returns:
        As many lists as the longest row has references, each with one entry per row, ``None`` where a row has no more.
    """
    depth = max(map(len, references))
    return [[row[at] if at < len(row) else None for row in references] for at in range(depth)]


def corpus_scores(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU and chrF with sacrebleu's defaults, from 0 to 100.

    Args:
        references: For each row its accepted answers; leading and trailing space is ignored.
        predictions: One answer for each row.

    Raises:
        DataError: There are no rows, a row has no reference, or the lengths differ.
    """
    _check_references(references, predictions)
    from sacrebleu.metrics import BLEU, CHRF

    streams = reference_streams([[text.strip() for text in row] for row in references])
    texts = [text.strip() for text in predictions]
    return {
        "bleu": BLEU().corpus_score(texts, streams).score,  # type: ignore[arg-type]  # None means no more references
        "chrf": CHRF().corpus_score(texts, streams).score,  # type: ignore[arg-type]
    }


def rouge_scores(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L with rouge_score, without stemming, from 0 to 100.

    Each row counts with the best F-measure over its references; a score is the mean over rows. The library compares
    runs of the letters a to z and of digits only, so text in other scripts scores 0.

    Args:
        references: For each row its accepted answers.
        predictions: One answer for each row; may be empty.

    Returns:
        ``rouge1``, ``rouge2`` and ``rougeL``.

    Raises:
        DataError: There are no rows, a row has no reference, or the lengths differ.
    """
    _check_references(references, predictions)
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names, use_stemmer=False)
    totals = dict.fromkeys(names, 0.0)
    for row, text in zip(references, predictions, strict=True):
        found = [scorer.score(reference, text) for reference in row]
        for name in names:
            totals[name] += max(scores[name].fmeasure for scores in found)
    return {name: 100.0 * total / len(references) for name, total in totals.items()}


def classification_scores(
    targets: Sequence[str], predictions: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Accuracy and macro-averaged F1 with scikit-learn, from 0 to 100.

    Args:
        targets: The right class of each row.
        predictions: One answer for each row; what is none of the labels counts as wrong.
        labels: Names of all classes; each weighs the same in the macro average.

    Returns:
        ``accuracy`` and ``macro_f1``.

    Raises:
        DataError: There are no rows, or the lengths differ.
    """
    _check_counts(len(targets), len(predictions))
    from sklearn.metrics import accuracy_score, f1_score

    truth, answers, names = list(targets), list(predictions), list(labels)
    return {
        "accuracy": 100.0 * float(accuracy_score(truth, answers)),
        "macro_f1": 100.0 * float(f1_score(truth, answers, average="macro", labels=names, zero_division=0)),
    }


def confusion_matrix(targets: Sequence[str], predictions: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """How often each class was answered, for each true class.

    Args:
        targets: The right class of each row.
        predictions: One answer for each row; what is none of the labels is left out.
        labels: Names of all classes, in the order of rows and columns.

    Returns:
        One list for each true class, with one count for each answered class.

    Raises:
        DataError: There are no rows, or the lengths differ.
    """
    _check_counts(len(targets), len(predictions))
    counts = Counter(zip(targets, predictions, strict=True))
    return [[counts[truth, answer] for answer in labels] for truth in labels]


def percent(flags: Sequence[bool]) -> float:
    """Share of true flags, in percent.

    Raises:
        DataError: There are none.
    """
    if not flags:
        raise DataError("A share of nothing is not a number.")
    return 100.0 * sum(flags) / len(flags)


def score_texts(rows: Sequence[Row], predictions: Sequence[str]) -> dict[str, float]:
    """Scores texts: ``bleu``, ``chrf`` (sacrebleu), ``rouge1``, ``rouge2`` and ``rougeL``, against all references.

    Raises:
        DataError: There are no rows, or not as many predictions as rows.
    """
    references = [row.references for row in rows]
    return corpus_scores(references, predictions) | rouge_scores(references, predictions)


def score_labels(rows: Sequence[Row], predictions: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Scores class names: ``accuracy`` and ``macro_f1`` in percent.

    Raises:
        DataError: There are no rows, or not as many predictions as rows.
    """
    return classification_scores([row.target for row in rows], predictions, labels)
