"""The event log of a run: ``events.jsonl``, one JSON object per line, appended by the worker only.

Values are raw; smoothing and thinning belong to the view. A reader consumes up to the last newline, because a
line that is being written may be seen torn, and keeps its byte offset.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any, Literal

VERSION = 1

Kind = Literal[
    "started",
    "resumed",
    "stage",
    "note",
    "step",
    "eval",
    "saved",
    "answered",
    "finished",
    "stopped",
    "paused",
    "failed",
]
"""The closed set of kinds, with their fields (besides ``v``, ``kind``, ``t`` = seconds since the epoch):

- ``started``: ``pid``, ``process_start``, ``versions``, ``device``, ``threads``, ``precision``, ``megabatch`` (batches
  sorted by length together; 50 where it is missing), ``seed``, ``model``, ``data``, ``trainable_params``,
  ``total_params``, ``max_steps``, ``work`` (estimated, in tokens that a model reads: one ``validation``, the answers
  to ``test`` rows and those of the base, ``base/test``)
- ``resumed``: ``step``, ``tokens``, ``elapsed`` of the checkpoint, and ``from``, the step that this process goes on
  from; comes right after ``started``. Later steps that are in the log already come again: the last one counts
- ``stage``: ``name``, a phrase for people such as "reading data"
- ``note``: ``message``, words for people about something that did not end the run
- ``step``: ``step`` (from 1), ``loss`` (null when not finite), ``lr``, ``grad_norm``, ``tokens`` (seen so far, without
  padding), ``elapsed`` (seconds of training so far)
- ``eval``: ``step``, ``tokens``, ``elapsed``, ``metrics`` (names such as ``eval/loss``, ``test/bleu``,
  ``base/eval/loss``, ``base/test/bleu``), ``tokenizers`` (those of test metrics that have one, such as
  ``{"bleu": "zh"}``), ``answers`` (how many test rows were answered), and ``rows``, a fingerprint of what they were
  measured on: figures with different ones do not compare
- ``answered``: of the answers to the test rows, for models that write: ``rows``, ``limit`` (tokens), ``cut`` and
  ``base_cut`` (how many answers of the run and of the base model were still going on there), ``long`` (right answers
  that have as many tokens), ``end`` (the token that ends a training row)
- ``saved``: ``path`` (relative to the run), ``bytes``, ``step`` whose weights they are, and their ``metrics`` where
  they are not the latest: ``eval/loss``, ``eval/perplexity``
- ``finished`` / ``stopped`` / ``paused``: ``step``, ``summary`` (``seconds``, ``steps_per_second``,
  ``tokens_per_second``, ``peak_memory_bytes``)
- ``failed``: ``error`` (class name), ``message`` (words for people)

``stage``, ``eval`` and ``saved`` also have ``peak_memory_bytes``, the worker's largest resident size so far.
"""


class EventWriter:
    """Appends events to a log; each event is one ``os.write`` so that a line is never torn by buffering."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)

    def emit(self, kind: Kind, **fields: Any) -> None:
        """Appends one event.

        Raises:
            OSError: The disk is full or the folder has gone.
        """
        event = {"v": VERSION, "kind": kind, "t": round(time.time(), 3), **_finite(fields)}
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        while line:  # a nearly full disk can accept a part of a line
            line = line[os.write(self._fd, line) :]

    def close(self) -> None:
        """Closes the file; emitting afterwards is an error."""
        os.close(self._fd)


def _finite(value: Any) -> Any:
    """Replaces numbers that JSON has no spelling for by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
