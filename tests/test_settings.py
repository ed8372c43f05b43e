"""Settings come from the environment that is passed in; explicit values win."""

from pathlib import Path

import pytest

from peft_studio.errors import ConfigError, StorageError
from peft_studio.settings import DEFAULT_PORT, Settings, load_settings, prepare_home


def test_defaults() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port) == ("127.0.0.1", DEFAULT_PORT)
    assert settings.home.name == ".peft-studio"


def test_environment_and_overrides(tmp_path: Path) -> None:
    env = {"PEFT_STUDIO_HOME": str(tmp_path), "GRADIO_SERVER_NAME": "10.0.0.1", "GRADIO_SERVER_PORT": "9000"}
    settings = load_settings(env, port=9001, host=None)
    assert (settings.home, settings.host, settings.port) == (tmp_path.resolve(), "10.0.0.1", 9001)


def test_a_space_listens_on_all_addresses() -> None:
    assert load_settings({"SPACE_ID": "me/studio"}).host == "0.0.0.0"
    assert load_settings({"SPACE_ID": "me/studio"}).public and not load_settings({}).public
    assert load_settings({"SPACE_ID": "me/studio", "GRADIO_SERVER_NAME": "1.2.3.4"}).host == "1.2.3.4"


@pytest.mark.parametrize("value", ["http", "-1", "70000"])
def test_bad_port_names_the_variable_and_the_value(value: str) -> None:
    with pytest.raises(ConfigError, match=f"GRADIO_SERVER_PORT = '{value}'"):
        load_settings({"GRADIO_SERVER_PORT": value})


def test_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="PEFT_STUDIO_HOME"):
        prepare_home(Settings(home=tmp_path / "file" / "home"))


def test_prepare_home_leaves_only_folders(tmp_path: Path) -> None:
    prepare_home(Settings(home=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "runs"]


@pytest.mark.parametrize(("value", "on"), [("1", True), ("on", True), ("0", False), ("off", False), ("false", False)])
def test_auto_resume(value: str, on: bool) -> None:
    assert load_settings({}).auto_resume
    assert load_settings({"PEFT_STUDIO_AUTO_RESUME": value}).auto_resume is on
    with pytest.raises(ConfigError, match="PEFT_STUDIO_AUTO_RESUME = 'perhaps'"):
        load_settings({"PEFT_STUDIO_AUTO_RESUME": "perhaps"})


def test_one_run_at_a_time_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.settings.count_gpus", lambda visible: 4 if visible is None else 0)
    assert load_settings({}).max_running == 4
    assert load_settings({"PEFT_STUDIO_MAX_RUNNING": "3"}).max_running == 3
    hidden = load_settings({"CUDA_VISIBLE_DEVICES": ""})
    assert hidden.visible_gpus == "" and hidden.max_running == Settings().max_running


def test_ray() -> None:
    env = {"PEFT_STUDIO_EXECUTOR": "ray", "PEFT_STUDIO_RAY_ADDRESS": "10.0.0.1:6379", "PEFT_STUDIO_RAY_GPUS": "0.5"}
    settings = load_settings(env)
    assert (settings.executor, settings.ray_address, settings.ray_gpus) == ("ray", "10.0.0.1:6379", 0.5)
    with pytest.raises(ConfigError, match="PEFT_STUDIO_EXECUTOR = 'slurm'"):
        load_settings({"PEFT_STUDIO_EXECUTOR": "slurm"})
    with pytest.raises(ConfigError, match="PEFT_STUDIO_RAY_GPUS = '-1'"):
        load_settings({"PEFT_STUDIO_RAY_GPUS": "-1"})
