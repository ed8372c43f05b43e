"""The class of a request, and the address by which its students come in."""

from dataclasses import dataclass

from starlette.requests import Request

from peft_studio.access.entrance import Entrance
from peft_studio.access.hosts import is_loopback_peer, lan_address, split_origin
from peft_studio.access.room import Room
from peft_studio.errors import NotAllowedError
from peft_studio.settings import Settings, is_loopback


@dataclass(frozen=True)
class Way:
    """How students come in.

    Attributes:
        address: What they open.
        trouble: Why they cannot, in words; empty when nothing is known against it.
    """

    address: str
    trouble: str = ""


def room_of(request: Request) -> Room:
    """The class of the app that a request was made to; raises NotAllowedError where it is none."""
    entrance: Entrance | None = request.scope.get("state", {}).get("entrance")
    room = entrance.room if entrance is not None else None
    if not isinstance(room, Room):
        raise NotAllowedError("This app is not run as a class: it has no room.")
    return room


def way_in(request: Request, settings: Settings) -> Way:
    """The address for students: as the settings say, else as the teacher has opened it, if others can do so too.

    Args:
        request: Of the teacher.
        settings: Where the app listens.
    """
    if settings.public_url:
        return Way(f"{settings.public_url.rstrip('/')}/")
    opened = str(request.base_url)
    _, host, _ = split_origin(opened.rstrip("/"))
    if not (host == "localhost" or is_loopback_peer(host)):
        return Way(opened)
    if is_loopback(settings.host):
        return Way(opened, (
            "Students cannot reach this address: the app listens on this machine alone. Start it with --host 0.0.0.0, "
            "or, if a proxy or tunnel leads here, name its address in PEFT_STUDIO_PUBLIC_URL."
        ))  # fmt: skip
    found = lan_address() if settings.host in ("0.0.0.0", "::") else settings.host
    if not found:
        return Way(opened, (
            "Students cannot reach this address, and this machine's own in the network is not known. Name it in "
            "PEFT_STUDIO_PUBLIC_URL, such as http://192.168.1.20:7860."
        ))  # fmt: skip
    return Way(f"http://{f'[{found}]' if ':' in found else found}:{request.base_url.port or settings.port}/")
