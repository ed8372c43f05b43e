"""Processor time of a pass forward and backward: LSG attention against full attention, in turns, at growing lengths.

Both are the same BERT with random weights, one text at a time. With LSG the time per token should stay as it is;
with full attention (transformers' ``sdpa``) it grows with the text.

Usage: python tests/benchmarks/bench_lsg.py [--lengths 512 1024 2048 4096] [--rounds 3] [--sparsity stride]
"""

import argparse
import copy
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as every process of the app has it

import torch  # noqa: E402
import transformers  # noqa: E402

from peft_studio.training.lsg import LSGConfig, enable_lsg, extend_positions  # noqa: E402


def make_models(length: int, settings: LSGConfig) -> dict[str, Any]:
    """The same model twice, in training mode without dropout."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=1000, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=1024,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    full = transformers.BertModel(config, add_pooling_layer=False)
    extend_positions(full, length)
    linear = copy.deepcopy(full)
    enable_lsg(linear, settings)
    return {"full": full, "lsg": linear}


def seconds(model: Any, ids: torch.Tensor) -> float:
    """Processor time of one pass forward and backward, which other programs on the machine hardly change."""
    mask = torch.ones_like(ids)
    start = time.process_time()
    model(ids, attention_mask=mask).last_hidden_state.square().mean().backward()
    spent = time.process_time() - start
    model.zero_grad()
    return spent


def main() -> None:
    """Prints medians, the time per token against that of the shortest text, and the ratio of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sparsity", default="stride")
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = make_models(max(options.lengths), LSGConfig(sparsity=options.sparsity))
    first: dict[str, float] = {}
    for length in options.lengths:
        ids = torch.randint(5, 1000, (1, length))
        spent: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(options.rounds + 1):
            for name, model in models.items():
                spent[name].append(seconds(model, ids))
        median = {name: statistics.median(times[1:]) for name, times in spent.items()}
        words = []
        for name, value in median.items():
            per_token = value / length * 1e6
            growth = per_token / first.setdefault(name, per_token)
            words.append(f"{name} {value * 1000:7.1f} ms, {per_token:6.1f} µs per token (x{growth:.2f})")
        print(f"{length:5d} tokens: {'; '.join(words)}; lsg / full {median['lsg'] / median['full']:.2f}", flush=True)


if __name__ == "__main__":
    main()
