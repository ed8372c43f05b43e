"""The fake worker in a process whose clock somebody sets again and again: a year ahead, two days back."""

import sys
import time

import fake_worker

from peft_studio.worker import main

YEAR, JUMPS = 365 * 86400.0, (0.0, 365 * 86400.0, -2 * 86400.0, 7200.0)
_real = time.time
_steps = [0]


def train(**kwargs: object) -> None:
    """As ``fake_worker.train``; every third step the clock is set."""
    emit = kwargs["emit"]

    def count(kind: str, **fields: object) -> None:
        _steps[0] += kind == "step"
        emit(kind, **fields)  # type: ignore[operator]

    time.time = lambda: _real() + JUMPS[_steps[0] // 3 % len(JUMPS)]
    fake_worker.train(**{**kwargs, "emit": count})  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main(train=train))
