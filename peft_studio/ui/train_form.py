"""The form of the Train tab: its controls, and how they become a config and back."""

from pathlib import Path
from typing import Any

import gradio as gr

from peft_studio.config.presets import list_presets
from peft_studio.config.run_config import parse_config, recommended_rate
from peft_studio.config.sections import DEFAULT_MODEL, ModelConfig, ResourcesConfig, TaskConfig, TrainingConfig
from peft_studio.machine.devices import ALL, AUTO, CPU, CUDA, Devices
from peft_studio.methods import METHODS, Method
from peft_studio.models.catalog import MODELS
from peft_studio.tasks import CUSTOM, TASKS
from peft_studio.ui.data import DataPanel
from peft_studio.ui.form import control, controls, read_values, show_number, show_value
from peft_studio.ui.methods import DEFAULT_METHOD, MethodPicker, summary
from peft_studio.ui.shell import island

MAIN_SETTINGS = ("max_steps", "batch_size", "learning_rate", "seed")
LSG_SETTINGS = tuple(name for name in ModelConfig.model_fields if name.startswith("lsg_"))
MORE_SETTINGS = tuple(name for name in TrainingConfig.model_fields if name not in MAIN_SETTINGS)
OWN_DATA = ("Your own data", CUSTOM)
ON_A_NODE = [("Automatic: what the run was given", AUTO), ("GPU", CUDA), ("All GPUs of the run", ALL), ("CPU", CPU)]


MAIN_PARAMS = 3
"""Parameters of a method that are shown at once; the others are folded, unless that would fold a single one."""


def _method_controls(method: Method) -> dict[str, Any]:
    """Controls of a method's parameters, by name: the first few, and the others below a fold."""
    names = [name for name in method.params.model_fields if name != "name"]
    shown = names if len(names) <= MAIN_PARAMS + 1 else names[:MAIN_PARAMS]
    with gr.Column(elem_classes="ps-params"):
        items = controls(method.params, shown)
    if folded := names[len(shown) :]:
        fold = gr.Accordion(f"More of {method.title}", open=False, elem_classes="ps-more")
        with fold, gr.Column(elem_classes="ps-params"):
            items |= controls(method.params, folded)
    return items


def _preset_or_none(name: object) -> object:
    """What a page sends of the presets; a text that names none, such as an empty one, leaves the form as it is."""
    return name if name in list_presets() else None


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
        self.preset.preprocess = _preset_or_none
        models = [(f"{card.title} · {card.params / 1e6:.1f} M", name) for name, card in MODELS.items()]
        self.model = gr.Dropdown(
            models, value=DEFAULT_MODEL, label="Base model, or a folder or Hub id that you type",
            allow_custom_value=True, elem_id="model",
        )  # fmt: skip
        self.hub = island("hubmodels", elem_id="hub-models", event="pick")
        tasks = [*((task.title, name) for name, task in TASKS.items()), OWN_DATA]
        self.task = gr.Dropdown(tasks, value=next(iter(TASKS)), label="Task", elem_id="task", filterable=False)
        self.data = DataPanel(home)
        self.picker = MethodPicker("method", "Method", "method", fold_filters=True)
        self.method = self.picker.chosen
        self.summary = gr.Markdown(summary(DEFAULT_METHOD), elem_classes="ps-hint", elem_id="method-summary")

    def draw_settings(self) -> None:
        """Controls of the methods and of the training, where the page has a place for them."""
        for name, method in METHODS.items():
            with gr.Column(visible=name == DEFAULT_METHOD, elem_classes="ps-method") as group:
                self.params[name] = _method_controls(method)
            self.groups[name] = group
        with gr.Column(elem_classes="ps-params ps-basics"):
            rate = recommended_rate(DEFAULT_METHOD, DEFAULT_MODEL)
            self.training = {
                name: control(
                    name, TrainingConfig.model_fields[name], rate if name == "learning_rate" else None, slider=False
                )
                for name in MAIN_SETTINGS
            }
            several = len(self._places) > 2  # more than the CPU
            self.resources = self._resources() if several else {}
        with gr.Accordion("More settings", open=False, elem_classes="ps-more"):
            self.training.update(controls(TrainingConfig, MORE_SETTINGS))
            self.rows = controls(TaskConfig, ("train_rows",))
            self.resources = self.resources or self._resources()
            self.attention = control("attention", ModelConfig.model_fields["attention"])
            with gr.Column(visible=False, elem_id="lsg-settings", elem_classes="ps-params") as self.lsg_group:
                self.lsg = controls(ModelConfig, LSG_SETTINGS)
        self.name = gr.Textbox(
            label="Name of the run", show_label=False, placeholder="Name of the run, optional", max_lines=1,
            elem_id="run-name",
        )  # fmt: skip

    def _resources(self) -> dict[str, Any]:
        """Controls of where a run trains; what a cluster's node is asked for is shown only with a cluster."""
        hint = ResourcesConfig.model_fields["device"].description
        device = gr.Dropdown(
            self._places, value=AUTO, label="Device", info=hint, elem_id="field-device", filterable=False
        )
        device.elem_classes = ["ps-wide"]
        fields = {name: info for name, info in ResourcesConfig.model_fields.items() if name != "device"}
        anywhere = {"snapshots"}
        shares = {
            name: control(name, info, visible=self._on_cluster or name in anywhere) for name, info in fields.items()
        }
        return {"device": device, **shares}

    def inputs(self) -> list[Any]:
        """Every control that makes up a config, and the run's name."""
        every = [self.model, self.attention, *self.lsg.values(), self.task, self.method, *self.training.values()]
        every += [*self.resources.values(), *self.rows.values(), self.name, *self.data.inputs()]
        return every + [item for group in self.params.values() for item in group.values()]

    def config(self, values: dict[Any, Any]) -> dict[str, Any]:
        """The form as a plain config, not yet validated."""
        name = values[self.method]
        held = {key: values[item] for key, item in self.params[name].items()}
        training = {key: values[item] for key, item in self.training.items()}
        return {
            "model": self._model(values),
            "task": {
                **(self.data.task(values) if values[self.task] == CUSTOM else {"id": values[self.task]}),
                **read_values(TaskConfig, {key: values[item] for key, item in self.rows.items()}),
            },
            "method": {"name": name, **read_values(METHODS[name].params, held)},
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
        updates[self.summary] = summary(name)
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
        return [*self.groups.values(), self.summary, self.training["learning_rate"]]

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
        method = self.params[config.method.name], config.method
        sections = (self.training, config.training), (self.resources, config.resources), (self.rows, config.task)
        for items, held in (method, *sections):
            fields = type(held).model_fields
            updates |= {item: show_value(fields[key], getattr(held, key)) for key, item in items.items()}
        offered = [value for _, value in self._places]  # a run of another machine may name what this one lacks
        updates[self.resources["device"]] = config.resources.device if config.resources.device in offered else AUTO
        return updates
