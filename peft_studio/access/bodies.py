"""What a request's body may take: bytes and time. A slow or endless one ends, and whatever waited for it is free."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

MIB = 2**20


@dataclass(frozen=True)
class BodyLimits:
    """Bounds on bodies of requests.

    Attributes:
        idle: Seconds that may pass without any of it.
        grace: Seconds that any body may take.
        rate: Bytes a second that a body must come with after that.
        most: Bytes of one.
        larger: The same of some paths that files are sent to.
    """

    idle: float = 15.0
    grace: float = 30.0
    rate: float = 20_000.0
    most: int = 8 * MIB
    larger: Mapping[str, int] = field(default_factory=dict)

    def most_of(self, path: str) -> int:
        """Bytes that a request of a path may bring."""
        return self.larger.get(path, self.most)


class BodyRefusedError(HTTPException):
    """A body took too long or is too large; its status says which. Starlette and we answer it as it is."""


class LimitedBody:
    """Receives a request's body within limits.

    Args:
        receive: Where it comes from.
        limits: The bounds.
        path: Of the request.

    Attributes:
        refused: Why it was refused; None as long as it was not.
    """

    def __init__(self, receive: Receive, limits: BodyLimits, path: str) -> None:
        self._receive = receive
        self._limits = limits
        self._most = limits.most_of(path)
        self._start = time.monotonic()
        self._bytes = 0
        self._complete = False
        self.refused: BodyRefusedError | None = None

    def check_declared(self, length: str | None) -> None:
        """Makes sure that a body is no larger than allowed, by the length that its sender declares.

        Raises:
            BodyRefusedError: It is.
        """
        if length is not None and (not length.isdecimal() or len(length) > 18 or int(length) > self._most):
            raise self._refuse(413, f"A request may bring {self._most:,} bytes; this one is larger.")

    async def receive(self) -> Message:
        """The next part.

        Raises:
            BodyRefusedError: It takes too long, or the body is too large.
        """
        if self._complete:
            return await self._receive()
        left = self._start + self._limits.grace + self._bytes / self._limits.rate - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(left, self._limits.idle)))
        except TimeoutError:
            raise self._refuse(408, "The body of this request came too slowly.") from None
        self._bytes += len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        if self._bytes > self._most:
            raise self._refuse(413, f"A request may bring {self._most:,} bytes; this one is larger.")
        return message

    def _refuse(self, status: int, words: str) -> BodyRefusedError:
        self._complete = True
        self.refused = BodyRefusedError(status, words, {"Connection": "close"})
        return self.refused
