"""A saved adapter on its untouched base, in a process that has transformers and PEFT alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peft_studio.errors import ModelError
from peft_studio.methods import get_method
from peft_studio.models.opening import Opening
from peft_studio.tasks.base import Row
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.formats.formats import format_for
from peft_studio.training.load import attach, layout_of, load_base
from peft_studio.training.outside_check import Question, outside_difference

ROWS = [Row(f"name: Biox Mill{number} | food: Thai =>", f" Thai place {number}.") for number in range(5)]
LABELS = ("bad", "good")
LABELLED = [Row(row.prompt * (1 + number), LABELS[number % 2]) for number, row in enumerate(ROWS)]


def trained(base_folder: Path, name: str, rows: list[Row], labels: tuple[str, ...], out: Path) -> Question:
    """A method on a model, its parameters moved as if it had been trained, saved."""
    base, tokenizer = load_base(str(base_folder), labels=labels)
    form = format_for(layout_of(base), tokenizer, labels)
    torch.manual_seed(0)
    model = attach(base, get_method(name))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    save_adapter(model, out)
    return Question(model.eval(), form, rows, form.encode(rows, 100).examples)


def test_gpt2_keeps_its_answers_outside(families: dict[str, Path], tmp_path: Path) -> None:
    """HRA wants ordinary linear layers, which GPT-2 has not; a file that was tampered with is found out."""
    asked = trained(families["gpt2"], "hra", ROWS, (), tmp_path)
    opening = Opening("HRA", model_type="gpt2")
    assert opening.linear and opening.changes_base
    assert outside_difference(asked, opening, str(families["gpt2"]), tmp_path) < 1e-4
    file = tmp_path / "adapter_model.safetensors"
    save_file({name: part * 0.5 + 0.3 for name, part in load_file(file).items()}, file, metadata={"format": "pt"})
    assert outside_difference(asked, opening, str(families["gpt2"]), tmp_path) > 1e-2


def test_a_classifier_without_padding_answers_several_texts_outside(families: dict[str, Path], tmp_path: Path) -> None:
    """A decoder whose tokenizer has no padding token; texts of several lengths in one batch."""
    folder = tmp_path / "base"
    shutil.copytree(families["gpt2"], folder)
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / file).exists():
            text = (folder / file).read_text().replace('"pad_token": "<pad>"', '"pad_token": null')
            (folder / file).write_text(text)
    asked = trained(folder, "lora", LABELLED, LABELS, tmp_path / "adapter")
    assert asked.form.tokenizer.pad_token is None
    opening = Opening("LORA", "SEQ_CLS", "gpt2", LABELS)
    assert outside_difference(asked, opening, str(folder), tmp_path / "adapter") < 1e-4


def test_what_cannot_be_put_on_says_why(families: dict[str, Path], tmp_path: Path) -> None:
    asked = trained(families["gpt2"], "hra", ROWS, (), tmp_path)
    wrong = Opening("HRA", model_type="llama")  # so that GPT-2's layers stay transposed
    with pytest.raises(ModelError, match=r"could not be put on its base.*Conv1D"):
        outside_difference(asked, wrong, str(families["gpt2"]), tmp_path)


def test_the_run_records_what_it_found(families: dict[str, Path], monkeypatch: Any, tmp_path: Path) -> None:
    """Where the base was changed the process is asked, elsewhere not; its failure is no end of a run."""
    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import parse_config
    from peft_studio.training import outside_check

    def refuse(*_args: object) -> float:
        raise ModelError("Outside, no.")

    monkeypatch.setattr(outside_check, "outside_difference", refuse)
    for family, expected in (("gpt2", "Outside, no."), ("llama", "")):
        folder = tmp_path / family
        asked = trained(families[family], "lora", ROWS, (), folder)
        config = {"model": {"id": str(families[family])}, "method": {"name": "lora"}, "training": {}}
        resolved = resolve(parse_config(config))
        fresh = lambda family=family: load_base(str(families[family]))[0]  # noqa: E731
        found, words = outside_check.saved_difference(asked, folder, resolved, fresh)
        assert words == expected and (found != found if expected else found < 1e-5)
