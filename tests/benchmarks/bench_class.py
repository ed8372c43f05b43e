"""Thirty students who click while one run trains: how long the app takes, and what its memory grows by.

python tests/benchmarks/bench_class.py [SECONDS]
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

STUDENTS = 30
CLICKS = ("/studio/runs.json?since=0", "/studio/runs.json?since=1", "/studio/me.json", "/")
CODE, KEY = "KT49PX", "chalk-and-board"


def ask(port: int, path: str, cookie: str, method: str = "GET", body: str = "") -> tuple[int, str, float]:
    """One request on a connection of its own: status, cookie set, seconds."""
    headers = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{port}", "Accept": "text/html"}
    began = time.perf_counter()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request(method, path, body or None, headers)
    answer = link.getresponse()
    answer.read()
    link.close()
    given = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    return answer.status, given, time.perf_counter() - began


def click(port: int, number: int, until: float, took: dict[str, list[float]], wrong: list[str]) -> None:
    """One student: joins, then clicks about twice a second."""
    _, cookie, _ = ask(port, "/studio/join", "", "POST", f"name=Student+{number}&code={CODE}")
    if number < 2:
        ask(port, "/studio/question/start", cookie, "POST")
    turn = number
    while time.time() < until:
        path = CLICKS[turn % len(CLICKS)]
        status, _, seconds = ask(port, path, cookie)
        took[path].append(seconds)
        if status != 200:
            wrong.append(f"{path}: {status}")
        turn += 1
        time.sleep(0.5)


def main(seconds: float) -> None:
    """Starts a class of its own and prints the figures as JSON."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "PEFT_STUDIO_HOME": home, "PEFT_STUDIO_ACCESS": "class",
               "PEFT_STUDIO_JOIN_CODE": CODE, "PEFT_STUDIO_TEACHER_KEY": KEY}  # fmt: skip
        root = Path(__file__).parents[2]
        argv = [sys.executable, str(root / "app.py"), "--port", str(port)]
        app = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
        assert app.stdout is not None
        try:
            next(line for line in app.stdout if "PEFT Studio is at" in line)
            _, teacher, _ = ask(port, f"/?token={KEY}", "")
            ask(port, "/", teacher)
            ask(port, "/studio/room/ask?preset=bistro-lora&setting=training.seed&values=1,2", teacher, "POST")
            memory = psutil.Process(app.pid).memory_info
            before, until = memory().rss, time.time() + seconds
            took: dict[str, list[float]] = {path: [] for path in CLICKS}
            wrong: list[str] = []
            given = [(port, number, until, took, wrong) for number in range(STUDENTS)]
            threads = [threading.Thread(target=click, args=one) for one in given]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for path, found in took.items():
                found.sort()
                figures = {"clicks": len(found), "p95_ms": round(1000 * found[int(0.95 * len(found))]),
                           "worst_ms": round(1000 * found[-1])}  # fmt: skip
                print(json.dumps({"path": path, **figures}))
            print(json.dumps({"refused": wrong[:5], "grown_mb": round((memory().rss - before) / 1e6, 1)}))
        finally:
            app.terminate()
            app.wait(30)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
