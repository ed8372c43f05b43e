"""What will hardly work is said before a run starts: rates that are far off, and warm-ups that never end."""

from peft_studio.config.resolved_run import ResolvedRun

FAR_ABOVE, FAR_BELOW = 10.0, 0.01
"""Times the recommended rate. Whoever looks for a better one tries factors of three, up to ten."""


def advice(run: ResolvedRun) -> list[str]:
    """What a user should know of a config before it is run, as sentences; usually nothing.

    Raises:
        DataError: A file cannot be used; the message names file, row and column.
    """
    training = run.config.training
    steps = training.steps_for(len(run.task.load("train"))) if training.epochs else training.max_steps
    own_rule = training.optimizer == "sgd" and run.method.optimizer is None  # recommended are rates for AdamW
    told = [] if own_rule else [about_rate(training.learning_rate, run.recommended_rate)]
    told.append(about_warmup(training.warmup_of(steps), steps, training.learning_rate))
    return [words for words in told if words]


def about_rate(rate: float, recommended: float) -> str:
    """What is to be said of a learning rate; empty when it is not far off."""
    if FAR_BELOW <= rate / recommended <= FAR_ABOVE:
        return ""
    comes = "Training will probably diverge" if rate > recommended else "Hardly anything will be learnt"
    return f"The learning rate {rate:g} is {beside(rate, recommended)}. {comes}."


def about_warmup(warmup: int, steps: int, rate: float) -> str:
    """What is to be said of a warm-up of so many steps; empty when it ends within the run."""
    if warmup < steps:
        return ""
    return (
        f"The warm-up of {warmup:,} steps does not end within the {steps:,} of this run, so the learning rate never "
        f"reaches its peak of {rate:g}. A warm-up below 1 is a share of the run, such as 0.03."
    )


def beside(rate: float, recommended: float) -> str:
    """How a learning rate compares, such as "500 times the 0.01 that is recommended here"."""
    factor = rate / recommended
    if 0.5 < factor < 2:
        return "about what is recommended here"
    many = factor if factor > 1 else 1 / factor
    times = f"{many:,.0f}" if many >= 10 else f"{many:.2g}"
    return f"{f'{times} times' if factor > 1 else f'1/{times} of'} the {recommended:g} that is recommended here"
