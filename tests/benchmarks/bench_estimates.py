"""How long an estimate takes for models of Hub size, from their shapes alone, for every method.

    python tests/benchmarks/bench_estimates.py [--methods lora,ia3]

Prints the slowest methods of each shape in processor seconds, the base model's shapes and the figures of full
fine-tuning being at hand already; and how long the very first estimate takes, which makes those too.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError
from peft_studio.methods import METHODS
from peft_studio.models.catalog import resolve_model
from peft_studio.training.estimates.estimate import estimate
from peft_studio.training.quiet import be_quiet

SHAPES: dict[str, PreTrainedConfig] = {
    "135 M (SmolLM2)": LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    ),
    "600 M (Qwen3)": Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    ),
    "1.5 B (Qwen2.5)": Qwen2Config(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, tie_word_embeddings=True,
    ),
}  # fmt: skip


def lay_out(shape: PreTrainedConfig, folder: Path) -> None:
    """Writes what is looked at before a model is loaded: a tokenizer, and weights whose numbers are a hole."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    header, end = {}, 0
    for name, tensor in model.named_parameters():
        place = [end, end + 4 * tensor.numel()]
        header[name], end = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}, place[1]
    text = json.dumps(header).encode()
    weights = folder / "model.safetensors"
    weights.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(weights, 8 + len(text) + end)
    for file in Path(resolve_model("nano-lm")).glob("*token*"):
        shutil.copy(file, folder)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    be_quiet()
    for title, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            shape.save_pretrained(folder)
            lay_out(shape, Path(folder))
            configs = {
                name: parse_config({"model": {"id": folder}, "method": {"name": name}, "training": {}})
                for name in options.methods.split(",")
            }
            begun = time.process_time()
            estimate(resolve(configs[next(iter(configs))]))
            first = time.process_time() - begun
            found = []
            for name, config in configs.items():
                begun = time.process_time()
                with contextlib.suppress(ConfigError):  # BitFit: these models have no biases
                    estimate(resolve(config))
                found.append((time.process_time() - begun, name))
        found.sort(reverse=True)
        print(f"{title}: first {first:.2f} s, median {found[len(found) // 2][0]:.2f} s; slowest", end=" ")
        print(", ".join(f"{name} {seconds:.2f} s" for seconds, name in found[:6]), flush=True)


if __name__ == "__main__":
    main()
