"""The app's named endpoints, for ``gradio_client`` and plain HTTP: what the page can do, without the page."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import gradio as gr

from peft_studio.config.run_config import parse_config
from peft_studio.jobs.actions import ACTIONS, Action
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo
from peft_studio.ui.context import Studio, guard_api


def build(studio: Studio) -> None:
    """Registers the endpoints; ``generate`` belongs to the Generate tab."""
    manager = studio.manager

    def estimate(config: dict[str, Any]) -> dict[str, Any]:
        """Trainable parameters, file size and memory of a run before it is trained."""
        return manager.engine.estimate(parse_config(config).model_dump(mode="json"))

    def list_runs() -> list[dict[str, Any]]:
        """Every run, newest first."""
        return [info.to_dict() for info in manager.library.list()]

    made = [endpoint(manager, action) for action in ACTIONS if action.endpoint]
    functions: list[Callable[..., Any]] = [estimate, list_runs, *made]
    for function in functions:
        gr.api(guard_api(function), api_name=function.__name__, queue=False)


def endpoint(manager: JobManager, action: Action) -> Callable[..., Any]:
    """A function with the name, parameters and types of an action's endpoint, from which Gradio makes one."""
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    run = [inspect.Parameter("run_id", plain, annotation=str)] if action.on == "run" else []
    others = [
        inspect.Parameter(
            one.name, plain,
            annotation=dict[str, Any] if one.kind is dict else one.kind,
            default=inspect.Parameter.empty if one.default is None else one.default,
        )
        for one in action.parameters
    ]  # fmt: skip
    answers = get_type_hints(RunInfo)[action.tells] if action.tells else str
    signature = inspect.Signature([*run, *others], return_annotation=answers)

    def function(*args: Any, **kwargs: Any) -> Any:
        values = signature.bind(*args, **kwargs).arguments
        run_id = values.pop("run_id", None)
        done = action.do(manager, run_id, values)
        return getattr(manager.library.info(run_id), action.tells) if action.tells else done

    function.__name__ = action.endpoint
    function.__doc__ = f"{action.words} Returns the run's {action.tells or 'id'}."
    function.__annotations__ = {one.name: one.annotation for one in (*run, *others)} | {"return": answers}
    vars(function)["__signature__"] = signature
    return function
