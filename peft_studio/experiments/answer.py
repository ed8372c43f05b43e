"""An experiment as it stands: its table, who beats whom, and what is still to be done; a function of its folder."""

from dataclasses import asdict
from typing import Any

from peft_studio.errors import DataError, RunNotFoundError
from peft_studio.experiments.plan import RunPart, parts_due
from peft_studio.experiments.store import Experiment, outcomes
from peft_studio.experiments.verdict import RowStatistics, draw, duels, read_answers, row_of
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status


def run_info(manager: JobManager, run_id: str) -> RunInfo | None:
    """What is known of a run; None when it was deleted."""
    try:
        return manager.library.info(run_id)
    except RunNotFoundError:
        return None


def due(experiment: Experiment, manager: JobManager) -> list[RunPart]:
    """The runs that can be made now."""
    found = outcomes(experiment, lambda run_id: run_info(manager, run_id))
    return parts_due(experiment.plan, experiment.cells, found)


def answer_of(experiment: Experiment, manager: JobManager) -> dict[str, Any]:
    """What is known so far.

    Returns:
        ``id``, ``question``, ``metric``, ``done`` (whether all runs are over), ``runs`` (how many there are and how
        many are over), ``table`` (of each cell name, values, mean, spread, failed, rate, trainable parameters and the
        ids of its runs), ``duels`` and ``words`` (the outcome of each as a sentence, the widest apart first).
    """
    plan, table, rows, answers = experiment.plan, [], [], {}
    over = 0
    for number, cell in enumerate(experiment.cells):
        final = {part: run for part, run in experiment.runs.items() if part.cell == number and part.round is None}
        infos = [info for run in final.values() if (info := run_info(manager, run))]
        ended = [info for info in infos if Status(info.status).is_final]
        with_figure = [(info, value) for info in ended if (value := _figure(info, plan.metric)) is not None]
        row = row_of(cell.name, [value for _, value in with_figure], len(ended) - len(with_figure))
        rows.append(row)
        over += len(ended)
        answers[cell.name] = [_answers(manager, info, plan.metric) for info, _ in with_figure]
        rate = next(iter(final)).rate if final else None
        params = next((info.trainable_params for info in infos if info.trainable_params), None)
        table.append({**asdict(row), "rate": rate, "trainable_params": params, "runs": list(final.values())})
    found = duels(rows, plan.lower_is_better, _drawn(answers))
    found.sort(key=lambda duel: (duel.tie, -duel.difference))
    final_runs = plan.seeds * len(experiment.cells)
    searched = sum(part.round is not None for part in experiment.runs)
    return {
        "id": experiment.id, "question": plan.question, "metric": plan.metric, "done": over >= final_runs,
        "runs": {"of": final_runs, "over": over, "search": searched},
        "table": table, "duels": [{**asdict(duel), "tie": duel.tie} for duel in found],
        "words": [duel.words(plan.metric) for duel in found],
    }  # fmt: skip


def _figure(info: RunInfo, metric: str) -> float | None:
    if metric == "eval/loss" and info.best_eval_loss is not None:
        return info.best_eval_loss
    return info.metrics.get(metric)


def _answers(manager: JobManager, info: RunInfo, metric: str) -> RowStatistics | None:
    try:
        return read_answers(manager.store.paths(info.id).predictions, metric, info.tokenizers.get("bleu", "13a"))
    except DataError:
        return None


def _drawn(answers: dict[str, list[RowStatistics | None]]) -> Any:
    """Draws over rows and seeds, of the cells whose runs all have answers to equally many rows."""
    whole = {name: [one for one in found if one] for name, found in answers.items() if found and all(found)}
    sizes = {len(one.statistics) for found in whole.values() for one in found}
    return draw(whole) if len(sizes) == 1 else None
