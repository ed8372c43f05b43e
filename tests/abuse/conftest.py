"""The app as strangers meet it: in this process behind its gate, and as a program on a port; both public."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import pytest
from starlette.testclient import TestClient

from peft_studio.access.entrance import Entrance
from peft_studio.access.shares import Shares
from peft_studio.access.visitors import Role, Visitor
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Access, Settings, prepare_home
from peft_studio.ui import app_parts, build_app

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the owner's own token"
ANN, BEN = Visitor("v-ann", Role.VISITOR, "Ann"), Visitor("v-ben", Role.VISITOR, "Ben")
TEACHER = Visitor("teacher", Role.TEACHER, "Teacher")


@dataclass
class Inside:
    """An app in this process; nothing trains in it, and its engine is not started.

    Attributes:
        manager: Its runs.
        page: Its Gradio page.
        web: What a server would serve.
        client: Asks it, from another machine.
        entrance: Who is who.
    """

    manager: JobManager
    page: gr.Blocks
    web: gr.routes.App
    client: TestClient
    entrance: Entrance

    def headers(self, visitor: Visitor | None) -> dict[str, str]:
        """What a page of somebody sends; None for whoever is nobody."""
        own = {"Origin": "http://localhost:7860"}
        return own if visitor is None else {**own, "Cookie": self.entrance.cookies.header(visitor).partition(";")[0]}


class EverybodyIsIn:
    """A class without a door."""

    open_paths = ()
    teacher_id = "teacher"

    def is_teacher(self, _key: str) -> bool:
        return False

    def knows(self, _visitor: Visitor) -> bool:
        return True


def make_inside(home: Path, access: Access) -> Iterator[Inside]:
    """An app that is run in some way."""
    settings = Settings(home=home, access=access, token=TOKEN)
    prepare_home(settings)
    manager = JobManager(settings)
    loops: list[asyncio.AbstractEventLoop] = []  # Gradio makes some, and leaves them open
    new = asyncio.new_event_loop

    def remember() -> asyncio.AbstractEventLoop:
        loops.append(new())
        return loops[-1]

    patch = pytest.MonkeyPatch()
    patch.setattr(asyncio, "new_event_loop", remember)
    page = build_app(manager, settings)
    room = EverybodyIsIn() if access is Access.CLASS else None
    entrance = Entrance(settings, Shares(home), room)  # type: ignore[arg-type]
    web = gr.routes.App.create_app(page, app_kwargs=app_parts(manager, entrance))
    where = {"base_url": "http://localhost:7860", "client": ("203.0.113.7", 50000)}
    with TestClient(web, raise_server_exceptions=False, follow_redirects=False, **where) as client:
        client.get("/gradio_api/startup-events")
        yield Inside(manager, page, web, client, entrance)
    patch.undo()
    asyncio.set_event_loop(None)
    for loop in loops:
        loop.close()


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A public app in this process."""
    yield from make_inside(tmp_path_factory.mktemp("public"), Access.PUBLIC)


@pytest.fixture(scope="session")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """The app of a class in this process."""
    yield from make_inside(tmp_path_factory.mktemp("class"), Access.CLASS)


@dataclass
class Served:
    """An app that listens on a port.

    Attributes:
        process: It.
        port: Of this machine.
        home: Its home folder.
        owner: Headers of its owner's programs.
    """

    process: subprocess.Popen
    port: int
    home: Path
    owner: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {TOKEN}"})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A public app as a program; all tests that need one share it."""
    home = tmp_path_factory.mktemp("served")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    env = {**os.environ, "PEFT_STUDIO_HOME": str(home), "PEFT_STUDIO_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}
    argv = [sys.executable, "app.py", "--port", str(port), "--access", "public"]
    with (home / "app.log").open("w") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            while "PEFT Studio is at" not in (home / "app.log").read_text():
                assert process.poll() is None, (home / "app.log").read_text()
                time.sleep(0.1)
            yield Served(process, port, home)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
