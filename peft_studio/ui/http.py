"""The one wrapper around all of our routes: what one needs to ask, JSON, errors in words, nothing is kept; and what
leaves the app for a page: no secrets, and for visitors no folders of the server.

Who asks, and from which site, the gate has found out before: `access.gate`.
"""

import inspect
import json
import math
from collections.abc import Callable
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from peft_studio.access.doors import OPEN
from peft_studio.access.rights import Right, require
from peft_studio.access.visitors import Role, asker
from peft_studio.archives.places import bare
from peft_studio.errors import (
    ConfigError,
    DataError,
    ExperimentNotFoundError,
    HubOfflineError,
    LimitError,
    NotAllowedError,
    RunNotFoundError,
    StudioError,
)
from peft_studio.runs.redact import redact
from peft_studio.settings import Access

_STATUS = {
    RunNotFoundError: 404, ExperimentNotFoundError: 404, DataError: 400, HubOfflineError: 503, NotAllowedError: 403,
    LimitError: 429,
}  # fmt: skip
"""What else goes wrong is the state of things, not the request: 409."""

Handler = Callable[[Request], object]
"""Answers a response, or a value that becomes JSON; one that is no coroutine runs in Starlette's thread pool."""


def endpoint(path: str, handler: Handler, method: str = "GET", right: Right | Literal["open"] | None = None) -> Route:
    """A route of ours.

    Args:
        path: Its pattern.
        handler: What answers it. A ``StudioError`` is told in words, as ``{"error": message, "type": class, ...}``;
            an ``HTTPException`` with its own status.
        method: Of the requests.
        right: What whoever asks needs, for what is their own or nobody's; to look, where nothing changes (GET), else
            to change a run. ``OPEN`` asks for none: the way in. What belongs to somebody, the handler asks for itself.
    """
    needed = right or {"GET": Right.LOOK}.get(method, Right.CHANGE)

    async def answer(request: Request) -> Response:
        try:
            if needed != OPEN:
                require(access_of(request), needed)
            if inspect.iscoroutinefunction(handler):
                response = as_response(await handler(request))
            else:
                response = await run_in_threadpool(lambda: as_response(handler(request)))
        except HTTPException as exc:
            response = as_response({"error": exc.detail}, exc.status_code)
        except StudioError as exc:
            told = exc.to_dict()
            response = as_response({"error": told.pop("message"), **told}, _STATUS.get(type(exc), 409))
            if isinstance(exc, LimitError) and exc.retry_seconds is not None:
                response.headers["Retry-After"] = str(math.ceil(exc.retry_seconds))
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return Route(path, answer, methods=[method])


async def read_object(request: Request, most: int = 1 << 20) -> dict[str, Any]:
    """A request's body, which is to be a JSON object.

    Args:
        request: The request.
        most: Bytes that it may have.

    Raises:
        ConfigError: It is none, or too long.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ConfigError(f"The body of this request takes at most {most:,} bytes.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ConfigError("The body of the request is not JSON.") from exc
    if not isinstance(found, dict):
        raise ConfigError("The body of the request is not a JSON object.")
    return found


def access_of(request: Request) -> Access:
    """How the app is run that a request was made to, as the gate has written down."""
    return Access(request.scope.get("state", {}).get("access", Access.PRIVATE))


def as_response(value: object, status: int = 200) -> Response:
    """A handler's response as it is, and anything else as JSON."""
    if isinstance(value, Response):
        return value
    body = json.dumps(told_json(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(body, status, media_type="application/json")


def told(text: str) -> str:
    """A text as whoever asks may read it: secrets are gone, and paths are their last names but for the app's owner."""
    text = redact(text)
    return text if asker().role is Role.OWNER or not ("/" in text or "~" in text) else bare(text)


def told_json(value: Any) -> Any:
    """The same for every text in a value of JSON, but the names in objects."""
    if isinstance(value, str):
        return told(value)
    if isinstance(value, dict):
        return {name: told_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):  # curves are long lists of numbers
        return value if value and isinstance(value[0], int | float) else [told_json(part) for part in value]
    return value


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""With these a cell begins that a spreadsheet takes for a formula, or as the end of the cell before it."""


def safe_cell(value: Any) -> Any:
    """A cell or header of a CSV file that no spreadsheet takes for a formula; numbers stay numbers."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = told(value)
    return f"'{text}" if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def file_name(name: str) -> str:
    """A name for ``Content-Disposition`` with nothing in it that ends the name or is a folder."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in name)[
        :120
    ].lstrip(".")
