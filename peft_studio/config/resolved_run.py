"""A run whose names have been looked up: made once where a run, an estimate or a preview begins, and passed on."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_studio.config.run_config import RunConfig, recommended_rate
from peft_studio.methods import Method, get_method
from peft_studio.models.catalog import ModelCard, find_card, resolve_model
from peft_studio.models.layouts import Layout, layout_for
from peft_studio.tasks import task_of
from peft_studio.tasks.base import Task


@dataclass(frozen=True)
class ResolvedRun:
    """What a config names, beside the config; what takes reading is read once, when it is first asked for.

    Attributes:
        config: What was asked for.
        method: The method's entry in the registry.
        card: The model's entry in the catalogue; None for other models.
    """

    config: RunConfig
    method: Method
    card: ModelCard | None

    @cached_property
    def task(self) -> Task:
        """The task, built-in or made from files.

        Raises:
            DataError: A file cannot be used; the message names file, row and column.
        """
        return task_of(self.config.task)

    @cached_property
    def whole_task(self) -> Task:
        """The task with all its training rows, however many the run takes.

        Raises:
            DataError: See ``task``.
        """
        return task_of(self.config.task.model_copy(update={"train_rows": 0}))

    @cached_property
    def recommended_rate(self) -> float:
        """The learning rate that the form recommends for this method, model and task.

        Raises:
            DataError: See ``task``.
        """
        return recommended_rate(self.method.name, self.config.model.id, kind=self.task.kind)

    @cached_property
    def source(self) -> str:
        """What ``from_pretrained`` takes: a folder or a Hub id.

        Raises:
            ModelError: There is no such model.
        """
        return resolve_model(self.config.model.id)

    @cached_property
    def model_settings(self) -> dict[str, Any]:
        """The model's ``config.json``; empty where the model is not in a folder of this machine."""
        try:
            found = json.loads((Path(self.source) / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def layout(self) -> Layout | None:
        """Where things are in the model; None until it is loaded, if only the Hub knows of what type it is.

        Raises:
            ModelError: There is no such model, or its architecture is not supported.
            ConfigError: The architecture cannot serve the task.
            DataError: See ``task``.
        """
        model_type = self.model_settings.get("model_type") or (self.card.architecture if self.card else "")
        return self.layout_of_type(str(model_type)) if model_type else None

    def layout_of_type(self, model_type: str) -> Layout:
        """The layout of a model that turned out to be of this type, for the run's task.

        Raises:
            ModelError: The architecture is not supported.
            ConfigError: The architecture cannot serve the task.
        """
        return layout_for(model_type, self.task.kind)


def resolve(config: RunConfig) -> ResolvedRun:
    """Looks up what a config names."""
    return ResolvedRun(config, get_method(config.method.name), find_card(config.model.id))
