"""RunConfig: everything that defines a run, strict and frozen. It is what presets, form, CLI and API all make."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from peft_studio.errors import ConfigError, StudioError, did_you_mean
from peft_studio.methods import METHODS, Params, get_method
from peft_studio.models.catalog import known_params
from peft_studio.models.lsg_settings import LongText, LSGConfig, Sparsity
from peft_studio.tasks import CUSTOM, TASKS, get_task, guess_kind

DEFAULT_MODEL = "nano-lm"


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


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(_Strict):
    """Which base model: a catalogue name, a local directory or a Hub id."""

    id: str = Field(
        DEFAULT_MODEL, min_length=1, max_length=500, description="Catalogue name, local directory or Hub id."
    )
    attention: Literal["full", "lsg"] = Field(
        "full",
        description="lsg (local, sparse, global) lets an encoder read texts of training.max_length tokens, however "
        "short the texts it was made for, in time that grows with the length only.",
    )
    lsg_block_size: int = Field(
        64,
        ge=8,
        le=512,
        multiple_of=8,
        title="Block size",
        description="A token sees all of its own block and of the two next to it; without lsg this does nothing.",
    )
    lsg_sparse_block_size: int = Field(
        64,
        ge=0,
        le=512,
        multiple_of=8,
        title="Sparse block size",
        description="Thinned-out keys beyond these, on either side, as a multiple of block size / sparsity factor.",
    )
    lsg_sparsity_factor: int = Field(
        4,
        ge=1,
        le=16,
        title="Sparsity factor",
        description="One sparse key stands for this many tokens; must divide the block size.",
    )
    lsg_sparsity: Sparsity = Field(
        "stride",
        title="Sparse keys",
        description="norm: the longest keys of a block; pooling: means of neighbours; stride: every so many tokens.",
    )
    lsg_global_tokens: int = Field(
        1,
        ge=0,
        le=64,
        title="Global tokens",
        description="How many of the first tokens see, and are seen by, all others.",
    )

    @model_validator(mode="after")
    def _blocks_line_up(self) -> "ModelConfig":
        if self.attention == "lsg":
            self.lsg_settings()
        return self

    def lsg_settings(self) -> LSGConfig:
        """What a token sees with LSG attention.

        Raises:
            ConfigError: Blocks and sparse keys do not line up.
        """
        return LSGConfig(**{name: getattr(self, f"lsg_{name}") for name in LSGConfig.__dataclass_fields__})


def _known_task(name: Any) -> Any:
    return get_task(name).name if isinstance(name, str) and name != CUSTOM else name


def _whole_path(file: str) -> str:
    return str(Path(file).expanduser().absolute()) if file else ""


DataFile = Annotated[str, AfterValidator(_whole_path), Field(max_length=1000)]
Column = Annotated[str, Field(max_length=500)]


class TaskConfig(_Strict):
    """Which task. All fields but ``id`` belong to ``custom``, a task made from the user's own files."""

    id: Annotated[str, BeforeValidator(_known_task)] = Field(
        next(iter(TASKS)), description="Name of a built-in task, or custom for your own files."
    )
    kind: Literal["generation", "classification"] | None = Field(
        None, description="Answer with text, or choose a label; guessed from the target column when not given."
    )
    train_file: DataFile = Field("", description="CSV, TSV, JSON, JSONL or Parquet file with the training rows.")
    validation_file: DataFile = Field(
        "", description="Validation rows; set aside from the training rows if not given."
    )
    test_file: DataFile = Field("", description="Test rows; set aside from the training rows if not given.")
    input_column: Column = Field("", description="What the model is given; guessed when not given.")
    target_column: Column = Field("", description="What it should answer; guessed when not given.")
    references_column: Column = Field("", description="More accepted answers, for the metrics.")
    template: str = Field("", max_length=10_000, description="The prompt, with {column} in place of a column's text.")

    @model_validator(mode="after")
    def _files_where_they_belong(self) -> "TaskConfig":
        given = [name for name in type(self).model_fields if name != "id" and getattr(self, name)]
        if self.id == CUSTOM and not self.train_file:
            raise ConfigError(
                "task.id = 'custom' needs task.train_file, a file with the training rows.", "task.train_file"
            )
        if self.id != CUSTOM and given:
            raise ConfigError(
                f"task.{given[0]} belongs to task.id = {CUSTOM!r}, but the task is {self.id!r}.", f"task.{given[0]}"
            )
        return self


