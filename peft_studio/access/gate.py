"""The gate: one ASGI middleware ahead of everything, Gradio's own included.

It refuses names that are not this app's (DNS rebinding) and changes that come from other sites, bounds bodies, says
who asks, keeps Gradio's own addresses to those who may, and puts on every answer what browsers are to keep to.
"""

import math
import socket
from collections.abc import Callable
from dataclasses import replace

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peft_studio.access.bodies import BodyLimits, BodyRefusedError, LimitedBody
from peft_studio.access.doors import OPEN, door_of
from peft_studio.access.entrance import Entrance, Entry
from peft_studio.access.hosts import Network, network_of
from peft_studio.access.rights import Right, may
from peft_studio.access.shares import Shares
from peft_studio.access.visitors import Role, Visitor, asker, asking
from peft_studio.errors import LimitError
from peft_studio.settings import Access, Settings

_READS = ("GET", "HEAD")
_SPACES = "https://huggingface.co https://*.hf.space"
"""Whose pages may frame an app on a Space."""


def _policy(on_space: bool) -> str:
    """The content security policy: nothing of another host; Gradio's page needs inline scripts and makes functions."""
    return "; ".join((
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        f"frame-ancestors 'self'{' ' + _SPACES if on_space else ''}",
    ))  # fmt: skip


