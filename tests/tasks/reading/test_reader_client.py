"""The reader program has limits, and what runs into one is told in words."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from peft_studio.errors import DataError
from peft_studio.tasks.reading import reader_client
from peft_studio.tasks.reading.reader_client import ask_reader, turns

ROOT = Path(__file__).resolve().parents[3]
LIMITED = """
from peft_studio.tasks.reading import reader_client
reader_client.MAX_CPU_SECONDS, reader_client.MAX_MEMORY = 1, 400_000_000
from peft_studio.tasks import custom
def spend(path):
    while True:
        {spend}
custom.read_table = spend
from peft_studio.tasks.reading.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("spend", "told"),
    [("bytearray(500_000_000)", "takes more than 0 GB of memory"), ("pass", "takes more than 1 seconds of a core")],
)
def test_limits_are_told_in_words(tmp_path: Path, spend: str, told: str) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    request = {"kind": "table", "settings": {"path": str(tmp_path / "rows.csv")}, "cache": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.replace("{spend}", spend)],
        input=json.dumps(request), capture_output=True, text=True, cwd=ROOT, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout)["error"].startswith(f"rows.csv {told} to be read")


@pytest.mark.parametrize(
    ("code", "told"),
    [(-9, "rows.csv cannot be read: its reader was ended by signal 9"), (1, "failed with exit code 1")],
)
def test_an_ended_reader_is_told_in_words(code: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = SimpleNamespace(stdout=b"", returncode=code)
    monkeypatch.setattr(reader_client.subprocess, "run", lambda *args, **_: answer)
    with pytest.raises(DataError, match=told):
        ask_reader("rows.csv", {})


def test_a_reader_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_client.sys, "executable", "/bin/sleep")
    monkeypatch.setattr(reader_client, "MAX_SECONDS", 0.05)
    monkeypatch.setattr(
        reader_client.subprocess, "run", lambda argv, run=subprocess.run, **options: run(["sleep", "9"], **options)
    )
    with pytest.raises(DataError, match=r"rows\.csv takes more than 0 seconds"):
        ask_reader("rows.csv", {})


def test_few_read_at_a_time_and_the_oldest_gives_up() -> None:
    go, told, running = threading.Event(), [], []

    def read(number: int) -> None:
        try:
            with turns.take(f"{number}.csv"):
                running.append(number)
                go.wait(20)
        except DataError as error:
            told.append(str(error))

    threads = []
    for number in range(reader_client.MAX_READERS + reader_client.MAX_WAITING + 2):
        threads.append(threading.Thread(target=read, args=(number,)))
        threads[-1].start()
        while number < reader_client.MAX_READERS and len(running) <= number:
            time.sleep(0.001)
        while number not in running and number >= 10 and len(told) <= number - 10:
            time.sleep(0.001)
    assert sorted(running) == [0, 1] and len(told) == 2
    go.set()
    for thread in threads:
        thread.join(20)
    assert len(running) == 10 and all("is not read now" in words for words in told)


def test_two_hostile_files_of_one_visitor_hold_one_reader() -> None:
    go, done, order = threading.Event(), threading.Event(), list[str]()

    def read(name: str, person: str, until: threading.Event) -> None:
        with turns.take(name, person):
            order.append(name)
            until.wait(20)

    def start(name: str, person: str, until: threading.Event) -> threading.Thread:
        thread = threading.Thread(target=read, args=(name, person, until))
        thread.start()
        return thread

    def waits(count: int) -> None:
        while len(turns._waiting) != count:
            time.sleep(0.001)

    threads = [start("hostile 1", "mallory", go)]
    waits(0)
    for number in (2, 3):
        threads.append(start(f"hostile {number}", "mallory", go))
        waits(number - 1)
    start("rows", "ann", done).join(0.5)
    assert order == ["hostile 1", "rows"]  # the second reader is Ann's, although Mallory came first
    threads.append(start("more rows", "ben", done))
    waits(3)
    done.set()
    threads[-1].join(20)
    assert order == ["hostile 1", "rows", "more rows"]
    go.set()
    for thread in threads:
        thread.join(20)
    assert order[3:] == ["hostile 2", "hostile 3"] and not turns._running


def test_who_waits_with_most_gives_up() -> None:
    go, told = threading.Event(), list[str]()

    def read(name: str, person: str) -> None:
        try:
            with turns.take(name, person):
                go.wait(20)
        except DataError:
            told.append(name)

    names = [("busy", "ann"), ("busy", "ben"), ("hers", "cid"), *((f"{number}", "mallory") for number in range(8))]
    threads = [threading.Thread(target=read, args=one) for one in names]
    for number, thread in enumerate(threads, 1):
        thread.start()
        while len(turns._waiting) + len(turns._running) + len(told) < number:
            time.sleep(0.001)
    threads[3].join(20)
    assert told == ["0"]  # Mallory's first, not the one that waits longest
    go.set()
    for thread in threads:
        thread.join(20)
