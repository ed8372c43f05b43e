"""The page as Gradio makes it, kept: it is the same for all, and making it costs more than all else of a click."""

from collections import OrderedDict

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST = 8  # addresses by which the app is known at a time
_TOLD = ("host", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-prefix", "x-gradio-server")
"""Headers of which Gradio makes the page's own address."""


class KeptPage:
    """Answers ``/`` from what was answered before; stands behind the gate, so that rights were asked for.

    Args:
        app: What makes the page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: OrderedDict[tuple[str, ...], list[Message]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is not the page, or the page of somebody who has signed in, or of a link into Gradio."""
        is_page = scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "GET"
        if not is_page or scope.get("session") or b"deep_link" in scope["query_string"]:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "authorization" in headers or "access-token" in headers.get("cookie", ""):
            await self._app(scope, receive, send)
            return
        key = (scope["scheme"], scope.get("root_path", ""), *(headers.get(name, "") for name in _TOLD))
        if key not in self._kept:
            await self._make(key, scope, receive, send)
            return
        self._kept.move_to_end(key)
        for message in self._kept[key]:
            await send({**message, "headers": list(message["headers"])} if "headers" in message else message)

    async def _make(self, key: tuple[str, ...], scope: Scope, receive: Receive, send: Send) -> None:
        told: list[Message] = []

        async def listening(message: Message) -> None:
            told.append({**message, "headers": list(message["headers"])} if "headers" in message else dict(message))
            await send(message)

        await self._app(scope, receive, listening)
        names = {name.lower() for name, _ in told[0].get("headers", ())} if told else set()
        if told and told[0].get("status") == 200 and b"set-cookie" not in names:
            self._kept[key] = told
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
