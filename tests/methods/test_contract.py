"""What every entry of the registry promises, checked on a tiny random model with biases."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.methods import METHODS, get_method
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.estimates.estimate import estimate
from peft_studio.training.estimates.param_map import count_parameters
from peft_studio.training.load import attach, base_output, load_adapter, load_base

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(METHODS)
# The tiny model of conftest.py: two layers, hidden 32, MLP 64, four heads, biases, tied head.
D, F, LAYERS = 32, 64, 2
LINEAR = [(D, D)] * 4 + [(D, F)] * 2 + [(F, D)]  # (inputs, outputs): q, k, v, o, gate, up, down
BIASES = LAYERS * sum(outputs for _, outputs in LINEAR)
BLOCK = sum(n * m + m for n, m in LINEAR) + 2 * D


def closed_form(name: str, params: Any, vocabulary: int) -> int:
    """The number of trainable parameters, from the formulas in the papers."""
    forms = {
        "ia3": lambda: LAYERS * (4 * D + D + D + F),
        "prefix": lambda: params.virtual_tokens * D + (D + 1) * params.width + (params.width + 1) * 2 * LAYERS * D,
        "prompt": lambda: params.virtual_tokens * D,
        "p_tuning": lambda: (
            params.virtual_tokens * D
            + (D + 1) * params.width
            + (params.width + 1) * params.width
            + (params.width + 1) * D
        ),
        "vblora": lambda: (
            params.vectors * 32 + LAYERS * sum(params.rank * (n + m) // 32 * params.vectors for n, m in LINEAR)
        ),
        "unilora": lambda: params.numbers,
        "beft": lambda: LAYERS * D,
        "houlsby": lambda: 2 * LAYERS * (2 * D * params.bottleneck_dim + params.bottleneck_dim + D),
        "pfeiffer": lambda: LAYERS * (2 * D * params.bottleneck_dim + params.bottleneck_dim + D),
        "parallel": lambda: LAYERS * (2 * D * params.bottleneck_dim + params.bottleneck_dim + D),
        "bitfit": lambda: BIASES,
        "layernorm_head": lambda: (2 * LAYERS + 1) * D + vocabulary * D,
        "ln_tuning": lambda: (2 * LAYERS + 1) * D,
        "head": lambda: vocabulary * D,
        "top_layers": lambda: min(params.layers, LAYERS) * BLOCK + D,
        "full": lambda: LAYERS * BLOCK + D + vocabulary * D,
    }
    if name in forms:
        return forms[name]()
    return per_layer_form(name, params)


LIKE_LORA = {
    "lora", "lora_plus", "pissa", "olora", "eva", "corda", "lora_ga", "hira", "shira", "deft", "gralora",
}  # fmt: skip


def per_layer_form(name: str, params: Any) -> int:
    """The same for methods that treat every linear layer alike: from its inputs n and outputs m."""
    b = 32  # the largest divisor of both widths
    r = getattr(params, "rank", 0)
    forms = {
        "lora_fa": lambda n, m: r * m,
        "adalora": lambda n, m: params.initial_rank * (n + m + 1),
        "vera": lambda n, m: r + m,
        "pvera": lambda n, m: 2 * r + m,
        "randlora": lambda n, m: math.ceil(min(n, m) / r) * (r + min(n, m)),
        "tinylora": lambda n, m: params.numbers,
        "loha": lambda n, m: 2 * r * (n + m),
        "lokr": lambda n, m: 4 * 4 + (n // 4) * (m // 4),
        "oft": lambda n, m: n * (b - 1) // 2,
        "boft": lambda n, m: n * params.block + m,
        "hra": lambda n, m: r * n,
        "road": lambda n, m: 2 * m,
        "psoft": lambda n, m: 32 * 31 // 2 + 2 * 32,
        "c3a": lambda n, m: n * m // b,
        "fourierft": lambda n, m: min(params.frequencies, D * D),
        "waveft": lambda n, m: min(params.coefficients, D * D),
        "miss": lambda n, m: r * m,
        "delora": lambda n, m: r * (n + m) + 1,
        "peanut": lambda n, m: 2 * r * m,
        "glora": lambda n, m: 2 * r * (n + m) + r * (n + 1) + 2,
        "supertuning": lambda n, m: int(n * m * params.percent / 100),
    } | {like: lambda n, m: r * (n + m) for like in LIKE_LORA}
    return LAYERS * sum(forms[name](n, m) for n, m in LINEAR)


def build(name: str, folder: Path) -> Any:
    model, _ = load_base(str(folder))
    return attach(model, get_method(name))


def config_for(name: str, folder: Path) -> Any:
    return resolve(parse_config({"model": {"id": str(folder)}, "method": {"name": name}, "training": {}}))


def tokens(seed: int = 0) -> torch.Tensor:
    """Rows ``(3, 10)``."""
    return torch.randint(2, 250, (3, 10), generator=torch.Generator().manual_seed(seed))


def train_a_little(model: Any, rate: float, steps: int = 12) -> list[float]:
    """Losses of a few AdamW steps on one batch."""
    rows = tokens()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    losses = []
    for _ in range(steps):
        logits = model(input_ids=rows).logits[:, -rows.shape[1] :]
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_count_is_exact(name: str, tiny_model: Path) -> None:
    model = build(name, tiny_model)
    vocabulary = model.config.vocab_size
    trainable, total = count_parameters(model)
    figures = estimate(config_for(name, tiny_model))
    assert trainable == closed_form(name, get_method(name).params(name=name), vocabulary)
    assert (figures["trainable_params"], figures["total_params"]) == (trainable, total)
    assert figures["trainable_share"] == trainable / total <= 1
    assert trainable == model.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("name", NAMES)
def test_map_accounts_for_every_parameter(name: str, tiny_model: Path) -> None:
    figures = estimate(config_for(name, tiny_model))
    entries = figures["map"]
    assert sum(entry["params"] for entry in entries) == figures["base_params"]
    assert sum(entry["trainable"] + entry["added"] for entry in entries) == figures["trainable_params"]
    assert sum(entry["params"] + entry["added"] + entry["frozen"] for entry in entries) == figures["total_params"]


def what_trains(model: Any) -> dict[str, torch.Tensor]:
    """Copies of what trains: the vectors that a prompt method makes, or else its parameters."""
    if model.active_peft_config.is_prompt_learning:
        return {"vectors": model.get_prompt_embedding_to_save("default")}
    return {key: value.detach().clone() for key, value in model.named_parameters() if value.requires_grad}


def symmetry(values: torch.Tensor, change: torch.Tensor) -> str:
    """Which parts that could differ do not: a phrase; empty when all do.

    Args:
        values: What has trained, ``(n, ...)``.
        change: How far it has moved from its start, of the same shape.
    """
    if values.dim() < 2 or min(values.flatten(1).shape) == 1:
        return "all numbers are equal" if values.numel() > 1 and values.unique().numel() == 1 else ""
    for matrix, side in ((change.flatten(1), "rows"), (change.flatten(1).T, "columns")):
        moved = matrix[matrix.abs().amax(1) > 0]  # entries that a mask holds, or words that did not occur, stay
        if len((moved / moved.abs().max() * 1e5).round().unique(dim=0)) < len(moved):
            return f"equal {side}"
    first, second = torch.linalg.svdvals(change.flatten(1).double())[:2]
    return "" if second > 1e-3 * first else "rank 1"


@pytest.mark.parametrize("name", NAMES)
def test_only_the_stated_parameters_get_gradients_and_no_two_of_them_stay_alike(name: str, tiny_model: Path) -> None:
    model = build(name, tiny_model)
    frozen = {key: value.clone() for key, value in model.named_parameters() if not value.requires_grad}
    start = what_trains(model)
    losses = train_a_little(model, rate=3e-2, steps=20)
    for key, value in what_trains(model).items():
        found = symmetry(value, value - start[key])
        if "vblora_logits" in key and found == "equal columns":
            continue  # scores of single vectors of the bank, of which few are chosen: some move once, by the same
        assert not found, key
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0] * 0.98
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
    for key, before in frozen.items():
        assert torch.equal(model.get_parameter(key), before), key


@pytest.mark.parametrize("name", NAMES)
def test_base_output_is_restored_when_off(name: str, tiny_model: Path) -> None:
    base, _ = load_base(str(tiny_model))
    rows = tokens(1)
    greedy = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 1, "attention_mask": torch.ones_like(rows)}
    with torch.no_grad():
        logits, text = base(input_ids=rows).logits, base.generate(input_ids=rows, **greedy)
    model = build(name, tiny_model)
    train_a_little(model, rate=3e-2)
    model.eval()
    with torch.no_grad():
        assert not torch.equal(model(input_ids=rows).logits[:, -rows.shape[1] :], logits)
        with base_output(model) as off:
            assert torch.equal(off(input_ids=rows).logits, logits)
            assert torch.equal(off.generate(input_ids=rows, **greedy), text)


RELOAD = """
import sys, torch
from pathlib import Path
from peft_studio.training.load import load_adapter, load_base
rows = torch.randint(2, 250, (3, 10), generator=torch.Generator().manual_seed(2))
for folder in sys.argv[2:]:
    model = load_adapter(load_base(sys.argv[1])[0], Path(folder))
    with torch.no_grad():
        torch.save(model(input_ids=rows).logits, Path(folder) / "logits.pt")
