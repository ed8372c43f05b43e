"""The reader program: ``python -m peft_studio.tasks.reading`` answers one question about data files.

The question comes as JSON on stdin, the answer goes as JSON to stdout, with ``facts`` or ``error``; columns go into
the cache. The process has limits, so that no file takes the machine's memory or holds a core for ever.
"""

import contextlib
import json
import os
import resource
import sys
from pathlib import Path

from peft_studio.errors import DataError
from peft_studio.tasks.custom import find_rows, find_table
from peft_studio.tasks.kept_rows import use_folder
from peft_studio.tasks.reading.examples import CustomData
from peft_studio.tasks.reading.store import MAX_CPU_SECONDS, MAX_MEMORY, read_here

NICENESS = 5  # reading yields to the page


def main() -> None:
    """Reads what is asked for, within the limits."""
    request = json.load(sys.stdin)
    _limit()
    use_folder(Path(request["cache"]))
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
    for kind, most in ((resource.RLIMIT_DATA, MAX_MEMORY), (resource.RLIMIT_CPU, MAX_CPU_SECONDS)):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(OSError, ValueError):  # not every system knows both
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
