"""What an export knows about a run, from nothing but its files and its data where that is still there. Torch-free."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError, StudioError
from peft_studio.files import open_plain
from peft_studio.models.opening import Opening, opening_of
from peft_studio.runs.fold import RunFold
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.progress import RunProgress

EMBEDDED, HUB, FOLDER = "embedded", "hub", "folder"
"""Where a base model is found: in the export, on the Hub, or in a folder that only its owner has."""


@dataclass(frozen=True)
class TrainedRun:
    """What is known about a run from its files."""

    id: str
    title: str
    resolved: ResolvedRun
    started: Mapping[str, Any]
    metrics: dict[str, float]
    summary: Mapping[str, Any]
    steps: int
    adapter_config: Mapping[str, Any]
    check: Mapping[str, Any]
    best: tuple[int, float] | None
    saved_step: object
    tokenizers: Mapping[str, str]

    @property
    def config(self) -> RunConfig:
        """What was asked for."""
        return self.resolved.config

    @property
    def precision(self) -> str:
        """In which it was computed; older runs say it in their config."""
        return str(self.started.get("precision") or self.config.training.precision)

    @cached_property
    def base(self) -> tuple[str, str]:
        """Name of the base model without this machine's folders, and where it is found."""
        model, card = self.config.model.id, self.resolved.card
        if card is not None:
            return card.id, EMBEDDED if card.path else HUB
        path = Path(model).expanduser()
        return (path.name, FOLDER) if path.is_dir() or model.startswith(("/", "~", ".")) else (model, HUB)

    @property
    def base_expression(self) -> str:
        """The base as a line of Python names it."""
        name, where = self.base
        note = {
            EMBEDDED: "  # the folder beside this file", HUB: "",
            FOLDER: "  # the folder of the base model, which is not in the zip",
        }[where]  # fmt: skip
        return json.dumps(f"path/to/{name}" if where == FOLDER else name) + note

    @cached_property
    def opening(self) -> Opening:
        """How the adapter is put on its base elsewhere."""
        return opening_of(dict(self.adapter_config), self._model_type(), self._labels(), self.config.lsg)

    def _model_type(self) -> str:
        known = self.started["model"].get("type")
        if isinstance(known, str):
            return known
        with contextlib.suppress(StudioError):  # a run of an older version, whose base may be gone
            layout = self.resolved.layout
            return layout.model_type if layout else ""
        return ""

    def _labels(self) -> list[str]:
        known = self.started["data"].get("labels")
        if isinstance(known, list) and all(isinstance(label, str) for label in known):
            return known
        return list(self.resolved.task.labels)  # a run of an older version

    @property
    def label_names(self) -> dict[str, dict[str, Any]]:
        """The names of a classifier's outputs, as a model's ``config.json`` has them."""
        names = {str(number): label for number, label in enumerate(self.opening.labels)}
        return {"id2label": names, "label2id": {label: int(number) for number, label in names.items()}}

    @property
    def repeats_plainly(self) -> bool:
        """Whether a stock Trainer over one text per row does the same as our loop did."""
        method, training = self.resolved.method, self.config.training
        own = (method.optimizer, method.penalty, method.after_step)
        usual = {"epochs": 0, "gradient_accumulation": 1, "optimizer": "adamw", "early_stopping": 0}
        plain = all(getattr(training, name) == value for name, value in usual.items()) and self.precision == "fp32"
        decoder = self.opening.task_type == "CAUSAL_LM"
        return decoder and plain and not any(own) and not (method.looks_at_data or method.changes_base)

    @property
    def task_title(self) -> str:
        """The task's title, also of one whose files are gone."""
        with contextlib.suppress(StudioError):
            return self.resolved.task.title
        return f"Your data: {Path(self.config.task.train_file).name}"

    @property
    def task_description(self) -> str:
        """What the task says of itself; of one whose files are gone, that they are."""
        with contextlib.suppress(StudioError):
            return self.resolved.task.description
        return "Your own rows, whose files are not there any more."


def read_run(paths: RunPaths) -> TrainedRun:
    """Reads what is known of a run.

    Raises:
        ConfigError: A file that the export cannot do without is damaged.
    """
    record = json_object(paths.config)
    resolved = resolve(parse_config(record.get("config")))
    with RunFold(paths).reading(RunProgress) as fold:
        progress = fold.part(RunProgress)
    started, saved = progress.latest.get("started", {}), progress.latest.get("saved", {})
    ends = [event for kind, event in progress.latest.items() if kind in ("finished", "stopped")]
    end = ends[-1] if ends else {}
    step = end.get("step")
    return TrainedRun(
        id=paths.id,
        title=str(record.get("name") or "") or resolved.method.title,
        resolved=resolved,
        started={**started, **{name: _mapping(started.get(name)) for name in ("data", "versions", "model")}},
        metrics=progress.metrics,
        summary=_mapping(end.get("summary")),
        steps=step if isinstance(step, int) else 0,
        adapter_config=json_object(paths.adapter / "adapter_config.json"),
        check=_mapping(saved.get("check")),
        best=progress.best,
        saved_step=saved.get("step"),
        tokenizers=progress.tokenizers,
    )


def json_object(path: Path) -> dict[str, Any]:
    """A JSON file that the export cannot do without.

    Raises:
        ConfigError: It is damaged.
    """
    try:
        with open_plain(path) as file:
            value = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path} is damaged: {str(exc)[:200]}.") from exc
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is damaged: it is not a JSON object.")
    return value


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
