"""The Train tab: pick model, task, method and settings, see at once what that costs, start, and watch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from peft_studio.config.presets import list_presets, load_preset
from peft_studio.config.run_config import (
    DEFAULT_MODEL,
    ModelConfig,
    ResourcesConfig,
    TrainingConfig,
    parse_config,
    recommended_rate,
)
from peft_studio.errors import StudioError
from peft_studio.machine.devices import ALL, AUTO, CPU, CUDA, Devices
from peft_studio.methods import METHODS, get_method
from peft_studio.models.catalog import MODELS
from peft_studio.tasks import CUSTOM, TASKS
from peft_studio.ui.context import Studio, guard, plain
from peft_studio.ui.data import DataPanel
from peft_studio.ui.form import control, controls, read_values, show_number, show_value
from peft_studio.ui.methods import DEFAULT_METHOD, MethodPicker, summary
from peft_studio.ui.shell import island

MAIN_SETTINGS = ("max_steps", "batch_size", "learning_rate", "seed")
LSG_SETTINGS = tuple(name for name in ModelConfig.model_fields if name.startswith("lsg_"))
MORE_SETTINGS = tuple(name for name in TrainingConfig.model_fields if name not in MAIN_SETTINGS)
NO_FILE = "Choose a training file, and the costs of a run on it are shown here."
OWN_DATA = ("Your own data", CUSTOM)
ON_A_NODE = [("Automatic: what the run was given", AUTO), ("GPU", CUDA), ("All GPUs of the run", ALL), ("CPU", CPU)]


class TrainForm:
    """The form's controls and how they become a config and back.

    Args:
        home: The home folder, where uploads are kept.
        devices: What runs can be placed on.
        on_cluster: Whether runs train on a cluster, of whose nodes each asks for a part.
    """

    def __init__(self, home: Path, devices: Devices | None = None, on_cluster: bool = False) -> None:
        self._places = (devices or Devices()).choices() if not on_cluster else ON_A_NODE
        self._on_cluster = on_cluster
        self.groups: dict[str, Any] = {}
        self.params: dict[str, dict[str, Any]] = {}
        self.preset = gr.Dropdown(list_presets(), value=None, label="Start from a preset", elem_id="preset")
        models = [(f"{card.title} · {card.params / 1e6:.1f} M", name) for name, card in MODELS.items()]
        self.model = gr.Dropdown(
            models, value=DEFAULT_MODEL, label="Base model", allow_custom_value=True, elem_id="model",
            info="Or type a local folder or a Hub id, and press Enter.",
        )  # fmt: skip
        self.hub = island("hubmodels", elem_id="hub-models", event="pick")
        tasks = [*((task.title, name) for name, task in TASKS.items()), OWN_DATA]
        self.task = gr.Dropdown(tasks, value=next(iter(TASKS)), label="Task", elem_id="task")
        self.data = DataPanel(home)
        self.picker = MethodPicker()
        self.method = self.picker.method
        self._settings()

    def _settings(self) -> None:
        """Controls of the methods and of the training."""
        for name, method in METHODS.items():
            fields = [field for field in method.params.model_fields if field != "name"]
            with gr.Column(visible=name == DEFAULT_METHOD, elem_classes="ps-params") as group:
                self.params[name] = controls(method.params, fields)
            self.groups[name] = group
        with gr.Column(elem_classes="ps-params ps-basics"):
            rate = recommended_rate(DEFAULT_METHOD, DEFAULT_MODEL)
            self.training = {
                name: control(name, TrainingConfig.model_fields[name], rate if name == "learning_rate" else None)
                for name in MAIN_SETTINGS
            }
            several = len(self._places) > 2  # more than the CPU
            self.resources = self._resources() if several else {}
        with gr.Accordion("More settings", open=False, elem_classes="ps-more"):
            self.training.update(controls(TrainingConfig, MORE_SETTINGS))
            self.resources = self.resources or self._resources()
            self.attention = control("attention", ModelConfig.model_fields["attention"])
            with gr.Column(visible=False, elem_id="lsg-settings", elem_classes="ps-params") as self.lsg_group:
                self.lsg = controls(ModelConfig, LSG_SETTINGS)
        self.name = gr.Textbox(label="Name of the run", placeholder="optional", max_lines=1, elem_id="run-name")

    def _resources(self) -> dict[str, Any]:
        """Controls of where a run trains; what a cluster's node is asked for is shown only with a cluster."""
        hint = ResourcesConfig.model_fields["device"].description
        device = gr.Dropdown(self._places, value=AUTO, label="Device", info=hint, elem_id="field-device")
        device.elem_classes = ["ps-wide"]
        fields = {name: info for name, info in ResourcesConfig.model_fields.items() if name != "device"}
        shares = {name: control(name, info, visible=self._on_cluster) for name, info in fields.items()}
        return {"device": device, **shares}

    def inputs(self) -> list[Any]:
        """Every control that makes up a config, and the run's name."""
        every = [
            self.model,
            self.attention,
            *self.lsg.values(),
            self.task,
            self.method,
            *self.training.values(),
            *self.resources.values(),
            self.name,
            *self.data.inputs(),
        ]
        return every + [item for group in self.params.values() for item in group.values()]

    def config(self, values: dict[Any, Any]) -> dict[str, Any]:
        """The form as a plain config, not yet validated."""
        name = values[self.method]
        held = {key: values[item] for key, item in self.params[name].items()}
        training = {key: values[item] for key, item in self.training.items()}
        return {
            "model": self._model(values),
            "task": self.data.task(values) if values[self.task] == CUSTOM else {"id": values[self.task]},
            "method": {"name": name, **read_values(get_method(name).params, held)},
            "training": read_values(TrainingConfig, training),
            "resources": read_values(ResourcesConfig, {key: values[item] for key, item in self.resources.items()}),
        }

    def _model(self, values: dict[Any, Any]) -> dict[str, Any]:
        """The ``model`` section; LSG's settings only where they do something."""
        section = {"id": (values[self.model] or "").strip(), "attention": values[self.attention]}
        if section["attention"] == "lsg":
            section |= read_values(ModelConfig, {name: values[item] for name, item in self.lsg.items()})
        return section

    def show_method(self, name: str, model: str | None, task: str, kind: str = "") -> dict[Any, Any]:
        """Updates that bring a method's own controls, hint and the learning rate recommended for model and task."""
        updates: dict[Any, Any] = {group: gr.update(visible=key == name) for key, group in self.groups.items()}
        updates[self.picker.summary] = summary(name)
        return updates | self.show_rate(name, model, task, kind)

    def show_rate(self, name: str, model: str | None, task: str, kind: str = "") -> dict[Any, Any]:
        """An update that brings the learning rate recommended for a method, a model's size and a task."""
        return {self.training["learning_rate"]: show_number(recommended_rate(name, model, task, kind))}

    def follow_kind(self, name: str, model: str | None, task: str, kind: str, rate: str) -> Any:
        """The rate recommended for what own data ask for, unless somebody has chosen another than was recommended."""
        known = {
            show_number(recommended_rate(name, model, task, any_kind)) for any_kind in ("generation", "classification")
        }
        return show_number(recommended_rate(name, model, task, kind)) if rate in known else gr.skip()

    def method_outputs(self) -> list[Any]:
        """What ``show_method`` may change."""
        return [*self.groups.values(), self.picker.summary, self.training["learning_rate"]]

    def outputs(self) -> list[Any]:
        """What ``show`` may change."""
        every = [*self.inputs(), self.lsg_group, *self.method_outputs(), *self.picker.outputs(), *self.data.outputs()]
        return [item for item in dict.fromkeys(every) if item is not self.name]

    def show(self, data: dict[str, Any]) -> dict[Any, Any]:
        """Updates that make the form show a config.

        Raises:
            ConfigError: The config is not valid.
        """
        config = parse_config(data)
        updates = self.show_method(config.method.name, config.model.id, config.task.id)
        updates |= {self.model: config.model.id, self.attention: config.model.attention, self.task: config.task.id}
        updates |= {item: getattr(config.model, name) for name, item in self.lsg.items()}
        updates[self.lsg_group] = gr.update(visible=config.model.attention == "lsg")
        updates |= self.picker.show(config.method.name) | self.data.show(config.task)
        fields = type(config.method).model_fields
        for key, item in self.params[config.method.name].items():
            updates[item] = show_value(fields[key], getattr(config.method, key))
        for key, item in self.training.items():
            updates[item] = show_value(TrainingConfig.model_fields[key], getattr(config.training, key))
        for key, item in self.resources.items():
            updates[item] = show_value(ResourcesConfig.model_fields[key], getattr(config.resources, key))
        offered = [value for _, value in self._places]  # a run of another machine may name what this one lacks
        updates[self.resources["device"]] = config.resources.device if config.resources.device in offered else AUTO
        return updates


