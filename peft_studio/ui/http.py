"""The one wrapper around all of our routes: who may ask, JSON, errors in words, and nothing that a browser keeps."""

import inspect
import ipaddress
import json
import socket
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from peft_studio.access.rights import Right
from peft_studio.errors import DataError, HubOfflineError, RunNotFoundError, StudioError
from peft_studio.ui.told import told_json

_STATUS = {RunNotFoundError: 404, DataError: 400, HubOfflineError: 503}
"""What else goes wrong is the state of things, not the request: 409."""

Handler = Callable[[Request], object]
"""Answers a response, or a value that becomes JSON; one that is no coroutine runs in Starlette's thread pool."""


def endpoint(path: str, handler: Handler, method: str = "GET", right: Right = Right.CHANGE) -> Route:
    """A route of ours.

    Args:
        path: Its pattern.
        handler: What answers it. A ``StudioError`` is told in words, as ``{"error": message, "type": class, ...}``;
            an ``HTTPException`` with its own status.
        method: Whoever reads (GET) needs no right.
        right: What anybody else needs; a request without it never reaches the handler.
    """

    async def answer(request: Request) -> Response:
        try:
            if request.method not in ("GET", "HEAD") and right not in rights_of(request):
                raise HTTPException(403, "This request came from another site.")
            if inspect.iscoroutinefunction(handler):
                response = as_response(await handler(request))
            else:
                response = await run_in_threadpool(lambda: as_response(handler(request)))
        except HTTPException as exc:
            response = as_response({"error": exc.detail}, exc.status_code)
        except StudioError as exc:
            told = exc.to_dict()
            response = as_response({"error": told.pop("message"), **told}, _STATUS.get(type(exc), 409))
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return Route(path, answer, methods=[method])


def rights_of(request: Request) -> frozenset[Right]:
    """What a request may do: change things if it comes from a page of this very host.

    Over HTTPS, and on the machine itself, browsers say so in ``Sec-Fetch-Site``, which no page can forge and no proxy
    needs to know of (https://www.w3.org/TR/fetch-metadata/). Else ``Origin`` must name the host that was asked, as the
    browser or a proxy tells it.
    """
    site = request.headers.get("sec-fetch-site")
    same = site == "same-origin" if site else _names_host(request)
    return frozenset({Right.CHANGE}) if same else frozenset()


def _names_host(request: Request) -> bool:
    """Whether ``Origin`` is the host that was asked; a proxy may have left the port out of the host that it tells."""
    scheme, host, port = _split(request.headers.get("origin", ""))
    told = [name.strip() for name in request.headers.get("x-forwarded-host", "").split(",")]
    asked = [_split(f"{scheme}://{name}") for name in (*told, request.headers.get("host", "")) if name]
    return bool(host) and any(name == host and at in (None, port or _PORTS[scheme]) for _, name, at in asked)


_PORTS = {"http": 80, "https": 443}


def _split(origin: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an origin; empty and None where it is none, or names no port."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return "", "", None
    if parts.scheme not in _PORTS or not parts.hostname:
        return "", "", None
    return parts.scheme, parts.hostname.rstrip("."), port


_LOCAL_NAMES = ("localhost", "local", "internal", "lan", "test", "home.arpa")
"""Top-level names that no public server answers for (RFC 2606, 6761, 6762, 8375)."""


class LocalNamesOnly:
    """Refuses a page that has a foreign name point at this machine (DNS rebinding); a part of the whole app.

    Its browser comes over the loopback interface and asks for a public name with the app's own port. A proxy on this
    machine has a port of its own, so what it sends on does not look like that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] == "http" and _is_rebound(HTTPConnection(scope)):
            name = HTTPConnection(scope).headers.get("host", "")[:200]
            words = f"This app is not known as {name!r}. Open it as localhost, 127.0.0.1 or {socket.gethostname()}."
            await PlainTextResponse(words, 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_rebound(request: HTTPConnection) -> bool:
    here, own_port = request.scope.get("server") or ("", None)
    _, name, port = _split(f"http://{request.headers.get('host', '')}")
    if not _is_address(here) or not ipaddress.ip_address(here).is_loopback or (port or _PORTS["http"]) != own_port:
        return False
    known = "." not in name or _is_address(name) or name in _own_names()
    return not known and not name.endswith(tuple(f".{local}" for local in _LOCAL_NAMES))


@lru_cache(maxsize=1)
def _own_names() -> tuple[str, str]:
    return socket.gethostname().lower(), socket.getfqdn().lower()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def as_response(value: object, status: int = 200) -> Response:
    """A handler's response as it is, and anything else as JSON."""
    if isinstance(value, Response):
        return value
    body = json.dumps(told_json(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(body, status, media_type="application/json")
