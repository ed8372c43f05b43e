"""The engine's answers about what adapters did: looks up runs and models, and keeps what was found.

{"op": "inspect", "run": id, "step": N or null, "other": id or null}  -> see views.inspect_adapter
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.errors import ConfigError, InvalidStateError
from peft_studio.runs.store import RunStore
from peft_studio.training.inference.model_pool import BaseVariant, LRUCache, ModelPool
from peft_studio.training.inspection.views import Subject, inspect_adapter

Request = Mapping[str, Any]
Operation = Callable[[Request], Iterator[dict[str, Any]]]
WEIGHTS = "adapter_model.safetensors"


class Inspector:
    """Looks at the adapters of runs. Thread-safe; one inspection at a time, for it takes all cores.

    Args:
        store: The runs.
        pool: Their base models.
    """

    def __init__(self, store: RunStore, pool: ModelPool) -> None:
        self._store = store
        self._pool = pool
        self._found: LRUCache[tuple[object, ...], dict[str, Any]] = LRUCache(32)

    @property
    def operations(self) -> dict[str, Operation]:
        """What the engine can be asked, by name."""
        return {"inspect": self.inspect}

    def inspect(self, request: Request) -> Iterator[dict[str, Any]]:
        """Answers what an adapter did.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidStateError: It has saved no adapter.
            ConfigError: The other run has another base model.
        """
        run, folder = self._adapter(str(request.get("run")))
        other = self._other(run, request.get("other"))
        key = tuple((str(path), (path / WEIGHTS).stat().st_mtime_ns) for path in (folder, *([other] if other else [])))
        yield self._found.get(key, lambda: inspect_adapter(self._subject(run, folder, other)))

    def _subject(self, run: ResolvedRun, folder: Path, other: Path | None) -> Subject:
        variant = BaseVariant(run.task.labels, run.config.lsg)
        base, tokenizer = self._pool.base(run.config.model.id, variant)
        return Subject(run, base, tokenizer, folder, other)

    def _adapter(self, run_id: str) -> tuple[ResolvedRun, Path]:
        paths = self._store.paths(run_id)
        if not (paths.adapter / WEIGHTS).is_file():
            raise InvalidStateError(f"The run {run_id} has saved no adapter yet, so there is nothing to look into.")
        return resolve(self._store.config(run_id)), paths.adapter

    def _other(self, run: ResolvedRun, run_id: object) -> Path | None:
        if not run_id:
            return None
        found, folder = self._adapter(str(run_id))
        if (found.config.model, found.task.labels) != (run.config.model, run.task.labels):
            raise ConfigError(
                f"The run {run_id} changed {found.config.model.id!r}, not {run.config.model.id!r} with the same head, "
                "so the two changes cannot be compared.",
                "other",
            )
        if not found.method.mergeable:
            raise ConfigError(f"{found.method.title} changes no weights, so there is nothing to compare.", "other")
        return folder
