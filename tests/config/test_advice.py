"""What will hardly work is said before a run starts, and nothing of what usually works."""

from pathlib import Path

import pytest

from peft_studio.config.advice import advice
from peft_studio.config.presets import list_presets, parse_preset
from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("training.learning_rate=5",), "The learning rate 5 is 500 times the 0.01 that is recommended here"),
        (("training.learning_rate=1e-9",), "Hardly anything will be learnt"),
        (("training.max_steps=1", "training.warmup_steps=10"), "never reaches its peak"),
        ((), ""),
        (("training.max_steps=1",), ""),
        (("training.optimizer=sgd", "training.learning_rate=1"), ""),
    ],
)
def test_what_will_hardly_work_is_said_before(settings: tuple[str, ...], words: str) -> None:
    told = advice(resolve(parse_preset("bistro-lora", settings)))
    assert any(words in warning for warning in told) if words else told == []


def test_no_preset_is_warned_of() -> None:
    assert {name: told for name in list_presets() if (told := advice(resolve(parse_preset(name))))} == {}


def test_epochs_are_counted_in_steps_of_the_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("question,answer\n" + "".join(f"what is {n},it is {n}\n" for n in range(12)), encoding="utf-8")
    task = {"id": "custom", "kind": "generation", "train_file": str(rows)}
    training = {"epochs": 3, "warmup_steps": 10}
    config = {"task": task, "method": {"name": "lora"}, "training": training}
    (told,) = advice(resolve(parse_config(config)))
    assert told.startswith("The warm-up of 10 steps does not end within the 2 of this run")
    assert advice(resolve(parse_config({**config, "training": {"epochs": 3}}))) == []
