"""The list of runs for pages that already have most of it: only what changed since they last asked."""

import threading
import time
from collections.abc import Callable
from typing import Any

from peft_studio.runs.reader import RunInfo


class RunList:
    """Numbers the changes of the list. Thread-safe.

    Args:
        read: Gives every run, newest first.
    """

    def __init__(self, read: Callable[[], list[RunInfo]]) -> None:
        self._read = read
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
            return {
                "v": self._version,
                "runs": [plain(info) for info in changed],
                "ids": self._order if self._order_version > known else None,
            }

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


def plain(info: RunInfo) -> dict[str, Any]:
    """A run as the page's list needs it: without its config."""
    return {key: value for key, value in info.to_dict().items() if key != "config"}
