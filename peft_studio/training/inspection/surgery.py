"""Intruder surgery: weakens the strong directions that an adapter brought and the base model has nothing like.

Shuttleworth et al., "LoRA vs full fine-tuning: an illusion of equivalence" (arXiv 2410.21228), as PEFT does it.
"""

from collections.abc import Sequence
from typing import Any

from peft_studio.errors import InvalidStateError
from peft_studio.tasks.base import Row, some_rows
from peft_studio.training import Model
from peft_studio.training.evaluate import measure_loss
from peft_studio.training.formats.formats import Format, evaluation_batches
from peft_studio.training.inspection.forgetting import ForgettingProbe
from peft_studio.training.inspection.matrix_change import INTRUDER_COSINE, INTRUDER_TOP
from peft_studio.training.inspection.views import Subject
from peft_studio.training.load import load_adapter, share_base

STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0)  # of intruders that is left
ROWS = 24  # validation rows whose loss is measured, and test rows that are answered
ANSWER_TOKENS = 64  # most of an answer
CUT = "without_intruders"  # PEFT's name of the changed adapter


def surgery(subject: Subject, form: Format, probe: ForgettingProbe | None) -> dict[str, Any]:
    """The task and what was forgotten, at several strengths of the intruder dimensions.

    Returns:
        ``points``: ``strength`` (what is left of intruders, from 1, untouched, to 0), ``loss`` (validation, nats),
        ``score`` (the task's own metric on some test rows) and ``forgetting`` (nats; None for a classifier);
        ``metric``, the name of that score.

    Raises:
        InvalidStateError: The adapter is not LoRA.
    """
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    run = subject.run
    model = load_adapter(share_base(subject.base), subject.adapter).to(subject.base.device).eval()
    if model.active_peft_config.peft_type != "LORA":
        raise InvalidStateError(f"Intruder surgery is for LoRA and its kin; {run.method.title} has none of its kind.")
    validation = some_rows(run.task.load("validation"), ROWS)
    examples = form.encode(validation, run.config.training.max_length).examples
    batches = evaluation_batches(examples, form, len(subject.tokenizer))
    rows, points = some_rows(run.task.load("test"), ROWS), []
    for strength in STRENGTHS:
        if strength < 1:
            reduce_intruder_dimension(
                model, new_adapter_name=CUT, top_k=INTRUDER_TOP, threshold_epsilon=INTRUDER_COSINE,
                mitigation_lambda=strength, logging_sink=None,
            )  # fmt: skip
        points.append({"strength": strength, **_figures(model.eval(), subject, form, batches, rows, probe)})
        if strength < 1:
            model.set_adapter("default")
            model.delete_adapter(CUT)
    return {"points": points, "metric": run.task.headline, "rows": len(rows)}


def _figures(
    model: Model, subject: Subject, form: Format, batches: Sequence[dict[str, Any]], rows: Sequence[Row],
    probe: ForgettingProbe | None,
) -> dict[str, float | None]:  # fmt: skip
    task = subject.run.task
    loss = measure_loss(model, form, batches, lambda: False)
    answers = form.answers(model, rows, ANSWER_TOKENS, lambda: False)
    assert loss is not None and answers is not None  # nobody asks them to stop
    score = dict(task.score(rows, answers))[task.headline]
    return {"loss": loss.loss, "score": score, "forgetting": probe.loss(model) if probe else None}
