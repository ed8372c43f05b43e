"""Who is asking: whoever has the page open, a student, a teacher, or the owner of the app."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What somebody is to this app; `rights.RIGHTS` has what each may."""

    NOBODY = "nobody"
    VISITOR = "visitor"
    TEACHER = "teacher"
    OWNER = "owner"


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks for something.

    Attributes:
        id: Stands in what belongs to them, as ``owner``; empty for the owner of the app, and for nobody.
        role: What they are to the app.
        name: As others may read it; plain text that they wrote.
        links: Ids of the links that they have opened, by which others show them runs.
        shown: Ids of the runs that these links show now.
        network: From where they ask, as far as limits go by it: see `hosts.network_of`; empty where they do not.
    """

    id: str
    role: Role
    name: str = ""
    links: tuple[str, ...] = ()
    shown: frozenset[str] = frozenset()
    network: str = field(default="", compare=False)


OWNER = Visitor("", Role.OWNER)
"""Whoever started the app; the command line and the app's own threads ask as they do."""
NOBODY = Visitor("", Role.NOBODY)

_ASKING: ContextVar[Visitor] = ContextVar("asking", default=OWNER)


def asker() -> Visitor:
    """Who asked for what this code does."""
    return _ASKING.get()


@contextmanager
def asking(visitor: Visitor) -> Iterator[None]:
    """What is done within is done for a visitor."""
    token = _ASKING.set(visitor)
    try:
        yield
    finally:
        _ASKING.reset(token)
