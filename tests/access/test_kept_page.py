"""The page is made once for each address by which the app is known, and for nobody who is somebody to Gradio."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from peft_studio.access.kept_page import KeptPage


def test_the_page_is_made_once_for_each_address() -> None:
    made: list[str] = []

    async def page(request: Request) -> PlainTextResponse:
        made.append(request.headers["host"])
        return PlainTextResponse(f"{len(made)} {request.headers['host']}")

    app = Starlette(routes=[Route("/", page), Route("/other", page)], middleware=[Middleware(KeptPage)])
    client = TestClient(app, base_url="http://one")
    first = client.get("/")
    assert (first.text, first.headers["content-type"]) == ("1 one", "text/plain; charset=utf-8")
    again = client.get("/?tab=room")
    assert (again.text, again.headers) == (first.text, first.headers)
    assert client.get("/", headers={"Host": "two"}).text == "2 two"
    for path, headers in (("/other", {}), ("/?deep_link=a", {}), ("/", {"Cookie": "access-token=a"})):
        assert client.get(path, headers=headers).text != "1 one"
    assert client.get("/").text == "1 one" and len(made) == 5
