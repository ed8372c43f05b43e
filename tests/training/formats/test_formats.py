"""How rows meet each kind of model, and whole runs of models that classify or read with an encoder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError, DataError
from peft_studio.methods import METHODS
from peft_studio.runs.paths import RunPaths
from peft_studio.tasks.base import Row
from peft_studio.training import trainer
from peft_studio.training.formats.formats import Labelling, SourceTarget, evaluation_batches, format_for
from peft_studio.training.load import attach, layout_of, load_base

LABELS = ("good", "bad")
TEXTS = [Row(f"The food is {label}, said number {number}.", label) for number in range(6) for label in LABELS]


def write_classes(folder: Path, rows: int = 40) -> Path:
    file = folder / "rows.csv"
    lines = [f"The food is {LABELS[number % 2]} {number * 37 % 101},{LABELS[number % 2]}" for number in range(rows)]
    file.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_texts(folder: Path) -> Path:
    file = folder / "pairs.jsonl"
    rows = [{"source": f"name: Biox {number} =>", "target": f"Place {number}."} for number in range(40)]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return file


def run_config(model: Path, file: Path, method: str = "lora", attention: str = "full", **training: Any) -> RunConfig:
    settings = {"max_steps": 4, "batch_size": 4, "eval_every": 2, "eval_rows": 8, "max_length": 64, "warmup_steps": 1}
    return parse_config(
        {
            "model": {"id": str(model), "attention": attention},
            "task": {"id": "custom", "train_file": str(file)},
            "method": {"name": method},
            "training": settings | training,
        }
    )


@pytest.fixture
def do(tmp_path: Path) -> Callable[[RunConfig], list[dict[str, Any]]]:
    """Runs a config to its end in this process; gives its events."""

    def run(config: RunConfig) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        paths = RunPaths(tmp_path / "runs" / "run")
        paths.root.mkdir(parents=True, exist_ok=True)
        trainer.run(
            resolved=resolve(config),
            paths=paths,
            emit=lambda kind, **fields: events.append({"kind": kind, **fields}),
            should_stop=lambda: False,
            threads=1,
        )
        return events

    return run


def found(events: list[dict[str, Any]], name: str) -> list[float]:
    return [event["metrics"][name] for event in events if event["kind"] == "eval" and name in event["metrics"]]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "llama", "gpt2"])
@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_padding_does_not_change_the_classes(family: str, method: str, families: dict[str, Path]) -> None:
    base, tokenizer = load_base(str(families[family]), labels=LABELS)
    base.config.pad_token_id = 1
    form = format_for(layout_of(base), tokenizer, LABELS)
    assert isinstance(form, Labelling)
    torch.manual_seed(0)
    model = attach(base, METHODS[method]).eval()
    short, long = "Good.", "The food is good, and so is the room with a view of the river."
    together = form.probabilities(model, [short, long])
    alone = torch.cat([form.probabilities(model, [short]), form.probabilities(model, [long])])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_source_and_target_loss_equals_the_models_own(family: str, families: dict[str, Path]) -> None:
    base, tokenizer = load_base(str(families[family]))
    form = format_for(layout_of(base), tokenizer)
    assert isinstance(form, SourceTarget)
    rows = [Row("name: Biox Mill =>", "A place."), Row("food: Thai =>", "Thai food, and cheap.")]
    batch = form.inputs(form.encode(rows, 64).examples)
    with torch.no_grad():
        torch.testing.assert_close(form.loss(base, batch), base(**batch).loss)
    assert all(target[-1] == tokenizer.eos_token_id for target in (e.ids for e in form.encode(rows, 64).examples))
    together = form.answers(base, rows, 8, lambda: False)
    assert together == [form.answers(base, [row], 8, lambda: False)[0] for row in rows]  # type: ignore[index]


def test_long_texts_are_cut_on_the_right_and_counted(families: dict[str, Path]) -> None:
    base, tokenizer = load_base(str(families["bert"]), labels=LABELS)
    form = format_for(layout_of(base), tokenizer, LABELS)
    encoded = form.encode(TEXTS, 8)
    assert encoded.cut == len(TEXTS)
    assert {len(example.ids) for example in encoded.examples} == {9}
    assert {example.ids[7] for example in encoded.examples} == {tokenizer.eos_token_id}
    assert sum(len(batch["labels"]) for batch in evaluation_batches(encoded.examples, form)) == len(TEXTS)
    with pytest.raises(DataError, match="'ugly' is not one of good, bad"):
        form.encode([Row("x", "ugly")], 8)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_classifier_is_trained_saved_and_scored(
    family: str, families: dict[str, Path], do: Callable[[RunConfig], list[dict[str, Any]]], tmp_path: Path
) -> None:
    events = do(run_config(families[family], write_classes(tmp_path)))
    (saved,) = [event for event in events if event["kind"] == "saved"]
    assert saved["check"]["max_difference"] < 1e-5
    assert found(events, "base/eval/loss") == [pytest.approx(0.6931, abs=0.1)]
    lines = (tmp_path / "runs" / "run" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for metric, answer in (("test/accuracy", "prediction"), ("base/test/accuracy", "base")):
        right = sum(row[answer] == row["target"] for row in rows)
        assert found(events, metric) == [pytest.approx(100 * right / len(rows))]
    assert len({row["base"] for row in rows}) == 1  # always the most frequent label


def test_encoder_decoder_is_trained_saved_and_scored(
    families: dict[str, Path], do: Callable[[RunConfig], list[dict[str, Any]]], tmp_path: Path
) -> None:
    events = do(run_config(families["t5"], write_texts(tmp_path), max_steps=6))
    (saved,) = [event for event in events if event["kind"] == "saved"]
    assert saved["check"]["max_difference"] < 1e-4
    assert found(events, "eval/loss")[-1] < found(events, "base/eval/loss")[0]
    assert found(events, "test/bleu") and found(events, "test/rougeL")


def test_lsg_attention_reads_texts_longer_than_the_model_was_made_for(
    families: dict[str, Path], do: Callable[[RunConfig], list[dict[str, Any]]], tmp_path: Path
) -> None:
    file = tmp_path / "long.csv"
    lines = [f"{number} {'food is nice here ' * 40} {LABELS[number % 2]},{LABELS[number % 2]}" for number in range(24)]
    file.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    events = do(run_config(families["roberta"], file, attention="lsg", max_length=400, max_steps=2))
    (started,) = [event for event in events if event["kind"] == "started"]
    assert started["data"]["max_length"] == 400
    (saved,) = [event for event in events if event["kind"] == "saved"]
    assert saved["check"]["max_difference"] < 1e-5


def test_lsg_settings_of_a_config_reach_the_model(families: dict[str, Path], tmp_path: Path) -> None:
    model = {"id": str(families["roberta"]), "attention": "lsg", "lsg_block_size": 32, "lsg_sparse_block_size": 16}
    task = {"id": "custom", "train_file": str(write_classes(tmp_path))}
    config = parse_config({"model": model, "task": task, "method": {"name": "lora"}, "training": {}})
    base, _ = load_base(config.model.id, labels=LABELS, lsg=config.lsg)
    kept = base.config.lsg
    assert (kept["block_size"], kept["sparse_block_size"], kept["sparsity_factor"]) == (32, 16, 4)


def test_accumulated_batches_equal_one_large_batch(
    families: dict[str, Path], do: Callable[[RunConfig], list[dict[str, Any]]], tmp_path: Path
) -> None:
    losses = []
    for size, times in ((8, 1), (4, 2)):
        config = run_config(
            families["llama"], write_texts(tmp_path), batch_size=size, gradient_accumulation=times, max_steps=1
        )
        events = do(config)
        losses.append([event["loss"] for event in events if event["kind"] == "step"])
        norms = [event["grad_norm"] for event in events if event["kind"] == "step"]
        losses[-1] += norms
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_early_stopping_keeps_the_best_weights(
    families: dict[str, Path], do: Callable[[RunConfig], list[dict[str, Any]]], tmp_path: Path
) -> None:
    config = run_config(
        families["llama"], write_texts(tmp_path), max_steps=40, eval_every=1, early_stopping=1, learning_rate=3.0
    )
    events = do(config)
    steps = [event for event in events if event["kind"] == "step"]
    losses = found(events, "eval/loss")
    assert len(steps) == len(losses) < 40
    assert losses[-1] >= min(losses[:-1])
    (saved,) = [event for event in events if event["kind"] == "saved"]
    best = losses.index(min(losses))
    assert (saved["step"], saved["metrics"]["eval/loss"]) == (best + 1, losses[best])


@pytest.mark.parametrize(
    "training",
    [
        {"precision": "bf16"},
        {"gradient_checkpointing": True},
        {"optimizer": "adafactor"},
        {"optimizer": "sgd"},
        {"epochs": 1, "batch_size": 8},
    ],
    ids=lambda value: next(iter(value)),
)
def test_training_options_work(
    training: dict[str, Any],
    families: dict[str, Path],
    do: Callable[[RunConfig], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    events = do(run_config(families["llama"], write_texts(tmp_path), **training))
    steps = [event["loss"] for event in events if event["kind"] == "step"]
    assert len(steps) == 4
    assert all(0 < loss < 20 for loss in steps)
    assert events[-1]["kind"] == "finished"


def test_checkpointing_gives_the_same_losses(
    families: dict[str, Path], do: Callable[[RunConfig], list[dict[str, Any]]], tmp_path: Path
) -> None:
    runs = [
        do(run_config(families["llama"], write_texts(tmp_path), gradient_checkpointing=on)) for on in (False, True)
    ]
    losses = [[event["loss"] for event in events if event["kind"] == "step"] for events in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_checkpointing_is_refused_where_gradients_would_be_wrong(families: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wrong gradients with gradient checkpointing"):
        run_config(families["llama"], write_texts(tmp_path), method="prefix", gradient_checkpointing=True)


@pytest.mark.parametrize("method", ["adalora", "lora_plus", "lora_fa", "eva", "lora_ga", "corda", "pissa"])
def test_methods_with_their_own_way_of_training_run_to_the_end(
    method: str, families: dict[str, Path], do: Callable[[RunConfig], list[dict[str, Any]]], tmp_path: Path
) -> None:
    events = do(run_config(families["llama"], write_texts(tmp_path), method=method, max_steps=10, learning_rate=1e-3))
    (saved,) = [event for event in events if event["kind"] == "saved"]
    assert saved["check"]["max_difference"] < 1e-3
    if method == "adalora":
        config = json.loads((tmp_path / "runs" / "run" / "adapter" / "adapter_config.json").read_text())
        ranks = [sum(kept) for kept in config["rank_pattern"].values()]
        assert sum(ranks) == 8 * len(ranks)
