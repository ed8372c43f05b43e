"""The reader program: ``python -m peft_studio.tasks.reading`` answers one question about data files.

The question comes as JSON on stdin, the answer goes as JSON to stdout, with ``facts`` or ``error``; columns go into
the cache. The process has limits, so that no file takes the machine's memory or holds a core for ever.
"""

import json
import resource
import sys
from pathlib import Path

from peft_studio.errors import DataError
from peft_studio.machine.limits import limit_process, lower_limit
from peft_studio.machine.path_policy import use_home
from peft_studio.tasks.custom import find_rows, find_table
from peft_studio.tasks.kept_rows import use_folder
from peft_studio.tasks.reading.custom_data import CustomData
from peft_studio.tasks.reading.reader_client import MAX_CPU_SECONDS, MAX_MEMORY, MAX_WRITTEN
from peft_studio.tasks.reading.table_cache import read_here


def main() -> None:
    """Reads what is asked for, within the limits."""
    request = json.load(sys.stdin)
    limit_process(MAX_MEMORY, MAX_CPU_SECONDS)
    lower_limit(resource.RLIMIT_FSIZE, MAX_WRITTEN)
    lower_limit(resource.RLIMIT_CORE, 0)
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


if __name__ == "__main__":
    main()
