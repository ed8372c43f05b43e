"""What a run's curves tell: a loss that breaks down, runs away, jumps, does not fall, or falls in training only."""

from bisect import bisect_right
from statistics import fmean, median

from peft_studio.config.advice import about_warmup
from peft_studio.doctor.evidence import Evidence
from peft_studio.doctor.findings import Finding, advised_rate, compared_rate, higher_rate, lower_rate, percent
from peft_studio.runs.event_log import number

# A third above the start is beyond what batches differ by, once some steps are averaged.
ABOVE_START = 1.3
# A run that gives back half of what it had gained is not merely noisy.
GIVEN_BACK = 0.5
# In standard errors of a window's mean: twenty windows of pure noise pass it once in thousands of runs.
CLEAR_RISE = 4.0
# One rise can be bad luck with a few batches; the second, of a tenth of the start, is a pattern.
RISES, RISE_SHARE = 2, 0.1
# Adaptive clipping and rare batches double or triple a norm; ten times the usual one is a jump.
SPIKE, SPIKES, SPIKE_SHARE = 10.0, 3, 0.02
# Below this many steps, warm-up and chance decide.
ENOUGH_STEPS = 30
# Of the start: the weakest built-in methods (prompt tuning) lower the loss by a tenth in 60 steps.
HARDLY = 0.03
# Training loss that falls by more while validation loss stays is memory, not failure to learn.
BY_HEART = 0.1
# A method's recommendation holds within about a factor of three; ten times less is a setting, not a taste.
FAR_BELOW = 0.1
# A loss per token this small has nothing left to fall.
LEARNT = 0.05
# Validation uses the same rows each time, so that 5 % is no noise.
OVERFIT = 1.05
# The base model's loss is measured on the same rows too; the margin is for rounding.
WORSE = 1.02


def curve_findings(evidence: Evidence) -> list[Finding]:
    """What the curves tell; of several explanations the gravest only."""
    rules = (not_finite, diverged, unstable, too_flat)
    found = next((finding for rule in rules if (finding := rule(evidence))), None)
    overfit = overfitted(evidence) if found is None or found.id == "rate_high" else None
    worse = worse_than_base(evidence) if found is None else None
    return [one for one in (found, overfit, worse, unchanged(evidence) or cold(evidence)) if one is not None]


def not_finite(evidence: Evidence) -> Finding | None:
    """The loss became NaN or infinite."""
    step = evidence.steps.lost
    if step is None:
        return None
    settings = lower_rate(evidence)
    if evidence.option("max_grad_norm") == 0:
        settings["training.max_grad_norm"] = 1.0
    if (evidence.started.get("precision") or evidence.option("precision")) == "bf16":
        settings["training.precision"] = "fp32"
    return Finding(
        "not_finite", "problem", step, "The loss is no longer a number",
        f"At step {step:,} the loss became NaN or infinite: numbers grew too large. The usual reason is a step that "
        f"is too long; this run has {compared_rate(evidence)}.",
        "Use a lower learning rate" + (", and clip gradients." if "training.max_grad_norm" in settings else "."),
        settings,
    )  # fmt: skip


def start_loss(evidence: Evidence) -> float | None:
    """The loss before training: the base model's on the validation rows, or else that of the first steps."""
    base = evidence.metrics.get("base/eval/loss")
    if base is not None or not evidence.steps.loss:
        return base
    return fmean(evidence.steps.loss[:2])


def diverged(evidence: Evidence) -> Finding | None:
    """The loss ended well above its start, or gave back much of what it had gained."""
    windows, start = evidence.steps.windows(), start_loss(evidence)
    if len(windows) < 2 or start is None:
        return None
    now, lowest = windows[-1], min(windows, key=lambda window: window.loss)
    clear = max(CLEAR_RISE * now.noise, 0.05)
    beyond = now.loss > ABOVE_START * start + clear
    lost = now.loss - lowest.loss > max(GIVEN_BACK * (start - lowest.loss), (ABOVE_START - 1) * lowest.loss, clear)
    if not beyond and not lost:
        return None
    step = lowest.step if lost and lowest.loss < start else windows[0].step
    return Finding(
        "diverged", "problem", step, "The loss rose instead of falling",
        f"From step {step:,} on, training loss went up, from {min(start, lowest.loss):.3g} to {now.loss:.3g} now. "
        f"Steps that are too long do this; this run has {compared_rate(evidence)}.",
        "Use a lower learning rate.", lower_rate(evidence),
    )  # fmt: skip


