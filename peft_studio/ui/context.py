"""What every tab is given, and the one place that turns our errors into messages on the page."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from peft_studio.access.rights import Right, require
from peft_studio.access.visitors import Visitor, asker, asking
from peft_studio.errors import StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Access, Settings
from peft_studio.ui.http import told

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
"""Options of a listener that answers at once and is no named endpoint."""

FUNCTIONS: Mapping[str, Right] = {
    "train._wire_estimate.show_costs": Right.ASK,
    "train._wire_estimate.<lambda>": Right.LOOK,
    "train._wire_preview.look": Right.ASK,
    "train._wire_fill.preset": Right.LOOK,
    "train._wire_fill.fill": Right.LOOK,
    "train._wire_hub.take_model": Right.LOOK,
    "train._wire_hub.take_data": Right.LOOK,
    "train.build.start": Right.TRAIN,
    "train_form.TrainForm.show_method": Right.LOOK,
    "train_form.TrainForm.show_rate": Right.LOOK,
    "train_form.TrainForm.follow_kind": Right.LOOK,
    "methods.MethodPicker.narrow": Right.LOOK,
    "data.DataPanel.take": Right.TRAIN,
    "data.DataPanel.look_at": Right.TRAIN,
    "data.DataPanel.wire.<lambda>": Right.LOOK,
    "generate._row_picker.show": Right.LOOK,
    "generate._row_picker.draw": Right.LOOK,
    "generate.build.stream_answers": Right.ASK,
    "generate._wire_adapters.carry": Right.LOOK,
    "generate._wire_adapters.fit": Right.LOOK,
    "generate._api.generate": Right.ASK,
    "room.build.show_to_teacher": Right.LOOK,
    "learn.build.pick": Right.LOOK,
    "learn.build.show": Right.LOOK,
    "learn.build.draw": Right.LOOK,
    "hub_share.push_as_signed_in.push_with_session": Right.TRAIN,
    "hub_share.push_as_owner.push_with_token": Right.TRAIN,
    "hub_share.puller.pull_adapter": Right.IMPORT,
    "login_button.LoginButton._check_login_status": Right.LOOK,
    "tools.library_tools.list_methods": Right.LOOK,
    "tools.library_tools.describe_method": Right.LOOK,
    "tools.library_tools.list_tasks": Right.LOOK,
    "tools.library_tools.list_models": Right.LOOK,
    "tools.run_tools.estimate": Right.ASK,
    "tools.run_tools.list_runs": Right.LOOK,
    "tools.run_tools.follow_run": Right.LOOK,
    "tools.run_tools.get_results": Right.LOOK,
    "tools.run_tools.get_metrics": Right.LOOK,
    "tools.run_tools.get_findings": Right.LOOK,
    "tools.run_tools.export_link": Right.LOOK,
    "inside.inside_tools.inspect_run": Right.ASK,
    "inside.inside_tools.measure_forgetting": Right.ASK,
    "ask.ask_tools.look_at_tokens": Right.ASK,
    "ask.ask_tools.ask_at_strength": Right.ASK,
    "ask.ask_tools.check_merge": Right.ASK,
    "ask.ask_tools.look_at_step": Right.ASK,
    "ask.ask_tools.mix_adapters": Right.TRAIN,
    "api.endpoint.function": Right.LOOK,
    "tools.experiment_tools.list_experiments": Right.LOOK,
    "tools.experiment_tools.get_experiment": Right.LOOK,
    "tools.experiment_tools.experiment_cost": Right.ASK,
    "tools.experiment_tools.start_experiment": Right.TRAIN,
    "tools.experiment_tools.stop_experiment": Right.CHANGE,
}
"""What each function of the page needs, by module and name; what it is not here for, is the owner's only. What belongs
to somebody, and what an action needs, is asked for where it is done: `RunLibrary.paths`, `Action.do`."""


@dataclass
class Studio:
    """What every tab is given, and what the tabs leave for each other.

    Attributes:
        manager: Runs and the engine.
        settings: Where data lives.
        bridge: Through it the page's scripts fill the Train tab's form.
        tabs: All tabs, to show another one.
        tab: Each tab by its id, such as ``"train"``.
        on_load: What a page does when it opens, given the page.
    """

    manager: JobManager
    settings: Settings
    bridge: gr.HTML = field(init=False)
    tabs: gr.Tabs = field(init=False)
    tab: dict[str, gr.Tab] = field(default_factory=dict)
    on_load: list[Callable[[gr.Blocks], object]] = field(default_factory=list)


def guard(function: Callable[..., Any]) -> Callable[..., Any]:
    """Shows a ``StudioError`` of an event handler as a message; anything else stays an error with a traceback."""
    return _guard(function, lambda error: gr.Error(plain(error), title="That did not work", duration=10))


def guard_api(function: Callable[..., Any]) -> Callable[..., Any]:
    """Tells a ``StudioError`` of a named endpoint as it is: its words are the message, the rest of it the title."""

    def as_it_is(error: StudioError) -> gr.Error:
        names = {name: value for name, value in error.to_dict().items() if name != "message" and value}
        return gr.Error(told(str(error)), title=" ".join(map(str, names.values())))

    return _guard(function, as_it_is)


def _guard(function: Callable[..., Any], told: Callable[[StudioError], gr.Error]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except StudioError as exc:
            error = told(exc)
            error.print_exception = False
            raise error from exc

    return guarded


def plain(error: StudioError) -> str:
    """An error's words as text that cannot be read as HTML."""
    return told(str(error)).replace("&", "&amp;").replace("<", "&lt;")


def name_of(function: Callable[..., Any]) -> str:
    """A function's name in ``FUNCTIONS``."""
    inner = function.func if isinstance(function, functools.partial) else function
    return f"{inner.__module__.rpartition('.')[2]}.{inner.__qualname__.replace('.<locals>', '')}"


def keep_rights(page: gr.Blocks, access: Access) -> None:
    """Has every function of a page, named or not, work for whoever asks, if they have the right to it.

    Args:
        page: The whole page.
        access: Who uses the app.
    """
    for listener in page.fns.values():
        if listener.fn is not None:
            right = FUNCTIONS.get(name_of(listener.fn), Right.RUN_APP)
            listener.fn = _for_visitor(listener.fn, right, access, listener.api_visibility == "public")


def _for_visitor(function: Callable[..., Any], right: Right, access: Access, is_named: bool) -> Callable[..., Any]:
    check = (guard_api if is_named else guard)(lambda: require(access, right))

    @functools.wraps(function)
    def answers(*args: object, **kwargs: object) -> Any:
        with asking(_visitor()):
            check()
            return function(*args, **kwargs)

    @functools.wraps(function)
    def streams(*args: object, **kwargs: object) -> Iterator[Any]:
        visitor = _visitor()  # every step may run in another thread
        with asking(visitor):
            check()
            steps = function(*args, **kwargs)
        try:
            while True:
                with asking(visitor):
                    step = next(steps, _END)
                if step is _END:
                    return
                yield step
        finally:
            steps.close()

    return streams if inspect.isgeneratorfunction(function) else answers


_END = object()


def _visitor() -> Visitor:
    """Who asks: the gate has written it into the request that started the event, which may have waited since."""
    request = LocalContext.request.get(None)
    made = request.request if isinstance(request, gr.Request) else None
    found = made.scope.get("state", {}).get("visitor") if made is not None else None
    return found if isinstance(found, Visitor) else asker()
