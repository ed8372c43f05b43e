"""The import program: ``python -m peft_studio.archives`` unpacks and checks one file, within limits.

The request comes as JSON on stdin, paths: ``source``, ``runs`` and ``staging``. The answer goes as JSON to stdout:
``run_id``, or ``error`` as `errors.StudioError.to_dict` makes it.
"""

import json
import sys
from pathlib import Path

from peft_studio.archives.import_apart import MAX_CPU_SECONDS, MAX_MEMORY
from peft_studio.archives.run_archive import unpack_run
from peft_studio.errors import ArchiveError, OutOfTimeError, StudioError
from peft_studio.machine.limits import limit_process
from peft_studio.runs.store import RunStore


def main() -> None:
    """Does what is asked for."""
    request = json.load(sys.stdin)
    limit_process(MAX_MEMORY, MAX_CPU_SECONDS)
    try:
        source, runs, staging = (Path(request[name]) for name in ("source", "runs", "staging"))
        answer: dict[str, object] = {"run_id": unpack_run(source, RunStore(runs), staging)}
    except StudioError as exc:
        taken = isinstance(exc, OutOfTimeError)
        told = ArchiveError(f"The file takes more than {MAX_CPU_SECONDS} seconds to be checked.") if taken else exc
        answer = {"error": told.to_dict()}
    except MemoryError:
        told = ArchiveError(f"The file takes more than {MAX_MEMORY // 10**6:,} MB of memory to be checked.")
        answer = {"error": told.to_dict()}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
