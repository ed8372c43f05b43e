"""Settings come from the environment that is passed in; explicit values win."""

import subprocess
import sys
from pathlib import Path

import pytest

from peft_studio.errors import ConfigError, StorageError
from peft_studio.files import search_path
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


def test_a_home_of_an_earlier_version_becomes_its_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "runs" / "a").mkdir(parents=True)
    (home / "uploads").mkdir()
    (home / "mine").mkdir()
    (home / "runs" / "a" / "output.log").write_text("x")
    outside = tmp_path / "outside"
    outside.write_text("x")
    (home / "runs" / "link").symlink_to(outside)
    for path in (home, home / "runs", home / "runs" / "a", home / "uploads", home / "mine"):
        path.chmod(0o755)
    for path in (outside, home / "runs" / "a" / "output.log"):
        path.chmod(0o644)
    prepare_home(Settings(home=home))

    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    assert {mode(home / name) for name in ("", "runs", "runs/a", "uploads")} == {0o700}
    assert mode(home / "runs" / "a" / "output.log") == 0o600
    assert mode(outside) == 0o644 and mode(home / "mine") == 0o755  # not ours
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    prepare_home(Settings(home=shared))
    assert shared.stat().st_mode & 0o7777 == 0o1777


def test_what_our_processes_write_is_private(tmp_path: Path) -> None:
    code = "from peft_studio.files import *; write_privately(); cache_write(Path('a/b'), 'x'); Path('a/c').mkdir()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONPATH": search_path({})})
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/c")}
    assert modes == {"a": 0o700, "a/b": 0o600, "a/c": 0o700}
    for program in ("app.py", "peft_studio/__main__.py", "peft_studio/worker.py", "peft_studio/engine.py"):
        assert "    write_privately()\n" in (Path(__file__).parents[1] / program).read_text(), program
