"""An engine without a model, speaking the real one's protocol; ``prompt`` and ``config`` say what to pretend."""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import psutil


def answer(request: dict[str, Any], out: BinaryIO, home: Path) -> None:
    """Writes the lines of one answer."""

    def say(value: dict[str, Any]) -> None:
        out.write(json.dumps(value).encode() + b"\n")
        out.flush()

    if request["op"] in ("ping", "check"):
        return say({"ok": True})
    if request["op"] == "estimate":
        if error := request["config"].get("error"):
            return say({"error": {"type": error, "message": "told to with hf_abcdefgh12345678"}})
        if request["config"].get("die"):
            os._exit(1)
        if request["config"].get("freeze"):  # like an expression that never ends: no thread goes on
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)  # this thread may go on for a moment
        if size := request["config"].get("memory"):
            held = bytearray(os.urandom(1024)) * (size // 1024)
            time.sleep(30)
            del held
        time.sleep(request["config"].get("seconds", 0))
        return say({"trainable_params": 7, "pid": os.getpid()})
    try:
        for tokens in range(request["sampling"]["max_new_tokens"]):
            say(
                {
                    "columns": [
                        {"name": name, "text": "x" * tokens, "done": False} for name in ["base", *request["runs"]]
                    ]
                }
            )
            if request["prompt"] == "die":
                os._exit(1)
            time.sleep(0.02)
        say({"columns": [{"name": "base", "text": "end", "done": True}]})
    except BrokenPipeError:
        (home / "stopped").touch()


def serve(connection: socket.socket, home: Path) -> None:
    """One connection, one request."""
    with connection, connection.makefile("rwb") as file:
        line = file.readline()
        if line:
            answer(json.loads(line), file, home)


def main() -> int:
    """Serves until the parent goes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--app", type=int)
    options = parser.parse_args()
    parent = os.getppid()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(options.socket)
    server.listen()
    server.settimeout(0.2)
    while os.getppid() == parent and psutil.pid_exists(options.app):
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        connection.settimeout(None)
        threading.Thread(target=serve, args=(connection, options.home), daemon=True).start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