"""


def test_reload_in_a_fresh_process_gives_equal_logits(tiny_model: Path, tmp_path: Path) -> None:
    expected = {}
    for name in NAMES:
        model = build(name, tiny_model)
        train_a_little(model, rate=3e-2, steps=3)
        save_adapter(model.eval(), tmp_path / name)
        with torch.no_grad():
            expected[name] = model(input_ids=tokens(2)).logits
        written = (tmp_path / name / "adapter_model.safetensors").stat().st_size
        assert estimate(config_for(name, tiny_model))["adapter_bytes"] == written, name
    folders = [str(tmp_path / name) for name in NAMES]
    subprocess.run([sys.executable, "-c", RELOAD, str(tiny_model), *folders], cwd=ROOT, check=True)
    for name in NAMES:
        found = torch.load(tmp_path / name / "logits.pt", weights_only=True)
        if METHODS[name].changes_base:  # saved as the difference of two products, which rounds
            assert torch.allclose(found, expected[name], atol=1e-4), name
        else:
            assert torch.equal(found, expected[name]), name


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].mergeable])
def test_merging_keeps_the_logits_also_when_saved(name: str, tiny_model: Path, tmp_path: Path) -> None:
    model = build(name, tiny_model)
    train_a_little(model, rate=1e-2, steps=3)
    model.eval()
    with torch.no_grad():
        before = model(input_ids=tokens(3)).logits
        merged = model.merge_and_unload()
        merged.save_pretrained(tmp_path)
        for after in (merged, AutoModelForCausalLM.from_pretrained(tmp_path)):
            assert torch.allclose(before, after(input_ids=tokens(3)).logits, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].mixed_batch])
def test_rows_of_one_batch_may_differ(name: str, tiny_model: Path) -> None:
    model = build(name, tiny_model)
    train_a_little(model, rate=3e-2, steps=3)
    model.eval()
    rows = tokens(4)
    with torch.no_grad():
        mixed = model(input_ids=rows, adapter_names=["default", "__base__", "default"]).logits
        own = model(input_ids=rows).logits
        with base_output(model) as off:
            base = off(input_ids=rows).logits
    assert torch.allclose(mixed, torch.stack([own[0], base[1], own[2]]), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_complete(name: str) -> None:
    method = METHODS[name]
    assert method.name == name == method.params(name=name).name
    assert method.paper.url.startswith("https://")
    assert len(method.idea) > 150
    assert method.summary.endswith(".")
    assert method.formula and method.count and 0 < method.learning_rate <= 1
    again = method.params.model_validate(json.loads(method.params(name=name).model_dump_json()))
    assert again == method.params(name=name)
    for field, info in method.params.model_fields.items():
        if field != "name":
            assert info.description and info.description.endswith("."), field
            bounded = {type(rule).__name__ for rule in info.metadata}
            assert info.annotation not in (int, float) or {"Ge", "Le"} <= bounded, field


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("prefix", {"projection": False}),
        ("prefix", {"virtual_tokens": 5}),
        ("prompt", {"start": "random"}),
        ("prompt", {"start": "text", "text": "yes", "virtual_tokens": 12}),  # repeated until there are enough
    ],
)
def test_no_two_soft_tokens_stay_alike(name: str, params: dict[str, Any], tiny_model: Path) -> None:
    method = get_method(name)
    model = attach(load_base(str(tiny_model))[0], method, method.params(name=name, **params))
    start = what_trains(model)["vectors"]
    train_a_little(model, rate=3e-2, steps=20)
    assert not symmetry(what_trains(model)["vectors"], what_trains(model)["vectors"] - start)


def test_a_start_at_zero_is_what_would_keep_keys_alike(tiny_model: Path) -> None:
    model = build("prefix", tiny_model)
    encoder = model.prompt_encoder["default"]
    torch.nn.init.zeros_(encoder.embedding.weight)
    start = what_trains(model)["vectors"]
    train_a_little(model, rate=3e-2, steps=3)
    assert symmetry(what_trains(model)["vectors"], what_trains(model)["vectors"] - start) == "equal rows"


@pytest.mark.parametrize("name", ["oft", "boft"])
def test_rotations_stay_rotations_however_far_they_turn(name: str, tiny_model: Path) -> None:
    model = build(name, tiny_model)
    train_a_little(model, rate=1e-1, steps=20)
    turns = [turn.double() for turn in rotations(name, model)]
    assert max(float((turn - torch.eye(turn.shape[-1])).abs().max()) for turn in turns) > 0.5
    for turn in turns:
        assert torch.allclose(turn @ turn.transpose(-2, -1), torch.eye(turn.shape[-1]).double(), atol=1e-4)


def rotations(name: str, model: Any) -> list[torch.Tensor]:
    """The rotation of every layer, ``(n, n)`` or ``(k, b, b)``, as the library makes it from what trains."""
    found = []
    for layer in model.modules():
        if name == "oft" and hasattr(layer, "oft_R"):
            turn = layer.oft_R["default"]
            found.append(turn(torch.eye(turn.in_features)))  # of all blocks, on the diagonal
        elif name == "boft" and hasattr(layer, "boft_R"):
            part = layer.boft_R["default"]  # (factors, k, b, b)
            found.append(layer.cayley_batch(part.flatten(0, 1)))
    return [turn.detach() for turn in found]


@pytest.mark.parametrize(
    ("name", "scaling", "spread"), [("houlsby", 1.0, 0.01), ("pfeiffer", 1.0, 0.02), ("parallel", 4.0, 0.0)]
)
def test_adapters_start_as_their_papers_say(name: str, scaling: float, spread: float, tiny_model: Path) -> None:
    model = build(name, tiny_model)
    nets = [module for module in model.modules() if type(module).__name__ == "Bottleneck"]
    for net in nets:
        assert net.scaling == scaling and not net.down.bias.any() and not net.up.bias.any()
        assert float(net.up.weight.detach().abs().max()) <= 2 * spread  # cut off at two deviations, or zero
    down = torch.cat([net.down.weight.detach().flatten() for net in nets])
    kaiming = 1 / math.sqrt(3 * D)  # standard deviation of Kaiming's uniform start for D inputs
    assert float(down.std()) == pytest.approx(0.88 * spread if spread else kaiming, rel=0.1)


def test_adapter_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from peft_studio.errors import ModelError

    with pytest.raises(ModelError, match="cannot be read"):
        load_adapter(load_base(str(tiny_model))[0], tmp_path)
