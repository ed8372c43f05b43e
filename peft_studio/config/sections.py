"""The sections of a run's config, strict and frozen: model, task, training, resources."""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from peft_studio.errors import ConfigError
from peft_studio.machine.path_policy import whole
from peft_studio.models.lsg_settings import LSGConfig, Sparsity
from peft_studio.tasks import CUSTOM, TASKS, get_task

DEFAULT_MODEL = "nano-lm"


class Section(BaseModel):
    """Base of every section: unknown keys, other types and infinite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(Section):
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
        64, ge=8, le=512, multiple_of=8, title="Block size",
        description="A token sees all of its own block and of the two next to it; without lsg this does nothing.",
    )  # fmt: skip
    lsg_sparse_block_size: int = Field(
        64, ge=0, le=512, multiple_of=8, title="Sparse block size",
        description="Thinned-out keys beyond these, on either side, as a multiple of block size / sparsity factor.",
    )  # fmt: skip
    lsg_sparsity_factor: int = Field(
        4, ge=1, le=16, title="Sparsity factor",
        description="One sparse key stands for this many tokens; must divide the block size.",
    )  # fmt: skip
    lsg_sparsity: Sparsity = Field(
        "stride", title="Sparse keys",
        description="norm: the longest keys of a block; pooling: means of neighbours; stride: every so many tokens.",
    )  # fmt: skip
    lsg_global_tokens: int = Field(
        1, ge=0, le=64, title="Global tokens",
        description="How many of the first tokens see, and are seen by, all others.",
    )  # fmt: skip

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


def _known_task(name: object) -> object:
    return get_task(name).name if isinstance(name, str) and name != CUSTOM else name


DataFile = Annotated[str, AfterValidator(whole), Field(max_length=1000)]
ColumnName = Annotated[str, Field(max_length=500)]


class TaskConfig(Section):
    """Which task, and how many of its rows. All other fields belong to ``custom``, made from the user's own files."""

    id: Annotated[str, BeforeValidator(_known_task)] = Field(
        next(iter(TASKS)), description="Name of a built-in task, or custom for your own files."
    )
    train_rows: int = Field(
        0, ge=0, le=10_000_000, title="Training rows",
        description="How many: the first of a fixed mix, so that fewer are always among more; 0 takes all.",
    )  # fmt: skip
    kind: Literal["generation", "classification"] | None = Field(
        None, description="Answer with text, or choose a label; guessed from the target column when not given."
    )
    train_file: DataFile = Field("", description="CSV, TSV, JSON, JSONL or Parquet file with the training rows.")
    validation_file: DataFile = Field(
        "", description="Validation rows; set aside from the training rows if not given."
    )
    test_file: DataFile = Field("", description="Test rows; set aside from the training rows if not given.")
    input_column: ColumnName = Field("", description="What the model is given; guessed when not given.")
    target_column: ColumnName = Field("", description="What it should answer; guessed when not given.")
    references_column: ColumnName = Field("", description="More accepted answers, for the metrics.")
    template: str = Field("", max_length=10_000, description="The prompt, with {column} in place of a column's text.")
    chat_column: ColumnName = Field("", description="Whole conversations: OpenAI's messages, ShareGPT's turns.")
    history_column: ColumnName = Field("", description="Turns before the input, which makes each row a chat.")
    system_column: ColumnName = Field("", description="What a model is told first, which makes each row a chat.")
    loss_on: Literal["assistant", "all"] = Field(
        "assistant", description="Turns of a chat that the loss is taken on: the assistant's, or all."
    )

    @model_validator(mode="after")
    def _files_where_they_belong(self) -> "TaskConfig":
        fields = type(self).model_fields
        of_all = ("id", "train_rows")
        given = [name for name, field in fields.items() if name not in of_all and getattr(self, name) != field.default]
        if self.id == CUSTOM and not self.train_file:
            raise ConfigError(
                "task.id = 'custom' needs task.train_file, a file with the training rows.", "task.train_file"
            )
        if self.id != CUSTOM and given:
            raise ConfigError(
                f"task.{given[0]} belongs to task.id = {CUSTOM!r}, but the task is {self.id!r}.", f"task.{given[0]}"
            )
        return self


def _steps_or_share(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ConfigError(
            f"training.warmup_steps = {value!r} is neither a share of the run (below 1) nor a whole number of steps.",
            "training.warmup_steps",
        )
    return int(value) if value.is_integer() else value


StepsOrShare = Annotated[
    # Whole numbers stay such when they are written: of an older version's config not a letter changes.
    float, AfterValidator(_steps_or_share), PlainSerializer(lambda value: value, return_type=int | float)
]


class TrainingConfig(Section):
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
    warmup_steps: StepsOrShare = Field(
        0.03, ge=0, le=100_000, title="Warm-up",
        description="How long the learning rate rises to its peak: below 1 a share of the run, from 1 on steps.",
    )  # fmt: skip
    optimizer: Literal["adamw", "adafactor", "sgd"] = Field(
        "adamw", description="Update rule; a method with an optimizer of its own keeps that."
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Pull of the weights towards zero.")
    max_grad_norm: float = Field(1.0, ge=0, le=1000, description="Gradient clipping by norm; 0 switches it off.")
    eval_every: int = Field(50, ge=1, le=1_000_000, description="Steps between validation losses.")
    eval_rows: int = Field(300, ge=1, le=100_000, description="Validation and test rows used at most.")
    answers: bool = Field(
        True, title="Answer the test rows",
        description="At the end, as the base model does, too; without that a run has validation losses only.",
    )  # fmt: skip
    early_stopping: int = Field(
        0, ge=0, le=1000,
        description="Evaluations without a better validation loss after which training ends with the best weights; "
        "0 trains to the end.",
    )  # fmt: skip
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16 computes in 16 bits with 32-bit weights, fast on hardware made for it; auto takes "
        "the faster for this model and this machine, and the run says which.",
    )  # fmt: skip
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: less memory, more time."
    )
    max_length: int = Field(
        256, ge=8, le=8192, description="Longest row in tokens; longer ones are cut on the left of the prompt."
    )

    def repeats(self, rows: int) -> bool:
        """Whether a run reads some of so many training rows more than once."""
        return self.steps_for(rows) * self.batch_size * self.gradient_accumulation > rows

    def steps_for(self, rows: int) -> int:
        """Optimizer steps of a run on so many training rows."""
        return math.ceil(self.epochs * rows / (self.batch_size * self.gradient_accumulation)) or self.max_steps

    def warmup_of(self, steps: int) -> int:
        """Steps of a run of so many over which the learning rate rises, before the first at its peak."""
        return round(self.warmup_steps * steps) if self.warmup_steps < 1 else int(self.warmup_steps)

    def rate_factor(self, step: int, steps: int) -> float:
        """Learning rate over its peak, from 0 to 1; as in transformers, but for the first step, whose rate is not 0.

        Args:
            step: Steps that are done.
            steps: Of the whole run.
        """
        warmup = self.warmup_of(steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        falling = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}
        return falling[self.scheduler]


def _known_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda|cuda:\d{1,3}|all", name):
        raise ConfigError(
            f"resources.device = {name!r} is not a device. Allowed: auto, cpu, mps, cuda, cuda:0 and so on, all.",
            "resources.device",
        )
    return name


class ResourcesConfig(Section):
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
    snapshots: int = Field(
        12, ge=0, le=24,
        description="Small adapters of earlier steps that are kept for the Inside tab, at evaluations; 0 keeps none.",
    )  # fmt: skip
