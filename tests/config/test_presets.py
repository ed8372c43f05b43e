"""Every shipped preset is valid; a broken one names the file and the key; overrides keep their types."""

from pathlib import Path

import pytest

from peft_studio.config.presets import apply_overrides, list_presets, load_preset, parse_preset
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError, PresetError
from peft_studio.methods import METHODS
from peft_studio.tasks import TASKS


@pytest.mark.parametrize("name", list_presets())
def test_shipped_presets_are_valid(name: str) -> None:
    config = parse_preset(name)
    assert name == f"{config.task.id}-{config.method.name}"


def test_every_common_method_and_every_task_has_a_preset() -> None:
    common = {f"bistro-{name}" for name, method in METHODS.items() if method.tier == "common"}
    assert common <= set(list_presets())
    assert {name.partition("-")[0] for name in list_presets()} == set(TASKS)


def test_override_types() -> None:
    data = apply_overrides(
        {"method": {"name": "lora"}}, ["method.rank=4", "training.learning_rate=1e-3", "method.rslora=true"]
    )
    assert data == {"method": {"name": "lora", "rank": 4, "rslora": True}, "training": {"learning_rate": 1e-3}}


def test_naming_another_method_drops_the_old_parameters() -> None:
    data = {"method": {"name": "lora", "rank": 8}, "training": {"learning_rate": 1.0, "max_steps": 3}}
    changed = apply_overrides(data, ["method.virtual_tokens=5", "method.name=prompt"])
    assert changed == {"method": {"name": "prompt", "virtual_tokens": 5}, "training": {"max_steps": 3}}
    assert data["method"] == {"name": "lora", "rank": 8}


@pytest.mark.parametrize("item", ["rank=4", "method.rank", "=3", "methd.rank=4", "method.rank=[", ".=1"])
def test_malformed_overrides(item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_overrides({}, [item])


def test_infinite_learning_rate_from_the_command_line() -> None:
    for text in ("inf", ".inf", "nan", ".nan", "1e999"):
        with pytest.raises(ConfigError, match=r"training\.learning_rate"):
            parse_preset("bistro-lora", [f"training.learning_rate={text}"])


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(PresetError, match="Did you mean 'bistro-lora'"):
        load_preset("bistro-lor")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method: {name: lora, rnk: 4}\ntraining: {max_steps: 3}", "Did you mean 'rank'"),
        ("method: {name: lora}\ntraning: {max_steps: 3}", "Did you mean 'training'"),
        ("- a\n- b", "mapping"),
        ("a: [", "not YAML"),
        ("", "mapping"),
        ("!!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_broken_preset_files_are_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(PresetError) as caught:
        parse_preset(str(path))
    assert expected in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_preset_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PresetError, match=r"mine\.yaml"):
        parse_preset(str(path))
    with pytest.raises(PresetError, match="no preset file"):
        parse_preset(str(tmp_path / "absent.yaml"))


def test_scientific_notation_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("method: {name: lora}\ntraining: {learning_rate: 1e-3}")
    assert parse_preset(str(path)).training.learning_rate == 1e-3
    assert parse_config(load_preset(str(path))).training.learning_rate == 1e-3
