"""The one table of rights: what each role may do, with what is its own, what others share, and what is others'."""

from collections.abc import Mapping
from enum import StrEnum

from peft_studio.access.visitors import Role, Visitor, asker
from peft_studio.errors import NotAllowedError, RunNotFoundError, no_run
from peft_studio.settings import Access


class Right(StrEnum):
    """What somebody must be allowed, to do something."""

    LOOK = "look at this app"
    """Open the page; read what belongs to nobody: methods, tasks, models."""
    ASK = "have something computed"
    """Have something computed: estimates, previews, answers of a model."""
    TRAIN = "train"
    """Start a run, bring data."""
    SEE = "see a run"
    """A run's curves, figures and answers."""
    CHANGE = "change a run"
    """Stop, pause, resume, extend, mark, free or delete a run."""
    TAKE = "take a run away"
    """A run's adapter, rows, log or whole folder."""
    IMPORT = "import"
    """Take in an adapter or run from elsewhere."""
    QUEUE = "change the queue"
    """The order, the priorities and the switch of the queue."""
    PATHS = "name files of this machine"
    """Name a file or folder of this machine."""
    RUN_APP = "run the app"
    """What concerns all: the disk, the room, everybody's list."""


_EVERYTHING = frozenset(Right)
_OWN = frozenset({Right.LOOK, Right.ASK, Right.TRAIN, Right.SEE, Right.CHANGE, Right.TAKE})
_SHARED = frozenset({Right.LOOK, Right.SEE})
_DEMO = frozenset({Right.LOOK, Right.ASK, Right.SEE})
_ROOM = _EVERYTHING - {Right.PATHS}

RIGHTS: Mapping[Access, Mapping[Role, Mapping[str, frozenset[Right]]]] = {
    Access.PRIVATE: {},
    Access.CLASS: {
        Role.VISITOR: {"own": _OWN, "shared": _SHARED},
        Role.TEACHER: {"own": _ROOM, "shared": _ROOM, "others": _ROOM},
    },
    Access.PUBLIC: {Role.VISITOR: {"own": _OWN, "shared": _SHARED}},
    Access.DEMO: {Role.VISITOR: {"own": _DEMO, "shared": _DEMO, "others": _DEMO}},
}
"""Way of being run -> role -> whose it is (``own`` also for what is nobody's) -> rights. What is not here is not
allowed; the owner of the app may do everything, except that nothing trains in a demo."""


_WORDS = {
    Role.NOBODY: "not signed in",
    Role.VISITOR: "a visitor",
    Role.TEACHER: "a teacher",
    Role.OWNER: "the owner of this app",
}


def may(access: Access, visitor: Visitor, right: Right, owner: str | None = None, shared: bool = False) -> bool:
    """Whether somebody may do something.

    Args:
        access: How the app is run.
        visitor: Who asks.
        right: For what.
        owner: Id of whom it belongs to; None when it is nobody's, such as the list of methods.
        shared: Whether its owner shows it to the visitor.
    """
    if visitor.role is Role.OWNER:
        return access is not Access.DEMO or right is not Right.TRAIN
    whose = "own" if owner is None or (visitor.id and owner == visitor.id) else "shared" if shared else "others"
    return right in RIGHTS[access].get(visitor.role, {}).get(whose, frozenset())


def require(access: Access, right: Right, owner: str | None = None, shared: bool = False) -> None:
    """Makes sure that whoever asks may.

    Raises:
        NotAllowedError: They may not.
    """
    if not may(access, asker(), right, owner, shared):
        whose = "" if owner is None else " with what belongs to somebody else"
        raise NotAllowedError(f"You may not {right.value}{whose}: you are {_WORDS[asker().role]}.")


def sees(access: Access, run_id: str, owner: str) -> bool:
    """Whether whoever asks may see a run, by its owner's id."""
    visitor = asker()
    return may(access, visitor, Right.SEE, owner, shared=run_id in visitor.shown)


def require_of_run(access: Access, right: Right, run_id: str, owner: str) -> None:
    """Makes sure that whoever asks may do something with a run.

    Raises:
        RunNotFoundError: They may not even see it: in the words for one that is not there, so that ids tell nothing.
        NotAllowedError: They may see it, but not do this.
    """
    if not sees(access, run_id, owner):
        raise RunNotFoundError(no_run(run_id))
    require(access, right, owner, shared=run_id in asker().shown)
