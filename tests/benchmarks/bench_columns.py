"""Side-by-side answers: adapters in one batch against one after another, and how long a switch of adapters takes.

    python tests/benchmarks/bench_columns.py [--model nano-lm] [--tokens 96] [--rounds 7]

Each round answers the same prompt in both ways, one directly after the other; the ratio of a round is of tokens per
second, and the figure is the median over rounds. The greedy texts of both ways are compared, too; no text ends before
its last token, so that both ways do the same work.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from peft_studio.config.sampling import Sampling
from peft_studio.methods import get_method
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.inference.generate import stream_columns
from peft_studio.training.inference.model_pool import ModelPool, columns_of
from peft_studio.training.load import attach, load_base
from peft_studio.training.quiet import be_quiet

SETS = {
    "five LoRA adapters": ("lora",) * 5,
    "five stacked kinds": ("lora", "lora_plus", "ia3", "houlsby", "pfeiffer"),
    "five asked by row": ("hira", "vera", "oft", "layernorm_head", "full"),
}
PROMPT = "name: Biox Mill | food: Thai | area: riverside =>"
CHANGE = 0.02  # standard deviation of the noise that makes adapters say different things


def make_adapter(model_id: str, method: str, seed: int, folder: Path) -> None:
    """Saves an adapter with random weights."""
    model = attach(load_base(model_id)[0], get_method(method))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * CHANGE)
    save_adapter(model, folder)


def rate(
    columns: Sequence[tuple[str, Any]], tokenizer: Any, tokens: int, groups: Any = None
) -> tuple[float, list[str]]:
    """Tokens per second of some columns, and their texts."""
    sampling = Sampling(max_new_tokens=tokens)
    *_, states = stream_columns(columns, tokenizer, PROMPT, sampling, groups=groups)
    seconds = max(state["seconds"] for state in states)
    return sum(state["tokens"] for state in states) / seconds, [state["text"] for state in states]


def one_by_one(columns: Sequence[tuple[str, Any]], tokenizer: Any, tokens: int) -> tuple[float, list[str]]:
    """The same, each column after the one before it has ended."""
    found = [rate([column], tokenizer, tokens) for column in columns]
    return len(found) / sum(1 / speed for speed, _ in found), [text for _, texts in found for text in texts]


def compare(pool: ModelPool, model_id: str, adapters: list[tuple[str, str, Path]], tokens: int, rounds: int) -> str:
    """A line of the table."""
    columns = columns_of(pool, model_id, adapters)[1:]
    tokenizer = pool.base(model_id)[1]
    groups = pool.groups(columns, model_id)
    rate(columns, tokenizer, tokens, groups)  # what the first call sets up is not part of the comparison
    ratios, same = [], True
    for _ in range(rounds):
        alone, texts = one_by_one(columns, tokenizer, tokens)
        shared, others = rate(columns, tokenizer, tokens, groups)
        ratios.append(shared / alone)
        same &= texts == others
    return f"{statistics.median(ratios):.2f} times the tokens per second; texts {'identical' if same else 'DIFFER'}"


def switch(model_id: str, folders: Sequence[Path]) -> float:
    """Median seconds to put an adapter that is on disk only beside its base."""
    pool = ModelPool()
    pool.base(model_id)
    found = []
    for folder in folders:
        begun = time.perf_counter()
        pool.adapter(model_id, folder)
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano-lm")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    be_quiet()
    with tempfile.TemporaryDirectory() as home:
        for title, methods in SETS.items():
            folders = [Path(home) / f"{title}-{number}-{method}" for number, method in enumerate(methods)]
            for seed, (method, folder) in enumerate(zip(methods, folders, strict=True)):
                make_adapter(options.model, method, seed, folder)
            pool = ModelPool()
            base, tokenizer = pool.base(options.model)
            tokenizer.eos_token = base.generation_config.eos_token_id = None
            adapters = [(folder.name, options.model, folder) for folder in folders]
            line = compare(pool, options.model, adapters, options.tokens, options.rounds)
            print(f"{title}: {line}; switching takes {1000 * switch(options.model, folders):.0f} ms", flush=True)


if __name__ == "__main__":
    main()