def with_changes(data: dict[str, Any], changes: Any) -> dict[str, Any]:
    """A config with some settings changed, by dotted path such as ``training.learning_rate``."""
    for path, value in changes.items() if isinstance(changes, dict) else ():
        section, _, key = str(path).partition(".")
        if isinstance(data.get(section), dict):
            data[section][key] = value
    return data


def build(studio: Studio) -> None:
    """Lays the tab out and wires it."""
    with gr.Row(equal_height=False, elem_classes="ps-split"):
        with gr.Column(scale=4, min_width=300, elem_classes="ps-form"):
            form = TrainForm(studio.settings.home, studio.manager.devices, studio.settings.executor == "ray")
            with gr.Column(elem_classes="ps-go"):
                go = gr.Button("Train", variant="primary", elem_id="train-button")
        with gr.Column(scale=9, min_width=320, elem_classes="ps-side"):
            costs = island("estimate", elem_id="estimate")
            tokens = island("preview", elem_id="preview-card", event="look")
            island("chart", elem_id="train-chart", compact=True)
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

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
    go.click(start, set(form.inputs()), submitted, api_visibility="private", **quiet)


def _wire_estimate(studio: Studio, form: TrainForm, costs: Any) -> None:
    def show_costs(values: dict[Any, Any]) -> dict[str, Any]:
        answer = _ask(form, values, studio.manager.engine.estimate)
        if "error" in answer or "hint" in answer:
            return answer
        settings = parse_config(form.config(values)).training
        return {"method": get_method(values[form.method]).title, "batch_size": settings.batch_size, **answer}

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    events = [item.change for item in form.inputs() if item is not form.name]
    gr.on(events, show_costs, set(form.inputs()), costs, trigger_mode="always_last", **quiet)
    studio.extras["load"] = lambda demo: demo.load(show_costs, set(form.inputs()), costs, **quiet)
    chosen = [form.method, form.model, form.task, form.data.kind]
    rate = form.training["learning_rate"]
    form.method.input(form.show_method, chosen, form.method_outputs(), **quiet)
    gr.on([form.model.input, form.task.input], form.show_rate, chosen, rate, **quiet)
    form.data.kind.change(form.follow_kind, [*chosen, rate], rate, **quiet)
    form.attention.input(lambda kind: gr.update(visible=kind == "lsg"), form.attention, form.lsg_group, **quiet)
    form.task.input(lambda task: gr.update(visible=task == CUSTOM), form.task, form.data.group, **quiet)


