"""What is done while a form stands on the page is what the run would do."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.runs.store import RunStore
from peft_studio.tasks import TASKS
from peft_studio.training import ahead, trainer
from peft_studio.training.ahead import WhenCalm, encode_ahead
from peft_studio.training.formats import token_cache


class _EnoughError(Exception):
    """The run has its rows."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": {"name": "prompt", "virtual_tokens": 30}, "training": {"max_length": 512, "max_steps": 1}},
        {"model": {"id": "nano-encoder"}, "task": {"id": "reviews"}},
        {"model": {"id": "nano-seq2seq"}, "training": {"max_length": 40, "max_steps": 1}},
    ],
)
def test_a_run_finds_its_rows_tokenized(changes: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"method": {"name": "lora"}, "training": {"max_steps": 1, "eval_rows": 8}, **changes}
    data["training"]["eval_rows"] = 8
    config = parse_config(data)
    encode_ahead(config, home / "cache")
    assert len(list((home / "cache" / "tokens").iterdir())) == 1
    missed: list[Path] = []
    write = token_cache._write
    monkeypatch.setattr(token_cache, "_write", lambda file, found: (missed.append(file), write(file, found)))
    paths = RunStore(home / "runs").create(config, "")

    def emit(kind: str, **_fields: Any) -> None:
        if kind == "started":
            raise _EnoughError

    with pytest.raises(_EnoughError):
        trainer.run(config=config, paths=paths, emit=emit, should_stop=lambda: "", threads=1)
    assert not missed


def test_rows_that_take_long_are_left_to_the_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_split: str) -> list[Any]:
        raise AssertionError("its rows take seconds to make")

    slow = {**TASKS, "docstrings": TASKS["docstrings"].__class__(**{**vars(TASKS["docstrings"]), "load": forbidden})}
    monkeypatch.setattr("peft_studio.tasks.TASKS", slow)
    plain = {"method": {"name": "lora"}, "training": {}}
    encode_ahead(parse_config({**plain, "task": {"id": "docstrings"}}), home / "cache")
    monkeypatch.setattr(ahead, "MAX_ROWS", 100)
    encode_ahead(parse_config(plain), home / "cache")
    assert not (home / "cache" / "tokens").exists()


def test_only_the_latest_value_counts_and_faults_end_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []
    done = threading.Event()

    def work(value: int) -> None:
        seen.append(value)
        done.set()
        if value == 2:
            raise ValueError("on purpose")

    calm = WhenCalm(work, 0.2)
    for values in ((0, 1, 2), (3,)):
        for value in values:
            calm.put(value)
        assert done.wait(10)
        done.clear()
        time.sleep(0.3)
    assert seen == [2, 3] and "on purpose" in capsys.readouterr().err
