"""Sees to it that nothing of a run is left on a Ray node: ``python -m peft_studio.jobs.executors.ray.guard``.

Starts the supervisor of a run and outlives it. When its standard input ends, as it does however the actor that started
it comes to an end, it kills what still runs and removes the run's folder. It holds the lock on that folder, whose
descriptor it inherits, so that two workers never share one.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ENDED = ".ended"  # appears in the run's folder when the supervisor has ended
_POLL = 0.1  # seconds


def main(argv: Sequence[str]) -> int:
    """Guards ``FOLDER COMMAND...``: runs the command and stays until the input ends."""
    folder, command = Path(argv[0]), list(argv[1:])
    if os.fork():
        os._exit(0)  # no child of the actor any more, or Ray would kill it together with the actor
    with (folder / "output.log").open("ab") as log:
        # A session, so that all of it can be found even when the supervisor is killed.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    # Keep no pipe to a dead actor, and no terminal.
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)
    while not select.select([0], [], [], _POLL)[0]:
        if not (folder / ENDED).exists() and _has_ended(child.pid):
            (folder / ENDED).touch()
    _kill(child)
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.parents[:2]:
        with contextlib.suppress(OSError):  # other runs are there, or the cache
            parent.rmdir()
    return 0


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays a zombie, so that nobody else gets its id."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for _ in range(50):  # those below it are not our children: wait until they have let go of their files
        try:
            os.killpg(child.pid, 0)
        except OSError:
            return
        time.sleep(_POLL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
