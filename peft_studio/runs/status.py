"""The status of a run: a pure function of its folder and of which processes live."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from peft_studio.errors import SupervisorLostError
from peft_studio.files import is_there, read_json
from peft_studio.runs.claims import claimant_lives
from peft_studio.runs.event_log import last_event
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.requeue import checkpoint_step, is_requeued, may_start_by_itself

CLAIM_WRITE_SECONDS = 10.0  # an unreadable claim that is older will not become readable
VANISHED = "The worker vanished without a word: the machine was restarted or its supervisor killed."

Lives = Callable[[RunPaths, dict[str, Any]], bool]
"""Whether the process that made a claim lives; an executor that starts workers elsewhere has its own answer."""


class Status(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    STOPPING = "stopping"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether no process works on the run any more and none will, unless somebody asks for it."""
        return self.is_final or self is Status.PAUSED

    @property
    def is_final(self) -> bool:
        """Whether the run is over and nobody has said that it is to go on, as of a paused one."""
        return self in (Status.FINISHED, Status.STOPPED, Status.FAILED)

    @property
    def is_active(self) -> bool:
        """Whether a process works on the run."""
        return self in (Status.RUNNING, Status.PAUSING, Status.STOPPING)


ENDS = {status.value: status for status in Status if status.is_over}
"""Last event of a worker that could say how it ended."""


@dataclass(frozen=True)
class RunState:
    """A status with the words that explain it; ``reason`` is empty where the status says it all.

    Attributes:
        interrupted: The run failed by nobody's will and through no fault of its own: its worker was killed or the
            machine went down.
    """

    status: Status
    reason: str = ""
    interrupted: bool = False


def run_state(paths: RunPaths, lives: Lives = claimant_lives) -> RunState:
    """The status of a run; ``lives`` tells whether a claimant lives."""
    exit_info = _exit(paths)
    claim = read_json(paths.claim)
    if claim is not None and is_requeued(paths):
        return _queued(paths)  # what the last worker left is about to be moved out of the way
    if exit_info is None and claim is not None:
        if lives(paths, claim):
            return RunState(_active(paths))
        exit_info = _exit(paths)  # the supervisor may have written it and gone between the looks above
    if exit_info is not None:
        return _ended(paths, exit_info)
    if claim is not None:
        last = last_event(paths.events)
        if last is not None and last["kind"] in ENDS:
            return _ended(paths, {"code": None})  # the supervisor was killed, or the disk too full for exit.json
        return _cut_short(paths, VANISHED)
    with contextlib.suppress(OSError):
        # Claimed this instant, created and not yet written; or damaged for good.
        if abs(time.time() - paths.claim.stat().st_mtime) < CLAIM_WRITE_SECONDS:
            return RunState(Status.RUNNING)
        return RunState(Status.FAILED, f"{paths.claim.name} is damaged, so nobody knows who ran this.")
    return _queued(paths)


def _exit(paths: RunPaths) -> dict[str, Any] | None:
    """How the worker ended; None when nobody wrote it, or it makes no sense."""
    found = read_json(paths.exit)
    codes = (found.get("code"), found.get("signal")) if found is not None else ()
    return found if all(code is None or type(code) is int for code in codes) else None


def _active(paths: RunPaths) -> Status:
    if is_there(paths.stop):
        return Status.STOPPING
    return Status.PAUSING if is_there(paths.pause) else Status.RUNNING


def _queued(paths: RunPaths) -> RunState:
    again = is_there(paths.attempts)
    step = checkpoint_step(paths) if again else None
    if is_there(paths.stop) and not is_there(paths.claim):
        return RunState(Status.STOPPED, "Stopped before it went on." if again else "Stopped before it started.")
    if not again:
        return RunState(Status.QUEUED)
    return RunState(Status.QUEUED, "starts again" if step is None else f"resumes at step {step}")


def _ended(paths: RunPaths, exit_info: dict[str, Any]) -> RunState:
    if exit_info.get("signal"):
        why = " because the machine's memory ran out" if exit_info.get("out_of_memory") else ""
        return _cut_short(paths, f"killed by signal {exit_info['signal']}{why}")
    if exit_info.get("lost"):  # whatever it said last: what it had saved is lost, too
        return _cut_short(paths, str(exit_info["lost"]))
    last = last_event(paths.events) or {}
    if last.get("error") == SupervisorLostError.__name__:
        return _cut_short(paths, str(last.get("message", "")))
    status = ENDS.get(last.get("kind", ""))
    if status is None and exit_info.get("code") == 0:
        return RunState(Status.FAILED, "The worker ended, but events.jsonl is damaged or gone, so nobody knows how.")
    if status is None:
        return RunState(Status.FAILED, f"The worker ended with exit code {exit_info.get('code')}; see the log.")
    if status is Status.STOPPED:
        return RunState(status, str((read_json(paths.limited) or {}).get("reason", "")))
    return RunState(status, str(last.get("message", "")) if status is Status.FAILED else "")


def _cut_short(paths: RunPaths, reason: str) -> RunState:
    """The state of a run whose worker could not say how it ended."""
    if is_there(paths.pause) and not is_there(paths.stop):
        step = checkpoint_step(paths)
        if step is not None:
            return RunState(Status.PAUSED, f"It did not pause in time and was ended; it goes on from step {step}.")
        return RunState(Status.FAILED, f"{reason}; it was to pause and had no checkpoint yet")
    if not may_start_by_itself(paths):
        reason = f"{reason}; it was started again several times and got no further"
    ours = is_there(paths.claim)  # an imported run has no claim, and never goes on
    return RunState(Status.FAILED, reason, interrupted=ours and not is_there(paths.stop))


def allowed_actions(state: RunState, checkpoint: bool, claimed: bool) -> tuple[str, ...]:
    """What may be asked of a run.

    Args:
        state: Where it is in its life.
        checkpoint: Whether it has one.
        claimed: Whether a worker took it, in its present attempt.
    """
    match state.status:
        case Status.QUEUED:
            return ("hold", "front", "up", "down", "prioritize", "stop", "delete")
        case Status.RUNNING:
            return ("pause", "stop")
        case Status.PAUSING | Status.STOPPING:
            return ("stop",)
        case Status.FINISHED:
            return ("extend", "delete") if checkpoint else ("delete",)
        case Status.STOPPED if not claimed:
            return ("resume", "delete")
        case Status.FAILED:
            return ("resume", "delete") if checkpoint or state.interrupted else ("delete",)
    return ("resume", "extend", "delete") if checkpoint else ("delete",)
