"""The Train tab: pick model, task, method and settings, see at once what that costs, start, and watch."""

from typing import Any

import gradio as gr

from peft_studio.config import DEFAULT_MODEL, TrainingConfig, parse_config
from peft_studio.errors import StudioError
from peft_studio.methods import METHODS, get_method
from peft_studio.models.catalog import MODELS
from peft_studio.presets import list_presets, load_preset
from peft_studio.tasks import TASKS
from peft_studio.ui.context import Studio, guard, plain
from peft_studio.ui.form import control, controls, read_values, show_number, show_value
from peft_studio.ui.shell import island

MAIN_SETTINGS = ("max_steps", "batch_size", "learning_rate", "seed")
MORE_SETTINGS = tuple(name for name in TrainingConfig.model_fields if name not in MAIN_SETTINGS)
DEFAULT_METHOD = next(iter(METHODS))


class TrainForm:
    """The form's controls and how they become a config and back."""

    def __init__(self) -> None:
        self.groups: dict[str, Any] = {}
        self.params: dict[str, dict[str, Any]] = {}
        self.preset = gr.Dropdown(list_presets(), value=None, label="Start from a preset", elem_id="preset")
        models = [(f"{card.title} · {card.params / 1e6:.1f} M", name) for name, card in MODELS.items()]
        self.model = gr.Dropdown(
            models, value=DEFAULT_MODEL, label="Base model", allow_custom_value=True, elem_id="model",
            info="Or type a local folder or a Hub id, and press Enter.",
        )  # fmt: skip
        self.task = gr.Dropdown([(task.title, name) for name, task in TASKS.items()], label="Task", elem_id="task")
        tiles = [(method.title, name) for name, method in METHODS.items()]
        self.method = gr.Radio(tiles, value=DEFAULT_METHOD, label="Method", elem_classes="ps-tiles", elem_id="method")
        self.summary = gr.Markdown(METHODS[DEFAULT_METHOD].summary, elem_classes="ps-hint")
        for name, method in METHODS.items():
            fields = [field for field in method.params.model_fields if field != "name"]
            with gr.Column(visible=name == DEFAULT_METHOD, elem_classes="ps-params") as group:
                self.params[name] = controls(method.params, fields)
            self.groups[name] = group
        with gr.Column(elem_classes="ps-params ps-basics"):
            rate = METHODS[DEFAULT_METHOD].learning_rate
            self.training = {
                name: control(name, TrainingConfig.model_fields[name], rate if name == "learning_rate" else None)
                for name in MAIN_SETTINGS
            }
        with gr.Accordion("More settings", open=False, elem_classes="ps-more"):
            self.training.update(controls(TrainingConfig, MORE_SETTINGS))
        self.name = gr.Textbox(label="Name of the run", placeholder="optional", max_lines=1, elem_id="run-name")

    def inputs(self) -> list[Any]:
        """Every control that makes up a config, and the run's name."""
        every = [self.model, self.task, self.method, *self.training.values(), self.name]
        return every + [item for group in self.params.values() for item in group.values()]

    def config(self, values: dict[Any, Any]) -> dict[str, Any]:
        """The form as a plain config, not yet validated."""
        name = values[self.method]
        held = {key: values[item] for key, item in self.params[name].items()}
        training = {key: values[item] for key, item in self.training.items()}
        return {
            "model": {"id": (values[self.model] or "").strip()},
            "task": {"id": values[self.task]},
            "method": {"name": name, **read_values(get_method(name).params, held)},
            "training": read_values(TrainingConfig, training),
        }

    def show_method(self, name: str) -> dict[Any, Any]:
        """Updates that bring a method's own controls, hint and recommended learning rate."""
        updates: dict[Any, Any] = {group: gr.update(visible=key == name) for key, group in self.groups.items()}
        updates[self.summary] = get_method(name).summary
        updates[self.training["learning_rate"]] = show_number(get_method(name).learning_rate)
        return updates

    def method_outputs(self) -> list[Any]:
        """What ``show_method`` may change."""
        return [*self.groups.values(), self.summary, self.training["learning_rate"]]

    def show(self, data: dict[str, Any]) -> dict[Any, Any]:
        """Updates that make the form show a config.

        Raises:
            ConfigError: The config is not valid.
        """
        config = parse_config(data)
        updates = self.show_method(config.method.name)
        updates |= {self.model: config.model.id, self.task: config.task.id, self.method: config.method.name}
        fields = type(config.method).model_fields
        for key, item in self.params[config.method.name].items():
            updates[item] = show_value(fields[key], getattr(config.method, key))
        for key, item in self.training.items():
            updates[item] = show_value(TrainingConfig.model_fields[key], getattr(config.training, key))
        return updates


def build(studio: Studio) -> None:
    """Lays the tab out and wires it."""
    with gr.Row(equal_height=False, elem_classes="ps-split"):
        with gr.Column(scale=4, min_width=300, elem_classes="ps-form"):
            form = TrainForm()
            with gr.Column(elem_classes="ps-go"):
                go = gr.Button("Train", variant="primary", elem_id="train-button")
        with gr.Column(scale=9, min_width=320, elem_classes="ps-side"):
            costs = island("estimate", elem_id="estimate")
            island("chart", elem_id="train-chart", compact=True)
    submitted = island("submitted", elem_id="submitted")
    _wire_estimate(studio, form, costs)
    _wire_fill(studio, form)

    @guard
    def start(values: dict[Any, Any]) -> str:
        return studio.manager.submit(parse_config(form.config(values)), (values[form.name] or "").strip())

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
    go.click(start, set(form.inputs()), submitted, api_visibility="private", **quiet)


def _wire_estimate(studio: Studio, form: TrainForm, costs: Any) -> None:
    def show_costs(values: dict[Any, Any]) -> dict[str, Any]:
        try:
            config = parse_config(form.config(values))
            figures = studio.manager.engine.estimate(config.model_dump(mode="json"))
        except StudioError as exc:
            return {"error": str(exc)}
        return {"method": get_method(config.method.name).title, "batch_size": config.training.batch_size, **figures}

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    events = [item.change for item in form.inputs() if item is not form.name]
    gr.on(events, show_costs, set(form.inputs()), costs, trigger_mode="always_last", **quiet)
    studio.extras["load"] = lambda demo: demo.load(show_costs, set(form.inputs()), costs, **quiet)
    form.method.input(form.show_method, form.method, form.method_outputs(), **quiet)


def _wire_fill(studio: Studio, form: TrainForm) -> None:
    """Lets a preset, another tab or the page's scripts fill the form."""
    targets = list(dict.fromkeys([*form.inputs(), *form.method_outputs()]))
    targets.remove(form.name)

    @guard
    def preset(name: str | None) -> dict[Any, Any]:
        return form.show(load_preset(name)) if name else {}

    @guard
    def fill(event: gr.EventData) -> dict[Any, Any]:
        request = event._data or {}
        if "run" in request:
            data = studio.manager.clone(str(request["run"]))
        else:
            data = {"method": {"name": str(request.get("method", DEFAULT_METHOD))}, "training": {}}
        return {**form.show(data), studio.tabs: gr.Tabs(selected="train")}

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    form.preset.input(preset, form.preset, targets, **quiet)
    studio.bridge.fill(fill, None, [*targets, studio.tabs], **quiet)


__all__ = ["TrainForm", "build", "plain"]
