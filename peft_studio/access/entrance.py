"""Who is asking: what a cookie, a token or a key of their own make of a request, in each way of being run."""

import html
import secrets
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Scope

from peft_studio.access.cookies import MOST_SHARES, Cookies
from peft_studio.access.hosts import is_loopback_peer
from peft_studio.access.shares import Shares
from peft_studio.access.visitors import NOBODY, OWNER, Role, Visitor
from peft_studio.settings import Access, Settings

SHORTEST_KEY = 16
"""Characters of a key that a program chooses to be known by."""
_SHARE = "share"


class ClassRoom(Protocol):
    """What a class has besides: who is in it, and the page where one comes in."""

    open_paths: tuple[str, ...]
    """Addresses of ours that nobody may ask for, such as where a name and a code are sent to."""

    teacher_id: str
    """Of the teacher as a visitor."""

    def is_teacher(self, key: str) -> bool:
        """Whether a key is the teacher's."""

    def knows(self, visitor: Visitor) -> bool:
        """Whether a student is still in the room, or a teacher has the present key."""

    def join_page(self, scope: Scope) -> Response:
        """What whoever is nobody is shown."""


@dataclass(frozen=True)
class Entry:
    """What comes of a request.

    Attributes:
        visitor: Who asks.
        cookie: ``Set-Cookie`` of the answer; empty when there is nothing new.
        answer: What is answered at once; None when the app does.
        by_key: Whether they said who they are in a header, which no foreign page can send.
    """

    visitor: Visitor
    cookie: str = ""
    answer: Response | None = None
    by_key: bool = False


class Entrance:
    """Tells who asks.

    Args:
        settings: The way of being run, and the token.
        shares: The links that others may have opened.
        room: The class.

    Attributes:
        token: By which the owner of the app is known.
        cookies: Makes and reads visitors' cookies.
        shares: The links of this app.
    """

    def __init__(self, settings: Settings, shares: Shares, room: ClassRoom | None = None) -> None:
        self._access = settings.access
        self._loopback_is_owner = settings.access is Access.PRIVATE and settings.no_token
        self.token = settings.token or secrets.token_urlsafe(24)
        self.cookies = Cookies(settings)
        self.shares = shares
        self.room = room

    def look(self, request: HTTPConnection, peer: str) -> Entry:
        """Tells who makes a request.

        Args:
            request: The request.
            peer: Address of whoever has connected.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return Entry(self._by_key(key.strip()), by_key=True)
        visitor, is_new = self._by_cookie(request), False
        reads = request.scope["type"] == "http" and request.scope["method"] in ("GET", "HEAD")
        token = request.query_params.get("token") if reads else None
        if token and (keeper := self._keeper(token)) is not None:
            keeper = replace(keeper, links=visitor.links if visitor else ())
            return Entry(keeper, self.cookies.header(keeper), _without_token(request))
        if visitor is None and self._loopback_is_owner and is_loopback_peer(peer):
            visitor = OWNER
        if visitor is None and self._access in (Access.PUBLIC, Access.DEMO):
            visitor, is_new = Visitor(f"v-{secrets.token_hex(8)}", Role.VISITOR), True
        if visitor is None:
            return Entry(NOBODY)
        opened = self._opened(request.query_params.get(_SHARE, "") if reads else "", visitor)
        shown = replace(opened, shown=self.shares.shown(opened.links))
        return Entry(shown, self.cookies.header(opened) if is_new or opened is not visitor else "")

    def refusal(self, scope: Scope) -> Response:
        """What whoever is nobody is answered: how to come in."""
        if self.room is not None and self._access is Access.CLASS and _wants_page(scope):
            return self.room.join_page(scope)
        words = (
            "This PEFT Studio is not open to everybody. Where it was started, in the terminal or its log, a line says "
            "'PEFT Studio is at' and gives the address with its token. Open that address, or write the token here."
        )
        if not _wants_page(scope):
            told = f"{words} A program sends it as the header 'Authorization: Bearer TOKEN'."
            return JSONResponse({"error": told, "detail": told, "type": "NotAllowedError"}, 401)
        return HTMLResponse(_PAGE.format(words=html.escape(words)), 401)

    def shared_link(self, link: str) -> str:
        """What stands in an address as ``share`` for a link."""
        return self.cookies.sign(link, _SHARE)

    def link_of(self, share: str) -> str:
        """The link of what stands in an address as ``share``; empty for what is none of ours."""
        return self.cookies.signed(share, _SHARE) or ""

    def _by_key(self, key: str) -> Visitor:
        keeper = self._keeper(key)
        if keeper is not None:
            return keeper
        if self._access in (Access.PUBLIC, Access.DEMO) and len(key) >= SHORTEST_KEY:
            return Visitor(self.cookies.id_of(key), Role.VISITOR)
        return NOBODY

    def _keeper(self, key: str) -> Visitor | None:
        """The owner or the teacher by their key."""
        if secrets.compare_digest(key.encode(), self.token.encode()):
            return OWNER
        if self.room is not None and self._access is Access.CLASS and self.room.is_teacher(key):
            return Visitor(self.room.teacher_id, Role.TEACHER, "Teacher")
        return None

    def _by_cookie(self, request: HTTPConnection) -> Visitor | None:
        visitor = self.cookies.read(request.cookies.get(self.cookies.name, ""))
        if visitor is None or visitor.role is Role.OWNER:
            return visitor
        if self._access is Access.PRIVATE:
            return None
        if self._access is Access.CLASS:
            return visitor if self.room is not None and self.room.knows(visitor) else None
        return visitor if visitor.role is Role.VISITOR else None

    def _opened(self, share: str, visitor: Visitor) -> Visitor:
        """A visitor who has opened one more link, or the same one."""
        link = self.link_of(share) if share else ""
        if not link or link in visitor.links or self.shares.find(link) is None:
            return visitor
        return replace(visitor, links=(*visitor.links, link)[-MOST_SHARES:])


def _wants_page(scope: Scope) -> bool:
    accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    return scope.get("method") in ("GET", "HEAD") and b"text/html" in accepts


def _without_token(request: HTTPConnection) -> Response:
    """Sends a browser to the same address without its token, which then stands in no history and no referrer."""
    pairs = parse_qsl(request.scope["query_string"].decode("latin1"), keep_blank_values=True)
    rest = urlencode([(name, value) for name, value in pairs if name != "token"])
    here = request.scope["path"].rpartition("/")[2] or "./"
    return RedirectResponse(f"{here}?{rest}" if rest else here, 303)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>PEFT Studio</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem; }}
input, button {{ font: inherit; padding: .3rem .6rem; }}</style></head>
<body><h1>PEFT Studio</h1><p>{words}</p>
<form><label>Token <input name="token" autocomplete="off" required></label> <button>Open</button></form>
</body></html>
"""