def unstable(evidence: Evidence) -> Finding | None:
    """The loss jumps up and down, or gradients do, though it has not run away."""
    windows, start = evidence.steps.windows(), start_loss(evidence)
    if len(windows) < 2 or start is None:
        return None
    bar = [max(CLEAR_RISE * window.noise * 2**0.5, RISE_SHARE * start) for window in windows]
    rises = [b.step for a, b, least in zip(windows, windows[1:], bar, strict=False) if b.loss - a.loss > least]
    peaks = [w.step for w in windows if w.loss > ABOVE_START * start + max(CLEAR_RISE * w.noise, 0.05)]
    spikes = norm_spikes(evidence)
    if peaks or len(rises) >= RISES:
        step, seen = (peaks or rises)[0], "training loss jumps up and down"
    elif spikes:
        step, seen = spikes[0], f"the gradient's norm was more than {SPIKE:g} times its usual size {len(spikes)} times"
    else:
        return None
    clip = {"training.max_grad_norm": 1.0} if spikes and evidence.option("max_grad_norm") == 0 else {}
    return Finding(
        "rate_high", "warning", step, "Training is unstable",
        f"From step {step:,} on, {seen}. That points to steps that are too long: this run has "
        f"{compared_rate(evidence)}.",
        "Clip gradients." if clip else "Use a lower learning rate, or more warm-up steps.",
        clip or lower_rate(evidence),
    )  # fmt: skip


def norm_spikes(evidence: Evidence) -> list[int]:
    """Steps whose gradient is far larger than usual; none when they are only a few."""
    pairs = zip(evidence.steps.last, evidence.steps.norm, strict=True)
    after = [(step, norm) for step, norm in pairs if step > evidence.warmup and norm == norm]
    if len(after) < ENOUGH_STEPS:
        return []
    usual = median(norm for _, norm in after)
    found = [step for step, norm in after if norm > SPIKE * usual > 0]
    return found if len(found) >= max(SPIKES, SPIKE_SHARE * len(after)) else []


