"""RunConfig: everything that defines a run, strict and frozen. It is what presets, form, CLI and API all make."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, SerializeAsAny, ValidationError, model_validator
from pydantic_core import ErrorDetails

from peft_studio.config.sections import (
    DEFAULT_MODEL,
    ModelConfig,
    ResourcesConfig,
    Section,
    TaskConfig,
    TrainingConfig,
)
from peft_studio.errors import ConfigError, StudioError, did_you_mean, shown
from peft_studio.methods import METHODS, Params, get_method
from peft_studio.models.catalog import known_params
from peft_studio.models.lsg_settings import LongText
from peft_studio.tasks import TASKS, guess_kind


def recommended_rate(method: str, model: str | None, task: str = "", kind: str = "") -> float:
    """The learning rate to start from.

    Args:
        method: The method's name.
        model: The model's id, whose size matters; the default one without.
        task: The task's id.
        kind: What a task that is none of ours asks for; ``"classification"`` wants less of nano models.

    Raises:
        ConfigError: There is no such method.
    """
    asked = TASKS[task].kind if task in TASKS else kind
    return get_method(method).rate_for(known_params((model or "").strip() or DEFAULT_MODEL), asked == "classification")


def _parse_method(value: object) -> object:
    if isinstance(value, Params) or not isinstance(value, Mapping):
        return value
    if "name" not in value:
        raise ConfigError(f"No method is named. {did_you_mean('', METHODS)}", "method.name")
    if not isinstance(value["name"], str):
        raise ConfigError(f"method.name = {value['name']!r} is not a name. {did_you_mean('', METHODS)}", "method.name")
    params = get_method(value["name"]).params
    try:
        return params.model_validate(dict(value))
    except ValidationError as exc:  # as a ConfigError it keeps its path; inside pydantic it would become a string
        raise config_error(exc, list(params.model_fields), "method") from exc


_SECTIONS: dict[str, type[BaseModel]] = {
    "model": ModelConfig, "task": TaskConfig, "training": TrainingConfig, "resources": ResourcesConfig,
}  # fmt: skip


class RunConfig(Section):
    """One run, completely. ``model_dump(mode="json")`` and ``parse_config`` round-trip it."""

    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    method: Annotated[SerializeAsAny[Params], BeforeValidator(_parse_method)]
    training: TrainingConfig
    resources: ResourcesConfig = ResourcesConfig()

    @property
    def lsg(self) -> LongText | None:
        """LSG attention for texts of ``training.max_length`` tokens; None with the model's own attention."""
        if self.model.attention != "lsg":
            return None
        return LongText(self.training.max_length, self.model.lsg_settings())

    @model_validator(mode="after")
    def _check_method_and_training(self) -> "RunConfig":
        method = get_method(self.method.name)
        if self.training.gradient_checkpointing and not method.checkpointing:
            raise ConfigError(
                f"{method.title} gets wrong gradients with gradient checkpointing: its vectors live in the cache, "
                "which is off then. Switch training.gradient_checkpointing off.",
                "training.gradient_checkpointing",
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill_learning_rate(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        training = data.get("training") or {}
        name = _text_of(data.get("method"), "name")
        if isinstance(training, Mapping) and training.get("learning_rate") is None and name is not None:
            kind = "classification" if _classifies(data.get("task")) else "generation"
            rate = recommended_rate(name, _text_of(data.get("model"), "id"), kind=kind)
            return {**data, "training": {**training, "learning_rate": rate}}
        return data


def _text_of(section: object, key: str) -> str | None:
    """A text of a section that is still to be checked, or has been."""
    found = section.get(key) if isinstance(section, Mapping) else getattr(section, key, None)
    return found if isinstance(found, str) else None


def _classifies(task: object) -> bool:
    """Whether a task that is still to be checked asks for labels."""
    held = task.model_dump() if isinstance(task, TaskConfig) else task if isinstance(task, Mapping) else {}
    if str(held.get("id")) in TASKS:
        return TASKS[str(held["id"])].kind == "classification"
    if held.get("kind") or not isinstance(held.get("train_file"), str):
        return held.get("kind") == "classification"
    try:
        return guess_kind(Path(held["train_file"])) == "classification"
    except StudioError:
        return False  # the check of the task itself will say what is wrong


def parse_config(data: object) -> RunConfig:
    """Validates a plain mapping, as read from YAML, JSON or a form.

    Raises:
        ConfigError: Names the dotted path, the value, what is allowed and, for an unknown key, the nearest one.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"A run config is a mapping of keys to values, not {type(data).__name__}.")
    try:
        return RunConfig.model_validate(dict(data))
    except ValidationError as exc:
        raise config_error(exc, _allowed_keys(exc)) from exc


def parse_task(data: object) -> TaskConfig:
    """Validates a config's ``task`` section alone.

    Raises:
        ConfigError: As from ``parse_config``; its path begins with ``task.``.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"A task is a mapping of keys to values, not {type(data).__name__}.", "task")
    try:
        return TaskConfig.model_validate(dict(data))
    except ValidationError as exc:
        raise config_error(exc, list(TaskConfig.model_fields), "task") from exc


def _first(exc: ValidationError) -> ErrorDetails:
    """The error to report: a misspelt key before the missing one that it was meant to be."""
    return next((error for error in exc.errors() if error["type"] == "extra_forbidden"), exc.errors()[0])


def config_error(exc: ValidationError, allowed: list[str], section: str = "") -> ConfigError:
    """What is wrong, in our words.

    Args:
        exc: What pydantic found.
        allowed: Keys that may stand where an unknown one was found.
        section: Where in the config this was.
    """
    error = _first(exc)
    path = ".".join(str(part) for part in (section, *error["loc"]) if part != "")
    if error["type"] == "extra_forbidden":
        return ConfigError(f"Unknown key {path!r}. {did_you_mean(path.rpartition('.')[2], allowed)}", path)
    if error["type"] == "missing":
        return ConfigError(f"The key {path!r} is missing.", path)
    message = error["msg"].removeprefix("Value error, ")
    return ConfigError(f"{path} = {shown(error['input'])}: {message[:1].lower()}{message[1:]}.", path)


def _allowed_keys(exc: ValidationError) -> list[str]:
    place = _first(exc)["loc"]
    section = _SECTIONS.get(str(place[0]), RunConfig) if len(place) > 1 else RunConfig
    return list(section.model_fields)
