"""The answer of an experiment: means, spreads, and which differences are more than chance.

Where the metric is computed from answers to test rows, rows and seeds are drawn again together, the rows the same for
all cells (Koehn 2004, https://aclanthology.org/W04-3250). With one seed that is sacrebleu's paired bootstrap, with its
p-value, and of one cell alone `scipy.stats.bootstrap` over rows; the tests compare them. Where a run has one figure
only, as a validation loss, the interval of a cell is `scipy.stats.bootstrap` over seeds, that of a difference Welch's,
since a bootstrap of three values is too narrow, and p is `scipy.stats.permutation_test`, over pairs of the same seed.
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[Any]]

DRAWS = 1000
CONFIDENCE = 0.95
UNITS = {"bleu": "BLEU", "chrf": "chrF", "accuracy": "% accuracy", "rougeL": "ROUGE-L", "loss": "nats"}


@dataclass(frozen=True)
class CellFigures:
    """What came of a cell.

    Attributes:
        name: The cell's.
        values: The metric by seed, of the runs that have it.
        mean: Their mean; None without any.
        spread: Their standard deviation; None with fewer than two.
        failed: Runs that are over without the metric.
    """

    name: str
    values: tuple[float, ...]
    mean: float | None
    spread: float | None
    failed: int


@dataclass(frozen=True)
class Duel:
    """Two cells beside each other.

    Attributes:
        better: Name of the one whose mean is better.
        worse: Name of the other.
        difference: Of their means, above zero.
        low: Lower end of its confidence interval; below zero where chance could turn it round.
        high: Upper end.
        tie: Whether the interval holds zero, or cannot be computed.
        seeds: The smaller number of runs of the two.
        p: How often chance alone would give such a difference; None where that cannot be said.
    """

    better: str
    worse: str
    difference: float
    low: float | None
    high: float | None
    seeds: int
    p: float | None = None

    @property
    def tie(self) -> bool:
        """Whether the two cannot be told apart."""
        return self.low is None or self.low <= 0

    def words(self, metric: str) -> str:
        """The outcome as a sentence."""
        if self.tie:
            runs = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
            return f"{self.better} and {self.worse} cannot be told apart with {runs}."
        unit, digits = unit_of(metric)
        ends = sorted((self.low or 0, self.high or 0))
        gap, low, high = (f"{value:.{digits}f}" for value in (self.difference, *ends))
        if is_many(self.better):
            return f"{self.better} beat {self.worse} by {gap} {unit} [{low}, {high}]."
        return f"{self.better} beats {self.worse} by {gap} {unit} [{low}, {high}]."


def unit_of(metric: str) -> tuple[str, int]:
    """What a metric is counted in, and with how many digits behind the point."""
    unit = UNITS.get(metric.rpartition("/")[2], metric)
    return unit, 3 if unit == "nats" else 1


def is_many(name: str) -> bool:
    """Whether a name stands for several things, such as ``30 rows`` and ``Houlsby adapters``."""
    return name[-1:] == "s" and name[-2:-1].islower() and name[-2:-1] != "s"


def row_of(name: str, values: Sequence[float], failed: int = 0) -> CellFigures:
    """A row of the table."""
    return CellFigures(
        name,
        tuple(values),
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
        failed,
    )


def duels(
    rows: Sequence[CellFigures], lower_is_better: bool, drawn: Mapping[str, "Matrix"] | None = None
) -> list[Duel]:
    """Every pair of cells that have figures.

    Args:
        rows: The table.
        lower_is_better: Which way is better.
        drawn: The metric of each cell under each draw of rows and seeds, (DRAWS,); None where there are no rows.
    """
    found = []
    for one, other in combinations([row for row in rows if row.values], 2):
        gap = (one.mean or 0) - (other.mean or 0)
        sign = -1 if (gap > 0) == lower_is_better and gap else 1
        better, worse = (one, other) if sign > 0 else (other, one)
        if drawn and better.name in drawn and worse.name in drawn:
            apart = drawn[better.name] - drawn[worse.name]
            ends: tuple[float | None, float | None] = ends_of(-apart if lower_is_better else apart)
            p: float | None = chance_of(apart, abs(gap))
        else:
            ends = _welch(better.values, worse.values, lower_is_better)
            p = _permuted(better.values, worse.values)
        seeds = min(len(one.values), len(other.values))
        found.append(Duel(better.name, worse.name, abs(gap), *ends, seeds, p))
    return found


def ends_of(drawn: "Matrix") -> tuple[float, float]:
    """The middle 95 % of draws, (DRAWS,)."""
    import numpy as np

    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (edge, 1 - edge))
    return float(low), float(high)


def chance_of(apart: "Matrix", gap: float) -> float:
    """How often a difference so far from the usual one is drawn, as sacrebleu counts it.

    Args:
        apart: Differences that were drawn, (DRAWS,).
        gap: The difference that there is, above zero.
    """
    import numpy as np

    sizes = np.abs(apart)
    return float((np.sum(sizes - sizes.mean() > gap) + 1) / (len(sizes) + 1))


def _permuted(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The exact share of exchanges of names that give a difference as large; by pairs where both have all seeds."""
    if min(len(one), len(other)) < 2:
        return None
    import numpy as np
    from scipy.stats import permutation_test

    def apart(first: "Matrix", second: "Matrix", axis: int) -> "Matrix":
        return np.asarray(np.mean(first, axis=axis) - np.mean(second, axis=axis))

    kind = "samples" if len(one) == len(other) else "independent"
    found = permutation_test((one, other), apart, permutation_type=kind, vectorized=True, rng=0)
    return float(found.pvalue)


