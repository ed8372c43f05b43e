"""Memory: what this process and its children may use at most, what is free, and what a process takes."""

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
# A limit that is not one: cgroup v1 and rlimits say "none" by a number near 2**63.
NO_LIMIT = 1 << 60


def memory_limit(cgroups: Path = CGROUPS) -> int:
    """Bytes of memory: the machine's, or fewer if its container or a limit on the process allows fewer.

    Args:
        cgroups: Where the kernel shows the container's limits.
    """
    limits = [int(psutil.virtual_memory().total)]
    limits += [resource.getrlimit(name)[0] for name in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    for path in (cgroups / "memory.max", cgroups / "memory" / "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text()))  # "max" is no number: no limit
    return min(limit for limit in limits if 0 < limit < NO_LIMIT)


def peak_resident() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def oom_kills() -> int:
    """Processes that the kernel has ended for want of memory since it started; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        return kernel_count(Path("/proc/vmstat"), "oom_kill")
    return 0


def be_first_to_go() -> None:
    """Lets Linux end this process, not the app, when memory runs out; elsewhere it does nothing."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def kernel_count(path: Path, name: str) -> int:
    """A number in one of the kernel's files with a name and a number in each line; 0 when it has none of that name.

    Raises:
        OSError: The file cannot be read.
        ValueError: It says no number.
    """
    for line in path.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


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
