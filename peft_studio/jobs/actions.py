"""The one table of what can be done to runs and their queue: routes, named endpoints and commands are made from it.

Which of these a run allows in its present state, `runs.status.allowed_actions` says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from peft_studio.access.rights import Right, require
from peft_studio.errors import InvalidStateError, shown
from peft_studio.jobs.library import RunLibrary
from peft_studio.runs.queue import DOWN, FRONT, PRIORITIES, UP
from peft_studio.settings import Settings

MOST_STEPS = 1_000_000  # as `TrainingConfig.max_steps`


class Manager(Protocol):
    """What an action needs of a `JobManager`, which is not imported here: commands start sooner without it."""

    settings: Settings
    library: RunLibrary


@dataclass(frozen=True)
class Parameter:
    """A value that an action needs.

    Attributes:
        name: As the manager's method and the named endpoint call it.
        kind: Its type; ``dict`` for a RunConfig as plain values.
        words: What it is, for people.
        query: Its name in the query of a URL.
        option: Whether it is an option of the command, not an argument.
        allowed: The only values.
        least: Smallest number.
        most: Largest number.
        default: Used when it is not given; None where it must be.
    """

    name: str
    kind: type
    words: str = ""
    query: str = ""
    option: bool = False
    allowed: tuple[str, ...] = ()
    least: int = 0
    most: int = 0
    default: Any = None

    def read(self, value: Any) -> Any:
        """The value of a text, or of what JSON has; None for one that was not given.

        Raises:
            InvalidStateError: It is not allowed.
            ConfigError: It is no valid config.
        """
        if value is None and self.default is not None:
            return self.default
        if self.kind is dict:
            from peft_studio.config.run_config import parse_config  # commands start sooner without it

            return parse_config(value)
        if self.kind is bool:
            return value not in ("0", False)
        if self.kind is int:
            text = str(value or "")[:12]
            if text.isdecimal() and self.least <= int(text) <= self.most:
                return int(text)
            among = f"{self.least:,} to {self.most:,}"
        elif not self.allowed or value in self.allowed:
            return value
        else:
            among = ", ".join(self.allowed)
        raise InvalidStateError(f"{self.query or self.name} = {shown(value)} is not possible; allowed: {among}.")


@dataclass(frozen=True)
class Action:
    """Something that can be done.

    Attributes:
        name: What it is called, in URLs and in `RunInfo.actions`.
        words: What it does, for people.
        method: Of the `JobManager`.
        on: What it is done to.
        parameters: What the method needs besides the run's id.
        given: What it is told whoever asks.
        right: Who may.
        url: Whether there is a route of it.
        command: The words of its command; empty when there is none.
        endpoint: Its named endpoint; empty when there is none.
        tells: The value of `RunInfo` that the endpoint answers.
        result: What the route calls the method's result; empty when it answers none.
        goes_on: Whether a run that is over trains on.
    """

    name: str
    words: str
    method: str
    on: Literal["run", "queue", "home"] = "run"
    parameters: tuple[Parameter, ...] = ()
    given: Mapping[str, object] = field(default_factory=dict)
    right: Right = Right.CHANGE
    url: bool = True
    command: str = ""
    endpoint: str = ""
    tells: str = ""
    result: str = ""
    goes_on: bool = False

    def do(self, manager: Manager, run_id: str | None = None, values: Mapping[str, Any] | None = None) -> Any:
        """Does it, and returns what the manager's method does.

        Args:
            manager: A `JobManager`, which is not imported here: commands start sooner without it.
            run_id: The run; None when it is not done to one.
            values: Of the parameters, by their names.

        Raises:
            StudioError: It cannot be done; see the manager's method.
        """
        on = () if run_id is None else (run_id,)
        self._require(manager, run_id)
        read = {one.name: one.read((values or {}).get(one.name)) for one in self.parameters}
        return getattr(manager, self.method)(*on, **self.given, **read)

    def _require(self, manager: Manager, run_id: str | None) -> None:
        """Makes sure that whoever asks may; what trains on needs the right to train, too."""
        access = manager.settings.access
        if run_id is not None:
            manager.library.paths(run_id, self.right)
        if run_id is None or self.goes_on:
            require(access, Right.TRAIN if self.goes_on else self.right)

    def answer(self, done: Any) -> dict[str, Any]:
        """What its route answers."""
        return {"ok": True, **({self.result: done} if self.result else {})}


_STEPS = Parameter("more_steps", int, "how many more", query="steps", least=1, most=MOST_STEPS)
_PRIORITY = Parameter("priority", str, "how soon it starts", query="to", allowed=PRIORITIES)
_CONFIG = Parameter("config", dict, "a RunConfig as JSON, such as " + json.dumps(
    {"task": {"id": "bistro"}, "method": {"name": "lora"}, "training": {"max_steps": 60}}
))  # fmt: skip
_PLACE = Parameter("to", str, "front, up, down, or a number from 1", option=True)
ACTIONS = (
    Action("pause", "Pause a run; it writes a checkpoint.", "pause",
           command="pause", endpoint="pause_run", tells="status"),
    Action("resume", "Put a run back into the queue, to go on from its checkpoint.", "resume",
           command="resume", endpoint="resume_run", tells="status", goes_on=True),
    Action("stop", "Stop a run; it saves its adapter.", "stop",
           command="stop", endpoint="stop_run", tells="status"),
    Action("extend", "Train a run longer.", "extend", parameters=(_STEPS,),
           command="extend", endpoint="extend_run", tells="max_steps", goes_on=True),
    Action("delete", "Delete a run.", "delete", command="delete"),
    Action("move", "Give a queued run another place.", "move", parameters=(_PLACE,), right=Right.QUEUE,
           url=False, command="queue move"),
    Action("front", "Let a queued run start next.", "move", given={"to": FRONT}, right=Right.QUEUE),
    Action("up", "Let a queued run start one place earlier.", "move", given={"to": UP}, right=Right.QUEUE),
    Action("down", "Let a queued run start one place later.", "move", given={"to": DOWN}, right=Right.QUEUE),
    Action("hold", "Hold a queued run back.", "hold", command="queue hold"),
    Action("release", "Let a run go that is held back.", "hold", given={"held": False}, command="queue release"),
    Action("prioritize", "Give a queued run a priority: high ones start first.", "prioritize", parameters=(_PRIORITY,),
           right=Right.QUEUE, command="queue priority", endpoint="prioritize_run", tells="queue_position"),
    Action("star", "Mark a run as worth keeping, or take the mark away.", "star",
           parameters=(Parameter("on", bool, default=True),)),
    Action("free", "Remove the checkpoint of a run that is over.", "free_checkpoint", result="freed"),
    Action("pause", "Start no run any more; running ones go on.", "pause_queue", "queue", right=Right.QUEUE,
           command="queue pause"),
    Action("start", "Start queued runs again.", "pause_queue", "queue", given={"paused": False}, right=Right.QUEUE,
           command="queue start"),
    Action("import", "Take in a run that export-run has packed.", "import_run", "home", right=Right.IMPORT,
           command="import-run"),
    Action("start", "Add a run to the queue, where it trains in the background.", "submit", "home", right=Right.TRAIN,
           parameters=(_CONFIG, Parameter("name", str, "a title for the run", default="")),
           url=False, endpoint="start_run"),
)  # fmt: skip


def actions_on(what: Literal["run", "queue", "home"]) -> dict[str, Action]:
    """The actions that have a route, by name."""
    return {action.name: action for action in ACTIONS if action.on == what and action.url}
