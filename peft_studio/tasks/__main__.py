"""``python -m peft_studio.tasks FOLDER`` makes and keeps all rows of the tasks that read the standard library."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from peft_studio.machine.limits import give_way
from peft_studio.tasks import TASKS
from peft_studio.tasks.base import SPLITS
from peft_studio.tasks.kept_rows import use_folder


def main(argv: Sequence[str]) -> None:
    """Makes the rows that are not kept yet, so that nobody waits for them later; gives way to all other processes."""
    (folder,) = argv
    with contextlib.suppress(OSError):
        os.setsid()  # a session of its own, which yields as a whole
    give_way(19)
    with contextlib.suppress(OSError, AttributeError):  # only Linux has it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    make_rows(Path(folder))


def _end_with(parent: int) -> None:
    """Ends this process once its parent has gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def make_rows(folder: Path) -> None:
    """Makes the rows that a folder does not keep yet.

    Args:
        folder: See `kept_rows.use_folder`.
    """
    use_folder(folder)
    for task in TASKS.values():
        if task.reads_library:
            for split in SPLITS:
                task.load(split)


if __name__ == "__main__":
    main(sys.argv[1:])