def too_flat(evidence: Evidence) -> Finding | None:
    """The loss hardly falls: the learning rate is too low, or there is nothing that it could learn so."""
    loss, start = evidence.steps.loss, start_loss(evidence)
    if evidence.steps.count < ENOUGH_STEPS or start is None or not _is_flat(evidence, start):
        return None
    rate, recommended = number(evidence.option("learning_rate")), advised_rate(evidence)
    fallen = max(0.0, 1 - fmean(loss[-len(loss) // 3 :]) / fmean(loss[: max(1, len(loss) // 3)]))
    seen = f"In {evidence.steps.count:,} steps, training loss fell by {percent(fallen)}"
    if rate and recommended and rate <= FAR_BELOW * recommended:
        return Finding(
            "rate_low", "warning", None, "The loss hardly falls: the learning rate is too low",
            f"{seen}. This run has {compared_rate(evidence)}.", "Use a higher learning rate.", higher_rate(evidence),
        )  # fmt: skip
    planned = evidence.planned
    if not evidence.is_over and evidence.steps.count < planned / 2:
        return None  # some tasks begin slowly
    return Finding(
        "flat", "warning", None, "The loss does not fall",
        f"{seen}. Either it needs more steps, or the rows do not tell the answer, or the method has too few "
        f"trainable parameters for this. This run has {compared_rate(evidence)}.",
        "Train for more steps first; then look at the rows (Look at the tokens, on the Train tab).",
        {"training.max_steps": int(min(1_000_000, 3 * max(planned, evidence.steps.count)))},
    )  # fmt: skip


def _is_flat(evidence: Evidence, start: float) -> bool:
    third = len(evidence.steps.loss) // 3
    if third == 0:
        return False
    first, now = fmean(evidence.steps.loss[:third]), fmean(evidence.steps.loss[-third:])
    if now <= LEARNT:
        return False
    if not evidence.evals:
        return now > (1 - HARDLY) * first
    # Validation losses are the exact ones; training loss may begin above its start, and fall by heart alone.
    return min(loss for _, loss in evidence.evals) > (1 - HARDLY) * start and now > (1 - BY_HEART) * first


def overfitted(evidence: Evidence) -> Finding | None:
    """Validation loss rises while training loss goes on falling."""
    if len(evidence.evals) < 3:
        return None
    best_step, best = min(evidence.evals, key=lambda item: item[1])
    last_step, last = evidence.evals[-1]
    windows = evidence.steps.windows()
    at_best = bisect_right([window.step for window in windows], best_step)
    if last < OVERFIT * best or not windows or windows[-1].loss >= windows[min(at_best, len(windows) - 1)].loss:
        return None
    kept = bool(evidence.option("early_stopping"))
    return Finding(
        "overfitted", "note" if kept else "warning", best_step, f"Overfitting: step {best_step:,} was the best",
        f"Validation loss was lowest at step {best_step:,} ({best:.3g}) and is {last:.3g} at step {last_step:,}, "
        f"while training loss went on falling to {windows[-1].loss:.3g}: the model learns its training rows by heart.",
        "Nothing: early stopping keeps the best weights." if kept
        else "Stop early and keep the best weights; more rows, or a smaller rank, help too.",
        {} if kept else {"training.early_stopping": 2},
    )  # fmt: skip


def cold(evidence: Evidence) -> Finding | None:
    """The warm-up is as long as the run, or longer."""
    words = about_warmup(evidence.warmup, evidence.planned, number(evidence.option("learning_rate")) or 0.0)
    if not evidence.planned or not words:
        return None
    return Finding(
        "warmup_long", "warning", None, "The learning rate never reaches its peak",
        words, "Use a shorter warm-up, or train for more steps.", {"training.warmup_steps": 0.03},
    )  # fmt: skip


def unchanged(evidence: Evidence) -> Finding | None:
    """After training, validation loss is to the last digit what it was before."""
    base = evidence.metrics.get("base/eval/loss")
    if not evidence.steps.count or not evidence.evals or evidence.evals[-1][1] != base:
        return None
    # A warm-up once began with a rate of 0, so that a run of one step trained nothing.
    cold_start = evidence.warmup >= evidence.steps.count
    why = (
        f"The warm-up of {evidence.warmup:,} steps leaves the first one a learning rate of 0"
        if cold_start
        else (f"Steps may be too short to change anything: this run has {compared_rate(evidence)}")
    )
    return Finding(
        "unchanged", "problem", None, "Training has changed nothing",
        f"After {evidence.steps.count:,} steps, validation loss is {base:.6g}, exactly what it was before. {why}.",
        "Use a shorter warm-up, or train for more steps." if cold_start else "Use a higher learning rate.",
        {"training.warmup_steps": 0.03} if cold_start else higher_rate(evidence),
    )  # fmt: skip


def worse_than_base(evidence: Evidence) -> Finding | None:
    """After training, validation loss is higher than before."""
    base = evidence.metrics.get("base/eval/loss")
    planned = number(evidence.started.get("max_steps")) or 0
    if base is None or not evidence.evals:
        return None
    step, last = evidence.evals[-1]
    if last <= WORSE * base or not (evidence.is_over or step >= planned / 2):
        return None
    guessing = "test/macro_f1" in evidence.metrics
    than = "guessing by how frequent each label is" if guessing else "the base model"
    return Finding(
        "worse_than_base", "warning", step, f"Worse than {than}",
        f"Validation loss is {last:.3g} at step {step:,}, and {base:.3g} for {than}. Training rows may differ from "
        f"the validation rows, or steps are too long: this run has {compared_rate(evidence)}.",
        "Look at the rows first; then try a lower learning rate.", lower_rate(evidence),
    )  # fmt: skip
