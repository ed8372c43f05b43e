"""What a process of ours may take when it works on something that anybody may have written, and what it may know."""

import contextlib
import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from peft_studio.errors import OutOfTimeError
from peft_studio.machine.environment import without_secrets
from peft_studio.machine.memory import be_first_to_go

NICENESS = 5  # it yields to the page
LAST_WORDS = 10  # seconds of a core after the limit, to say that it was reached


def without_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that is to know no secrets, not even one that a sign-in to the Hub has left."""
    return {**without_secrets(environment), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_TOKEN_PATH": os.devnull}


def give_way(niceness: int) -> None:
    """Lets other processes go first: within this process's session, and, where it leads one, among all sessions.

    With Linux's autogroups, sessions share the processors alike, whatever the niceness within them:
    https://man7.org/linux/man-pages/man7/sched.7.html.

    Args:
        niceness: From 1 to 19, which yields most.
    """
    with contextlib.suppress(OSError):
        os.nice(niceness)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


def limit_process(memory: int, cpu_seconds: int) -> None:
    """Limits this process; what goes over raises ``MemoryError`` or ``OutOfTimeError`` in it.

    Args:
        memory: Bytes that it may allocate.
        cpu_seconds: Of work; ten more, and the system ends it.
    """
    give_way(NICENESS)
    be_first_to_go()
    signal.signal(signal.SIGXCPU, _out_of_time)
    lower_limit(resource.RLIMIT_DATA, memory)
    lower_limit(resource.RLIMIT_CPU, cpu_seconds, LAST_WORDS)


def lower_limit(kind: int, most: int, more: int = 0) -> None:
    """Limits this process, where the system knows the limit; one that is lower stays.

    Args:
        kind: Such as ``resource.RLIMIT_DATA``.
        most: What it may use.
        more: How much further the hard limit is.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (most, most + more))


def _out_of_time(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # it comes again with every second
    raise OutOfTimeError
