"""What a run's facts tell: rows lost or cut, nothing to train, memory, the check after saving, and its answers."""

from typing import Any

from peft_studio.doctor.evidence import Evidence
from peft_studio.doctor.findings import Finding, percent
from peft_studio.methods import METHODS
from peft_studio.runs.event_log import number

# Below a hundredth of the rows, no figure moves; above a tenth, the model often misses what it is asked about.
FEW, MANY = 0.01, 0.1
# Fewer rows than this, and a few passes suffice to know them by heart.
TINY_ROWS = 50
# Logits are of order 10 and float32 rounding moves them by 1e-5; from 0.01 on, another token may be chosen.
SAVED_DIFFERENCE = 0.01
# With four of five rows in one class, always answering it already scores 80 %.
IMBALANCE = 0.8
# Nearly every answer the same, although truth is not.
ONE_ANSWER = 0.95
MAX_LENGTH = 8192  # as the config allows
SIGKILL = 9


def fact_findings(evidence: Evidence) -> list[Finding]:
    """What the facts tell."""
    rules = (
        damaged,
        nothing_trains,
        rows_dropped,
        validation_dropped,
        rows_cut,
        tiny_data,
        out_of_memory,
        killed,
        badly_saved,
        one_answer,
    )
    return [finding for rule in rules if (finding := rule(evidence))]


def damaged(evidence: Evidence) -> Finding | None:
    """Files of the run cannot be read."""
    if not evidence.damage:
        return None
    return Finding(
        "damaged", "problem", None, "Files of this run are damaged",
        " ".join(evidence.damage),
        "What can still be read is shown. Bring the files back from a copy, or clone the run and train it again.",
    )  # fmt: skip


def nothing_trains(evidence: Evidence) -> Finding | None:
    """No parameter is trainable."""
    if number(evidence.started.get("trainable_params")) != 0:
        return None
    return Finding(
        "nothing_trains", "problem", None, "Nothing trains",
        "The method found no parameter of this model to train, so the loss cannot change.",
        "Choose another method, or other target modules; the Learn tab shows what works on which architecture.",
    )  # fmt: skip


def _longer(evidence: Evidence) -> tuple[str, dict[str, Any]]:
    asked, room = number(evidence.option("max_length")), evidence.fact("max_length")
    if asked is None or (room is not None and room < asked):
        return f"The model reads {int(room or 0):,} tokens at most: use shorter rows, or another model.", {}
    if asked >= MAX_LENGTH:
        return "Use shorter rows.", {}
    return "Allow longer rows; that takes more memory.", {"training.max_length": int(min(MAX_LENGTH, 2 * asked))}


def rows_dropped(evidence: Evidence) -> Finding | None:
    """Rows whose answer alone is too long carry no loss and are left out."""
    rows, dropped = evidence.fact("rows"), evidence.fact("dropped")
    if rows is None or not dropped or dropped < FEW * (rows + dropped):
        return None
    share = dropped / (rows + dropped)
    fix, settings = _longer(evidence)
    everything = rows == 0
    return Finding(
        "rows_dropped", "problem" if share > 0.5 else "warning", None,
        "No row can be learnt from" if everything else f"{percent(share)} of the training rows are left out",
        f"In {int(dropped):,} of {int(rows + dropped):,} training rows the answer alone is longer than "
        f"{int(evidence.fact('max_length') or 0):,} tokens. Nothing of it would count for the loss.",
        fix, settings,
    )  # fmt: skip


def validation_dropped(evidence: Evidence) -> Finding | None:
    """The validation loss is measured on fewer rows than there are, so it compares with few other runs."""
    data = evidence.started.get("data")
    found = data.get("validation") if isinstance(data, dict) else None
    rows, dropped = (number(found.get(name)) if isinstance(found, dict) else None for name in ("rows", "dropped"))
    if rows is None or not dropped or dropped < FEW * (rows + dropped):
        return None
    fix, settings = _longer(evidence)
    return Finding(
        "validation_dropped", "warning" if dropped >= MANY * (rows + dropped) else "note", None,
        f"{percent(dropped / (rows + dropped))} of the validation rows are left out",
        f"{int(dropped):,} of {int(rows + dropped):,} validation rows do not fit "
        f"{int(evidence.fact('max_length') or 0):,} tokens, and these "
        "are the longest. The validation loss compares only with runs on the same rows.",
        fix, settings,
    )  # fmt: skip


def rows_cut(evidence: Evidence) -> Finding | None:
    """Rows that are too long lose the beginning of their prompt."""
    rows, cut = evidence.fact("rows"), evidence.fact("cut")
    if not rows or not cut or cut < FEW * rows:
        return None
    fix, settings = _longer(evidence)
    return Finding(
        "rows_cut", "warning" if cut >= MANY * rows else "note", None,
        f"{percent(cut / rows)} of the training rows are cut",
        f"{int(cut):,} of {int(rows):,} training rows are longer than {int(evidence.fact('max_length') or 0):,} "
        "tokens. The beginning of their prompt is cut off, and the model cannot use it.",
        fix, settings,
    )  # fmt: skip


