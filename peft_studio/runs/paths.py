"""A run is a folder: the names of its files, and who writes each."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Every file of a run, each with one writer.

    ``config.json`` is the submitter's, ``claim.json`` and ``exit.json`` are the supervisor's (the small process that
    starts and outlives the worker), ``stop``, ``pause``, ``extended.json``, ``limited.json``, ``predicted.json`` and
    ``attempts/`` are the manager's, everything else is the worker's.
    """

    root: Path

    @property
    def id(self) -> str:
        """The run's id is its folder's name."""
        return self.root.name

    @property
    def config(self) -> Path:
        """What was asked for; written once."""
        return self.root / "config.json"

    @property
    def claim(self) -> Path:
        """Who runs it: pid and process start time of the supervisor; created exclusively, once."""
        return self.root / "claim.json"

    @property
    def events(self) -> Path:
        """The worker's event log."""
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        """Everything the worker printed."""
        return self.root / "output.log"

    @property
    def stop(self) -> Path:
        """Its presence asks the worker to stop."""
        return self.root / "stop"

    @property
    def pause(self) -> Path:
        """Its presence asks the worker to pause."""
        return self.root / "pause"

    @property
    def checkpoint(self) -> Path:
        """What the run can go on from: complete, or not there."""
        return self.root / "checkpoint"

    @property
    def extended(self) -> Path:
        """How long to train in the end, as ``max_steps``, when that was changed after the run was submitted."""
        return self.root / "extended.json"

    @property
    def limited(self) -> Path:
        """Why the manager asked the run to stop, as ``reason``, when it had taken all the time that it may."""
        return self.root / "limited.json"

    @property
    def exit(self) -> Path:
        """How the worker ended: ``code`` or ``signal``; written once."""
        return self.root / "exit.json"

    @property
    def adapter(self) -> Path:
        """The trained adapter, as PEFT saves it."""
        return self.root / "adapter"

    @property
    def snapshots(self) -> Path:
        """Adapters of earlier steps, a folder for each; see `runs.snapshots`."""
        return self.root / "snapshots"

    @property
    def predictions(self) -> Path:
        """Test rows with the adapter's answers, one JSON object per line."""
        return self.root / "predictions.jsonl"

    @property
    def predicted(self) -> Path:
        """The memory that the run will need, once that is estimated: ``memory_bytes`` in all, ``memory`` by line."""
        return self.root / "predicted.json"

    @property
    def attempts(self) -> Path:
        """What earlier workers left, one folder each; see `requeue`."""
        return self.root / "attempts"
