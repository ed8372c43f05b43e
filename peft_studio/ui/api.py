"""The app's named endpoints, for ``gradio_client``, plain HTTP and agents (MCP): what the page can do, without it."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import gradio as gr

from peft_studio.experiments.lab import Lab
from peft_studio.jobs.actions import ACTIONS, Action, Parameter
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo
from peft_studio.ui.answers.ask import ask_tools
from peft_studio.ui.context import Studio, guard_api
from peft_studio.ui.inside import inside_tools
from peft_studio.ui.lab.tools import experiment_tools
from peft_studio.ui.tools import library_tools, run_tools


def build(studio: Studio) -> None:
    """Registers the endpoints; ``generate`` belongs to the Generate tab."""
    manager = studio.manager
    made = [endpoint(manager, action) for action in ACTIONS if action.endpoint]
    experiments = experiment_tools(Lab(manager))
    functions: list[Callable[..., Any]] = [*library_tools(), *run_tools(manager), *made, *experiments]
    functions += inside_tools(manager)
    functions += ask_tools(manager)
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
    told = [f"    {one.name}: {one.words or one.name}{_bounds(one)}." for one in action.parameters]
    named = ["    run_id: Id of the run.", *told] if action.on == "run" else told
    words = f"{action.words} Returns the run's {action.tells or 'id'}."
    function.__doc__ = "\n".join([words, "", "Args:", *named])  # as Gradio and agents read it
    function.__annotations__ = {one.name: one.annotation for one in (*run, *others)} | {"return": answers}
    vars(function)["__signature__"] = signature
    return function


def _bounds(one: Parameter) -> str:
    if one.allowed:
        return f", one of {', '.join(one.allowed)}"
    return f", {one.least:,} to {one.most:,}" if one.most else ""
