"""Computes the figures of an experiment again from the answers of its runs, with nothing of ours, and compares.

    python -m tests.audit.experiment_figures HOME EXPERIMENT_ID

Reads ``experiments/ID`` and ``runs/*/predictions.jsonl`` as plain files; what the app says comes from the command
line, ``experiment show --json``. BLEU, chrF and accuracy are sacrebleu's and plain counting; the paired bootstrap is
written out with numpy, of rows and seeds, and its ends may differ from ours by what 1,000 draws leave to chance.
Exits with 1 when a figure differs.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

DRAWS = 400


def rows_of(home: Path, run: str) -> tuple[list[str], list[list[str]], list[str] | None]:
    """Answers, accepted answers, and the base model's answers."""
    lines = (home / "runs" / run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    base = [row["base"].strip() for row in rows] if "base" in rows[0] else None
    return [row["prediction"].strip() for row in rows], [row["references"] for row in rows], base


def score(metric: str, said: list[str], right: list[list[str]]) -> float:
    """The metric of some answers."""
    if metric == "test/accuracy":
        return 100 * sum(one in wanted for one, wanted in zip(said, right, strict=True)) / len(said)
    most = max(map(len, right))
    streams = [[wanted[place].strip() if place < len(wanted) else None for wanted in right] for place in range(most)]
    scorer = BLEU() if metric == "test/bleu" else CHRF()
    return float(scorer.corpus_score(said, streams).score)  # type: ignore[arg-type]


def drawn(metric: str, runs: list[Any], picks: Any, chance: Any) -> Any:
    """The mean of a cell under draws of rows, which are given, and of seeds."""
    found = []
    for pick in picks:
        seeds = chance.integers(0, len(runs), len(runs))
        scores = [score(metric, [runs[one][0][row] for row in pick], [runs[one][1][row] for row in pick])
                  for one in seeds]  # fmt: skip
        found.append(np.mean(scores))
    return np.array(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("experiment")
    options = parser.parse_args()
    command = [sys.executable, "-m", "peft_studio", "experiment", "show", options.experiment, "--json"]
    told = subprocess.run(
        command, env={**os.environ, "PEFT_STUDIO_HOME": str(options.home)}, capture_output=True, text=True, check=True
    )
    answer, wrong = json.loads(told.stdout), []
    metric = answer["metric"]

    def check(name: str, ours: float, theirs: float, allowed: float = 1e-6) -> None:
        equal = abs(ours - theirs) <= allowed
        print(f"{'equal' if equal else 'DIFFERS':8} {name}: {ours:.6f} {theirs:.6f}")
        wrong.extend([] if equal else [name])

    cells: dict[str, list[Any]] = {}
    for row in answer["table"]:
        cells[row["name"]] = runs = [rows_of(options.home, run) for run in row["runs"]]
        values = [score(metric, said, right) for said, right, _ in runs]
        for place, (ours, theirs) in enumerate(zip(row["figures"], values, strict=True)):
            check(f"{row['name']}, run {place + 1}", ours, theirs)
        check(f"{row['name']}, mean", row["mean"], float(np.mean(values)))
        if len(values) > 1:
            check(f"{row['name']}, spread", row["spread"], float(np.std(values, ddof=1)))
    said, right, base = next(iter(cells.values()))[0]
    if base and answer["base"]["mean"] is not None:
        check("base model", answer["base"]["mean"], score(metric, base, right))
    chance = np.random.default_rng(7)
    picks = chance.integers(0, len(said), (DRAWS, len(said)))
    draws = {name: drawn(metric, runs, picks, chance) for name, runs in cells.items()}
    for duel in answer["duels"]:
        apart = draws[duel["better"]] - draws[duel["worse"]]
        low, high = np.quantile(-apart if answer["lower_is_better"] else apart, (0.025, 0.975))
        near = 0.15 * (duel["high"] - duel["low"]) + 0.05  # what so few draws leave to chance
        pair = f"{duel['better']} and {duel['worse']}"
        check(f"{pair}, low", duel["low"], float(low), near)
        check(f"{pair}, high", duel["high"], float(high), near)
    print(f"{len(wrong)} figures differ." if wrong else "All figures are equal.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