class TrainingConfig(_Strict):
    """How to train. ``learning_rate`` is always set: the method's recommendation fills it in when not given."""

    max_steps: int = Field(300, ge=1, le=1_000_000, title="Steps", description="Optimizer steps.")
    epochs: int = Field(
        0, ge=0, le=1000, description="Passes over the training rows; 0 leaves it to the number of steps."
    )
    batch_size: int = Field(16, ge=1, le=128, description="Rows per forward pass.")
    gradient_accumulation: int = Field(
        1, ge=1, le=64, description="Batches per optimizer step; their gradients add up to those of one large batch."
    )
    learning_rate: float = Field(
        gt=0, le=10, description="Peak learning rate; the method's recommendation by default."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Same seed, same machine: same losses.")
    scheduler: Literal["linear", "cosine", "constant"] = Field("linear", description="How the learning rate falls.")
    warmup_steps: int = Field(
        10, ge=0, le=100_000, description="Steps over which the learning rate rises to its peak."
    )
    optimizer: Literal["adamw", "adafactor", "sgd"] = Field(
        "adamw", description="Update rule; a method with an optimizer of its own keeps that."
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Pull of the weights towards zero.")
    max_grad_norm: float = Field(1.0, ge=0, le=1000, description="Gradient clipping by norm; 0 switches it off.")
    eval_every: int = Field(50, ge=1, le=1_000_000, description="Steps between validation losses.")
    eval_rows: int = Field(300, ge=1, le=100_000, description="Validation and test rows used at most.")
    early_stopping: int = Field(
        0,
        ge=0,
        le=1000,
        description="Evaluations without a better validation loss after which training ends with the best weights; "
        "0 trains to the end.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 computes in 16 bits with 32-bit weights; it is fast on hardware made for it."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: less memory, more time."
    )
    max_length: int = Field(
        256,
        ge=8,
        le=8192,
        description="Longest row in tokens; longer ones are cut on the left of the prompt.",
    )

    def repeats(self, rows: int) -> bool:
        """Whether a run reads some of so many training rows more than once."""
        return self.steps_for(rows) * self.batch_size * self.gradient_accumulation > rows

    def steps_for(self, rows: int) -> int:
        """Optimizer steps of a run on so many training rows."""
        return math.ceil(self.epochs * rows / (self.batch_size * self.gradient_accumulation)) or self.max_steps


def _known_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda|cuda:\d{1,3}|all", name):
        raise ConfigError(
            f"resources.device = {name!r} is not a device. Allowed: auto, cpu, mps, cuda, cuda:0 and so on, all.",
            "resources.device",
        )
    return name


class ResourcesConfig(_Strict):
    """Where a run trains, and what it takes of a cluster's node: nothing that its results should depend on."""

    device: Annotated[str, AfterValidator(_known_device)] = Field(
        "auto", description="auto takes a GPU if there is one; all spreads a model that is too large over all GPUs."
    )
    cpus: float | None = Field(
        None, ge=0, le=1024, title="CPUs", description="On a Ray cluster, or a part; empty: the app's default."
    )
    gpus: float | None = Field(
        None, ge=0, le=64, title="GPUs", description="On a Ray cluster, or a part; empty: the app's default."
    )


def _parse_method(value: Any) -> Any:
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
        raise _config_error(exc, list(params.model_fields), "method") from exc


class RunConfig(_Strict):
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
    def _fill_learning_rate(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        training = data.get("training") or {}
        method = data.get("method")
        name = method.get("name") if isinstance(method, Mapping) else getattr(method, "name", None)
        if isinstance(training, Mapping) and training.get("learning_rate") is None and isinstance(name, str):
            kind = "classification" if _classifies(data.get("task")) else "generation"
            rate = recommended_rate(name, _model_id(data), kind=kind)
            training = {**training, "learning_rate": rate}
            return {**data, "training": training}
        return data


def _model_id(data: Mapping[str, Any]) -> str:
    """The model of a config that is still to be checked."""
    model = data.get("model")
    name = model.get("id") if isinstance(model, Mapping) else getattr(model, "id", None)
    return name if isinstance(name, str) else ""


def _classifies(task: Any) -> bool:
    """Whether a task that is still to be checked asks for labels."""
    held = task if isinstance(task, Mapping) else {} if task is None else task.model_dump()
    if held.get("id") in TASKS:
        return TASKS[str(held["id"])].kind == "classification"
    if held.get("kind") or not isinstance(held.get("train_file"), str):
        return held.get("kind") == "classification"
    try:
        return guess_kind(Path(held["train_file"]).expanduser()) == "classification"
    except StudioError:
        return False  # the check of the task itself will say what is wrong


def parse_config(data: Any) -> RunConfig:
    """Validates a plain mapping, as read from YAML, JSON or a form.

    Raises:
        ConfigError: Names the dotted path, the value, what is allowed and, for an unknown key, the nearest one.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"A run config is a mapping of keys to values, not {type(data).__name__}.")
    try:
        return RunConfig.model_validate(dict(data))
    except ValidationError as exc:
        raise _config_error(exc, _allowed_keys(exc)) from exc


def _first(exc: ValidationError) -> Any:
    """The error to report: a misspelt key before the missing one that it was meant to be."""
    return next((error for error in exc.errors() if error["type"] == "extra_forbidden"), exc.errors()[0])


def _config_error(exc: ValidationError, allowed: list[str], section: str = "") -> ConfigError:
    error = _first(exc)
    path = ".".join(str(part) for part in (section, *error["loc"]) if part != "")
    if error["type"] == "extra_forbidden":
        return ConfigError(f"Unknown key {path!r}. {did_you_mean(path.rpartition('.')[2], allowed)}", path)
    if error["type"] == "missing":
        return ConfigError(f"The key {path!r} is missing.", path)
    message = error["msg"].removeprefix("Value error, ")
    return ConfigError(f"{path} = {error['input']!r}: {message[:1].lower()}{message[1:]}.", path)


def _allowed_keys(exc: ValidationError) -> list[str]:
    place = _first(exc)["loc"]
    models: dict[str, type[BaseModel]] = {"model": ModelConfig, "task": TaskConfig, "training": TrainingConfig}
    models["resources"] = ResourcesConfig
    model = models.get(str(place[0]), RunConfig) if len(place) > 1 else RunConfig
    return list(model.model_fields)
