"""Fixtures for everyone: a tiny base model with its tokenizer, a home folder, and how to run our programs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Before PyTorch is imported: on a busy machine, threads that spin for each other take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
TEXT = ("name: Biox Mill | food: Thai | price: cheap => Biox Mill is a cheap Thai place. ", "The old mill is near. ")


def make_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Writes a random two-layer Llama with biases and a byte-level tokenizer that round-trips any text."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>", "<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<eos>", eos_token="<eos>", pad_token="<pad>", padding_side="left"
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            attention_bias=True,
            mlp_bias=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
        model = LlamaForCausalLM(config)
        with torch.no_grad():  # random biases and norms, so that nothing is right by being zero or one
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
                else:  # large enough that what is said depends on all of the text
                    parameter.mul_(8)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny base model."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    folder = tmp_path / "home"
    (folder / "runs").mkdir(parents=True)
    (folder / "cache").mkdir()
    return folder


def run_studio(*argv: str, home: Path | None = None, timeout: float = 120, **env: str) -> subprocess.CompletedProcess:
    """Runs ``python -m peft_studio`` as a user does."""
    command = [sys.executable, "-m", "peft_studio", *argv]
    environment: dict[str, Any] = {**os.environ, **env}
    if home is not None:
        environment["PEFT_STUDIO_HOME"] = str(home)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(name="studio")
def studio_fixture() -> Any:
    """``run_studio``, for tests that cannot import this file."""
    return run_studio


def write_preset(folder: Path, model: Path, method: str = "lora", **training: Any) -> Path:
    """Writes a preset for a few steps of a method on a local model."""
    import yaml

    defaults = {"max_steps": 4, "batch_size": 4, "eval_every": 2, "eval_rows": 6, "max_length": 300, "warmup_steps": 1}
    path = folder / f"{method}.yaml"
    content = {
        "model": {"id": str(model)},
        "task": {"id": "bistro"},
        "method": {"name": method},
        "training": defaults | training,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@dataclass(frozen=True)
class TrainedRun:
    """A run that the command line has finished.

    Attributes:
        home: Its home folder.
        preset: The preset it was made from.
        result: What ``train --json`` printed last.
    """

    home: Path
    preset: Path
    result: dict[str, Any]

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.result["run_id"])

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.home / "runs" / self.id


def train_run(home: Path, preset: Path) -> TrainedRun:
    """Trains a preset through the command line."""
    done = run_studio("train", str(preset), "--json", home=home)
    assert done.returncode == 0, done.stderr
    return TrainedRun(home, preset, json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="session")
def lora_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A LoRA run on the tiny model."""
    folder = tmp_path_factory.mktemp("lora")
    return train_run(folder / "home", write_preset(folder, tiny_model, "lora"))


@pytest.fixture(scope="session")
def houlsby_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run with an adapter type of our own."""
    folder = tmp_path_factory.mktemp("houlsby")
    return train_run(folder / "home", write_preset(folder, tiny_model, "houlsby", weight_decay=0.1))


@pytest.fixture(name="train")
def train_fixture() -> Any:
    """``train_run``, for tests that cannot import this file."""
    return train_run
