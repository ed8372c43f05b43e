"""Has a file of a run taken in by a process of its own, which has limits and knows no secrets."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from peft_studio.archives.run_archive import staging_folder
from peft_studio.errors import ArchiveError, StorageError, error_from
from peft_studio.files import search_path
from peft_studio.machine.limits import without_tokens
from peft_studio.runs.store import RunStore

MAX_MEMORY = 1_000_000_000
"""Bytes of memory; the largest run takes a tenth of that."""
MAX_CPU_SECONDS = 120
"""The largest run takes about 20."""
MAX_SECONDS = 300.0
"""Wall-clock time, on a machine whose cores are shared."""


def import_run(source: Path, store: RunStore) -> str:
    """Takes in a run, like `run_archive.unpack_run`, whatever is in the file.

    Args:
        source: The file.
        store: Where the run goes.

    Returns:
        Its id.

    Raises:
        ArchiveError: It is not the undamaged export of a run, or takes too much to find that out.
        StorageError: The disk is full or the folder is not writable.
    """
    staging = staging_folder(store)
    environment = {**without_tokens(os.environ), "PYTHONPATH": search_path(os.environ), "PYTHONSAFEPATH": "1"}
    request = {"source": str(source.resolve()), "runs": str(store.root), "staging": str(staging)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "peft_studio.archives"], input=json.dumps(request).encode(),
            stdout=subprocess.PIPE, env=environment, timeout=MAX_SECONDS, check=False,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
    except OSError as exc:
        raise StorageError(f"No process could be started to import the run: {exc.strerror or exc}.") from exc
    except (subprocess.TimeoutExpired, ValueError):
        shutil.rmtree(staging, ignore_errors=True)
        raise ArchiveError(
            "The file could not be checked: the process that did was ended, for lack of memory or time."
        ) from None
    if "error" in answer:
        raise error_from(answer["error"])
    return str(answer["run_id"])
