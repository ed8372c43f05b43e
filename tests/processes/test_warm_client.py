"""The warm server's protocol, and what its children inherit."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from job_kit import wait_for

from peft_studio.errors import JobError
from peft_studio.processes.warm_client import WarmClient, child_environment

PROBE = """
import json, os, sys, threading
fds = []
for fd in range(3, 64):
    try:
        os.fstat(fd)
        fds.append(fd)
    except OSError:
        pass
values = json.dumps({
    "argv": sys.argv[1:], "name": __name__, "session": os.getsid(0) == os.getpid(), "fds": fds,
    "threads": threading.active_count(), "stdin": sys.stdin.read(), "omp": os.environ["OMP_NUM_THREADS"],
})
os.write(1, values.encode() + b"\\n")  # in one piece: another process writes to the same file
sys.exit({"0": 0, "text": "words"}[sys.argv[1]])
"""


@pytest.fixture
def warm(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmClient]:
    """A ready server with nothing loaded, and a module to run."""
    home.mkdir()
    (home / "probe.py").write_text(PROBE)
    monkeypatch.setenv("PYTHONPATH", str(home))
    client = WarmClient(home / "warm.log", threads=3, preload=())
    client.open()
    assert client.wait_ready(20)
    yield client
    client.close()


def test_a_child_is_like_a_fresh_process(warm: WarmClient, home: Path) -> None:
    log = home / "log"
    for code in ("0", "text"):
        warm.fork("probe", [code, "b c"], log)
    lines = wait_for(lambda: text.splitlines() if (text := log.read_text()).count("\n") >= 3 else None)
    seen = [json.loads(line) for line in lines if line.startswith("{")]
    assert min(seen, key=lambda values: values["argv"]) == {
        "argv": ["0", "b c"], "name": "__main__", "session": True, "fds": [], "threads": 1, "stdin": "", "omp": "3",
    }  # fmt: skip
    assert "words" in lines
    wait_for(lambda: not psutil.Process(warm.pid).children())  # reaped


def test_a_request_that_cannot_be_met_is_answered(warm: WarmClient, home: Path) -> None:
    with pytest.raises(JobError, match="FileNotFoundError"):
        warm.fork("probe", ["0"], home / "no" / "such" / "log")
    warm.fork("probe", ["0"], home / "log")


def test_server_leaves_when_the_socket_closes() -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "peft_studio.warm", "--fd", str(theirs.fileno()), "--preload", "no_such,json"]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process:
        theirs.close()
        with ours, ours.makefile("rb") as answers:
            assert json.loads(answers.readline())["failed"] == ["no_such"]
            ours.sendall(b"nonsense\n")
            assert "error" in json.loads(answers.readline())
        assert process.wait(10) == 0


def test_nobody_is_asked_after_close(warm: WarmClient, home: Path) -> None:
    pid = warm.pid
    warm.close()
    assert not psutil.pid_exists(pid) and not warm.ready() and not warm.wait_ready(5)
    with pytest.raises(JobError, match="not ready"):
        warm.fork("probe", ["0"], home / "log")


def test_cold_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / "probe.py").write_text(PROBE)
    monkeypatch.setenv("PYTHONPATH", str(home))
    client = WarmClient(home / "warm.log", threads=3)
    client.close()  # never opened: every start is a cold one
    pid = client.launch("probe", ["0"], home / "log")
    wait_for(lambda: client.reap() or not psutil.pid_exists(pid))
    seen = json.loads((home / "log").read_text())
    assert (seen["argv"], seen["session"], seen["stdin"], seen["omp"]) == (["0"], True, "", "3")
    assert os.getsid(0) != pid


def test_child_keeps_few_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """With bf16, a gigabyte of them gathered in a hundred batches; whoever sets another size means it."""
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    environment = child_environment(2)
    assert int(environment["LRU_CACHE_CAPACITY"]) <= 128
    assert environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
