"""The list of runs as pages ask for it all the time: what changed since the last time."""

import threading
import time
from collections.abc import Callable
from typing import Any

from peft_studio.access.rights import Right, may, sees
from peft_studio.access.visitors import Role, asker
from peft_studio.jobs.actions import actions_on
from peft_studio.runs.reader import RunInfo
from peft_studio.settings import Access


class RunList:
    """Numbers the changes of the list. Thread-safe.

    Args:
        read: Gives every run, newest first.
        access: Who uses the app; each is told of what they may see.
    """

    def __init__(self, read: Callable[[], list[RunInfo]], access: Access = Access.PRIVATE) -> None:
        self._read = read
        self._access = access
        self._lock = threading.Lock()
        self._first = self._version = int(time.time() * 1000)  # so that a restarted app knows no number of an old page
        self._seen: dict[str, tuple[RunInfo, int]] = {}
        self._order: list[str] = []
        self._order_version = self._version

    def since(self, version: int) -> dict[str, Any]:
        """What changed after a version.

        Args:
            version: ``v`` of the last answer; any other number for everything.

        Returns:
            ``{"v", "runs": [changed ones, without their config], "ids": every id, newest first, or None when neither
            order nor number of the runs changed}``.
        """
        with self._lock:
            self._update()
            known = version if self._first < version <= self._version else -1
            changed = [info for info, at in self._seen.values() if at > known]
            # Which runs a link shows changes without the runs.
            order = self._order if self._order_version > known or asker().links else None
            seen, version = self._seen, self._version
        if asker().role is not Role.OWNER:
            changed = [info for info in changed if sees(self._access, info.id, info.owner)]
            order = order and [run for run in order if sees(self._access, run, seen[run][0].owner)]
        return {"v": version, "runs": [plain(info, self._access) for info in changed], "ids": order}

    def _update(self) -> None:
        infos, following = self._read(), self._version + 1
        seen = {}
        for info in infos:
            before = self._seen.get(info.id)
            same = before is not None and (before[0] is info or before[0] == info)
            seen[info.id] = before if before is not None and same else (info, following)
        order = [info.id for info in infos]
        if order != self._order or self._version == self._first:
            self._order, self._order_version = order, following
            self._version = following
        elif any(at == following for _, at in seen.values()):
            self._version = following
        self._seen = seen


def plain(info: RunInfo, access: Access = Access.PRIVATE) -> dict[str, Any]:
    """A run as the page's list needs it: without its config, and with the actions that whoever asks has a right to.

    ``rights`` has what else they may: to change it, to take it away, and to show it to others by a link.
    """
    shown = {key: value for key, value in info.to_dict().items() if key != "config"}
    visitor, rights = asker(), {name: action.right for name, action in actions_on("run").items()}
    has = [right.name.lower() for right in (Right.CHANGE, Right.TAKE) if may(access, visitor, right, info.owner)]
    shared = access in (Access.CLASS, Access.PUBLIC) and "take" in has
    shown["rights"] = [*has, "share"] if shared else has
    if visitor.role is not Role.OWNER:
        allowed = [name for name in info.actions if may(access, visitor, rights[name], info.owner)]
        shown["actions"] = tuple(allowed)
    return shown
