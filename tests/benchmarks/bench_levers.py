"""What each thing gives that a run does to be fast: by itself, and when it alone is left out.

The ratios are of useful tokens per second, or per second of CPU time, made and measured as in ``bench_speed.py``. "By
itself" is beside a run that does none of these things, in its precision; what works within our own forward pass is
beside a run with that forward pass alone. What helps only models with frozen lower blocks shows with
``--method top_layers`` and more than 200 steps of 16 rows, which is one epoch.

Usage: python tests/benchmarks/bench_levers.py [--model nano-lm|135m] [--steps 20] [--turn 5]
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_speed import Child, race, with_common

EXACT = {
    "targets": ("only-targets", "only"),
    "grouping": ("only-grouping", "only"),
    "fused_optimizer": ("only-fused_optimizer", "only"),
    "lora": ("only-targets-lora", "only-targets"),
    "decoder": ("only-targets-decoder", "only-targets"),
    "norms": ("only-targets-decoder-norms", "only-targets-decoder"),
    "head": ("only-targets-decoder-head", "only-targets-decoder"),
    "last_block": ("only-targets-decoder-last_block", "only-targets-decoder"),
    "remember": ("only-targets-decoder-remember", "only-targets-decoder"),
}
LOW = {
    "cast_once": ("only-targets-cast_once-bf16", "only-targets-bf16"),
    "few_sizes": ("only-targets-cast_once-decoder-few_sizes-bf16", "only-targets-cast_once-decoder-bf16"),
}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(trl_python=sys.executable)
    options = with_common(parser)
    for chosen, suffix in ((EXACT, ""), (LOW, "-bf16")):
        left_out = {name: f"without-{name}{suffix}" for name in chosen if name != "targets"}
        names = [*dict.fromkeys(part for pair in chosen.values() for part in pair), *left_out.values()]
        found = {child.name: child for child in race([f"ours{suffix}", *names], options)}
        print(f"{options.model}, {options.method}, {'bf16' if suffix else 'fp32'}: second, CPU second")
        print("| lever | by itself | left out |\n|---|---|---|")
        for name, (with_it, plain) in chosen.items():
            alone = ratio(found[with_it], found[plain])
            last = ratio(found[f"ours{suffix}"], found[left_out[name]]) if name in left_out else "-"
            print(f"| {name} | {alone} | {last} |")


def ratio(mine: Child, other: Child) -> str:
    """The medians of the ratios of neighbouring turns, the first left out."""
    pairs = ((mine.rates, other.rates), (mine.thrift, other.thrift))
    return ", ".join(f"{statistics.median(a / b for a, b in list(zip(*pair, strict=True))[1:]):.2f}" for pair in pairs)


if __name__ == "__main__":
    main()
