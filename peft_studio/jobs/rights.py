"""What may be asked of a run, by where it is in its life."""

from peft_studio.jobs.state import RunState, Status


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
