"""Links by which the owner of runs shows them to others, until the owner takes them back.

``shares.json`` in the home folder has, by id of the link, whose runs it shows and which.
"""

import json
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peft_studio.errors import LimitError
from peft_studio.files import atomic_write, read_json

FILE = "shares.json"
MOST_OF_ONE = 100
"""Links that somebody may have."""
MOST_RUNS = 64


@dataclass(frozen=True)
class Share:
    """A link.

    Attributes:
        id: What a browser remembers of it.
        owner: Whose runs it shows.
        runs: Their ids.
    """

    id: str
    owner: str
    runs: tuple[str, ...]


class Shares:
    """The links of a home folder. Thread-safe.

    Args:
        home: The home folder.

    Attributes:
        version: Changes with the links.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._lock = threading.Lock()
        self.version = 0
        self._shares = self._read()

    def shown(self, links: Iterable[str]) -> frozenset[str]:
        """Ids of the runs that some links show."""
        found = [self._shares.get(link) for link in links]
        return frozenset(run for share in found if share for run in share.runs)

    def find(self, link: str) -> Share | None:
        """A link by its id; None when there is none, or no more."""
        return self._shares.get(link)

    def of(self, owner: str) -> list[Share]:
        """Somebody's links, oldest first."""
        return [share for share in self._shares.values() if share.owner == owner]

    def add(self, owner: str, runs: Sequence[str]) -> Share:
        """Makes a link; the same runs have the same one.

        Raises:
            LimitError: The owner has too many, or it names too many runs.
            StorageError: It cannot be kept.
        """
        wanted = tuple(dict.fromkeys(runs))
        if len(wanted) > MOST_RUNS:
            raise LimitError(f"A link shows {MOST_RUNS} runs at most; these are {len(wanted)}.")
        with self._lock:
            mine = self.of(owner)
            same = next((share for share in mine if set(share.runs) == set(wanted)), None)
            if same:
                return same
            if len(mine) >= MOST_OF_ONE:
                raise LimitError(f"You have {len(mine)} links, the most allowed. Take one back first.")
            made = Share(secrets.token_urlsafe(12), owner, wanted)
            self._write({**self._shares, made.id: made})
            return made

    def withdraw(self, owner: str, runs: Iterable[str]) -> int:
        """Takes back an owner's links that show any of some runs; returns how many."""
        gone = set(runs)
        with self._lock:
            kept = {key: one for key, one in self._shares.items() if one.owner != owner or not gone & set(one.runs)}
            count = len(self._shares) - len(kept)
            if count:
                self._write(kept)
            return count

    def take_back(self, owner: str, link: str) -> int:
        """Takes back one of an owner's links, by its id; returns how many that was."""
        with self._lock:
            found = self._shares.get(link)
            if found is None or found.owner != owner:
                return 0
            self._write({key: one for key, one in self._shares.items() if key != link})
            return 1

    def forget(self, owner: str) -> None:
        """Takes back all links of an owner."""
        with self._lock:
            kept = {key: one for key, one in self._shares.items() if one.owner != owner}
            if len(kept) < len(self._shares):
                self._write(kept)

    def _read(self) -> dict[str, Share]:
        found = read_json(self._path) or {}
        shares = {}
        for key, value in found.items():
            if isinstance(value, dict) and isinstance(value.get("runs"), list) and isinstance(value.get("owner"), str):
                shares[key] = Share(key, value["owner"], tuple(run for run in value["runs"] if isinstance(run, str)))
        return shares

    def _write(self, shares: dict[str, Share]) -> None:
        text = json.dumps({key: {"owner": share.owner, "runs": share.runs} for key, share in shares.items()})
        atomic_write(self._path, text)
        self._shares, self.version = shares, self.version + 1
