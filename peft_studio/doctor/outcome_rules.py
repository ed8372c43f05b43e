"""What became of a run: it failed, its answers do not end, nothing is better for it, or its base knew nothing."""

import math
from collections.abc import Sequence

from peft_studio.doctor.evidence import Evidence
from peft_studio.doctor.findings import Finding, percent
from peft_studio.runs.event_log import number

# One answer in four that never ends is no accident of the rows; right answers that are as long are taken off.
ENDLESS = 0.25
# Fewer answers say nothing about a share.
FEW_ANSWERS = 10
# Random weights give each token of the vocabulary about the same probability; whoever has read anything does better.
KNOWS_NOTHING = 0.97
# In percent points: an imbalanced task's accuracy may stand still while rare labels are found.
RARE_FOUND = 5.0

EXPLAINED = {"not_finite", "out_of_memory", "killed"}
"""Findings that say why a run failed."""
REMEDIES = {
    "ModelError": "Choose another model, or mend the files of this one.",
    "DataError": "Mend the file, or choose its columns anew on the Train tab.",
    "ConfigError": "Change that setting, and train again.",
    "StorageError": "Free some space; a run with a checkpoint can go on from it.",
    "CheckpointError": "Train it again from the start.",
}
"""What to do, by the class of the error."""


def outcome_findings(evidence: Evidence, found: Sequence[Finding]) -> list[Finding]:
    """What became of the run, beside what other rules have found."""
    known = {finding.id for finding in found}
    rules = [failed] if not known & EXPLAINED else []
    rules += [endless, knows_nothing]
    if not any(finding.severity != "note" for finding in found):
        rules.append(no_better)
    return [finding for rule in rules if (finding := rule(evidence))]


def failed(evidence: Evidence) -> Finding | None:
    """The run failed, with the words of the worker or of whoever looked after it."""
    if evidence.status != "failed":
        return None
    step = evidence.steps.last[-1] if evidence.steps.last else None
    told = str(evidence.failed.get("message") or evidence.reason)
    if not told and evidence.signal:
        told = f"The worker was ended by signal {evidence.signal}."
    return Finding(
        "failed", "problem", step, "The run failed",
        told or "The worker ended without saying why.",
        REMEDIES.get(str(evidence.failed.get("error")), "The end of the run's log has the details."),
    )  # fmt: skip


def endless(evidence: Evidence) -> Finding | None:
    """Test answers ran into the limit, because the end of an answer was not learnt."""
    rows, cut, limit, long = (number(evidence.answered.get(name)) for name in ("rows", "cut", "limit", "long"))
    if not rows or cut is None or rows < FEW_ANSWERS or (cut - (long or 0)) / rows < ENDLESS:
        return None
    base = number(evidence.answered.get("base_cut"))
    before = f" (of the base model's: {int(base):,})" if base is not None else ""
    steps = max(1, evidence.steps.count)
    return Finding(
        "endless", "warning", None, f"{percent(cut / rows)} of its answers do not end",
        f"{int(cut):,} of {int(rows):,} test answers{before} went on to the limit of {int(limit or 0):,} tokens; of "
        f"the right answers {int(long or 0):,} are that long. Every training row ends with "
        f"{evidence.answered.get('end') or 'an end token'}, but the run has not learnt to write it, so scores count "
        "what stands behind the answer.",
        "Train for more steps. If that does not help, choose a method that trains more, or a base model whose own "
        "texts end with that token.",
        {"training.max_steps": int(min(1_000_000, 3 * steps))},
    )  # fmt: skip


def knows_nothing(evidence: Evidence) -> Finding | None:
    """The base model's loss was that of guessing among all tokens."""
    model = evidence.started.get("model")
    vocabulary = number(model.get("vocabulary")) if isinstance(model, dict) else None
    loss = evidence.metrics.get("base/eval/loss")
    if not vocabulary or vocabulary < 2 or loss is None or loss < KNOWS_NOTHING * math.log(vocabulary):
        return None
    return Finding(
        "knows_nothing", "warning", None, "The base model knew nothing of these texts",
        f"Before training, its validation loss was {loss:.3g}; guessing among its {int(vocabulary):,} tokens gives "
        f"{math.log(vocabulary):.3g}. Its weights may be random ones, made for tests, or the texts are nothing like "
        "what it has read.",
        "Try a few prompts with the base model on the Generate tab; if they make no sense, choose another model.",
    )  # fmt: skip


def no_better(evidence: Evidence) -> Finding | None:
    """A run that is over and does no better than what costs nothing: the commonest label, or the base model."""
    if evidence.status != "finished":
        return None
    metrics, prefix = evidence.metrics, "base/test/"
    pairs = {name.removeprefix(prefix): (metrics[name.removeprefix("base/")], base)
             for name, base in metrics.items()
             if name.startswith(prefix) and name.removeprefix("base/") in metrics}  # fmt: skip
    if "accuracy" in pairs:
        names = ["accuracy"]
        ours, trivial = pairs.get("macro_f1", (0.0, 0.0))
        better = pairs["accuracy"][0] > pairs["accuracy"][1] or ours > trivial + RARE_FOUND
        than = "always answering the commonest label"
    else:
        names, than = list(pairs), "the base model"
        better = not pairs or any(ours > base for ours, base in pairs.values())
    base, losses = metrics.get("base/eval/loss"), [loss for _, loss in evidence.evals]
    if base is not None and losses and min(losses) >= base:
        names, better = [*names, "validation loss"], False
        pairs["validation loss"] = (min(losses), base)
    if better:
        return None
    told = ", ".join(f"{name} {pairs[name][0]:.4g} (without training {pairs[name][1]:.4g})" for name in names[:3])
    return Finding(
        "no_better", "warning", None, f"No better than {than}",
        f"On the same rows: {told}. What was trained is of no use yet.",
        "Train for more steps first; then try another learning rate or method, and look at the rows "
        "(Look at the tokens, on the Train tab).",
        {"training.max_steps": int(min(1_000_000, 3 * max(1, evidence.steps.count)))},
    )  # fmt: skip
