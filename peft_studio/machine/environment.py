"""Secrets that the environment holds: which variables these are, and processes that are started without them."""

import os
import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SIGNING_?KEY|_PAT$|_PWD$|_KEY$"
    r"|^KEY$|COOKIE|_DSN$|AUTH(?!OR)|DATABASE_URL|WEBHOOK)",
    re.IGNORECASE,
)
_SHORTEST = 6
"""Characters of a secret at least: what is shorter, such as ``true``, would be found everywhere."""


def is_secret_name(name: str) -> bool:
    """Whether a variable's name says that it holds a token, a password or a key."""
    return bool(_SECRET_NAME.search(name)) and not name.startswith(("XDG_", "SSH_AUTH_SOCK"))


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that reads what strangers brought.

    Args:
        env: Usually ``os.environ``.
    """
    return {name: value for name, value in env.items() if not is_secret_name(name)}


def secret_values(env: Mapping[str, str] | None = None) -> list[str]:
    """What token-like variables hold, longest first.

    Args:
        env: ``os.environ`` when not given.
    """
    found = {value.strip() for name, value in (os.environ if env is None else env).items() if is_secret_name(name)}
    plain = ("true", "false", "none", "null")
    return sorted(
        (value for value in found if len(value) >= _SHORTEST and value.lower() not in plain and not _is_place(value)),
        key=len,
        reverse=True,
    )


def _is_place(value: str) -> bool:
    """Whether a variable names where a secret is, such as ``HF_TOKEN_PATH``, or is a mere number."""
    return value.startswith(("/", "~", "./")) or value.isdecimal()
