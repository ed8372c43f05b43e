"""Runs presets one after another on an idle machine and prints the table of presets in ``RESULTS.md``.

Usage: python tests/benchmarks/bench_presets.py [PRESET ...] [--set training.max_steps=300 ...]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from peft_studio.config.presets import list_presets  # noqa: E402

COLUMNS = (
    "| preset | trainable | share | seconds | val loss: base | after | fall "
    "| BLEU: base | after | chrF | slots | names |"
)


def run(preset: str, overrides: list[str], home: str) -> tuple[dict, float]:
    """Trains one preset in its own process; returns the CLI's JSON object and the wall time in seconds."""
    sets = [argument for item in overrides for argument in ("--set", item)]
    begun = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "peft_studio", "--home", home, "train", preset, *sets, "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(process.stdout.splitlines()[-1]), time.perf_counter() - begun


def row(preset: str, result: dict, seconds: float) -> str:
    """One line of the table; a missing metric is left blank."""
    metrics = result["metrics"]

    def show(name: str, digits: int = 1) -> str:
        return f"{metrics[name]:.{digits}f}" if name in metrics else ""

    before, after = metrics["base/eval/loss"], metrics["eval/loss"]
    cells = [
        preset, f"{result['trainable_params']:,}", f"{result['trainable_params'] / result['total_params']:.2%}",
        f"{seconds:.0f}", f"{before:.3f}", f"{after:.3f}", f"{1 - after / before:.0%}", show("base/test/bleu"),
        show("test/bleu"), show("test/chrf"), show("test/slot_accuracy"), show("test/name_accuracy"),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=list_presets())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    print(COLUMNS, "|" + " --- |" * (COLUMNS.count("|") - 1), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as home:
        for preset in args.presets:
            print(row(preset, *run(preset, args.set, home)), flush=True)


if __name__ == "__main__":
    main()
