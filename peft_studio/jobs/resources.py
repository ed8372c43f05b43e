"""Memory that is free for runs, within the limits of the machine and of its container."""

import contextlib
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
# A limit that is not one: cgroup v1 says "none" by a number near 2**63.
NO_LIMIT = 1 << 60


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
                taken = int((folder / used).read_text()) - _stat(folder / "memory.stat", cached)
                free = min(free, max(0, most - taken))
    return free


def _stat(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def resident_memory_of(pid: int) -> int:
    """Bytes of the largest of a process and its descendants, which is the worker of a run; 0 when it has gone.

    Resident, with the libraries' pages that it shares with others: that is what estimates of a run mean.
    """
    largest = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                largest = max(largest, int(member.memory_info().rss))
    return largest


def memory_of(pid: int) -> int:
    """Bytes that would become free if a process and its descendants ended; 0 when it has gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += int(member.memory_full_info().uss)
    return total
