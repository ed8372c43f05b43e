"""Metrics of generated text, through the field's own libraries so that they match what papers report."""

from collections.abc import Sequence

from peft_studio.errors import DataError


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
    if not references or not all(references):
        raise DataError("Scoring needs at least one row, and at least one reference in every row.")
    if len(references) != len(predictions):
        raise DataError(f"{len(predictions)} predictions were given for {len(references)} rows.")
    from sacrebleu.metrics import BLEU, CHRF

    streams = reference_streams([[text.strip() for text in row] for row in references])
    texts = [text.strip() for text in predictions]
    return {
        "bleu": BLEU().corpus_score(texts, streams).score,  # type: ignore[arg-type]  # None means no more references
        "chrf": CHRF().corpus_score(texts, streams).score,  # type: ignore[arg-type]
    }


def percent(flags: Sequence[bool]) -> float:
    """Share of true flags, in percent.

    Raises:
        DataError: There are none.
    """
    if not flags:
        raise DataError("A share of nothing is not a number.")
    return 100.0 * sum(flags) / len(flags)
