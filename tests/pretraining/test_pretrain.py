"""Pre-training: a tiny run through the whole path, resuming, and the shipped weights."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from peft_studio.errors import ConfigError, ModelError
from peft_studio.models.catalog import MODELS
from peft_studio.pretraining import command as pretrain
from peft_studio.pretraining import probe
from peft_studio.pretraining.objectives import Denoising, MaskedTokens
from peft_studio.pretraining.plan import Plan
from peft_studio.pretraining.pretrainer import Pretrainer, pack


def tiny(tokens: int, **changes: object) -> Plan:
    values: dict = {
        "hidden": 16, "layers": 1, "heads": 2, "feed_forward": 32, "vocab": 300, "lr": 1e-2, "warmup_tokens": 500,
        "shard_documents": 12, "short": 48, "long": 64, "batch_tokens": 256, "library": False,
        "held_out_documents": 80,
    }  # fmt: skip
    return Plan(tokens=tokens, **(values | changes))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """More threads only wait for each other on matrices this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def silent(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pretrainer, Path]:
    folder = tmp_path_factory.mktemp("pretrain")
    run = Pretrainer(tiny(4000), folder / "work", silent, compiled=False)
    run.train()
    pretrain.finish(run, folder / "out")
    return run, folder / "out"


def test_the_loss_falls_and_the_run_ends_at_its_tokens(finished: tuple[Pretrainer, Path]) -> None:
    run, _ = finished
    assert 4000 <= run.progress.seen < 4000 + 256
    curve = run.progress.curve
    assert curve[-1]["loss"] < math.log(300) - 0.3
    assert {"held_out", "restate", "all_pieces", "later_pieces"} <= set(curve[-1])


def test_the_folder_loads_as_float32_from_float16(finished: tuple[Pretrainer, Path]) -> None:
    run, out = finished
    model = AutoModelForCausalLM.from_pretrained(out)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for (name, ours), theirs in zip(run.model.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(ours.half().float(), theirs), name
    text = "Zorvil 😀"
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_card_reports_the_run(finished: tuple[Pretrainer, Path]) -> None:
    run, out = finished
    card = (out / "README.md").read_text(encoding="utf-8")
    assert run.progress.digest in card
    assert f"{run.progress.seen:,} tokens" in card
    assert "license: apache-2.0" in card
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert record["losses"]["trigram"] < record["losses"]["unigram"]


def test_a_longer_run_resumed_as_a_shorter_one_equals_it(
    finished: tuple[Pretrainer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = finished
    longer = Pretrainer(tiny(9000), tmp_path, silent, compiled=False)
    save = longer.save_checkpoint

    def save_and_stop() -> None:
        save()
        if longer.progress.seen > 1000:
            raise KeyboardInterrupt

    monkeypatch.setattr(longer, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        longer.train()
    again = Pretrainer(run.plan, tmp_path, silent, compiled=False)
    again.resume()
    assert 0 < again.progress.seen <= run.plan.decay_start
    again.train()
    assert again.progress.digest == run.progress.digest
    for ours, theirs in zip(again.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_resume_refuses_what_does_not_fit(finished: tuple[Pretrainer, Path], tmp_path: Path) -> None:
    run, _ = finished
    with pytest.raises(ModelError, match="no checkpoint"):
        Pretrainer(tiny(4000), tmp_path, silent, compiled=False).resume()
    with pytest.raises(ConfigError, match="another plan"):
        Pretrainer(tiny(9000, lr=2e-2), run.work, silent, compiled=False).resume()
    with pytest.raises(ConfigError, match="learning rate"):
        Pretrainer(tiny(300), run.work, silent, compiled=False).resume()


def test_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    plan = Plan(tokens=10_000_000)
    assert plan.rate(0) < 0.02 * plan.lr
    assert plan.rate(1_000_000) == plan.rate(plan.decay_start) == plan.lr
    assert plan.rate(plan.tokens) == 0
    assert plan.rate((plan.decay_start + plan.tokens) // 2) == pytest.approx(plan.lr / 2)


def test_rows_begin_where_a_document_begins() -> None:
    rows = pack([[5, 6, 7], [8, 9], [10, 11, 12, 13]], length=4)
    assert rows.tolist() == [[5, 6, 7, 0, 8], [10, 11, 12, 13, 0]]


def test_trigram_probabilities_sum_to_one() -> None:
    stream = np.array([2, 3, 4, 2, 3, 5, 2, 3, 4, 0, 4], dtype=np.uint16)
    grams = probe.NGrams([stream], 6)
    for context in ([2, 3], [3, 4], [5, 5]):
        total = 0.0
        for word in range(6):
            short = grams.losses(np.array([context], dtype=np.uint16))["trigram"]
            full = grams.losses(np.array([[*context, word]], dtype=np.uint16))["trigram"]
            total += math.exp(-(2 * full - short))
        assert total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "loader"), [("nano-encoder", AutoModelForMaskedLM), ("nano-seq2seq", AutoModelForSeq2SeqLM)]
)
def test_models_that_rebuild_broken_text_are_made_in_the_same_way(name: str, loader: Any, tmp_path: Path) -> None:
    run = Pretrainer(tiny(6000, layers=2, model=name), tmp_path / "work", silent, compiled=False)
    run.train()
    pretrain.finish(run, tmp_path / "out", name)
    assert run.progress.curve[-1]["held_out"] < math.log(300) - 0.2
    model, tokenizer = loader.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    for (key, ours), theirs in zip(run.model.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(ours.half().float(), theirs), key
    ids = tokenizer("Zorvil")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    record = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert set(record["losses"]) == {name, "token frequencies"}
    assert "Greedy answers" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_masks_hide_a_fixed_share_of_the_text_and_never_marks() -> None:
    rows = np.random.default_rng(0).integers(4, 300, (5, 41))
    rows[:, 0] = 0
    batch = MaskedTokens().prepare(rows, np.random.default_rng(1))
    assert batch["places"].shape == (5, 8)
    assert (batch["places"] > 0).all()
    assert torch.equal(batch["targets"], torch.from_numpy(rows[:, :-1]).gather(1, batch["places"]))


def test_holes_show_one_mask_each_and_the_rest_stays_in_order() -> None:
    rows = np.random.default_rng(0).integers(4, 300, (5, 61))
    batch = Denoising().prepare(rows, np.random.default_rng(1))
    for source, true in zip(batch["source"].tolist(), batch["targets"].tolist(), strict=True):
        kept = [token for token in source if token not in (1, 3)]
        assert 3 in source and 0.6 * len(true) < len(kept) < 0.75 * len(true)
        remaining = iter(true)
        assert all(token in remaining for token in kept)
    assert torch.equal(batch["given"][:, 1:], batch["targets"][:, :-1])


def test_command_line() -> None:
    args = pretrain.parse(["nano-lm", "--tokens", "5000", "--seed", "3", "--threads", "1", "--resume"])
    assert (args.tokens, args.seed, args.threads, args.resume) == (5000, 3, 1, True)


def test_the_shipped_model_copies_names_it_has_never_seen() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODELS["nano-lm"].path).eval()
    tokenizer = AutoTokenizer.from_pretrained(MODELS["nano-lm"].path)
    assert sum(p.numel() for p in model.parameters()) < 4_500_000
    assert sum(path.stat().st_size for path in Path(str(MODELS["nano-lm"].path)).iterdir()) < 10_000_000
    assert any(name.endswith("q_proj.bias") for name, _ in model.named_parameters())
    assert probe.restate_probe(model, tokenizer.backend_tokenizer, lists=15) >= 0.8
