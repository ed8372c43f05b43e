"""Fixtures for everyone: a tiny base model with its tokenizer, a home folder, and how to run our programs."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.testclient import TestClient

# Before PyTorch is imported: on a busy machine, threads that spin for each other take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models need no more, and there is a test process for every core

ROOT = Path(__file__).resolve().parent.parent
SHARING = {
    "browser": ("tests/browser/",),
    "ray": ("tests/jobs/executors/test_executors.py", "tests/jobs/executors/ray/"),
    "library": ("tests/tasks/test_defects.py", "tests/tasks/test_docstrings.py", "tests/tasks/test_kept_rows.py"),
}
"""Tests that share something costly: an app with trained runs, a Ray cluster, rows out of Python's own library. One
process runs them all."""
LONGEST_FIRST = (
    "browser", "ray", "tests/methods/", "tests/abuse/", "tests/cli/", "library", "tests/doctor/test_doctor_real.py",
    "tests/jobs/", "tests/archives/", "tests/test_engine.py", "tests/training/", "tests/homes/",
)  # fmt: skip
"""Groups, or beginnings of their names, in the order in which test processes take them, before all others."""


def _turn(group: str) -> int:
    return next((turn for turn, name in enumerate(LONGEST_FIRST) if group.startswith(name)), len(LONGEST_FIRST))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Says which tests one of several test processes is to run together: those of a file, or of a costly thing."""
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        shared = (name for name, starts in SHARING.items() if path.startswith(starts))
        item.add_marker(pytest.mark.xdist_group(next(shared, path)))
    items.sort(key=lambda item: _turn(item.get_closest_marker("xdist_group").args[0]))  # or a long one begins last
    yield
    if getattr(config.option, "loadgroup", False) and not all("@" in item.nodeid for item in items):
        raise pytest.UsageError("pytest-xdist does not group tests under this pytest: each process would run all.")


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


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end, in a thread of its own: where the browser's tests ran, this one has a loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


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


FAMILY_TEXT = (
    "name: Biox Mill | food: Thai | price: cheap => Biox Mill is a cheap Thai place.",
    "The old mill is near the river, and the food is good.",
    "def add(a, b): return a + b",
)
COMMON = {"vocab_size": 300, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ENCODER = {**DECODER, "max_position_embeddings": 130, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**DECODER, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {**DECODER, "num_key_value_heads": 2, "head_dim": 16},
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "resid_pdrop": 0,
        "embd_pdrop": 0,
        "attn_pdrop": 0,
    },
    "gpt_neox": {**DECODER, "max_position_embeddings": 128},
    "opt": {**DECODER, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0, "max_position_embeddings": 128},
    "bert": ENCODER,
    "roberta": ENCODER,
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0,
    },
    "modernbert": {
        **DECODER,
        "max_position_embeddings": 128,
        "cls_token_id": 0,
        "sep_token_id": 2,
        "reference_compile": False,
    },
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 1,
    },
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_start_token_id": 2,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "dropout": 0.0,
        "max_position_embeddings": 128,
    },
}
ENCODERS = ("bert", "roberta", "distilbert", "modernbert")


def make_tokenizer(marks: bool) -> Any:
    """A byte-level tokenizer; with marks, every text stands between <s> and </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(FAMILY_TEXT, trainer)
    if marks:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>")


def make_family(folder: Path, family: str) -> Path:
    """Writes a model whose weights, biases and norms are all random, so that nothing is right by being zero or one."""
    import torch
    import transformers

    is_encoder, is_pair = family in ENCODERS, family in ("t5", "bart")
    config = transformers.AutoConfig.for_model(family, **(COMMON | FAMILIES[family]))
    auto = transformers.AutoModelForSeq2SeqLM if is_pair else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (transformers.AutoModelForMaskedLM if is_encoder else auto).from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                small = name.endswith("bias") or "norm" in name.lower() or "ln_" in name or family == "t5"
                parameter.add_(torch.randn_like(parameter) * 0.1) if small else parameter.mul_(6)
    model.save_pretrained(folder)
    make_tokenizer(marks=is_encoder or is_pair).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of all families."""
    root = tmp_path_factory.mktemp("families")
    return {family: make_family(root / family, family) for family in FAMILIES}


@pytest.fixture
def gated() -> Callable[..., TestClient]:
    """Makes a client of routes behind the gate: its caller is the owner, whoever else it says."""

    def client(routes: Sequence[BaseRoute], home: Path, **settings: Any) -> TestClient:
        from peft_studio.access.gate import Gate
        from peft_studio.settings import Settings

        gate = Middleware(Gate, settings=Settings(home=home, no_token=True, **settings))
        app = Starlette(routes=routes, middleware=[gate])
        return TestClient(app, base_url="http://testserver", client=("127.0.0.1", 50000))

    return client
