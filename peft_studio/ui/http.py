"""The one wrapper around all of our routes: who may ask, JSON, errors in words, and nothing that a browser keeps."""

import inspect
import json
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from peft_studio.errors import DataError, HubOfflineError, RunNotFoundError, StudioError
from peft_studio.jobs.actions import Right

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

    A browser cannot be made to forge the ``Origin``, which must name the host that the request was sent to.
    """
    origin = request.headers.get("origin", "")
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    return frozenset({Right.CHANGE}) if origin and urlsplit(origin).netloc == host else frozenset()


def as_response(value: object, status: int = 200) -> Response:
    """A handler's response as it is, and anything else as JSON."""
    if isinstance(value, Response):
        return value
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(body, status, media_type="application/json")
