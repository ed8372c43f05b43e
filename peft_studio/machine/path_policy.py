"""Who may name which file: the one policy, for every config wherever it comes from.

On a machine of one's own a config names files and folders. Where others use the app, nobody names a path: what they
bring gets a *ticket*, ``upload:OWNER-CONTENT/rows.csv`` or ``dataset:NAME/train.jsonl``, and only here a ticket
becomes a path again. What is refused is refused in the same words whether or not it is there.
"""

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peft_studio.errors import DataError, ModelError, StorageError, shown
from peft_studio.files import remove

_TICKET = re.compile(r"(upload|dataset):(\w[\w.-]{0,199})/(\w[\w.-]{0,199})")
_PLACES = {"upload": "uploads", "dataset": "datasets"}
_MODEL = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
_MARK = 16
_OWNED = re.compile(r"^([0-9a-f]{16})-[0-9a-f]{16}$")
_FETCHED = ".of-"
"""How the files begin, in the folder of a fetched data set, that hold the marks of those who asked for it."""


@dataclass
class _Policy:
    """What holds in this process; ``asker`` gives None for the app's owner, and in processes that serve no page."""

    home: Path | None = None
    public: bool = False
    asker: Callable[[], str | None] = lambda: None


_policy = _Policy()


def use_home(home: Path | None, public: bool) -> None:
    """Says in whose home this process works, and whether others than its owner use the app.

    Args:
        home: The home folder; without one, no ticket is known.
        public: Whether nobody names paths.
    """
    _policy.home = home and home.resolve()
    _policy.public = public


def stand_in_empty_folder(cache: Path) -> None:
    """Has this process, and all that it starts, work in an empty folder, where no name of the Hub is a folder's.

    Libraries that take ``owner/name`` look for such a folder below the working directory first.

    Args:
        cache: The cache folder of the home.

    Raises:
        StorageError: The folder cannot be made.
    """
    folder = cache / "empty"
    try:
        if folder.is_dir() and any(folder.iterdir()):
            remove(folder)  # it is for nothing to be in it
        folder.mkdir(mode=0o500, parents=True, exist_ok=True)
        os.chdir(folder)
    except OSError as exc:
        raise StorageError(f"{folder} cannot be used as working directory: {exc.strerror or exc}.") from exc


def asked_by(asker: Callable[[], str | None]) -> None:
    """Has uploads belong to whoever brought them; called by the web process.

    Args:
        asker: Gives the visitor's id; None for the app's owner and for those who may see everything.
    """
    _policy.asker = asker


def who_asks() -> str | None:
    """Id of the visitor who asks; None for the app's owner, and in processes that serve no page."""
    return _policy.asker()


def home_of_tickets() -> Path | None:
    """The home that this process knows tickets of."""
    return _policy.home


def paths_are_named() -> bool:
    """Whether people may name files and folders of this machine."""
    return not _policy.public


def owner_mark(visitor: str) -> str:
    """How the folders begin that hold a visitor's uploads."""
    return hashlib.sha256(f"owner {visitor}".encode()).hexdigest()[:_MARK]


def mark_as_fetched(folder: Path, visitor: str) -> None:
    """Writes down that somebody asked for a data set, which several may have done.

    Raises:
        OSError: The folder cannot be written.
    """
    (folder / f"{_FETCHED}{owner_mark(visitor)}").touch()


def marked_folders(home: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """Folders of data below a home that belong to somebody, with the marks of those whose they are."""
    for kind in _PLACES.values():
        with contextlib.suppress(OSError), os.scandir(home / kind) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    continue
                if kind == _PLACES["dataset"]:
                    found = Path(entry.path).glob(f"{_FETCHED}*")
                    marks = frozenset(path.name.removeprefix(_FETCHED) for path in found)
                else:
                    marks = frozenset(_OWNED.findall(entry.name))
                if marks:
                    yield Path(entry.path), marks


def is_ticket(name: str) -> bool:
    """Whether a name is a ticket, not a path."""
    return bool(_TICKET.fullmatch(name))


def named(path: Path | str) -> str:
    """What people are told of a file that they brought: its ticket where nobody names paths, else its path."""
    path = Path(path)
    places = {_policy.home / folder: kind for kind, folder in _PLACES.items()} if _policy.home else {}
    kind = places.get(path.parent.parent) if _policy.public else None
    ticket = f"{kind}:{path.parent.name}/{path.name}"
    return ticket if kind and is_ticket(ticket) else str(path)


def whole(name: str) -> str:
    """A file's name in a config: a path of this machine from its root on, and anything else as it is."""
    if not name or is_ticket(name) or _policy.public:
        return name
    try:
        return str(Path(name).expanduser().absolute())
    except (RuntimeError, ValueError, OSError):  # nobody's home
        return name


def resolve(name: Path | str) -> Path:
    """The file that a config names, as a path.

    Raises:
        DataError: Whoever asks may not name it; or it is a ticket for what is gone.
    """
    name = str(name)
    if "\0" in name:
        raise _refused(name)
    if match := _TICKET.fullmatch(name):
        return _of_ticket(name, *match.groups())
    if not _policy.public:
        return Path(whole(name))
    # Runs of an earlier version, and those that the owner started, hold the paths of their uploads.
    path = Path(name)
    if _policy.asker() is not None or _policy.home is None or ".." in path.parts:
        raise _refused(name)
    if path.parent.parent not in [_policy.home / folder for folder in _PLACES.values()] or not _is_plain(path):
        raise _refused(name)
    return path


def _of_ticket(name: str, kind: str, folder: str, file: str) -> Path:
    if _policy.home is None:
        raise _refused(name)
    visitor = _policy.asker()
    if kind == "upload" and visitor is not None and not folder.startswith(f"{owner_mark(visitor)}-"):
        raise _refused(name)
    path = _policy.home / _PLACES[kind] / folder / file
    if not _is_plain(path):
        raise _refused(name)
    return path


def _is_plain(path: Path) -> bool:
    """Whether a plain file is there, by no link: no folder, pipe or device."""
    try:
        held = (path.parent.parent.lstat(), path.parent.lstat(), path.lstat())
    except (OSError, ValueError):
        return False
    return all(stat.S_ISDIR(each.st_mode) for each in held[:2]) and stat.S_ISREG(held[2].st_mode)


def _refused(name: str) -> DataError:
    return DataError(f"Here only uploaded files can be used, and {shown(name)} is none of yours. Upload it first.")


def check_model_name(model_id: str) -> None:
    """Makes sure, before anybody looks for it, that a model may be named so.

    Raises:
        ModelError: Nobody names paths here, and it is one.
    """
    if _policy.public and not (_MODEL.fullmatch(model_id) and ".." not in model_id):
        raise ModelError(
            f"There is no model {shown(model_id)}. A model is a name of the catalogue, or a Hub id such as owner/name."
        )
