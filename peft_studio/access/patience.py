"""How long a connection may take to say what it wants: uvicorn bounds only the pause between two requests.

A connection whose first request line and headers are not complete after ``HEADER_SECONDS`` is closed, as is one that
says nothing at all; bodies have bounds of their own (`access.bodies`).
"""

import asyncio

import uvicorn.config
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 20.0


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, with an end to waiting for headers."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Ends the wait when this was all of a request's headers, and begins one with the first part of the next."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or self.transport.get_protocol() is not self:  # a request, or a WebSocket now
            self._stop_waiting()
        elif self._deadline is None and (before is None or before.response_complete):
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def bound_header_time() -> None:
    """Has every server that is started from now on in this process close connections that are too slow."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{PatientProtocol.__name__}"
