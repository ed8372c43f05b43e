"""What a run's log says beside its figures: how long its answers took."""

from pathlib import Path

from peft_studio.runs.event_log import LogFollower, number

ANSWERING = "answering the test rows"  # the stage's name


def answer_seconds(folder: Path) -> float | None:
    """Seconds per answer to a test row, as the run's worker wrote them; None when it has answered none.

    Args:
        folder: The run's.
    """
    begun = taken = None
    for piece in LogFollower(folder / "events.jsonl").pieces():
        for event in piece.events:
            metrics = event.get("metrics")
            if event["kind"] == "stage" and event.get("name") == ANSWERING:
                begun = number(event.get("t"))
            elif event["kind"] == "eval" and begun is not None and _answers(metrics):
                taken = (number(event.get("t")) or begun) - begun
    rows = _lines(folder / "predictions.jsonl")
    return taken / rows if taken and rows else None


def _answers(metrics: object) -> bool:
    return isinstance(metrics, dict) and any(str(name).startswith("test/") for name in metrics)


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0
