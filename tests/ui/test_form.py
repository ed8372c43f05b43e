"""Controls made from models hold what the models say, and give it back unchanged."""

from pathlib import Path

import gradio as gr
import pytest

from peft_studio.config.run_config import parse_config
from peft_studio.config.sampling import Sampling
from peft_studio.config.sections import ResourcesConfig, TrainingConfig
from peft_studio.errors import ConfigError
from peft_studio.machine.devices import Devices, Gpu
from peft_studio.methods import METHODS
from peft_studio.ui.form import bounds, control, read_values, show_number, show_value
from peft_studio.ui.train_form import TrainForm


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_controls_give_back_its_defaults(name: str) -> None:
    fields = {key: info for key, info in METHODS[name].params.model_fields.items() if key != "name"}
    shown = {key: control(key, info).value for key, info in fields.items()}
    data = {"method": {"name": name, **read_values(METHODS[name].params, shown)}, "training": {}}
    assert parse_config(data).method == METHODS[name].params(name=name)


def test_training_controls_give_back_the_defaults() -> None:
    shown = {key: control(key, info).value for key, info in TrainingConfig.model_fields.items()}
    shown["learning_rate"] = show_number(5e-3)
    training = read_values(TrainingConfig, shown)
    parsed = parse_config({"method": {"name": "lora"}, "training": training})
    assert parsed.training == TrainingConfig(learning_rate=5e-3)


def test_bounds_become_sliders_and_choices_radios() -> None:
    fields = METHODS["lora"].params.model_fields
    rank = control("rank", fields["rank"])
    assert isinstance(rank, gr.Slider) and (rank.minimum, rank.maximum, rank.step) == (1, 128, 1)
    assert isinstance(control("targets", fields["targets"]), gr.Radio)
    assert isinstance(control("dora", fields["dora"]), gr.Checkbox)
    assert isinstance(control("learning_rate", TrainingConfig.model_fields["learning_rate"]), gr.Textbox)
    assert isinstance(control("max_steps", TrainingConfig.model_fields["max_steps"]), gr.Number)
    assert bounds(Sampling.model_fields["top_p"]).open_low


@pytest.mark.parametrize(("number", "text"), [(5e-3, "5e-3"), (0.01, "0.01"), (1.5e-5, "1.5e-5"), (0, "0"), (1, "1")])
def test_numbers_are_shown_short(number: float, text: str) -> None:
    assert show_number(number) == text
    assert float(text) == number


def test_text_that_is_no_number_reaches_validation() -> None:
    assert read_values(TrainingConfig, {"learning_rate": "fast"}) == {"learning_rate": "fast"}
    assert read_values(TrainingConfig, {"learning_rate": "1e-3", "max_steps": None}) == {"learning_rate": 1e-3}
    assert show_value(TrainingConfig.model_fields["learning_rate"], 1e-3) == "1e-3"


def test_what_may_be_left_empty_is_text() -> None:
    fields = ResourcesConfig.model_fields
    shown = {key: control(key, fields[key], visible=False) for key in ("cpus", "gpus")}
    assert all(isinstance(item, gr.Textbox) and item.value == "" and not item.visible for item in shown.values())
    assert read_values(ResourcesConfig, {"cpus": "", "gpus": "0,25"}) == {"gpus": 0.25}
    assert show_value(fields["gpus"], 0.25) == "0.25" and show_value(fields["cpus"], None) is None


TWO = Devices((Gpu("GPU-a", "NVIDIA L4", 24 << 30), Gpu("GPU-b", "NVIDIA L4", 24 << 30)), threads=2)


@pytest.mark.parametrize(("devices", "on_cluster"), [(Devices(threads=2), False), (TWO, False), (Devices(), True)])
def test_where_a_run_trains_comes_and_goes(
    devices: Devices, on_cluster: bool, tmp_path: Path, blocks: gr.Blocks
) -> None:
    form = TrainForm(tmp_path, devices, on_cluster)
    form.draw_settings()
    data = {"method": {"name": "lora"}, "training": {}, "resources": {"device": "cpu", "cpus": 0.5, "gpus": None}}
    values = {item: item.value for item in form.inputs()}
    kept = {"snapshots": ResourcesConfig().snapshots}
    assert form.config(values)["resources"] == {"device": "auto", **kept}
    updates = form.show(data)
    values |= {item: update for item, update in updates.items() if not isinstance(update, dict)}
    assert form.config(values)["resources"] == {"device": "cpu", "cpus": 0.5, **kept}
    assert parse_config(form.config(values)).resources == parse_config(data).resources
    assert form.resources["cpus"].visible is on_cluster
    foreign = form.show(data | {"resources": {"device": "cuda:7"}})
    assert foreign[form.resources["device"]] == "auto"


def test_a_number_of_training_rows_comes_and_goes(tmp_path: Path, blocks: gr.Blocks) -> None:
    form = TrainForm(tmp_path, Devices(threads=2))
    form.draw_settings()
    values = {item: item.value for item in form.inputs()}
    assert parse_config(form.config(values)).task.train_rows == 0
    updates = form.show({"method": {"name": "lora"}, "training": {}, "task": {"id": "headlines", "train_rows": 30}})
    values |= {item: update for item, update in updates.items() if not isinstance(update, dict)}
    assert form.config(values)["task"] == {"id": "headlines", "train_rows": 30}


@pytest.mark.parametrize("value", [10**400, float("inf"), 5.5, -3])
@pytest.mark.parametrize("name", ["max_steps", "batch_size", "weight_decay", "learning_rate", "warmup_steps"])
def test_what_a_page_sends_is_judged_by_the_model(name: str, value: float, blocks: gr.Blocks) -> None:
    made = control(name, TrainingConfig.model_fields[name])
    assert made.preprocess(value) in (value, str(value))  # neither rounded nor refused in other words
    training = {"learning_rate": 0.1, **read_values(TrainingConfig, {name: value})}
    if (name, value) != ("learning_rate", 5.5):
        with pytest.raises(ConfigError, match=name):
            parse_config({"method": {"name": "lora"}, "training": training})
