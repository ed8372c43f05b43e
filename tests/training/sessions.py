"""Real sessions of a few steps in this process, to be interrupted and looked at: what several test files share."""

import json
from pathlib import Path
from typing import Any

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.runs.paths import RunPaths
from peft_studio.training import trainer

STEPS = 8
BASE = {"max_steps": STEPS, "batch_size": 4, "eval_every": 3, "eval_rows": 4, "max_length": 300, "warmup_steps": 2}


class Log:
    """Collects events, and asks for something after a number of steps."""

    def __init__(self, at: int | None = None, request: str = "pause") -> None:
        self.events: list[dict[str, Any]] = []
        self._at, self._request = at, request

    def emit(self, kind: str, **fields: Any) -> None:
        """As the worker's."""
        json.dumps(fields)
        self.events.append({"kind": kind, **fields})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind."""
        return [event for event in self.events if event["kind"] == kind]

    def ask(self) -> str:
        """As the worker's ``should_stop``."""
        return self._request if self._at is not None and len(self.of("step")) >= self._at else ""

    def curve(self) -> dict[int, tuple[float, ...]]:
        """Loss, learning rate and tokens by step."""
        return {event["step"]: (event["loss"], event["lr"], event["tokens"]) for event in self.of("step")}

    def evals(self) -> dict[int, float]:
        """Validation loss by step."""
        return {e["step"]: e["metrics"]["eval/loss"] for e in self.of("eval") if "eval/loss" in e["metrics"]}


def make_config(model: Path, method: str | dict[str, Any] = "lora", task: str = "bistro", **training: Any) -> Any:
    """A config for a few steps on a tiny model."""
    params = {"name": method} if isinstance(method, str) else method
    return parse_config(
        {"model": {"id": str(model)}, "task": {"id": task}, "method": params, "training": BASE | training}
    )


def train(config: Any, paths: RunPaths, log: Log | None = None) -> Log:
    """One process's share of a run."""
    log = log or Log()
    trainer.run(resolved=resolve(config), paths=paths, emit=log.emit, should_stop=log.ask, threads=1)
    return log


def folder_of(paths: RunPaths, name: str) -> RunPaths:
    """Another run beside this one."""
    return RunPaths(paths.root.parent / name)


def weights(paths: RunPaths) -> dict[str, float]:
    """Sums of the values of a saved adapter's tensors."""
    from safetensors.torch import load_file

    return {name: float(item.sum()) for name, item in load_file(paths.adapter / "adapter_model.safetensors").items()}
