"""Starting the app where it cannot run: one clear line, exit status 2, nothing left behind."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def start(*argv: str, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "app.py", *argv]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)


def failed(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return str(result.stderr).strip()


def test_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = failed(start("--port", str(port), "--home", str(tmp_path)))
    assert words.startswith(f"error: Port {port} on 127.0.0.1 cannot be used")
    assert "--port" in words


def test_home_that_another_app_uses(tmp_path: Path) -> None:
    with (tmp_path / "app.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = failed(start("--port", "0", "--home", str(tmp_path)))
    assert "in use by another PEFT Studio" in words


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--port", "http"), "GRADIO_SERVER_PORT = 'http'"),
        (("--home", "/dev/null/x"), "/dev/null/x cannot be written"),
    ],
)
def test_settings_that_cannot_be(argv: tuple[str, ...], words: str, tmp_path: Path) -> None:
    assert words in failed(start(*argv, PEFT_STUDIO_HOME=str(tmp_path)))
