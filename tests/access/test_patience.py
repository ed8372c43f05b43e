"""Slow and silent clients of a real server: they are cut off, and nobody else is."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
import uvicorn.config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from peft_studio.access import patience


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that waits half a second for headers, and answers after a whole one."""
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", dict(uvicorn.config.HTTP_PROTOCOLS))
    patience.bound_header_time()

    def answer(_request: Request) -> PlainTextResponse:
        time.sleep(1)
        return PlainTextResponse("here")

    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/", answer)]), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield int(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join(10)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def is_cut_off(sock: socket.socket) -> bool:
    """Whether the server has closed a connection."""
    try:
        return sock.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_slow_headers_are_cut_off(port: int) -> None:
    begun = time.monotonic()
    with connected(port) as silent, connected(port) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        try:
            while time.monotonic() - begun < 5:
                slow.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.1)
        except OSError:
            pass
        assert is_cut_off(silent) and is_cut_off(slow)
    assert 0.4 < time.monotonic() - begun < 5


def test_others_are_answered_however_long_it_takes(port: int) -> None:
    with connected(port) as sock:
        for _ in range(2):  # over one connection
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"here"):
                answer += sock.recv(1000)
            assert b"200 OK" in answer
        time.sleep(0.8)  # between two requests uvicorn's own limit holds
        sock.sendall(b"GET / HTTP/1.1\r\n")
        assert is_cut_off(sock)
