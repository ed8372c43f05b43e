"""Who may change things: pages of this very host, behind whatever proxies, and nobody else."""

from collections.abc import Iterator

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from peft_studio.ui.http import LocalNamesOnly, endpoint

OWN = "127.0.0.1:7860"


@pytest.fixture
def client() -> Iterator[TestClient]:
    route = endpoint("/studio/change", lambda _request: {"ok": True}, "POST")
    app = Starlette(routes=[route], middleware=[Middleware(LocalNamesOnly)])
    with TestClient(app, base_url=f"http://{OWN}") as found:
        yield found


def asked(client: TestClient, origin: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/studio/change", headers={"Origin": origin, **named} if origin else named).status_code


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        (f"http://{OWN}", {}),
        ("http://127.0.0.1:17872", {"Host": "127.0.0.1", "X_Forwarded_Host": "127.0.0.1"}),  # nginx: $host
        ("https://lab.example:8443", {"Host": "lab.example"}),
        ("https://lab.example", {"Host": "lab.example:443"}),  # nginx: $host:$server_port
        ("https://lab.example", {"Host": OWN, "X_Forwarded_Host": "lab.example"}),  # nginx's and Apache's own
        ("https://lab.example", {"Host": "app:7860", "X_Forwarded_Host": "LAB.example, inner.lan"}),  # two of them
        ("https://lab.example", {"Host": "app:7860", "Sec_Fetch_Site": "same-origin"}),  # nothing is told at all
        ("https://me-studio.hf.space", {"Host": "me-studio.hf.space", "Sec_Fetch_Site": "same-origin"}),
        ("http://[::1]:7860", {"Host": "[::1]:7860"}),
        ("http://box:7860", {"Host": "box:7860"}),
        ("http://box.local:7860", {"Host": "box.local:7860"}),
        ("", {"Sec_Fetch_Site": "same-origin"}),
    ],
)
def test_pages_of_this_host(client: TestClient, origin: str, headers: dict[str, str]) -> None:
    assert asked(client, origin, **headers) == 200


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("", {}),
        ("null", {}),
        ("null", {"Sec_Fetch_Site": "cross-site"}),
        ("http://evil.example", {}),
        ("http://evil.example", {"Host": "lab.example"}),
        ("http://127.0.0.1:3000", {}),  # another program of this machine
        ("http://127.0.0.1:3000", {"Host": "127.0.0.1", "Sec_Fetch_Site": "same-site"}),
        ("https://evil.example", {"X_Forwarded_Host": "evil.example", "Sec_Fetch_Site": "cross-site"}),
        ("https://lab.example.evil.example", {"Host": "lab.example"}),
        ("file://", {"Host": ""}),
        ("http://", {"Host": ""}),
        ("http://lab.example:port", {"Host": "lab.example"}),
    ],
)
def test_pages_of_others(client: TestClient, origin: str, headers: dict[str, str]) -> None:
    assert asked(client, origin, **headers) == 403


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example."])
def test_a_foreign_name_that_points_here(client: TestClient, name: str) -> None:
    host = f"{name}:7860"
    assert asked(client, f"http://{host}", Host=host, X_Forwarded_Host=host) == 421
    answer = client.get("/studio/change", headers={"Host": host})  # nor may it read
    assert answer.status_code == 421 and "localhost" in answer.text


def test_gradio_takes_the_gate_into_its_app(blocks: gr.Blocks) -> None:
    made = gr.routes.App.create_app(blocks, app_kwargs={"middleware": [Middleware(LocalNamesOnly)]})
    assert LocalNamesOnly in [one.cls for one in made.user_middleware]
