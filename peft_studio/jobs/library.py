"""What can be asked about runs: the list, curves, figures, findings, logs. Nothing here changes a run."""

from collections.abc import Sequence
from typing import Any

from peft_studio.access.rights import Right, require_of_run, sees
from peft_studio.access.visitors import Role, asker
from peft_studio.doctor.diagnose import diagnose
from peft_studio.doctor.evidence import StepFigures, read_evidence
from peft_studio.doctor.findings import Finding
from peft_studio.runs.curves import Curves, raw_metrics
from peft_studio.runs.event_log import Event, tail
from peft_studio.runs.index import RunIndex
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.progress import RunProgress
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.store import RunStore
from peft_studio.settings import Access


class RunLibrary:
    """Reads the runs of a home folder, and remembers what it has read. An unknown id is a RunNotFoundError.

    Args:
        store: The run folders.
        index: The list of them.
        access: Who uses the app. Whoever asks (`asker`) is shown what they may see, as if there were nothing else.
    """

    def __init__(self, store: RunStore, index: RunIndex, access: Access = Access.PRIVATE) -> None:
        self._store = store
        self._index = index
        self._access = access

    def all(self) -> list[RunInfo]:
        """Every run, newest first, whoever asks; what of it may be told is for the caller to say."""
        return self._index.all()

    def list(self) -> list[RunInfo]:
        """Every run that one may see, newest first."""
        infos = self.all()
        if asker().role is Role.OWNER:
            return infos
        return [info for info in infos if sees(self._access, info.id, info.owner)]

    def info(self, run_id: str) -> RunInfo:
        """One run."""
        self.paths(run_id)
        return self._index.get(run_id)

    def paths(self, run_id: str, right: Right = Right.SEE) -> RunPaths:
        """The files of a run, for something that whoever asks must have a right to.

        Raises:
            RunNotFoundError: No run that they may see has this id.
            NotAllowedError: They may see it, but not do this.
        """
        paths = self._store.paths(run_id)
        if asker().role is not Role.OWNER:
            require_of_run(self._access, right, paths.id, self._index.owner(paths.id))
        return paths

    def series(self, run_id: str, since: int = 0) -> dict[str, Any]:
        """New points of a run's curves; see `Curves.delta`."""
        with self._index.folds.reading(self.paths(run_id), Curves) as fold:
            return fold.part(Curves).delta(run_id, since)

    def metrics(self, run_id: str) -> Sequence[dict[str, Any]]:
        """Every recorded value of a run, raw; see `curves.raw_metrics`."""
        return list(raw_metrics(self.paths(run_id)))

    def latest_event(self, run_id: str, kind: str) -> Event:
        """The latest event of a kind, neither step nor evaluation nor stage; empty when there was none."""
        with self._index.folds.reading(self.paths(run_id), RunProgress) as fold:
            return fold.part(RunProgress).latest.get(kind, {})

    def notes(self, run_id: str) -> Sequence[str]:
        """What a run had to say that did not end it, such as that it computes on a slower way."""
        with self._index.folds.reading(self.paths(run_id), RunProgress) as fold:
            return list(dict.fromkeys(fold.part(RunProgress).notes))

    def findings(self, run_id: str) -> tuple[Finding, ...]:
        """What the doctor says about a run, as far as it has come; see `doctor.diagnose`."""
        info = self.info(run_id)
        with self._index.folds.reading(self.paths(run_id), StepFigures, RunProgress) as fold:
            return diagnose(read_evidence(fold, info.status, info.reason))

    def clone(self, run_id: str) -> dict[str, Any]:
        """A run's config as plain values, for "the same again with a change"; a ConfigError when it is damaged."""
        return self._store.config(self.paths(run_id).id).model_dump(mode="json")

    def log_tail(self, run_id: str, lines: int = 200) -> str:
        """The last lines that the worker printed; of progress bars the last state."""
        return tail(self.paths(run_id, Right.TAKE).log, lines)

    def forget(self, run_id: str) -> None:
        """Drops what was remembered of a run that was deleted."""
        self._index.folds.forget(run_id)
