"""The signed cookie by which a browser is known again, and the secret that signs it."""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from itsdangerous import BadData, URLSafeTimedSerializer

from peft_studio.access.visitors import Role, Visitor
from peft_studio.settings import Settings

LASTS = 60 * 24 * 3600  # seconds
MOST_SHARES = 32
"""Links of others that one cookie remembers; the oldest goes first."""


class Cookies:
    """Makes and reads visitors' cookies.

    Args:
        settings: Home folder, where the secret is kept; port and whether the page stands in a Space's frame.

    Attributes:
        name: Of the cookie; ports of a machine share cookies, apps do not.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = f"peft-studio-{settings.port}"
        self._framed = settings.on_space
        self._secret = _secret(settings.home / "secret.key")
        self._signer = URLSafeTimedSerializer(self._secret, salt="visitor")
        self._stamp = hashlib.sha256(settings.token.encode()).hexdigest()[:16] if settings.token else ""

    def header(self, visitor: Visitor) -> str:
        """The value of ``Set-Cookie`` that makes a browser a visitor."""
        stamp = self._stamp if visitor.role is Role.OWNER else ""
        told = [visitor.id, visitor.role.value, visitor.name, stamp, list(visitor.links)[-MOST_SHARES:]]
        where = "SameSite=None; Secure; Partitioned" if self._framed else "SameSite=Lax"
        return f"{self.name}={self._signer.dumps(told)}; Path=/; Max-Age={LASTS}; HttpOnly; {where}"

    def read(self, value: str) -> Visitor | None:
        """Whose cookie it is; None for one that we did not make, that is too old, or of an owner by another token."""
        try:
            found = self._signer.loads(value, max_age=LASTS)
            who, role, name, stamp, links = found
            visitor = Visitor(who, Role(role), name, tuple(links))
        except (BadData, ValueError, TypeError):
            return None
        is_owner = visitor.role is Role.OWNER
        return None if is_owner and not secrets.compare_digest(stamp, self._stamp) else visitor

    def id_of(self, key: str) -> str:
        """The id of whoever brings a key of their own choice; the key cannot be read from it."""
        return f"k-{hashlib.blake2b(key.encode(), key=self._secret[:64].encode(), digest_size=12).hexdigest()}"

    def sign(self, value: str, what: str) -> str:
        """A short text that only this app can have made.

        Args:
            value: What it says.
            what: What it is for; nothing else accepts it.
        """
        return str(URLSafeTimedSerializer(self._secret, salt=what).dumps(value))

    def signed(self, text: str, what: str) -> str | None:
        """What a signed text says; None when it is none of ours."""
        try:
            found = URLSafeTimedSerializer(self._secret, salt=what).loads(text)
        except BadData:
            return None
        return found if isinstance(found, str) else None


def _secret(path: Path) -> str:
    """The secret of a home folder, made the first time; one for this process alone where nothing can be written."""
    made = secrets.token_urlsafe(48)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(made)
        kept = path.read_text().strip()
        return kept if len(kept) >= 32 else made
    return made
