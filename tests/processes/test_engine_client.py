"""The engine client against an engine that only pretends."""

import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from job_kit import PRELOAD, lives, wait_for

from peft_studio.errors import ConfigError, EngineError, ModelError
from peft_studio.processes import engine_client
from peft_studio.processes.engine_client import EngineClient
from peft_studio.processes.warm_client import WarmClient


@pytest.fixture
def engine(home: Path) -> Iterator[EngineClient]:
    """A client whose engine is ``fake_engine``."""
    (home / "cache").mkdir(parents=True)
    warm = WarmClient(home / "cache" / "warm.log", threads=1, preload=PRELOAD)
    warm.open()
    client = EngineClient(warm, home, threads=1, module="fake_engine")
    yield client
    client.close()
    warm.close()


def test_estimate(engine: EngineClient) -> None:
    assert engine.estimate({})["trainable_params"] == 7
    assert engine._ask({"op": "ping"}, timeout=5) == {"ok": True}


def test_concurrent_requests_share_one_engine(engine: EngineClient) -> None:
    engine.preload()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: engine.estimate({}), range(16)))
    assert {answer["pid"] for answer in answers} == {engine.pid}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ConfigError", ConfigError), ("ModelError", ModelError), ("os", EngineError), ("X", EngineError)],
)
def test_errors_keep_their_class(engine: EngineClient, name: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^told to with \[secret\]$"):
        engine.estimate({"error": name})


def test_generate_streams_columns(engine: EngineClient) -> None:
    lines = list(engine.generate("nano-lm", ["a", "b"], "hello", {"max_new_tokens": 5}))
    assert len(lines) == 6 and lines[-1]["columns"][0]["done"]
    assert [column["name"] for column in lines[0]["columns"]] == ["base", "a", "b"]


def test_closing_stops_the_engine_side(engine: EngineClient, home: Path) -> None:
    answer = engine.generate("nano-lm", [], "hello", {"max_new_tokens": 10_000})
    next(answer)
    answer.close()
    wait_for((home / "stopped").exists)
    assert list(answer) == []


def test_closing_from_another_thread_ends_the_wait(engine: EngineClient) -> None:
    answer = engine.generate("nano-lm", [], "hello", {"max_new_tokens": 10_000})
    threading.Timer(0.2, answer.close).start()
    began = time.monotonic()
    list(answer)
    assert time.monotonic() - began < 5


def test_a_dropped_answer_stops_the_engine_side(engine: EngineClient, home: Path) -> None:
    answer = engine.generate("nano-lm", [], "hello", {"max_new_tokens": 10_000})
    next(answer)
    del answer
    wait_for((home / "stopped").exists)


def test_engine_that_dies_is_said_and_replaced(engine: EngineClient) -> None:
    first = engine.estimate({})["pid"]
    with pytest.raises(EngineError, match="ended"):
        engine.estimate({"die": True})
    assert engine.estimate({})["pid"] != first
    with pytest.raises(EngineError, match="ended"):
        list(engine.generate("nano-lm", [], "die", {"max_new_tokens": 5}))
    engine.estimate({})
    psutil.Process(engine.pid).kill()
    assert engine.estimate({})["trainable_params"] == 7


def outcomes(engine: EngineClient, bad: dict[str, object], timeout: float) -> list[object]:
    """What comes of a request that an engine cannot stand, and of three that wait beside it."""

    def ask(config: dict[str, object]) -> object:
        try:
            return engine.estimate(config, timeout=timeout)["trainable_params"]
        except EngineError as exc:
            return str(exc)

    engine.estimate({})
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, [bad, *[{"seconds": 1.0}] * 3]))


def test_only_the_request_that_ends_engines_fails(engine: EngineClient) -> None:
    first, *others = outcomes(engine, {"die": True}, timeout=20)
    assert "ended while it was answering" in str(first) and others == [7, 7, 7]


def test_an_engine_that_freezes_is_ended_and_replaced(engine: EngineClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "ANSWER_TIMEOUT", 2.5)
    monkeypatch.setattr(engine_client, "PING_TIMEOUT", 0.5)
    first, *others = outcomes(engine, {"freeze": True}, timeout=3)
    assert "did not answer within" in str(first) and others == [7, 7, 7]
    assert engine.estimate({})["trainable_params"] == 7


def test_an_engine_that_takes_too_much_memory_is_ended(engine: EngineClient) -> None:
    engine._memory = 200_000_000
    first, *others = outcomes(engine, {"memory": 400_000_000}, timeout=20)
    assert "took more than 0.2 GB of memory" in str(first) and others == [7, 7, 7]


def test_who_is_in_a_hurry_ends_no_engine(engine: EngineClient) -> None:
    pid = engine.estimate({})["pid"]
    with pytest.raises(EngineError, match="did not answer within"):
        engine.estimate({"seconds": 2.0}, timeout=0.2)
    assert engine.estimate({})["pid"] == pid


def test_socket_is_private_and_goes_away(engine: EngineClient) -> None:
    engine.estimate({})
    folder = engine._folder
    process = psutil.Process(engine.pid)
    assert folder is not None and stat.S_IMODE(folder.stat().st_mode) == 0o700
    engine.close()
    assert not folder.exists()
    wait_for(lambda: not lives(process))
    with pytest.raises(EngineError, match="closing"):
        engine.estimate({})


def test_engine_that_cannot_start(home: Path) -> None:
    (home / "cache").mkdir(parents=True)
    warm = WarmClient(home / "cache" / "warm.log", threads=1, preload=PRELOAD)
    client = EngineClient(warm, home, threads=1, module="no_such_module")
    with pytest.raises(EngineError, match=r"did not start; see .*engine.log"):
        client.estimate({})
    client.close()
    warm.close()
