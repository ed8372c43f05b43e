"""Under which names this app is known, from which pages a change may come, and whom its proxies may speak for."""

import contextlib
import ipaddress
import re
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from peft_studio.errors import ConfigError, shown
from peft_studio.settings import Settings

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_LOCAL_NAMES = ("localhost", "local", "internal", "lan", "test", "home.arpa")
"""Top-level names that no public server answers for (RFC 2606, 6761, 6762, 8375)."""


def network_of(address: str) -> str:
    """What of an address stays the same for whoever has it: all of an IPv4 one, the first half of an IPv6 one."""
    found = _address(address)
    if found is None:
        return ""
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


class Network:
    """What an app believes of the names and addresses of a request.

    Args:
        settings: Names besides its own that it is known by; whose ``X-Forwarded-*`` headers it believes.

    Raises:
        ConfigError: A trusted proxy is neither an address nor a network.
    """

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(_listed(f"{settings.allowed_hosts},{settings.space_host}"))
        self._everybody = settings.on_space  # only the Space's own proxy reaches it
        self._proxies = [_network(text) for text in _listed(settings.trusted_proxies or "127.0.0.0/8,::1")]

    def trusts(self, peer: str) -> bool:
        """Whether an address is a proxy that may say whom it speaks for."""
        address = _address(peer)
        return self._everybody or (address is not None and any(address in network for network in self._proxies))

    def client(self, peer: str, headers: Headers) -> str:
        """Who asks: the last address in the chain that is no proxy of ours.

        Args:
            peer: Who has connected.
            headers: What it sent.
        """
        chain = [name.strip() for line in headers.getlist("x-forwarded-for") for name in line.split(",")]
        found = peer
        while chain and self.trusts(found):
            told = _without_port(chain.pop())
            if _address(told) is None:
                break
            found = told
            if self._everybody:  # behind the Space's proxy are people
                break
        return found

    def knows(self, host: str) -> bool:
        """Whether a ``Host`` header names this app: an address, a name of this machine, or one of the settings'.

        Any address will do: a foreign page can have its own name point here (DNS rebinding), but no address.
        """
        _, name, _ = split_origin(f"http://{host}")
        if not name:
            return False
        if "*" in self._names or name in self._names or name in _own_names() or _address(name) is not None:
            return True
        if any(known.startswith("*.") and name.endswith(known[1:]) for known in self._names):
            return True
        return "." not in name or name.endswith(tuple(f".{local}" for local in _LOCAL_NAMES))

    def is_same_origin(self, headers: Headers, peer: str) -> bool:
        """Whether a request comes from a page of this very host.

        Over HTTPS, and on the machine itself, browsers say so in ``Sec-Fetch-Site``, which no page can forge and no
        proxy needs to know of (https://www.w3.org/TR/fetch-metadata/). Else ``Origin`` must name the host that was
        asked, as the browser or a trusted proxy tells it; a proxy may have left the port out.
        """
        site = headers.get("sec-fetch-site")
        if site:
            return site == "same-origin"
        scheme, host, port = split_origin(headers.get("origin", ""))
        told = headers.get("x-forwarded-host", "").split(",") if self.trusts(peer) else []
        names = [name.strip() for name in (*told, headers.get("host", ""))]
        asked = [split_origin(f"{scheme}://{name}") for name in names if name]
        return bool(host) and any(name == host and at in (None, port or _PORTS[scheme]) for _, name, at in asked)


def split_origin(origin: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an origin; empty and None where it is none, or names no port."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return "", "", None
    name = (parts.hostname or "").rstrip(".")
    more = parts.path or parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in _PORTS or more or not (_NAME.fullmatch(name) or _address(name)):
        return "", "", None
    return parts.scheme, name, port


def is_loopback_peer(peer: str) -> bool:
    """Whether a connection comes from this machine."""
    address = _address(peer)
    return address is not None and address.is_loopback


def lan_address() -> str:
    """The address by which others in the network reach this machine; empty where there is none. Nothing is sent."""
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # nobody's, RFC 5737
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))
            found = str(probe.getsockname()[0])
            if not is_loopback_peer(found):
                return found
    return ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise ConfigError(
            f"PEFT_STUDIO_TRUSTED_PROXIES names {shown(text)}; allowed: addresses and networks, such as 10.0.0.0/8.",
            "trusted_proxies",
        ) from exc


def _listed(text: str) -> list[str]:
    return [name.strip().lower().rstrip(".") for name in text.split(",") if name.strip()]


@lru_cache(maxsize=1)
def _own_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower(), socket.getfqdn().lower()})
