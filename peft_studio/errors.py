"""The project's own exceptions: one tree, so that the UI, CLI and API translate them in one place.

    StudioError
    ├── ConfigError            a value in a config, form or command line is not allowed
    │   └── PresetError        the same, in a preset file
    ├── ModelError             no such model, or a directory that is not one
    ├── HubOfflineError        the Hugging Face Hub cannot be reached
    ├── DataError              rows that cannot be used
    │   └── BadChatError       a cell that holds no conversation
    ├── OutOfTimeError         reading a file took more time than is allowed
    ├── ArchiveError           a file that is not the whole and undamaged export of a run
    ├── StorageError           the home folder is full, locked or not writable
    ├── CheckpointError        a checkpoint that a run cannot go on from
    ├── JobError
    │   ├── RunNotFoundError   no run has this id
    │   └── InvalidStateError  the run is not in a state that allows this
    ├── ExperimentNotFoundError no experiment has this id
    ├── TrainingError
    │   ├── NonFiniteLossError the loss became NaN or infinite
    │   ├── SupervisorLostError the process that watched over a worker was killed
    │   └── OutOfMemoryError   the machine's memory ran out
    ├── EngineError            the inference process failed or is not there
    ├── NotAllowedError        whoever asks has no right to this
    └── LimitError             more than one may have of this; says what is left and when more comes

Every message says what was wrong, the value, and what is allowed.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class StudioError(Exception):
    """Base of all errors that a user can cause or must be told about.

    Every class can be made of its message alone; what it takes besides has a default and is kept under its own name.
    """

    def to_dict(self) -> dict[str, Any]:
        """Class, message and attributes as JSON, for another process; `error_from` makes the same error of it."""
        return {"type": type(self).__name__, "message": str(self), **vars(self)}


class ConfigError(StudioError):
    """A value in a config, form or command line is not allowed.

    Attributes:
        path: Dotted path of the offending key, such as ``method.rank``; empty when no single key is at fault.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class PresetError(ConfigError):
    """A preset file is missing, unreadable or holds a value that is not allowed."""


class ModelError(StudioError):
    """No such model, or a directory that does not hold one."""


class HubOfflineError(StudioError):
    """The Hugging Face Hub cannot be reached, or is switched off for this machine."""

    def __init__(
        self, message: str = "The Hub cannot be reached from here; embedded models and local folders work."
    ) -> None:
        super().__init__(message)


class DataError(StudioError):
    """Rows of a task cannot be used."""


class BadChatError(DataError):
    """A cell holds no conversation that a model could lead; says why, and whoever knows the cell says where."""


class OutOfTimeError(StudioError):
    """Reading a file took more time than is allowed; raised by the reader program's signal handler."""


class ArchiveError(StudioError):
    """A file that is not the whole and undamaged export of a run."""


class StorageError(StudioError):
    """The home folder is full, locked by another app, or not writable."""


class CheckpointError(StudioError):
    """A checkpoint is damaged, or belongs to something else; the message continues "because ..."."""


class JobError(StudioError):
    """Something about a run is not as the caller expected."""


class RunNotFoundError(JobError):
    """No run has this id."""


class InvalidStateError(JobError):
    """The run is not in a state that allows the request."""


class ExperimentNotFoundError(StudioError):
    """No experiment has this id."""


class TrainingError(StudioError):
    """A run failed while training; the message says why in words."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class SupervisorLostError(TrainingError):
    """The process that watches over a worker was killed; the run was interrupted and can go on."""


class OutOfMemoryError(TrainingError):
    """The machine's memory ran out."""


class NotAllowedError(StudioError):
    """Whoever asks has no right to this."""


class LimitError(StudioError):
    """More than one may have; the message says how much is left, and when more comes.

    Attributes:
        retry_seconds: When it is worth asking again; None when waiting does not help.
    """

    def __init__(self, message: str, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class EngineError(StudioError):
    """The inference process failed or cannot be reached."""


def error_from(told: Mapping[str, Any]) -> StudioError:
    """The error that another process has told of; an ``EngineError`` with its words when it is none of ours.

    Args:
        told: From `StudioError.to_dict`.
    """
    kind = globals().get(str(told.get("type")))
    message = str(told.get("message", "The engine failed."))
    if not (isinstance(kind, type) and issubclass(kind, StudioError)):
        return EngineError(message)
    error = kind(message)
    vars(error).update({name: told[name] for name in vars(error) if name in told})
    return error


def unforeseen(exc: BaseException) -> str:
    """What is told of an exception that is none of ours: never its bare words, and never nothing."""
    text = " ".join(str(exc).split())[:300]
    return (
        f"Something went wrong that nobody foresaw ({type(exc).__name__}{': ' if text else ''}{text}). "
        "The log says where. Other settings may avoid it; a report helps to mend it."
    )


def no_run(run_id: str) -> str:
    """The words of a `RunNotFoundError`; the same for a run that is not there and for one that is not to be seen."""
    return f"There is no run {shown(run_id)}."


def shown(value: object, most: int = 120) -> str:
    """A value as an error shows it, however long it is."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return f"a number of {value.bit_length():,} bits" if isinstance(value, int) else "a value that cannot be shown"
    return text if len(text) <= most else f"{text[: most - 2]} …"


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """Describes the allowed values, nearest one first: a sentence to append to an error message.

    Args:
        value: What the user wrote.
        allowed: The names that would have been accepted.

    Returns:
        For example ``"Did you mean 'lora'? Allowed: bitfit, full, lora."``
    """
    names = list(allowed)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Allowed: {', '.join(names)}."