class Gate:
    """Lets requests in, or not.

    Args:
        app: What is behind it.
        settings: The way of being run; names and proxies.
        entrance: Who is who; made of the settings when not given.
        limits: Bounds on bodies.
        count: Counts a request of a visitor, None for one who has just come, from an address; a LimitError refuses it.

    Attributes:
        entrance: Tells who asks.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        entrance: Entrance | None = None,
        limits: BodyLimits | None = None,
        count: Callable[[Visitor | None, str], None] = lambda _visitor, _address: None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._network = Network(settings)
        self._limits = limits or BodyLimits()
        self._count = count
        self._policy = _policy(settings.on_space)
        self.entrance = entrance or Entrance(settings, Shares(settings.home))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        peer = (scope.get("client") or ("", 0))[0]
        entry = self.entrance.look(request, peer)
        refused = self._refuse(request, peer, entry)
        if scope["type"] == "websocket":
            if refused is not None or entry.answer is not None:
                await send({"type": "websocket.close", "code": 1008})
                return
            with asking(self._enter(scope, peer, entry.visitor)):
                await self._app(scope, receive, send)
            return
        told = self._telling(send, entry.cookie if refused is None else "")
        answer = refused or entry.answer
        if answer is not None:
            answer.headers.setdefault("Cache-Control", "no-store")
            await answer(scope, receive, told)
            return
        with asking(self._enter(scope, peer, entry.visitor)):
            await self._pass(scope, receive, told)

    def _enter(self, scope: Scope, peer: str, visitor: Visitor) -> Visitor:
        """Writes down who asks, and from where as far as our proxies tell; a class sits behind one address."""
        headers = Headers(scope=scope)
        client = self._network.client(peer, headers)
        if self._settings.access is Access.PUBLIC:
            visitor = replace(visitor, network=network_of(client))
        state = scope.setdefault("state", {})
        state.update(visitor=visitor, access=self._settings.access, entrance=self.entrance)
        if scope.get("client"):
            scope["client"] = (client, scope["client"][1])
        scheme = headers.get("x-forwarded-proto", "").split(",")[0].strip()
        if scheme in ("http", "https") and scope["type"] == "http" and self._network.trusts(peer):
            scope["scheme"] = scheme
        return visitor

    def _refuse(self, request: HTTPConnection, peer: str, entry: Entry) -> Response | None:
        """Why a request goes no further, as an answer; None when it may."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._network.knows(hosts[0]):
            name = hosts[0][:200] if hosts else ""
            return PlainTextResponse(
                f"This app is not known as {name!r}. Open it as localhost, 127.0.0.1 or {socket.gethostname()}; "
                "its owner can name others in PEFT_STUDIO_ALLOWED_HOSTS.", 421,
            )  # fmt: skip
        path, method = request.scope["path"], request.scope.get("method", "")
        if method not in _READS and not self._may_change(request, peer, entry):
            return JSONResponse({"error": "This request came from another site.", "type": "NotAllowedError"}, 403)
        if entry.answer is not None:
            return None
        return self._behind(path, request.scope, entry.visitor) or self._counted(request, peer, entry)

    def _counted(self, request: HTTPConnection, peer: str, entry: Entry) -> Response | None:
        """A refusal for whoever has asked too often; files that the page is made of do not count."""
        path = request.scope["path"]
        if not path.startswith(("/studio/", "/gradio_api/")) or path.startswith("/studio/static/"):
            return None
        try:
            self._count(None if entry.cookie else entry.visitor, self._network.client(peer, request.headers))
        except LimitError as exc:
            wait = {"Retry-After": str(math.ceil(exc.retry_seconds or 1))}
            return JSONResponse({"error": str(exc), "detail": str(exc), "type": "LimitError"}, 429, wait)
        return None

    def _may_change(self, request: HTTPConnection, peer: str, entry: Entry) -> bool:
        """Whether a request other than one that reads comes from a page of this app, or from no page at all.

        Every browser names the origin of such a request. One without it, and without a cookie, is a program's.
        """
        if entry.by_key or self._network.is_same_origin(request.headers, peer):
            return True
        if request.scope["type"] == "websocket" or request.scope["path"].startswith("/studio/"):
            return False
        return not any(name in request.headers for name in ("origin", "sec-fetch-site", "cookie"))

    def _behind(self, path: str, scope: Scope, visitor: Visitor) -> Response | None:
        door = door_of(path)
        room = self.entrance.room
        if door is OPEN or (room is not None and path in room.open_paths):
            return None
        if visitor.role is Role.NOBODY:
            return self.entrance.refusal(scope)
        right = Right.RUN_APP if door is None else door
        if not isinstance(right, Right) or not may(self._settings.access, visitor, right):
            return JSONResponse({"error": "There is nothing at this address.", "detail": "Not Found"}, 404)
        return None

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the app answer, with a body within bounds; where it is not, that is the answer."""
        body = LimitedBody(receive, self._limits, scope["path"])
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if body.refused is not None and not started:
                return  # whatever the app made of it
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            body.check_declared(Headers(scope=scope).get("content-length"))
            await self._app(scope, body.receive, watched)
        except BodyRefusedError:
            pass
        except Exception:
            if body.refused is None:
                raise
        if body.refused is not None and not started:
            why = body.refused
            await JSONResponse({"error": why.detail, "detail": why.detail}, why.status_code, {"Connection": "close"})(
                scope, receive, send
            )

    def _telling(self, send: Send, cookie: str) -> Send:
        """Sends answers with what browsers are to keep to, and for no other site."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                if cookie:
                    headers.append("Set-Cookie", cookie)
                    headers["Cache-Control"] = "no-store"
            await send(message)

        return told


class SignedIn:
    """Makes whoever has signed in with Hugging Face that person; stands behind Gradio's own session middleware.

    Args:
        app: What is behind it.
        settings: Who owns the Space.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._author = settings.space_author

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on in the name of whoever makes it."""
        name = _signed_in_name(scope)
        before = asker()
        if not name or before.role is not Role.VISITOR:
            await self._app(scope, receive, send)
            return
        is_author = bool(self._author) and name == self._author
        visitor = replace(before, id=f"hf:{name}", name=name) if not is_author else Visitor("", Role.OWNER, name)
        scope["state"]["visitor"] = visitor
        with asking(visitor):
            await self._app(scope, receive, send)


def _signed_in_name(scope: Scope) -> str:
    found = scope.get("session") or {}
    for part in ("oauth_info", "userinfo", "preferred_username"):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""