def interval_of(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """The interval of a mean over seeds; none of one seed."""
    if len(values) < 2:
        return None, None
    if len(set(values)) == 1:
        return values[0], values[0]
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap((values,), np.mean, confidence_level=CONFIDENCE, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _welch(
    better: Sequence[float], worse: Sequence[float], lower_is_better: bool
) -> tuple[float | None, float | None]:
    """The interval of a difference of means, from the spread over seeds; None with fewer than two runs of each."""
    if min(len(better), len(worse)) < 2:
        return None, None
    if len(set(better)) == len(set(worse)) == 1:  # no spread at all: as far apart as they are
        gap = abs(better[0] - worse[0])
        return gap, gap
    from scipy.stats import ttest_ind

    first, second = (worse, better) if lower_is_better else (better, worse)
    interval = ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def draw(runs: Mapping[str, Sequence["RowStatistics"]], seed: int = 0) -> dict[str, "Matrix"]:
    """The metric of each cell under draws of test rows and seeds.

    Args:
        runs: Of each cell its runs' answers; all to the same rows.
        seed: Of the draws.

    Returns:
        By cell, (DRAWS,).
    """
    import numpy as np

    chance = np.random.default_rng(seed)
    count = len(next(iter(runs.values()))[0].statistics)
    weights = chance.multinomial(count, np.full(count, 1 / count), size=DRAWS)  # (DRAWS, rows): how often each counts
    found = {}
    for name, answers in runs.items():
        scores = np.array([_scores(one, weights) for one in answers])  # (seeds, DRAWS)
        picked = chance.integers(0, len(answers), size=(len(answers), DRAWS))  # (seeds, DRAWS)
        found[name] = np.take_along_axis(scores, picked, axis=0).mean(axis=0)
    return found


@dataclass(frozen=True)
class RowStatistics:
    """A run's answers to test rows, as a metric counts them.

    Attributes:
        statistics: What the metric sums over rows, (rows, numbers).
        score: The metric of such a sum, (numbers,).
    """

    statistics: "Matrix"
    score: Callable[["Matrix"], float]


def _scores(answers: RowStatistics, weights: "Matrix") -> list[float]:
    sums = weights @ answers.statistics  # (DRAWS, numbers)
    return [answers.score(one) for one in sums]


def read_answers(path: Path, metric: str, tokenizer: str = "13a") -> RowStatistics | None:
    """The answers of a run, for a metric that is computed from them; None for another metric.

    Args:
        path: Its ``predictions.jsonl``.
        metric: Such as ``test/bleu``.
        tokenizer: Sacrebleu's, for BLEU.

    Raises:
        DataError: The file is missing or damaged.
    """
    import numpy as np

    name = metric.rpartition("/")[2]
    if not metric.startswith("test/") or name not in ("bleu", "chrf", "accuracy"):
        return None
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        said = [row["prediction"].strip() for row in rows]
        right = [[text.strip() for text in row["references"]] for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DataError(f"The answers of the run {path.parent.name} cannot be read.") from exc
    if name == "accuracy":
        hits = [[float(answer in wanted), 1.0] for answer, wanted in zip(said, right, strict=True)]
        return RowStatistics(np.array(hits), lambda total: 100 * float(total[0] / total[1]))
    from sacrebleu.metrics import BLEU, CHRF

    from peft_studio.tasks.metrics import reference_streams

    scorer = BLEU(tokenize=tokenizer) if name == "bleu" else CHRF()
    streams: Any = reference_streams(right)  # None stands for no more references
    counts = np.array(scorer._extract_corpus_statistics(said, streams))  # (rows, numbers)
    return RowStatistics(counts, lambda total: float(scorer._compute_score_from_stats(total.tolist()).score))
