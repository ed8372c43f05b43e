"""The engine's answers about what adapters did: looks up runs and models, and keeps what was found.

{"op": "inspect", "run": id, "step": N or null, "other": id or null}
    -> see views.inspect_adapter; with "step", "saved_step" and "snapshots", the steps that may be asked for
{"op": "answers", "run": id, "step": N or null}  -> {"rows": [{"prompt", "reference", "base", "answer"}]}
{"op": "forgetting", "run": id}                  -> {"points": [{"step", "loss"}], "tokens", "source"}
{"op": "surgery", "run": id}                     -> see surgery.surgery
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.errors import ConfigError, InvalidStateError
from peft_studio.runs.snapshots import adapter_at, snapshot_steps
from peft_studio.runs.store import RunStore
from peft_studio.tasks.base import some_rows
from peft_studio.training import Model
from peft_studio.training.formats.formats import Format, format_for
from peft_studio.training.inference.model_pool import BaseVariant, LRUCache, ModelPool
from peft_studio.training.inspection.forgetting import ForgettingProbe
from peft_studio.training.inspection.surgery import ANSWER_TOKENS, surgery
from peft_studio.training.inspection.views import Subject, inspect_adapter
from peft_studio.training.load import layout_of, load_adapter, share_base

Request = Mapping[str, Any]
Operation = Callable[[Request], Iterator[dict[str, Any]]]
WEIGHTS = "adapter_model.safetensors"
PROMPTS = 3  # test rows that are answered at every snapshot


class Inspector:
    """Looks at the adapters of runs. Thread-safe.

    Args:
        store: The runs.
        pool: Their base models.
    """

    def __init__(self, store: RunStore, pool: ModelPool) -> None:
        self._store = store
        self._pool = pool
        self._found: LRUCache[tuple[object, ...], dict[str, Any]] = LRUCache(64)

    @property
    def operations(self) -> dict[str, Operation]:
        """What the engine can be asked, by name; each answers one line.

        An operation raises RunNotFoundError when there is no such run, InvalidStateError when it has saved no adapter
        or none of that step, or cannot be measured so, and ConfigError when the other run has another base model.
        """
        made = {"inspect": self.inspect, "answers": self.answers, "forgetting": self.forgetting, "surgery": self.cut}
        return {name: self._kept(name, operation) for name, operation in made.items()}

    def _kept(self, name: str, operation: Callable[[Request], dict[str, Any]]) -> Operation:
        def answer(request: Request) -> Iterator[dict[str, Any]]:
            files = [self._subject(request).adapter, *self._snapshots(request)]
            files += filter(None, [self._other(request)])
            marks = [(str(path), (path / WEIGHTS).stat().st_mtime_ns) for path in files]
            yield self._found.get((name, *marks), lambda: operation(request))

        return answer

    def inspect(self, request: Request) -> dict[str, Any]:
        """What an adapter did."""
        subject = self._subject(request)
        return {**inspect_adapter(subject), "step": _step(request), "snapshots": self._steps(request)}

    def answers(self, request: Request) -> dict[str, Any]:
        """What base and adapter say to a few test rows, always the same."""
        subject = self._subject(request)
        rows = some_rows(subject.run.task.load("test"), PROMPTS)
        form, model = self._form(subject), self._model(subject)
        ours, base = (form.answers(each, rows, ANSWER_TOKENS, lambda: False) for each in (model, subject.base))
        assert ours is not None and base is not None  # nobody asks them to stop
        return {
            "rows": [
                {"prompt": row.prompt, "reference": row.target, "base": before, "answer": after}
                for row, before, after in zip(rows, base, ours, strict=True)
            ]
        }

    def forgetting(self, request: Request) -> dict[str, Any]:
        """The loss on general text of the base model (step 0), at every snapshot, and of the saved adapter (None)."""
        subject = self._subject(request)
        probe = self._probe(subject)
        points: list[dict[str, Any]] = [{"step": 0, "loss": probe.loss(subject.base)}]
        for step in [*self._steps(request), None]:
            model = self._model(self._subject({**request, "step": step}))
            points.append({"step": step, "loss": probe.loss(model)})
        return {"points": points, "tokens": probe.tokens, "source": probe.text.source}

    def cut(self, request: Request) -> dict[str, Any]:
        """See ``surgery.surgery``."""
        subject = self._subject(request)
        classifies = layout_of(subject.base).purpose == "classification"
        return surgery(subject, self._form(subject), None if classifies else self._probe(subject))

    def _subject(self, request: Request) -> Subject:
        run, folder = self._adapter(str(request.get("run")), _step(request))
        base, tokenizer = self._pool.base(run.config.model.id, BaseVariant(run.task.labels, run.config.lsg))
        return Subject(run, base, tokenizer, folder, self._other(request))

    def _model(self, subject: Subject) -> Model:
        return load_adapter(share_base(subject.base), subject.adapter).to(subject.base.device).eval()

    def _form(self, subject: Subject) -> Format:
        return format_for(layout_of(subject.base), subject.tokenizer, subject.run.task.labels)

    def _probe(self, subject: Subject) -> ForgettingProbe:
        return ForgettingProbe(subject.run, layout_of(subject.base), subject.tokenizer, self._model(subject))

    def _steps(self, request: Request) -> list[int]:
        return snapshot_steps(self._store.paths(str(request.get("run"))))

    def _snapshots(self, request: Request) -> list[Path]:
        paths = self._store.paths(str(request.get("run")))
        return [adapter_at(paths, step) for step in snapshot_steps(paths)]

    def _adapter(self, run_id: str, step: int | None = None) -> tuple[ResolvedRun, Path]:
        paths = self._store.paths(run_id)
        folder = adapter_at(paths, step)
        if not (folder / WEIGHTS).is_file():
            raise InvalidStateError(f"The run {run_id} has saved no adapter yet, so there is nothing to look into.")
        return resolve(self._store.config(run_id)), folder

    def _other(self, request: Request) -> Path | None:
        other = request.get("other")
        if not other:
            return None
        run, _ = self._adapter(str(request.get("run")))
        found, folder = self._adapter(str(other))
        if (found.config.model, found.task.labels) != (run.config.model, run.task.labels):
            raise ConfigError(
                f"The run {other} changed {found.config.model.id!r}, not {run.config.model.id!r} with the same head, "
                "so the two changes cannot be compared.",
                "other",
            )
        if not found.method.mergeable:
            raise ConfigError(f"{found.method.title} changes no weights, so there is nothing to compare.", "other")
        return folder


def _step(request: Request) -> int | None:
    step = request.get("step")
    return step if isinstance(step, int) else None
