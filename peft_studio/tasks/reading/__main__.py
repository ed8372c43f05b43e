"""The reader program: ``python -m peft_studio.tasks.reading`` answers one question about data files.

The question comes as JSON on stdin, the answer goes as JSON to stdout, with ``facts`` or ``error``; columns go into
the cache. The process has limits, so that no file takes the machine's memory or holds a core for ever.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from peft_studio.errors import DataError, OutOfTimeError
from peft_studio.machine.memory import be_first_to_go
from peft_studio.machine.path_policy import use_home
from peft_studio.tasks.custom import find_rows, find_table
from peft_studio.tasks.kept_rows import use_folder
from peft_studio.tasks.reading.custom_data import CustomData
from peft_studio.tasks.reading.limits import lower_limit
from peft_studio.tasks.reading.reader_client import MAX_CPU_SECONDS, MAX_MEMORY, MAX_WRITTEN
from peft_studio.tasks.reading.table_cache import read_here

NICENESS = 5  # reading yields to the page
LAST_WORDS = 10  # seconds of a core after the limit, to say that it was reached


def main() -> None:
    """Reads what is asked for, within the limits."""
    request = json.load(sys.stdin)
    _limit()
    use_folder(Path(request["cache"]))
    home = request.get("home")
    use_home(Path(home) if home else None, public=False)  # whoever asks has found that these files may be named
    read_here()
    try:
        if request["kind"] == "table":
            found = find_table(Path(request["settings"]["path"]))
        else:
            found = find_rows(CustomData(**request["settings"]))
        answer: dict[str, object] = {"facts": found.facts}
    except DataError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


def _limit() -> None:
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    be_first_to_go()
    signal.signal(signal.SIGXCPU, _out_of_time)
    lower_limit(resource.RLIMIT_DATA, MAX_MEMORY)
    lower_limit(resource.RLIMIT_CPU, MAX_CPU_SECONDS, LAST_WORDS)
    lower_limit(resource.RLIMIT_FSIZE, MAX_WRITTEN)
    lower_limit(resource.RLIMIT_CORE, 0)


def _out_of_time(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # it comes again with every second
    raise OutOfTimeError


if __name__ == "__main__":
    main()
