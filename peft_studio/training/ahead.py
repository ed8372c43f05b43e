"""Work that a run would begin with, done while its form still stands on the page."""

import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from peft_studio.config.run_config import RunConfig
from peft_studio.models.layouts import layout_for
from peft_studio.tasks import task_of
from peft_studio.training.estimates.preview import MAX_ROWS, longest_row
from peft_studio.training.formats.formats import format_for
from peft_studio.training.formats.token_cache import encode_once
from peft_studio.training.load import load_config, load_tokenizer

Value = TypeVar("Value")


def encode_ahead(config: RunConfig, cache: Path) -> None:
    """Tokenizes a run's training rows into the cache, unless they are there or would take long.

    Args:
        config: The run that may be started.
        cache: The cache folder.

    Raises:
        StudioError: The run would fail for the same reason.
    """
    task = task_of(config.task)
    if task.reads_library:
        return  # its rows may take seconds to make
    rows = task.load("train")
    if len(rows) > MAX_ROWS:
        return
    model = load_config(config.model.id)
    layout = layout_for(model.model_type, task.kind)
    form = format_for(layout, load_tokenizer(config.model.id), task.labels)
    encode_once(form, rows, longest_row(config, model), cache)


class WhenCalm(Generic[Value]):
    """Does something for the latest value, once no new one has come for a while, in a thread of its own.

    Args:
        work: What is done; its faults are printed.
        pause: Seconds without a new value.
    """

    def __init__(self, work: Callable[[Value], None], pause: float) -> None:
        self._work = work
        self._pause = pause
        self._latest: Value | None = None
        self._came = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, value: Value) -> None:
        """Takes note of a value."""
        with self._lock:
            self._latest = value
            self._came.set()
            if self._thread is None:  # not before there is something to do: a process may be forked until then
                self._thread = threading.Thread(target=self._loop, daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while True:
            self._came.wait()
            self._came.clear()
            while self._came.wait(self._pause):
                self._came.clear()
            with self._lock:
                value, self._latest = self._latest, None
            if value is not None:
                try:
                    self._work(value)
                except Exception:
                    traceback.print_exc()
