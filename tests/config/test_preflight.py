"""What cannot work is refused before a run's folder exists, with words that say what and where."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from peft_studio.cli.main import main as cli
from peft_studio.config.preflight import check_run
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ModelError, StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings, prepare_home


def put(path: Path, content: bytes | str) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def own(path: str, kind: str = "generation", **more: Any) -> dict[str, Any]:
    return {"task": {"id": "custom", "kind": kind, "train_file": path, **more}}


def large(folder: Path) -> dict[str, Any]:
    path = folder / "large.csv"
    path.touch()
    os.truncate(path, 200_000_001)  # a hole: it takes no space
    return own(str(path))


def texts(folder: Path, content: str, name: str = "rows.csv", kind: str = "generation", **more: Any) -> dict[str, Any]:
    return own(put(folder / name, content), kind, **more)


def unseen(folder: Path) -> dict[str, Any]:
    test = put(folder / "test.csv", "text,label\nx,good\ny,odd\n")
    return texts(folder, "text,label\n" + "a,good\nb,bad\n" * 9, kind="classification", test_file=test)


def pickled(folder: Path) -> dict[str, Any]:
    (folder / "model").mkdir()
    put(folder / "model" / "config.json", json.dumps({"model_type": "llama"}))
    put(folder / "model" / "pytorch_model.bin", b"\x80\x04.")
    return {"model": {"id": str(folder / "model")}}


def unknown(folder: Path) -> dict[str, Any]:
    (folder / "model").mkdir()
    put(folder / "model" / "config.json", json.dumps({"model_type": "mamba"}))
    put(folder / "model" / "model.safetensors", (2).to_bytes(8, "little") + b"{}")
    return {"model": {"id": str(folder / "model")}}


LONG = "question,answer\n" + "".join(f"q{n},{'word ' * 2000}{n}\n" for n in range(30))
BAD = {
    "a file of 200 MB": (large, "large.csv has 200.0 MB. At most 200 MB"),
    "ragged rows": (lambda at: texts(at, "a,b\n1,2\n1,2,3\n"), "rows.csv, line 3 has 3 cells where 2"),
    "two columns of one name": (lambda at: texts(at, "a,a\n1,2\n"), "rows.csv: the header has two columns named 'a'"),
    "nested JSON": (
        lambda at: texts(at, '[{"q": "x", "a": {"b": 1}}]', "rows.json"),
        "The column 'a' holds a nested object or list",
    ),
    "one class": (
        lambda at: texts(at, "text,label\n" + "x y,good\n" * 9, kind="classification"),
        "rows.csv, column 'label' has one class only, 'good'",
    ),
    "a label unseen in training": (unseen, "test.csv, line 3 has the label 'odd', which no training row has"),
    "answers longer than max_length": (
        lambda at: texts(at, LONG) | {"training": {"max_length": 64}},
        "rows.csv, column 'answer': none of the 24 train rows can be used. The shortest answer, 'word word",
    ),
    "a pickle of rows": (lambda at: own(put(at / "rows.bin", b"\x80\x04.")), "rows.bin is a pickle-type file"),
    "a pickled model": (pickled, "has no .safetensors weights. It holds pytorch_model.bin, which is a pickle"),
    "an unknown architecture": (unknown, "Models of type 'mamba' are not supported"),
    "an encoder that is to write": (
        lambda _: {"model": {"id": "nano-encoder"}},
        "is an encoder: it cannot write text",
    ),
    "a catalogue encoder that is to write": (lambda _: {"model": {"id": "bert-base-uncased"}}, "cannot write text"),
    "a summariser that is to classify": (
        lambda _: {"model": {"id": "nano-seq2seq"}, "task": {"id": "reviews"}},
        "has no classification head here",
    ),
}


@pytest.fixture
def manager(tmp_path: Path) -> JobManager:
    settings = Settings(home=tmp_path / "home")
    prepare_home(settings)
    return JobManager(settings)


def config_of(data: dict[str, Any]) -> RunConfig:
    return parse_config({"method": {"name": "lora"}, "training": {}} | data)


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_before_there_is_a_run(name: str, manager: JobManager, tmp_path: Path) -> None:
    make, words = BAD[name]
    config = config_of(make(tmp_path))
    with pytest.raises(StudioError) as refused:
        manager.submit(config)
    assert words in str(refused.value)
    assert list((tmp_path / "home" / "runs").iterdir()) == []


def test_the_command_line_refuses_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"task": {"id": "reviews"}, "method": {"name": "lora"}, "model": {"id": "nano-seq2seq"}}
    preset = put(tmp_path / "x.yaml", json.dumps(data))
    assert cli(["train", preset, "--home", str(tmp_path / "home")], {}) == 2
    assert "has no classification head here" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_an_app_asks_its_engine_about_a_folder_and_no_other_model(
    manager: JobManager, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: dict[str, Any]) -> None:
        raise ModelError(f"{Path(config['model']['id']).name} lacks a layer")

    monkeypatch.setattr(manager.engine, "check", refuse)
    folder = config_of({"model": {"id": str(tiny_model)}})
    manager.check(folder)  # no app, and no engine at hand: the command line looks itself
    monkeypatch.setattr(manager, "_lock_fd", os.open(tiny_model, os.O_RDONLY))
    manager.check(config_of({}))
    with pytest.raises(ModelError, match="lacks a layer"):
        manager.submit(folder)


def test_the_command_line_refuses_a_folder_without_its_layers(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file({f"net.{name}": part for name, part in weights.items()}, folder / "model.safetensors")
    preset = put(tmp_path / "x.yaml", json.dumps({"model": {"id": str(folder)}, "method": {"name": "lora"}}))
    assert cli(["train", preset, "--home", str(tmp_path / "home")], {}) == 2
    assert "names begin with 'net.'" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_what_fits_is_not_refused(tmp_path: Path) -> None:
    long_rows = "question,answer\n" + "".join(f"{'long ' * 2000}{n},yes {n}\n" for n in range(30))
    for model in ("nano-lm", "nano-seq2seq"):
        check_run(config_of(texts(tmp_path, long_rows) | {"model": {"id": model}}))
    mixed = LONG + "short,yes\n" * 3 + "more,no\nsome,no\n"
    with pytest.raises(StudioError, match="none of the"):
        check_run(config_of(texts(tmp_path, LONG)))
    check_run(config_of(texts(tmp_path, LONG) | {"training": {"max_length": 512}, "model": {"id": "owner/unknown"}}))
    splits = {f"{split}_file": put(tmp_path / f"{split}.csv", mixed) for split in ("validation", "test")}
    check_run(config_of(texts(tmp_path, mixed, **splits)))
