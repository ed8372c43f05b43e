"""A worker without torch: the real supervisor around a pretence of training.

The run's name is a JSON object that says what to pretend: ``sleep`` seconds per step, ``raise`` an exception's name
at step ``at``, ``deaf`` to requests to stop, ``eval_every``, ``print`` a text, ``no_end`` without a last event,
``full`` a disk that is full from step ``at`` on, ``checkpoint_every`` steps, ``die`` by a signal right after step
``at`` of each attempt, ``no_checkpoint`` at all, ``guard`` against a second worker on the same run.
"""

import errno
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import NonFiniteLossError
from peft_studio.files import atomic_write, read_json
from peft_studio.runs.paths import RunPaths
from peft_studio.worker import main

EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "NonFiniteLossError": lambda: NonFiniteLossError("The loss became NaN at step 3."),
    "MemoryError": MemoryError,
    "torch": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
    "ValueError": lambda: ValueError("bad token hf_abcdefghijklmnop1234"),
    "ENOSPC": lambda: OSError(errno.ENOSPC, "No space left on device", "/home/x/adapter"),
    "SystemExit": lambda: SystemExit(7),
}


def train(
    *,
    resolved: ResolvedRun,
    paths: RunPaths,
    emit: Callable[..., None],
    should_stop: Callable[[], bool],
    threads: int,
    **_more: Any,
) -> None:
    """Emits the events that real training would emit."""
    plan = json.loads((read_json(paths.config) or {})["name"] or "{}")
    print(plan.get("print", "pretending"))
    _guard(paths)
    steps = (read_json(paths.extended) or {}).get("max_steps") or resolved.config.training.max_steps
    emit("stage", name="training")
    emit("started", threads=threads, trainable_params=10, total_params=1000, max_steps=steps)
    stopped = paused = False
    began = time.monotonic()
    first = step = (read_json(paths.checkpoint / "state.json") or {}).get("step", 0)
    if first:
        emit("resumed", step=first)
    for step in range(first + 1, steps + 1):
        if step == plan.get("at", 2) and "raise" in plan:
            raise EXCEPTIONS[plan["raise"]]()
        if step == plan.get("at", 2) and plan.get("full"):
            _fill_up(paths)
        time.sleep(plan.get("sleep", 0.005))
        elapsed = time.monotonic() - began
        emit("step", step=step, loss=2 / step, lr=0.1, grad_norm=1.0, tokens=step * 50, elapsed=round(elapsed, 4))
        if step % plan.get("eval_every", 10) == 0:
            emit("eval", step=step, tokens=step * 50, elapsed=elapsed, metrics={"eval/loss": 3 / step})
        if step % plan.get("checkpoint_every", 10**9) == 0:
            _save(paths, step, steps)
        if step - first == plan.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        asked = should_stop()
        paused = not plan.get("deaf") and paths.pause.exists()
        stopped = not plan.get("deaf") and bool(asked) and asked != "pause"
        if stopped or paused:
            break
    if plan.get("no_end"):
        return
    if not plan.get("no_checkpoint"):
        _save(paths, step, steps)
    summary = {"seconds": 1.5, "steps_per_second": 7.0, "tokens_per_second": 350.0, "peak_memory_bytes": 10**6}
    if paused and not stopped:
        return emit("paused", step=step, summary=summary)
    paths.adapter.mkdir(exist_ok=True)
    emit("saved", path="adapter", bytes=123)
    emit("stopped" if stopped else "finished", step=step, summary=summary)


def _save(paths: RunPaths, step: int, steps: int) -> None:
    """A checkpoint; a kill at any moment leaves this one or the last."""
    paths.checkpoint.mkdir(exist_ok=True)
    atomic_write(paths.checkpoint / "state.json", json.dumps({"step": step, "max_steps": steps}))


def _guard(paths: RunPaths) -> None:
    """Leaves a file when another worker is at work; the lock is let go of by the system when this process ends."""
    lock = os.open(paths.root / "worker.lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        (paths.root / "two-workers").touch()


def _fill_up(paths: RunPaths) -> None:
    """From here on a write succeeds only in space that was given back; half of the last line arrives."""
    real = os.write

    def write(fd: int, data: Any) -> int:
        if (paths.root / ".reserve").stat().st_size > 40_000:
            if len(data) > 20:
                return real(fd, bytes(data)[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    os.write = write


if __name__ == "__main__":
    sys.exit(main(train=train))
