"""The engine's answers on a real run: its snapshots, answers, what it forgot, surgery; and what cannot be answered."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from peft_studio.errors import ConfigError, InvalidStateError, RunNotFoundError
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.snapshots import adapter_at, snapshot_steps, thinned
from peft_studio.runs.store import RunStore
from peft_studio.training.inference.model_pool import ModelPool
from peft_studio.training.inspection.forgetting import ForgettingProbe
from peft_studio.training.inspection.inspector import Inspector
from peft_studio.training.load import layout_of, load_adapter, load_base


@pytest.fixture(scope="module")
def inspector(lora_run: Any) -> Inspector:
    return Inspector(RunStore(lora_run.home / "runs"), ModelPool())


def ask(inspector: Inspector, op: str, **request: Any) -> dict[str, Any]:
    (answer,) = inspector.operations[op](request)
    return answer


def test_a_run_is_looked_at_at_each_snapshot(inspector: Inspector, lora_run: Any) -> None:
    """Evaluated at steps 2 and 4, it grew from one to the other; the last snapshot is the saved adapter."""
    end = ask(inspector, "inspect", run=lora_run.id)
    assert end["snapshots"] == [2, 4] and end["step"] is None
    changes = [
        sum(one["change"] for one in ask(inspector, "inspect", run=lora_run.id, step=step)["views"]["matrices"])
        for step in (2, 4, None)
    ]
    assert 0 < changes[0] < changes[1] == pytest.approx(changes[2])
    paths = RunPaths(lora_run.folder)
    saved, last = (load_file(folder / "adapter_model.safetensors") for folder in (paths.adapter, adapter_at(paths, 4)))
    assert all(value.equal(last[name]) for name, value in saved.items())
    assert not (adapter_at(paths, 2) / "README.md").exists()


def test_answers_are_of_test_rows(inspector: Inspector, lora_run: Any) -> None:
    rows = ask(inspector, "answers", run=lora_run.id, step=2)["rows"]
    assert len(rows) == 3 and all(set(row) == {"prompt", "reference", "base", "answer"} for row in rows)


def test_forgetting_is_a_plain_loss(inspector: Inspector, lora_run: Any, tiny_model: Path) -> None:
    """The base model, each snapshot, the end; each equal to the library's own loss on the same tokens."""
    found = ask(inspector, "forgetting", run=lora_run.id)
    assert [point["step"] for point in found["points"]] == [0, 2, 4, None] and found["source"] == "documentation"
    base, tokenizer = load_base(str(tiny_model))
    run = inspector._subject({"run": lora_run.id}).run
    probe = ForgettingProbe(run, layout_of(base), tokenizer, base)
    ids = tokenizer(list(probe.text.texts), return_tensors="pt", truncation=True, max_length=128)["input_ids"]
    assert found["tokens"] == ids[:, 1:].numel()
    for model, point in ((base, 0), (load_adapter(load_base(str(tiny_model))[0], lora_run.folder / "adapter"), -1)):
        loss = model(input_ids=ids, labels=ids).loss.item()
        assert found["points"][point]["loss"] == pytest.approx(loss, rel=1e-4)


def test_surgery_changes_nothing_at_full_strength(inspector: Inspector, lora_run: Any) -> None:
    found = ask(inspector, "surgery", run=lora_run.id)
    assert [point["strength"] for point in found["points"]] == [1.0, 0.75, 0.5, 0.25, 0.0]
    whole = ask(inspector, "forgetting", run=lora_run.id)["points"][-1]["loss"]
    assert found["points"][0]["forgetting"] == pytest.approx(whole, rel=1e-5)
    assert found["metric"] == "bleu" and all(0 <= point["score"] <= 100 for point in found["points"])


def test_what_cannot_be_answered(inspector: Inspector, lora_run: Any) -> None:
    for request, error, words in (
        ({"run": "nobody"}, RunNotFoundError, "nobody"),
        ({"run": lora_run.id, "step": 3}, InvalidStateError, "step = 3 has no snapshot; allowed: 2, 4"),
        ({"run": lora_run.id, "other": "nobody"}, RunNotFoundError, "nobody"),
    ):
        with pytest.raises(error, match=words):
            ask(inspector, "inspect", **request)


def test_only_lora_is_cut(houlsby_run: Any, lora_run: Any) -> None:
    houlsby = Inspector(RunStore(houlsby_run.home / "runs"), ModelPool())
    with pytest.raises(InvalidStateError, match="Houlsby adapters has none"):
        ask(houlsby, "surgery", run=houlsby_run.id)
    with pytest.raises(ConfigError, match="changes no weights"):
        ask(houlsby, "inspect", run=houlsby_run.id, other=houlsby_run.id)


@pytest.mark.parametrize(("steps", "kept"), [
    ([5], [5]), ([1, 2, 4, 8], [1, 2, 4, 8]), ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 4, 8]),
])  # fmt: skip
def test_snapshots_thin_out_evenly_over_logarithms(steps: list[int], kept: list[int]) -> None:
    assert thinned(steps, 4) == kept


def test_a_long_run_keeps_a_dozen() -> None:
    kept: list[int] = []
    for step in range(50, 100_001, 50):
        kept = thinned([*kept, step], 12)
    assert len(kept) == 12 and kept[0] == 50 and kept[-1] == 100_000
    assert max(b / a for a, b in itertools.pairwise(kept)) < 6


def test_an_old_run_has_none(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "notes").mkdir()
    assert snapshot_steps(RunPaths(tmp_path)) == [] == snapshot_steps(RunPaths(tmp_path / "gone"))
