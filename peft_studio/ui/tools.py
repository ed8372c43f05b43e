"""What programs and agents may ask besides the actions: names, types and docstrings are their whole interface."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from peft_studio.access.rights import Right
from peft_studio.archives.adapter_archive import exportable
from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.methods import METHODS, get_method
from peft_studio.models.catalog import MODELS
from peft_studio.runs.reader import RunInfo
from peft_studio.tasks import TASKS

MOST_SECONDS, AT_ONCE, STEP_SECONDS = 20.0, 8, 0.25
"""For how long `follow_run` waits, for how many at a time (others are answered at once), and how often it looks."""
MOST_POINTS = 200
"""Points of a curve in one answer."""
_PROGRESS = (
    "id", "status", "reason", "stage", "step", "max_steps", "loss", "eval_loss", "eta_seconds", "queue_position",
    "actions",
)  # fmt: skip
_FIGURES = (
    "id", "title", "status", "method", "model", "task", "learning_rate", "step", "metrics", "tokenizers",
    "best_eval_loss", "best_step", "saved_step", "trainable_params", "total_params", "adapter_bytes",
    "peak_memory_bytes", "seconds",
)  # fmt: skip
_TASK = ("name", "title", "kind", "description", "template", "headline")
_WAITING = threading.BoundedSemaphore(AT_ONCE)

Values = dict[str, Any]


def library_tools() -> list[Callable[..., Any]]:
    """Functions on what belongs to nobody: methods, tasks and base models."""

    def list_methods() -> list[dict[str, Any]]:
        """List the fine-tuning methods: name for a config, title, one sentence, and how common each is."""
        return [
            {key: getattr(method, key) for key in ("name", "title", "summary", "tier")} for method in METHODS.values()
        ]

    def describe_method(name: str) -> dict[str, Any]:
        """Describe one fine-tuning method: idea, formula, paper, recommended learning rate, parameters with bounds.

        Args:
            name: Name of the method as list_methods tells it, such as lora.
        """
        method = get_method(name)
        told = {key: getattr(method, key) for key in ("idea", "formula", "count", "mergeable", "caveat")}
        return {**method.described(), **told, "kinds": list(method.kinds)}

    def list_tasks() -> list[dict[str, Any]]:
        """List the tasks that come with the app: what each is about, how its prompts look, its headline metric."""
        return [{key: getattr(task, key) for key in _TASK} for task in TASKS.values()]

    def list_models() -> list[dict[str, Any]]:
        """List the base models of the catalogue: id for a config, size, architecture, licence, tasks that they suit.

        Those with "here": true need no network.
        """
        return [
            {**{key: value for key, value in asdict(card).items() if key != "path"}, "kind": card.kind,
             "suits": list(card.suits), "here": card.path is not None}
            for card in MODELS.values()
        ]  # fmt: skip

    return [list_methods, describe_method, list_tasks, list_models]


def run_tools(manager: JobManager) -> list[Callable[..., Any]]:
    """Functions on runs, for whoever may see them."""

    def estimate(config: dict[str, Any]) -> dict[str, Any]:
        """Say what a run would cost before it is trained: trainable parameters, file size and memory.

        Args:
            config: A RunConfig as JSON, such as {"task": {"id": "bistro"}, "method": {"name": "lora", "rank": 8},
                "training": {"max_steps": 60}}. What is left out has its default.
        """
        return manager.engine.estimate(parse_config(config).model_dump(mode="json"))

    def list_runs() -> list[dict[str, Any]]:
        """List the runs, newest first, each with status, config, losses and metrics."""
        return [_values(info, tuple(info.to_dict())) for info in manager.library.list()]

    def follow_run(run_id: str, seconds: float = MOST_SECONDS) -> dict[str, Any]:
        """Wait until a run is over, or for some seconds, and say how far it is; call again while "over" is false.

        Args:
            run_id: Id of the run, as start_run returns it.
            seconds: How long to wait at most, from 0 (answer at once) to 20.
        """
        info = seen(manager, run_id)
        end = time.monotonic() + min(max(0.0, float(seconds)), MOST_SECONDS)
        if _WAITING.acquire(blocking=False):
            try:
                while not info.status.is_over and time.monotonic() < end:
                    time.sleep(STEP_SECONDS)
                    info = manager.library.info(run_id)
            finally:
                _WAITING.release()
        return {**_values(info, _PROGRESS), "over": info.status.is_over}

    def get_results(run_id: str) -> dict[str, Any]:
        """Tell a run's figures: metrics (names that begin with base/ are the base model's), best loss, sizes, time.

        Args:
            run_id: Id of the run.
        """
        return _values(seen(manager, run_id), _FIGURES)

    def get_metrics(run_id: str, name: str = "") -> list[dict[str, Any]]:
        """Tell the recorded values of a run, in order: step, name and value, at most 200 evenly spaced ones of a name.

        Args:
            run_id: Id of the run.
            name: Only this metric, such as train/loss, eval/loss or test/bleu; all of them when empty.
        """
        seen(manager, run_id)
        found: dict[str, list[dict[str, Any]]] = {}
        for value in manager.library.metrics(run_id):
            if name in ("", value["name"]):
                found.setdefault(value["name"], []).append(value)
        return [value for values in found.values() for value in _spaced(values)]

    def get_findings(run_id: str) -> list[dict[str, Any]]:
        """Ask the doctor: what looks wrong with a run, why, and which settings to change; empty when all looks well.

        Args:
            run_id: Id of the run.
        """
        seen(manager, run_id)
        return [finding.to_dict() for finding in manager.library.findings(run_id)]

    def export_link(run_id: str) -> dict[str, Any]:
        """Tell where a run's adapter can be downloaded as a zip with its card and a script that repeats the run.

        Args:
            run_id: Id of a run that has saved an adapter.

        Returns:
            The link, to be put behind the address of this app, and the bytes of the adapter.
        """
        info = seen(manager, run_id, Right.TAKE)
        exportable(manager.store.paths(run_id))
        return {"link": f"/studio/export/{info.id}.zip", "adapter_bytes": info.adapter_bytes}

    return [estimate, list_runs, follow_run, get_results, get_metrics, get_findings, export_link]


def seen(manager: JobManager, run_id: str, right: Right = Right.SEE) -> RunInfo:
    """A run, for whoever has a right to it."""
    manager.library.paths(run_id, right)
    return manager.library.info(run_id)


def _values(info: RunInfo, names: tuple[str, ...]) -> Values:
    """Some of a run's values; agents are shown them as Python writes them, so an enum must be a text."""
    return {name: getattr(info, name) for name in names} | {"status": str(info.status)}


def _spaced(values: list[Values]) -> list[Values]:
    """At most so many, the last one among them."""
    count = len(values)
    if count <= MOST_POINTS:
        return values
    return [values[number * (count - 1) // (MOST_POINTS - 1)] for number in range(MOST_POINTS)]
