"""The app's named endpoints, for ``gradio_client`` and plain HTTP: what the page can do, without the page."""

from typing import Any

import gradio as gr

from peft_studio.config.run_config import parse_config
from peft_studio.ui.context import Studio, guard


def build(studio: Studio) -> None:
    """Registers the endpoints; ``generate`` belongs to the Generate tab."""
    manager = studio.manager

    @guard
    def start_run(config: dict[str, Any], name: str = "") -> str:
        """Adds a run to the queue; ``config`` is a RunConfig as JSON. Returns the run's id."""
        return manager.submit(parse_config(config), name)

    @guard
    def estimate(config: dict[str, Any]) -> dict[str, Any]:
        """Trainable parameters, file size and memory of a run before it is trained."""
        return manager.engine.estimate(parse_config(config).model_dump(mode="json"))

    @guard
    def stop_run(run_id: str) -> str:
        """Stops a run, keeping its adapter. Returns its status."""
        manager.stop(run_id)
        return manager.info(run_id).status

    @guard
    def pause_run(run_id: str) -> str:
        """Pauses a running run, which writes a checkpoint. Returns its status."""
        manager.pause(run_id)
        return manager.info(run_id).status

    @guard
    def resume_run(run_id: str) -> str:
        """Puts a run back into the queue, to go on from its checkpoint. Returns its status."""
        manager.resume(run_id)
        return manager.info(run_id).status

    @guard
    def extend_run(run_id: str, more_steps: int) -> int:
        """Trains a run that is over longer. Returns its steps in all."""
        return manager.extend(run_id, more_steps)

    @guard
    def prioritize_run(run_id: str, priority: str) -> int | None:
        """Gives a queued run high, normal or low priority. Returns its place in the queue."""
        manager.prioritize(run_id, priority)
        return manager.info(run_id).queue_position

    def list_runs() -> list[dict[str, Any]]:
        """Every run, newest first."""
        return [info.to_dict() for info in manager.list()]

    for function in (start_run, estimate, stop_run, pause_run, resume_run, extend_run, prioritize_run, list_runs):
        gr.api(function, api_name=function.__name__, queue=False)
