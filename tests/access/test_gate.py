"""The gate: which names and pages it lets in, who is who in each way of being run, and what bodies may take."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from peft_studio.access.bodies import BodyLimits
from peft_studio.access.entrance import Entrance
from peft_studio.access.gate import Gate, SignedIn
from peft_studio.access.shares import Shares
from peft_studio.access.visitors import OWNER, Role, Visitor, asker
from peft_studio.settings import Access, Settings, load_settings
from peft_studio.ui.http import endpoint
from tests.conftest import run_async

OWN = "127.0.0.1:7860"
TOKEN = "a token that nobody guesses"
PAGE = {"Accept": "text/html"}


def who(_request: Request) -> object:
    return {"role": asker().role, "id": asker().id, "shown": sorted(asker().shown)}


async def read(request: Request) -> JSONResponse:
    return JSONResponse(len(await request.body()))


ROUTES = [
    endpoint("/studio/change", lambda _request: {"ok": True}, "POST"),
    endpoint("/studio/who", who),
    Route("/", read, methods=["POST", "GET"]),
    Route("/gradio_api/proxy=x", read),
    Route("/new", read),
]


def client_of(settings: Settings, peer: str = "127.0.0.1", host: str = OWN) -> TestClient:
    gate = Middleware(Gate, settings=settings)
    app = Starlette(routes=ROUTES, middleware=[gate, Middleware(SignedIn, settings=settings)])
    return TestClient(app, base_url=f"http://{host}", client=(peer, 50000), follow_redirects=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    with client_of(Settings(home=home, no_token=True)) as found:
        yield found


def asked(client: TestClient, origin: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/studio/change", headers={"Origin": origin, **named} if origin else named).status_code


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        (f"http://{OWN}", {}),
        ("http://127.0.0.1:17872", {"Host": "127.0.0.1", "X_Forwarded_Host": "127.0.0.1"}),  # nginx: $host
        ("https://box.local:8443", {"Host": "box.local"}),
        ("https://box.local", {"Host": "box.local:443"}),  # nginx: $host:$server_port
        ("https://lab.example", {"Host": OWN, "X_Forwarded_Host": "lab.example"}),  # nginx's and Apache's own
        ("https://lab.example", {"Host": "app:7860", "X_Forwarded_Host": "LAB.example, inner.lan"}),  # two of them
        ("https://lab.example", {"Host": "app:7860", "Sec_Fetch_Site": "same-origin"}),  # nothing is told at all
        ("http://[::1]:7860", {"Host": "[::1]:7860"}),
        ("http://box:7860", {"Host": "box:7860"}),
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
        ("http://evil.example", {"Host": "box.local"}),
        ("http://127.0.0.1:3000", {}),  # another program of this machine
        ("http://127.0.0.1:3000", {"Host": "127.0.0.1", "Sec_Fetch_Site": "same-site"}),
        ("https://evil.example", {"X_Forwarded_Host": "evil.example", "Sec_Fetch_Site": "cross-site"}),
        ("https://box.local.evil.example", {"Host": "box.local"}),
        ("http://127.0.0.1:7860@evil.example", {}),
        ("http://box.local:port", {"Host": "box.local"}),
    ],
)
def test_pages_of_others(client: TestClient, origin: str, headers: dict[str, str]) -> None:
    assert asked(client, origin, **headers) == 403


@pytest.mark.parametrize("port", ["", ":7860"])
@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example."])
def test_a_foreign_name_that_points_here(client: TestClient, name: str, port: str) -> None:
    host = f"{name}{port}"
    assert asked(client, f"http://{host}", Host=host, X_Forwarded_Host=host, Sec_Fetch_Site="same-origin") == 421
    answer = client.get("/studio/who", headers={"Host": host})  # nor may it read
    assert answer.status_code == 421 and "localhost" in answer.text and "PEFT_STUDIO_ALLOWED_HOSTS" in answer.text


@pytest.mark.parametrize("host", ["", "a b", "http://", "[::1", "box:port", "user@box"])
def test_what_is_no_host(client: TestClient, host: str) -> None:
    assert client.get("/studio/who", headers={"Host": host}).status_code == 421


def test_names_of_the_settings(home: Path) -> None:
    client = client_of(Settings(home=home, no_token=True, allowed_hosts="lab.example, *.uni.example"))
    for host in ("lab.example", "LAB.example:8443", "a.uni.example", "lab.example."):
        assert client.get("/studio/who", headers={"Host": host}).status_code == 200
    for host in ("x.lab.example", "uni.example", "uni.example.evil.example"):
        assert client.get("/studio/who", headers={"Host": host}).status_code == 421
    space = load_settings({"SPACE_ID": "me/studio", "SPACE_HOST": "me-studio.hf.space", "PEFT_STUDIO_HOME": str(home)})
    client = client_of(space, "10.0.0.1", "me-studio.hf.space")
    assert space.access is Access.PUBLIC and client.get("/studio/who").status_code == 200


def test_only_trusted_proxies_are_believed(home: Path) -> None:
    told = {"Host": "app:7860", "X_Forwarded_Host": "lab.example", "Authorization": ""}
    settings = Settings(home=home, access=Access.PUBLIC)
    assert asked(client_of(settings, "127.0.0.1"), "https://lab.example", **told) == 200
    assert asked(client_of(settings, "10.0.0.7"), "https://lab.example", **told) == 403
    trusting = settings.model_copy(update={"trusted_proxies": "10.0.0.0/8"})
    assert asked(client_of(trusting, "10.0.0.7"), "https://lab.example", **told) == 200


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("127.0.0.1", "8.8.8.8, 9.9.9.9", "9.9.9.9"),
        ("127.0.0.1", "8.8.8.8, 127.0.0.1", "8.8.8.8"),
        ("9.9.9.9", "127.0.0.1", "9.9.9.9"),  # whoever it is, it says so itself
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
    ],
)
def test_whom_proxies_speak_for(home: Path, peer: str, chain: str, client: str) -> None:
    found: list[Scope] = []

    async def app(scope: Scope, _receive: object, _send: object) -> None:
        found.append(scope)

    gate = Gate(app, Settings(home=home, access=Access.PUBLIC))
    headers = [(b"host", b"localhost"), (b"x-forwarded-for", chain.encode()), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "scheme": "http", "headers": headers}
    run_async(gate({**scope, "client": (peer, 1)}, None, None))  # type: ignore[arg-type]
    assert found[0]["client"][0] == client
    assert found[0]["scheme"] == ("https" if peer == "127.0.0.1" else "http")


def test_what_browsers_are_to_keep_to(home: Path, client: TestClient) -> None:
    for answer in (client.get("/studio/who", headers={"Origin": "http://evil.example"}), client.get("/nowhere")):
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'self'" in policy and "huggingface" not in policy and "object-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    space = client_of(Settings(home=home, access=Access.PUBLIC, space_id="a/b"))
    assert (
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
        in (space.get("/studio/who").headers["content-security-policy"])
    )
    preflight = client.options("/", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 403


def test_private_needs_the_token(home: Path) -> None:
    client = client_of(Settings(home=home, token=TOKEN))
    page = client.get("/", headers=PAGE)
    assert page.status_code == 401 and "terminal" in page.text and TOKEN not in page.text
    assert client.get("/studio/who").status_code == 401
    assert client.get("/?token=wrong", headers=PAGE).status_code == 401
    assert client.get("/studio/who", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/studio/who", headers={"Authorization": f"Bearer {TOKEN}"}).json()["role"] == "owner"
    assert client.post("/studio/change", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    exchanged = client.get("/", params={"token": TOKEN, "runs": "a,b"}, headers=PAGE)
    assert (exchanged.status_code, exchanged.headers["location"]) == (303, "./?runs=a%2Cb")
    cookie = exchanged.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and TOKEN not in cookie
    assert client.get("/studio/who").json() == {"role": "owner", "id": "", "shown": []}
    assert asked(client, f"http://{OWN}") == 200 and asked(client, "") == 403
    other = client_of(Settings(home=home, token="another token"))
    other.cookies.update(client.cookies)
    assert other.get("/studio/who").status_code == 401
    assert (home / "secret.key").stat().st_mode & 0o777 == 0o600


def test_without_a_token_whoever_is_here_is_the_owner(home: Path) -> None:
    settings = Settings(home=home, no_token=True)
    assert client_of(settings).get("/studio/who").json()["role"] == "owner"
    assert client_of(settings, "192.168.1.9").get("/studio/who").status_code == 401


def test_public_tells_visitors_apart(home: Path) -> None:
    settings = Settings(home=home, access=Access.PUBLIC, token=TOKEN)
    ann, ben = client_of(settings, "8.8.8.8"), client_of(settings, "8.8.8.8")
    first = ann.get("/studio/who").json()
    assert first == ann.get("/studio/who").json() and first["role"] == "visitor" and first["id"].startswith("v-")
    assert ben.get("/studio/who").json()["id"] != first["id"]
    key = {"Authorization": "Bearer a key of my own choice"}
    assert ben.get("/studio/who", headers=key).json() == ann.get("/studio/who", headers=key).json()
    assert ann.get("/?token=" + TOKEN).status_code == 303
    assert ann.get("/studio/who").json()["role"] == "owner"
    ben.cookies.update({name: value[:-3] + "abc" for name, value in ben.cookies.items()})
    assert ben.get("/studio/who").json()["role"] == "visitor"


def test_a_space_sets_its_cookie_inside_of_a_frame(home: Path) -> None:
    client = client_of(Settings(home=home, access=Access.PUBLIC, space_id="a/b"))
    assert "SameSite=None; Secure; Partitioned" in client.get("/studio/who").headers["set-cookie"]


@pytest.mark.parametrize(("name", "role", "who_id"), [("ann", "visitor", "hf:ann"), ("me", "owner", "")])
def test_signed_in_with_hugging_face(home: Path, name: str, role: str, who_id: str) -> None:
    seen: list[Visitor] = []

    async def app(_scope: Scope, _receive: object, _send: object) -> None:
        seen.append(asker())

    async def with_session(scope: Scope, receive: object, send: object) -> None:
        session = {"oauth_info": {"userinfo": {"preferred_username": name}}}
        await SignedIn(app, settings)({**scope, "session": session}, receive, send)  # type: ignore[arg-type]

    settings = Settings(home=home, access=Access.PUBLIC, space_id="me/x", space_author="me")
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")]}
    run_async(Gate(with_session, settings)(scope, None, None))  # type: ignore[arg-type]
    assert (seen[0].role, seen[0].id, seen[0].name) == (role, who_id, name)
    assert asker() is OWNER


def test_addresses_that_nobody_names_are_the_owners(home: Path) -> None:
    client = client_of(Settings(home=home, access=Access.PUBLIC, token=TOKEN))
    assert client.get("/new").status_code == 404 and client.get("/gradio_api/proxy=x").status_code == 404
    owner = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/new", headers=owner).status_code == 200
    assert client.get("/gradio_api/proxy=x", headers=owner).status_code == 404


def test_a_link_shows_runs_until_it_is_taken_back(home: Path) -> None:
    settings = Settings(home=home, access=Access.PUBLIC)
    shares = Shares(home)
    entrance = Entrance(settings, shares)
    app = Starlette(routes=ROUTES, middleware=[Middleware(Gate, settings=settings, entrance=entrance)])
    client = TestClient(app, base_url=f"http://{OWN}")
    link = shares.add("v-ann", ["a", "b"])
    assert shares.add("v-ann", ["b", "a"]) == link
    assert client.get("/studio/who?share=forged").json()["shown"] == []
    client.get("/", params={"share": entrance.shared_link(link.id)})
    assert client.get("/studio/who").json()["shown"] == ["a", "b"]
    assert Shares(home).shown([link.id]) == {"a", "b"}
    assert shares.withdraw("v-ben", ["a"]) == 0 and shares.withdraw("v-ann", ["a"]) == 1
    assert client.get("/studio/who").json()["shown"] == [] and Shares(home).of("v-ann") == []


class OneStudent:
    """A class of one, who is called Ann."""

    open_paths = ("/studio/change",)
    teacher_id = "t-chalk"

    def is_teacher(self, key: str) -> bool:
        return key == "chalk"

    def knows(self, visitor: Visitor) -> bool:
        return visitor.id == "s-ann" or visitor.role is Role.TEACHER

    def join_page(self, _scope: Scope) -> JSONResponse:
        return JSONResponse("join", 401)


def test_a_class_has_its_page_its_teacher_and_its_students(home: Path) -> None:
    settings = Settings(home=home, access=Access.CLASS)
    entrance = Entrance(settings, Shares(home), OneStudent())
    app = Starlette(routes=ROUTES, middleware=[Middleware(Gate, settings=settings, entrance=entrance)])
    client = TestClient(app, base_url=f"http://{OWN}", follow_redirects=False)
    assert client.get("/", headers=PAGE).json() == "join"
    for visitor, status in ((Visitor("s-ann", Role.VISITOR, "Ann"), 200), (Visitor("s-ben", Role.VISITOR), 401)):
        cookie = entrance.cookies.header(visitor).partition(";")[0]
        assert client.get("/studio/who", headers={"Cookie": cookie}).status_code == status
    assert client.get("/?token=chalk").status_code == 303
    assert client.get("/studio/who").json()["role"] == "teacher"


def test_bodies_are_bounded(home: Path) -> None:
    limits = BodyLimits(idle=0.1, grace=0.3, rate=1e9, most=1000, larger={"/": 2000})
    settings = Settings(home=home, no_token=True)
    app = Starlette(routes=ROUTES, middleware=[Middleware(Gate, settings=settings, limits=limits)])
    client = TestClient(app, base_url=f"http://{OWN}", client=("127.0.0.1", 1))
    assert client.post("/", content=b"x" * 1500).json() == 1500
    assert client.post("/", content=b"x" * 2500).status_code == 413
    assert client.post("/", content=(b"x" * 900 for _ in range(3))).status_code == 413
    assert client.post("/", content=b"x", headers={"Content-Length": "1e9"}).status_code == 413


@pytest.mark.parametrize("pause", [0.02, 10.0])  # a drop at a time, and nothing at all
def test_slow_bodies_end(home: Path, pause: float) -> None:
    limits = BodyLimits(idle=0.1, grace=0.2, rate=1e6)
    sent: list[Message] = []

    async def drip() -> AsyncIterator[Message]:
        while True:
            yield {"type": "http.request", "body": b"x", "more_body": True}
            await asyncio.sleep(pause)

    async def ask() -> None:
        parts = drip()

        async def receive() -> Message:
            return await anext(parts)

        async def send(message: Message) -> None:
            sent.append(message)

        app = Starlette(routes=ROUTES)
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [(b"host", b"box")]}
        await Gate(app, Settings(home=home, no_token=True), limits=limits)(
            {**scope, "client": ("127.0.0.1", 1)}, receive, send
        )

    run_async(asyncio.wait_for(ask(), 5))
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]