def tiny_data(evidence: Evidence) -> Finding | None:
    """So few rows that any figure is mostly chance."""
    rows = evidence.fact("rows")
    if not rows or rows >= TINY_ROWS:
        return None
    batch, batches = (number(evidence.option(name)) or 1 for name in ("batch_size", "gradient_accumulation"))
    seen = evidence.steps.count * batch * batches
    return Finding(
        "tiny_data", "note", None, f"Only {int(rows)} training rows",
        f"The run has gone over each of them {seen / rows:,.0f} times. With so few rows, figures depend on chance.",
        "Add rows if there are any; a hundred or more usually make a difference.",
    )  # fmt: skip


def _less_memory(evidence: Evidence) -> tuple[str, dict[str, Any]]:
    batch = int(number(evidence.option("batch_size")) or 1)
    batches = int(number(evidence.option("gradient_accumulation")) or 1)
    if batch > 1 and batches <= 32:
        halved = {"training.batch_size": batch // 2, "training.gradient_accumulation": 2 * batches}
        return "Halve the batch and take twice as many per step: the same training in less memory.", halved
    method = evidence.config.get("method")
    entry = METHODS.get(str(method.get("name"))) if isinstance(method, dict) else None
    if entry and entry.checkpointing and not evidence.option("gradient_checkpointing"):
        return "Switch gradient checkpointing on: less memory, more time.", {"training.gradient_checkpointing": True}
    length = int(number(evidence.option("max_length")) or 0)
    return "Use shorter rows, or a smaller model.", {"training.max_length": length // 2} if length >= 16 else {}


def _size(evidence: Evidence) -> str:
    batch, length = evidence.option("batch_size"), evidence.fact("max_length") or evidence.option("max_length")
    return f"{batch} rows of up to {length} tokens at a time"


def _when(evidence: Evidence) -> tuple[int | None, str]:
    step = evidence.steps.last[-1] if evidence.steps.last else None
    return step, f"after step {step:,}" if step else "before the first step"


def out_of_memory(evidence: Evidence) -> Finding | None:
    """The worker said that memory ran out."""
    if evidence.failed.get("error") != "OutOfMemoryError":
        return None
    (step, when), (fix, settings) = _when(evidence), _less_memory(evidence)
    return Finding(
        "out_of_memory", "problem", step, "Memory ran out",
        f"It ran out {when}, with {_size(evidence)}. What a step needs grows with both numbers.", fix, settings,
    )  # fmt: skip


def killed(evidence: Evidence) -> Finding | None:
    """The worker was killed by signal 9, which nobody here had asked for."""
    if evidence.signal != SIGKILL:
        return None
    (step, when), (fix, settings) = _when(evidence), _less_memory(evidence)
    why = "That is what the system does to a process when the machine's memory runs out"
    if evidence.no_memory:
        why = "The system was ending processes just then, because memory had run out"
    title = "Killed because memory ran out" if evidence.no_memory else "Killed from outside, probably for its memory"
    return Finding(
        "killed", "problem", step, title,
        f"The worker was killed by signal 9 {when}. {why}; the run used {_size(evidence)}.",
        f"{fix} Fewer runs at a time need less, too.", settings,
    )  # fmt: skip


def badly_saved(evidence: Evidence) -> Finding | None:
    """The saved adapter, loaded again, answers otherwise than the trained one."""
    if evidence.check is None:
        return None
    difference = number(evidence.check.get("max_difference"))
    if difference is not None and difference <= SAVED_DIFFERENCE:
        return None
    size = "is not a number" if difference is None else f"is {difference:.2g}"
    return Finding(
        "badly_saved", "warning" if difference is not None and difference < 1 else "problem", None,
        "The saved adapter answers differently",
        f"Loaded again, its largest difference to the trained one {size}; up to {SAVED_DIFFERENCE:g} would be "
        "rounding. Test figures are those of the trained one, in memory.",
        "Do not rely on the file before you have compared some answers on the Generate tab.",
    )  # fmt: skip


def one_answer(evidence: Evidence) -> Finding | None:
    """Among labels: always the same answer, or truth that is nearly always the same."""
    rows = sum(evidence.truth.values())
    if rows < 10 or len(evidence.answers) == 0:
        return None
    label, count = max(evidence.answers.items(), key=lambda item: item[1])
    common, most = max(evidence.truth.items(), key=lambda item: item[1])
    if count >= ONE_ANSWER * rows and most < IMBALANCE * rows:
        return Finding(
            "one_answer", "problem", None, "It always answers the same",
            f"{count:,} of {rows:,} test rows were answered {label!r}, which is right for "
            f"{evidence.truth.get(label, 0):,}. It has learnt nothing from the texts.",
            "Train for more steps; if that does not help, use another learning rate.",
            {"training.max_steps": int(min(1_000_000, 3 * max(1, evidence.steps.count)))},
        )  # fmt: skip
    if most >= IMBALANCE * rows and len(evidence.truth) > 1:
        return Finding(
            "imbalance", "note", None, f"{percent(most / rows)} of the test rows are {common!r}",
            f"Always answering {common!r} would be right for {most:,} of {rows:,} rows, so that accuracy says little.",
            "Judge this run by macro F1 and the confusion matrix; more rows of the rare labels help.",
        )  # fmt: skip
    return None
