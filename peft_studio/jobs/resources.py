"""Memory that is free for runs, within the limits of the machine and of its container."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from peft_studio.machine import CGROUPS, NO_LIMIT, kernel_count


def available_memory(cgroups: Path = CGROUPS) -> int:
    """Bytes that new processes can use before something must give way.

    The machine's free memory, or what the container's limit leaves if that is less. Files that the kernel keeps in
    memory only in case they are read again count as free.

    Args:
        cgroups: Where the kernel shows the container's limits.
    """
    free = int(psutil.virtual_memory().available)
    for folder, limit, used, cached in (
        (cgroups, "memory.max", "memory.current", "inactive_file"),
        (cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):
            most = int((folder / limit).read_text())  # "max" is no number: no limit
            if most < NO_LIMIT:
                taken = int((folder / used).read_text()) - kernel_count(folder / "memory.stat", cached)
                free = min(free, max(0, most - taken))
    return free


def resident_memory_of(pid: int) -> int:
    """Bytes of the largest of a process and its descendants, which is the worker of a run; 0 when it has gone.

    Resident, with the libraries' pages that it shares with others: that is what estimates of a run mean.
    """
    return max(_of_family(pid, lambda member: member.memory_info().rss), default=0)


def memory_of(pid: int) -> int:
    """Bytes that would become free if a process and its descendants ended; 0 when it has gone."""
    return sum(_of_family(pid, lambda member: member.memory_full_info().uss))


def _of_family(pid: int, size: Callable[[psutil.Process], int]) -> Iterator[int]:
    """A size of a process and of each of its descendants that is still there."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                yield int(size(member))