def _ask(form: TrainForm, values: dict[Any, Any], ask: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """What the engine says to the form's config; else what is missing or wrong, in words."""
    data = form.config(values)
    if data["task"]["id"] == CUSTOM and not data["task"].get("train_file"):
        return {"hint": NO_FILE}
    try:
        return ask(parse_config(data).model_dump(mode="json"))
    except StudioError as exc:
        return {"error": str(exc)}


def _wire_preview(studio: Studio, form: TrainForm, tokens: Any) -> None:
    """Shows the first rows as tokens when asked to."""

    def look(values: dict[Any, Any]) -> dict[str, Any]:
        return {**_ask(form, values, studio.manager.engine.preview), "at": time.time()}

    tokens.look(look, set(form.inputs()), tokens, show_progress="hidden", queue=False, api_visibility="private")


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
        task = parse_config({"task": fetched.task, "method": {"name": method}}).task
        shown = form.data.show(task) | {form.task: CUSTOM}
        return shown | form.show_rate(method, model, CUSTOM, task.kind or "")

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    form.hub.pick(take_model, [form.method, form.task, form.data.kind], [form.model, rate], **quiet)
    targets = [*form.data.outputs(), form.task, rate]
    form.data.hub.pick(take_data, [form.method, form.model], targets, **quiet)


def _wire_fill(studio: Studio, form: TrainForm) -> None:
    """Lets a preset, another tab or the page's scripts fill the form."""
    targets = form.outputs()

    @guard
    def preset(name: str | None) -> dict[Any, Any]:
        return form.show(load_preset(name)) if name else {}

    @guard
    def fill(event: gr.EventData) -> dict[Any, Any]:
        request = event._data or {}
        if "run" in request:
            data = with_changes(studio.manager.clone(str(request["run"])), request.get("set"))
        else:
            data = {"method": {"name": str(request.get("method", DEFAULT_METHOD))}, "training": {}}
        return {**form.show(data), studio.tabs: gr.Tabs(selected="train")}

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    form.preset.input(preset, form.preset, targets, **quiet)
    studio.bridge.fill(fill, None, [*targets, studio.tabs], **quiet)


__all__ = ["TrainForm", "build", "plain"]
