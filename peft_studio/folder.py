"""The files of a run as its worker and the export see them; ``jobs.store.RunPaths`` is one."""

from pathlib import Path
from typing import Protocol


class RunFolder(Protocol):
    """A run's folder. A protocol, so that training and export need not know the store (nor its layer)."""

    @property
    def root(self) -> Path:
        """The folder itself."""

    @property
    def id(self) -> str:
        """The run's id."""

    @property
    def config(self) -> Path:
        """What was asked for."""

    @property
    def events(self) -> Path:
        """The worker's event log."""

    @property
    def checkpoint(self) -> Path:
        """Folder that the run can go on from."""

    @property
    def pause(self) -> Path:
        """Its presence asks the worker to pause."""

    @property
    def extended(self) -> Path:
        """How long to train in the end, when that was changed after the run was submitted."""

    @property
    def adapter(self) -> Path:
        """Folder of the trained adapter, as PEFT saves it."""

    @property
    def predictions(self) -> Path:
        """Test rows with the adapter's answers, one JSON object per line."""
