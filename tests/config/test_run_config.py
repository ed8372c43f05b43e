"""RunConfig is strict: every wrong value or key is refused by name, and what it accepts round-trips."""

import json
import math
from typing import Any

import pytest

from peft_studio.config.presets import apply_overrides
from peft_studio.config.run_config import parse_config, parse_task
from peft_studio.errors import ConfigError
from peft_studio.methods import METHODS, get_method
from peft_studio.models.lsg_settings import LongText, LSGConfig


def config(**training: Any) -> dict[str, Any]:
    return {"method": {"name": "lora"}, "training": {"max_steps": 5, **training}}


@pytest.mark.parametrize("name", METHODS)
def test_json_round_trip(name: str) -> None:
    first = parse_config({"method": {"name": name}, "training": {}})
    again = parse_config(json.loads(json.dumps(first.model_dump(mode="json"))))
    assert again == first
    assert type(again.method) is get_method(name).params


@pytest.mark.parametrize("name", METHODS)
def test_learning_rate_defaults_to_the_methods_own(name: str) -> None:
    parsed = parse_config({"method": {"name": name}, "training": {}})
    assert parsed.training.learning_rate == get_method(name).learning_rate


def test_given_learning_rate_wins() -> None:
    assert parse_config(config(learning_rate=0.5)).training.learning_rate == 0.5


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, 0.0, 11.0, "0.1", True])
def test_bad_learning_rate_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"training\.learning_rate") as caught:
        parse_config(config(learning_rate=value))
    assert caught.value.path == "training.learning_rate"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"method": {"name": "lorra"}, "training": {}}, "Did you mean 'lora'"),
        ({"method": {"name": "lora", "rnak": 4}, "training": {}}, "Did you mean 'rank'"),
        ({"method": {"name": "lora"}, "training": {"max_step": 4}}, "Did you mean 'max_steps'"),
        ({"metod": {"name": "lora"}, "training": {}}, "metod"),
        ({"task": {"id": "bistr"}, "method": {"name": "lora"}, "training": {}}, "Did you mean 'bistro'"),
        ({"method": {}, "training": {}}, "No method is named"),
        ({"method": {"name": 3}, "training": {}}, "method.name = 3"),
        ({"method": {"name": "lora", "rank": 0}, "training": {}}, "method.rank = 0"),
        ({"method": {"name": "lora", "rank": "8"}, "training": {}}, "method.rank = '8'"),
        ({"method": {"name": "lora"}, "training": {"max_steps": 2.5}}, "training.max_steps = 2.5"),
        ({"method": "lora", "training": {}}, "method"),
        ({"training": {}}, "method"),
        ([], "mapping"),
    ],
)
def test_wrong_configs_say_what_is_wrong(data: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(data)
    assert expected in str(caught.value)


def lsg(**model: Any) -> dict[str, Any]:
    return {**config(), "model": {"id": "nano-encoder", "attention": "lsg", **model}}


def test_lsg_settings_are_part_of_the_model() -> None:
    plain = parse_config(config())
    assert plain.lsg is None
    long = parse_config(lsg(lsg_block_size=32, lsg_sparse_block_size=16, lsg_sparsity="norm", lsg_global_tokens=2)).lsg
    assert long is not None and long.length == plain.training.max_length
    assert (long.settings.block_size, long.settings.sparse_block_size, long.settings.sparsity) == (32, 16, "norm")
    assert (long.settings.sparsity_factor, long.settings.global_tokens) == (4, 2)
    assert parse_config(lsg()).lsg == LongText(plain.training.max_length, LSGConfig())


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"lsg_block_size": 4}, "model.lsg_block_size"),
        ({"lsg_block_size": 12}, "model.lsg_block_size"),
        ({"lsg_sparsity_factor": 3}, "model.lsg_block_size"),
        ({"lsg_sparse_block_size": 24}, "model.lsg_sparse_block_size"),
        ({"lsg_sparsity": "longest"}, "model.lsg_sparsity"),
        ({"lsg_global_tokens": 65}, "model.lsg_global_tokens"),
    ],
)
def test_lsg_settings_that_cannot_be_are_refused(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(lsg(**wrong))
    assert caught.value.path == path


def test_lsg_settings_do_not_matter_without_it() -> None:
    assert parse_config({**config(), "model": {"lsg_sparsity_factor": 3}}).lsg is None


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:15", "all"])
def test_devices_round_trip(device: str) -> None:
    config = parse_config({"method": {"name": "lora"}, "training": {}, "resources": {"device": device}})
    assert parse_config(config.model_dump(mode="json")).resources.device == device
    changed = apply_overrides(config.model_dump(mode="json"), ["resources.device=cpu"])
    assert parse_config(changed).resources.device == "cpu"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CUDA", "", "cpu\n"])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(
        ConfigError, match=r"is not a device\. Allowed: auto, cpu, mps, cuda, cuda:0 and so on, all"
    ) as info:
        parse_config({"method": {"name": "lora"}, "training": {}, "resources": {"device": device}})
    assert info.value.path == "resources.device"


@pytest.mark.parametrize(
    "task",
    [
        {"id": "custom"}, {"id": "bistr"}, {"id": "bistro", "templat": "x"}, {"id": "bistro", "template": "x"},
        {"id": 3}, {"id": "custom", "train_file": 5}, {"id": "custom", "train_file": "x" * 2000},
    ],
)  # fmt: skip
def test_a_task_by_itself_is_checked_as_in_a_config(task: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as alone:
        parse_task(task)
    with pytest.raises(ConfigError) as whole:
        parse_config({"task": task, "method": {"name": "lora"}})
    assert (str(alone.value), alone.value.path) == (str(whole.value), whole.value.path)


def test_a_task_by_itself_is_that_of_a_config() -> None:
    task = {"id": "custom", "train_file": "~/rows.csv", "kind": "generation"}
    assert parse_task(task) == parse_config({"task": task, "method": {"name": "lora"}}).task


@pytest.mark.parametrize(
    ("asked", "steps", "warmup"), [(None, 300, 9), (None, 1, 0), (None, 2, 0), (10, 300, 10), (10, 2, 10), (0, 5, 0)]
)
def test_warm_up_is_a_share_unless_steps_are_given(asked: int | None, steps: int, warmup: int) -> None:
    training = {} if asked is None else {"warmup_steps": asked}
    config = parse_config({"method": {"name": "lora"}, "training": training})
    assert config.training.warmup_of(steps) == warmup
    if asked is not None:  # a config of an older version stays as it was written
        assert repr(config.model_dump(mode="json")["training"]["warmup_steps"]) == str(asked)
    factors = [config.training.rate_factor(step, steps) for step in range(steps)]
    assert min(factors) > 0 and max(factors) <= 1
    assert (max(factors) == 1) == (warmup < steps)


@pytest.mark.parametrize("value", [1.5, -1, 1e9, math.nan, math.inf, 10**400, "ten", True])
def test_a_warm_up_that_is_neither(value: object) -> None:
    with pytest.raises(ConfigError, match=r"training\.warmup_steps"):
        parse_config({"method": {"name": "lora"}, "training": {"warmup_steps": value}})
