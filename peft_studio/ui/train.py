"""The Train tab: pick model, task, method and settings, see at once what that costs, start, and watch."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from peft_studio.config.presets import load_preset
from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config, parse_task
from peft_studio.errors import StudioError
from peft_studio.experiments.cost import CellFacts, Costs
from peft_studio.experiments.expected_time import ExpectedTime, expected_run, wait_for_start
from peft_studio.jobs.manager import JobManager
from peft_studio.tasks import CUSTOM
from peft_studio.ui.context import QUIET, Studio, guard
from peft_studio.ui.methods import DEFAULT_METHOD
from peft_studio.ui.shell import island
from peft_studio.ui.train_form import TrainForm

NO_FILE = "Choose a training file, and the costs of a run on it are shown here."


def with_changes(data: dict[str, Any], changes: object) -> dict[str, Any]:
    """A config with some settings changed, by dotted path such as ``training.learning_rate``."""
    for path, value in changes.items() if isinstance(changes, dict) else ():
        section, _, key = str(path).partition(".")
        if isinstance(data.get(section), dict):
            data[section][key] = value
    return data


def build(studio: Studio) -> None:
    """Lays the tab out and wires it."""
    island("ready", elem_id="ready")
    with gr.Row(equal_height=False, elem_classes="ps-train"):
        with gr.Column(min_width=0, elem_classes="ps-form", elem_id="pick"):
            form = TrainForm(studio.settings.home, studio.manager.devices, studio.settings.executor == "ray")
            form.data.may_keep = studio.manager.share.check_kept
        with gr.Column(min_width=0, elem_classes="ps-side"):
            # Between the pick and the settings, so that the Tab key comes from the one to "Train" without the other.
            with gr.Row(elem_classes="ps-go"):
                island("figures", elem_id="figures")
                go = gr.Button("Train", variant="primary", elem_id="train-button")
            island("warnings", elem_id="train-warnings")
            with gr.Row(equal_height=False, elem_classes="ps-effect"):
                with gr.Column(min_width=0, elem_classes="ps-form", elem_id="settings"):
                    form.draw_settings()
                costs = island("estimate", elem_id="estimate")
            island("chart", elem_id="train-chart", compact=True)
            tokens = island("preview", elem_id="preview-card", event="look")
    submitted = island("submitted", elem_id="submitted")
    _wire_estimate(studio, form, costs)
    _wire_preview(studio, form, tokens)
    _wire_fill(studio, form)
    form.picker.wire()
    form.data.wire()
    _wire_hub(studio, form)

    @guard
    def start(values: dict[Any, Any]) -> str:
        return studio.manager.submit(parse_config(form.config(values)), (values[form.name] or "").strip())

    go.click(start, set(form.inputs()), submitted, **QUIET)


def _wire_estimate(studio: Studio, form: TrainForm, costs: Any) -> None:
    def show_costs(values: dict[Any, Any]) -> dict[str, Any]:
        return _ask(form, values, costs_of)

    def costs_of(run: ResolvedRun) -> dict[str, Any]:
        config = run.config.model_dump(mode="json")
        answer, own = studio.manager.engine.estimate(config), run.config.task.id == CUSTOM
        told: dict[str, Any] = (
            {} if own and studio.settings.public else {"config": config}
        )  # it names the server's path of an upload
        told["time"] = expected_time(studio.manager, run, answer).to_dict()
        return {
            "method": run.method.title,
            "batch_size": run.config.training.batch_size,
            "time": time,
            **told,
            **answer,
        }

    events = [item.change for item in form.inputs() if item is not form.name]
    gr.on(events, show_costs, set(form.inputs()), costs, trigger_mode="always_last", **QUIET)
    studio.on_load.append(lambda demo: demo.load(show_costs, set(form.inputs()), costs, **QUIET))
    chosen = [form.method, form.model, form.task, form.data.kind]
    rate = form.training["learning_rate"]
    form.method.input(form.show_method, chosen, form.method_outputs(), **QUIET)
    gr.on([form.model.input, form.task.input], form.show_rate, chosen, rate, **QUIET)
    form.data.kind.change(form.follow_kind, [*chosen, rate], rate, **QUIET)
    form.attention.input(lambda kind: gr.update(visible=kind == "lsg"), form.attention, form.lsg_group, **QUIET)
    form.task.input(lambda task: gr.update(visible=task == CUSTOM), form.task, form.data.group, **QUIET)


def expected_time(manager: JobManager, run: ResolvedRun, estimate: Mapping[str, Any]) -> ExpectedTime:
    """How long a run will take, and until it starts, by the runs of this home.

    Args:
        manager: Of the home.
        run: Not yet submitted.
        estimate: The engine's, of the run.
    """
    settings, infos = manager.settings, manager.library.all()
    costs = Costs(infos, settings.threads)
    facts = CellFacts(tokens_per_row=estimate["tokens_per_row"], parameters=estimate["base_params"])
    rows = len(run.task.load("train")) if run.config.training.epochs else 0
    found = expected_run(run.config, facts, rows, infos, costs)
    wait = wait_for_start(infos, settings.max_running, costs) if settings.executor != "ray" else 0.0
    return replace(found, wait=wait, paused=manager.queue.state().paused)


def _ask(form: TrainForm, values: dict[Any, Any], ask: Callable[[ResolvedRun], dict[str, Any]]) -> dict[str, Any]:
    """What is said to the run that the form describes; else what is missing or wrong, in words."""
    data = form.config(values)
    if data["task"]["id"] == CUSTOM and not data["task"].get("train_file"):
        return {"hint": NO_FILE}
    try:
        return ask(resolve(parse_config(data)))
    except StudioError as exc:
        return {"error": str(exc)}


def _wire_preview(studio: Studio, form: TrainForm, tokens: Any) -> None:
    """Shows the first rows as tokens when asked to."""

    def look(values: dict[Any, Any]) -> dict[str, Any]:
        return {**_ask(form, values, rows_of), "at": time.time()}

    def rows_of(run: ResolvedRun) -> dict[str, Any]:
        return studio.manager.engine.preview(run.config.model_dump(mode="json"))

    tokens.look(look, set(form.inputs()), tokens, **QUIET)
    # What is shown was read for other settings once one of these changes; the browser forgets it by itself.
    read = [form.model, form.attention, *form.lsg.values(), form.task, form.method, form.training["max_length"]]
    changes = [item.change for item in (*read, *form.data.inputs())]
    gr.on(changes, None, None, tokens, js="() => ({ cleared: Date.now() })", **QUIET)


def _wire_hub(studio: Studio, form: TrainForm) -> None:
    """Takes what was picked in the lists of the Hub into the form."""
    rate = form.training["learning_rate"]

    @guard
    def take_model(event: gr.EventData, method: str, task: str, kind: str) -> dict[Any, Any]:
        model = str((event._data or {}).get("id", ""))[:500]
        return {form.model: model, **form.show_rate(method, model, task, kind)}

    @guard
    def take_data(event: gr.EventData, method: str, model: str | None) -> dict[Any, Any]:
        fetched = studio.manager.fetcher.get(str((event._data or {}).get("ticket", "")))
        task = parse_task(fetched.task)
        shown = form.data.show(task) | {form.task: CUSTOM}
        return shown | form.show_rate(method, model, CUSTOM, task.kind or "")

    form.hub.pick(take_model, [form.method, form.task, form.data.kind], [form.model, rate], **QUIET)
    targets = [*form.data.outputs(), form.task, rate]
    form.data.hub.pick(take_data, [form.method, form.model], targets, **QUIET)


def _wire_fill(studio: Studio, form: TrainForm) -> None:
    """Lets a preset, another tab or the page's scripts fill the form."""
    targets = form.outputs()

    @guard
    def preset(name: str | None) -> Any:
        return form.show(load_preset(name)) if name else gr.skip()  # Gradio takes an empty mapping for a value

    @guard
    def fill(event: gr.EventData) -> dict[Any, Any]:
        request = event._data or {}
        if "run" in request:
            data = with_changes(studio.manager.library.clone(str(request["run"])), request.get("set"))
        else:
            data = {"method": {"name": str(request.get("method", DEFAULT_METHOD))}, "training": {}}
        return {**form.show(data), studio.tabs: gr.Tabs(selected="train")}

    form.preset.input(preset, form.preset, targets, **QUIET)
    studio.bridge.fill(fill, None, [*targets, studio.tabs], **QUIET)
