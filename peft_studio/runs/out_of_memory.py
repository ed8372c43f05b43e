"""How a worker that ran out of memory is recognised, and what is told of it: what it needs, and what is allowed."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from peft_studio.files import read_json
from peft_studio.machine.memory import memory_limit, peak_resident
from peft_studio.runs.paths import RunPaths

ADVICE = "A smaller batch size or max_length, a smaller model or fewer runs at a time need less."
# How torch, safetensors, the kernel, C++, Rust and the C library say it.
_WORDS = re.compile(
    r"out of memory|can(?:'|no)t allocate memory|unable to allocate|memory allocation (?:of \d+ bytes|still) failed"
    r"|bad_alloc|failed to map segment|thread creation failed|can't start new thread|pthread_create.* failed"
    r"|MemoryError",
    re.IGNORECASE,
)
_TAIL = 4096  # bytes of a log that may hold the last words


def is_low_memory(exc: BaseException) -> bool:
    """Whether an exception, or one that it came from, says that memory ran out."""
    return any(
        isinstance(link, MemoryError)
        or (isinstance(link, OSError) and link.errno == errno.ENOMEM)
        or (isinstance(link, (RuntimeError, OSError, ImportError)) and _WORDS.search(str(link)) is not None)
        for link in _chain(exc)
    )


def _chain(exc: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = exc
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def log_says_low_memory(log: Path, start: int) -> bool:
    """Whether a process that ended at once has left such words in its log.

    Args:
        log: The file.
        start: Where the process's own output begins.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - _TAIL))
            return _WORDS.search(file.read().decode(errors="replace")) is not None
    except OSError:
        return False


def low_memory_message(detail: str = "", sizes: str = "") -> str:
    """A sentence for people.

    Args:
        detail: What the library said, if anything; it names CUDA or MPS when it speaks of a GPU.
        sizes: From ``told_sizes``.
    """
    said = f" ({detail.splitlines()[0][:200]})" if detail.strip() else ""
    if "CUDA" in detail or "MPS" in detail:
        return f"The GPU's memory ran out{said}. {ADVICE}"
    return f"The machine's memory ran out{said}. {sizes}{ADVICE}"


def told_sizes(paths: RunPaths) -> str:
    """What a run was to need, what this process has had, and what is allowed; as sentences, or empty."""
    needed = (read_json(paths.predicted) or {}).get("memory_bytes")
    foretold = f"The run needs about {_gb(needed)} by the estimate. " if isinstance(needed, int) else ""
    had, allowed = peak_resident(), memory_limit()
    return f"{foretold}Its process had {_gb(had)} of the {_gb(allowed)} that are allowed. "


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
