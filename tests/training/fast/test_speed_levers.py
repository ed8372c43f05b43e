"""What makes training fast changes no number: every lever against the plain path."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.methods import METHODS, get_method
from peft_studio.tasks.base import Row
from peft_studio.training.checkpoints.training_state import set_schedule
from peft_studio.training.fast import kernels, places
from peft_studio.training.fast import llama as fast_decoder
from peft_studio.training.fast.attention_plans import without_attention_plans
from peft_studio.training.fast.frozen_weights import LowPrecision, frozen_matrices, fused_lora
from peft_studio.training.fast.levers import Levers
from peft_studio.training.fast.llama import FastDecoder
from peft_studio.training.fast.places import find_places
from peft_studio.training.formats.formats import Continuation
from peft_studio.training.formats.rows import collate, encode_rows
from peft_studio.training.formats.target_logits import target_logits
from peft_studio.training.load import attach, load_base
from peft_studio.training.loop import TrainingLoop
from peft_studio.training.step_events import StepCallback
from tests.conftest import FAMILIES, make_family
from tests.training.conftest import make_adapted

ROWS = [
    Row("food: Thai =>", " A Thai place."),
    Row("name: Biox Mill | food: Indian =>", " Biox Mill serves Indian food."),
    Row("area: riverside =>", " It is by the river."),
]
NONE = Levers(**{field.name: False for field in fields(Levers)})
KEPT = ("lora", "norms", "head", "last_block", "remember", "unpadded")


def a_batch(tokenizer: Any) -> dict[str, Any]:
    batch = collate(encode_rows(ROWS, tokenizer, 256).examples, tokenizer.pad_token_id)
    return {**batch, "rows": [0, 1, 2]}


def plain_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    logits, targets = target_logits(model, batch["input_ids"], batch["labels"])
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (loss / 20).backward()
    return {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}


def assert_same(model: Any, fast: Callable[[], torch.Tensor], plain: Callable[[], torch.Tensor]) -> None:
    expected, found = plain(), fast()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    theirs, ours = gradients(model, expected), gradients(model, found)
    assert theirs and set(ours) == set(theirs)
    for name, gradient in theirs.items():
        near = 2e-6 + 2e-4 * float(gradient.abs().max())  # sums cancel, so small entries are as exact as large ones
        assert float((ours[name] - gradient).abs().max()) < near, name


def test_every_method_has_its_plain_loss_and_gradients(adapted: tuple[Any, Any]) -> None:
    model, tokenizer = adapted
    if not FastDecoder.fits(model):
        wrapped = getattr(model, "active_peft_config", None)
        assert wrapped is not None, "the base model itself must fit"
        pytest.skip("this method is left to the plain path")
    batch = a_batch(tokenizer)
    assert_same(model, lambda: FastDecoder(model, Levers()).loss(batch), lambda: plain_loss(model, batch))


def test_most_methods_take_the_fast_path(tiny_model: Path) -> None:
    fitting = {name for name in METHODS if FastDecoder.fits(make_adapted(tiny_model, name)[0])}
    assert {"lora", "ia3", "bitfit", "top_layers", "full"} <= fitting
    assert not {"prompt", "prefix", "p_tuning"} & fitting


@pytest.fixture
def qwen2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model of the family, with biases for queries, keys and values only."""
    monkeypatch.setitem(FAMILIES, "qwen2", {**FAMILIES["llama"], "vocab_size": 304})  # Qwen's tokenizer has one more
    return make_family(tmp_path / "qwen2", "qwen2")


@pytest.mark.parametrize("method", ["lora", "bitfit", "ln_tuning", "full"])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_families_with_the_same_blocks_have_their_plain_loss_and_gradients(
    family: str, method: str, families: dict[str, Path], qwen2: Path
) -> None:
    if (family, method) == ("qwen3", "bitfit"):
        method = "ia3"  # it has no biases
    model, tokenizer = make_adapted(qwen2 if family == "qwen2" else families[family], method)
    assert FastDecoder.fits(model)
    batch = a_batch(tokenizer)
    assert_same(model, lambda: FastDecoder(model, Levers()).loss(batch), lambda: plain_loss(model, batch))


def test_models_that_do_not_see_everything_are_left_alone(qwen2: Path) -> None:
    model, _ = load_base(str(qwen2))
    assert FastDecoder.fits(model)
    model.model.layers[0].self_attn.sliding_window = 4
    assert not FastDecoder.fits(model)


@pytest.mark.parametrize("lever", KEPT)
def test_each_lever_alone_changes_nothing(lever: str, tiny_model: Path) -> None:
    model, tokenizer = make_adapted(tiny_model, "lora")
    batch = a_batch(tokenizer)
    fast = FastDecoder(model, replace(NONE, **{lever: True}))
    assert_same(model, lambda: fast.loss(batch), lambda: plain_loss(model, batch))


@pytest.mark.parametrize("layers", [1, 2])
def test_frozen_blocks_are_remembered_exactly(layers: int, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, tokenizer = load_base(str(tiny_model))
    method: Any = get_method("top_layers")
    model = attach(base, method, method.params(name="top_layers", layers=layers))
    batch, fast = a_batch(tokenizer), FastDecoder(model, Levers())
    depth = len(base.model.layers)
    assert fast.frozen == depth - layers
    assert_same(model, lambda: fast.loss(batch), lambda: plain_loss(model, batch))
    if fast.frozen:
        monkeypatch.setattr(torch.nn.Embedding, "forward", lambda *_: pytest.fail("rows should be remembered"))
    shorter = collate(encode_rows(ROWS[:1], tokenizer, 256).examples, tokenizer.pad_token_id)
    if fast.frozen:
        found = fast.loss({**shorter, "rows": [0]})
        monkeypatch.undo()
        torch.testing.assert_close(found, plain_loss(model, shorter), rtol=1e-5, atol=1e-5)


def test_memory_of_frozen_blocks_is_bounded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_decoder, "MEMORY_BYTES", 1)
    model, tokenizer = make_adapted(tiny_model, "top_layers")
    fast = FastDecoder(model, Levers())
    fast.loss(a_batch(tokenizer))
    assert not fast._memory


@pytest.mark.parametrize("keys", [1, 2, 4])
@pytest.mark.parametrize("short", [0, 512])
def test_attention_is_the_librarys(keys: int, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SHORT", {torch.float32: short})
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 9, 8), torch.randn(2, keys, 9, 8), torch.randn(2, keys, 9, 8)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    found = kernels.causal_attention(q, k, v, 0.3)
    torch.testing.assert_close(found, expected.transpose(1, 2).reshape(2, 9, 32))


def test_the_head_in_slices_is_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(11, 8, requires_grad=True)
    weight, targets = torch.randn(30, 8), torch.randint(0, 30, (11,))
    expected = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    (theirs,) = torch.autograd.grad(expected / 7, hidden)
    for size in (1, 4 * 30 * 3, 10**6):
        monkeypatch.setattr(kernels, "HEAD_BYTES", size)
        found = kernels.FrozenHeadLoss.apply(hidden, weight, targets)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found / 7, hidden)[0], theirs)


def test_lora_layers_of_other_models_are_fused_and_given_back(tiny_model: Path) -> None:
    model, tokenizer = make_adapted(tiny_model, "lora")
    batch = a_batch(tokenizer)

    def fused() -> torch.Tensor:
        with fused_lora(model):
            return plain_loss(model, batch)

    assert_same(model, fused, lambda: plain_loss(model, batch))
    assert not any("forward" in vars(module) for module in model.modules())
    with fused_lora(model), model.disable_adapter():
        off = plain_loss(model, batch)
    with model.disable_adapter():
        torch.testing.assert_close(off, plain_loss(model, batch))


def test_layers_that_are_no_plain_lora_are_left_alone(tiny_model: Path) -> None:
    for params in ({"dropout": 0.1}, {"dora": True}):
        base, _ = load_base(str(tiny_model))
        lora: Any = get_method("lora")
        model = attach(base, lora, lora.params(name="lora", **params))
        assert not any(kernels.lora_parts(module) for module in model.modules())


def test_low_precision_is_near_and_leaves_no_trace(adapted: tuple[Any, Any]) -> None:
    model, tokenizer = adapted
    batch = a_batch(tokenizer)
    before = {name: part.detach().clone() for name, part in model.named_parameters()}
    exact = float(plain_loss(model, batch).detach())
    low = LowPrecision(model)
    fast = FastDecoder(model, Levers()) if FastDecoder.fits(model) else None
    for _ in range(2):
        with low, torch.autocast("cpu", torch.bfloat16):
            found = fast.loss(batch) if fast is not None else plain_loss(model, batch)
            if any(part.requires_grad for part in model.parameters()):
                found.backward()
        assert float(found.detach()) == pytest.approx(exact, rel=0.02)
    for name, part in model.named_parameters():
        assert part.dtype == torch.float32 and torch.equal(part, before[name])
        assert part.grad is None or part.grad.dtype == torch.float32


def test_all_frozen_matrices_are_cast_for_lora(tiny_model: Path) -> None:
    model, _ = make_adapted(tiny_model, "lora")
    frozen = [part for part in model.parameters() if not part.requires_grad and part.dim() == 2]
    assert {id(part) for part in frozen_matrices(model)} == {id(part) for part in frozen}


def losses(model_id: Path, levers: Levers, **training: Any) -> list[float]:
    settings = {"max_steps": 5, "batch_size": 2, "warmup_steps": 0, "learning_rate": 1e-3} | training
    run = resolve(parse_config({"model": {"id": str(model_id)}, "method": {"name": "lora"}, "training": settings}))
    torch.manual_seed(0)
    base, tokenizer = load_base(str(model_id))
    model = attach(base, run.method, run.config.method)
    form = Continuation(tokenizer)
    seen: list[float] = []

    def emit(_kind: str, **event: Any) -> None:
        seen.append(event["loss"])

    callback = StepCallback(emit, lambda: False, lambda *_: False, 10**6)
    TrainingLoop(model, run, form.encode(ROWS, 256).examples, form, callback, levers=levers).train()
    return seen


def test_runs_with_and_without_levers_have_equal_losses(tiny_model: Path) -> None:
    plain = losses(tiny_model, replace(NONE, grouping=True))
    assert losses(tiny_model, Levers()) == pytest.approx(plain, rel=1e-5)
    assert len(plain) == 5 and plain[-1] < plain[0]


def test_low_precision_runs_follow_exact_ones(tiny_model: Path) -> None:
    exact = losses(tiny_model, Levers())
    for cast_once in (True, False):
        assert losses(tiny_model, Levers(cast_once=cast_once), precision="bf16") == pytest.approx(exact, rel=0.02)


def test_rounded_sizes_count_for_nothing(tiny_model: Path) -> None:
    rounded = losses(tiny_model, Levers(), precision="bf16")
    assert rounded == pytest.approx(losses(tiny_model, Levers(few_sizes=False), precision="bf16"), rel=0.01)
    assert losses(tiny_model, Levers()) == losses(tiny_model, Levers(few_sizes=False))  # exact runs keep their sizes


TEXTS = torch.tensor([[5, 6, 7, 8, 9, 10], [5, 6, 7, 1, 1, 1]])
LABELS = torch.tensor([[-100, -100, 7, 8, 9, 10], [-100, 6, 7, -100, -100, -100]])


def test_padding_is_what_stands_behind_the_last_target() -> None:
    found = find_places(TEXTS, LABELS, Levers(), torch.device("cpu"))
    assert found.ids.tolist() == [5, 6, 7, 8, 9, 5, 6] and found.lengths == (5, 2) and found.shape == (2, 5)
    assert found.ids[found.places].tolist() == [6, 7, 8, 9, 5, 6] and found.targets.tolist() == [7, 8, 9, 10, 6, 7]
    whole = find_places(TEXTS, LABELS, Levers(unpadded=False), torch.device("cpu"))
    assert whole.kept is None and whole.ids.flatten()[whole.places].tolist() == [6, 7, 8, 9, 5, 6]
    assert whole.targets.tolist() == found.targets.tolist()


@pytest.mark.parametrize("unpadded", [True, False])
def test_sizes_are_rounded_up_by_what_has_no_target(unpadded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PLACES", 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = find_places(TEXTS, LABELS, Levers(unpadded=unpadded), torch.device("cpu"))
    assert found.shape == (2, 8) and len(found.places) == len(found.targets) == 8
    assert found.ids.numel() == (8 if unpadded else 16) and found.lengths == ((6, 2) if unpadded else None)
    assert sorted(found.targets.tolist()) == [-100, -100, 6, 7, 7, 8, 9, 10]


def test_a_gpu_is_given_whole_batches_and_never_asked_for_an_answer(tiny_model: Path) -> None:
    """The meta device stands for a GPU: it knows no values, so nothing within a step can have waited for one."""
    model, tokenizer = make_adapted(tiny_model, "lora")
    batch = a_batch(tokenizer)
    model.train().to("meta")
    trained = [part for part in model.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    FastDecoder(model, Levers()).loss(batch).backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    assert all(part.grad is not None and part.grad.shape == part.shape for part in trained)
    assert find_places(TEXTS, LABELS, Levers(), torch.device("meta")).kept is None


def test_a_step_on_a_gpu_gives_fewer_orders_than_the_librarys(tiny_model: Path) -> None:
    model, tokenizer = make_adapted(tiny_model, "lora")
    batch = a_batch(tokenizer)
    model.to("meta")
    given = {name: batch[name].to("meta") for name in ("input_ids", "labels")}

    def orders(loss: Callable[[], torch.Tensor]) -> int:
        with CountOrders() as count:
            loss().backward()
        return count.total

    library = orders(lambda: model(**given).loss)  # with a mask it asks the GPU besides whether there is padding
    model.zero_grad()
    assert orders(lambda: FastDecoder(model, Levers()).loss(batch)) < 0.85 * library


class CountOrders(TorchDispatchMode):
    """Counts what a device is told to do; views are free."""

    VIEWS = "view _unsafe_view t transpose slice expand unsqueeze squeeze detach split split_with_sizes alias"

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs everything as it comes."""
        self.total += func.overloadpacket.__name__ not in self.VIEWS.split()
        return func(*args, **(kwargs or {}))


def test_attention_plans_are_off_while_a_run_trains() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with without_attention_plans():
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_tokens_go_to_their_places_and_back() -> None:
    torch.manual_seed(0)
    rows, kept = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, 5])
    padded = kernels.Padded.apply(rows, kept, 6)
    assert torch.equal(padded[kept], rows) and float(padded[[1, 3, 4]].abs().sum().detach()) == 0
    assert torch.equal(kernels.Packed.apply(padded, kept), rows)
    assert torch.autograd.gradcheck(lambda x: kernels.Padded.apply(x, kept, 6), rows)
    whole = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: kernels.Packed.apply(x, kept), whole)


def test_the_gpus_norm_is_the_librarys() -> None:
    x, weight = torch.randn(2, 3, 8), torch.rand(8)
    expected = kernels.RmsNorm.apply(x, weight, 1e-5)
    torch.testing.assert_close(kernels.gpu_norm(x, weight, 1e-5), expected)
    assert kernels.gpu_norm(x.bfloat16(), weight, 1e-5).dtype == torch.bfloat16


def test_places_without_a_target_have_no_loss_and_no_gradient() -> None:
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8)
    targets = torch.tensor([3, -100, 10, 0, -100])
    expected = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    found = kernels.FrozenHeadLoss.apply(hidden, weight, targets)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(loss, hidden, retain_graph=True)[0] for loss in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_accumulated_batches_equal_one_large_batch(tiny_model: Path) -> None:
    whole = losses(tiny_model, Levers(), batch_size=4, max_steps=1)
    parts = losses(tiny_model, Levers(), batch_size=2, gradient_accumulation=2, max_steps=1)
    assert parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant"])
def test_steps_are_those_of_the_stock_trainer(
    optimizer: str, scheduler: str, tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import Trainer, TrainingArguments

    settings = {"weight_decay": 0.1, "scheduler": scheduler, "optimizer": optimizer, "max_grad_norm": 0.5}
    rate = 1e-1 if optimizer == "sgd" else 1e-3
    ours = losses(tiny_model, Levers(), batch_size=3, learning_rate=rate, warmup_steps=1, **settings)

    torch.manual_seed(0)
    base, tokenizer = load_base(str(tiny_model))
    model = attach(base, get_method("lora"))
    examples = encode_rows(ROWS, tokenizer, 256).examples
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=5, per_device_train_batch_size=3, learning_rate=rate, warmup_steps=1,
        weight_decay=0.1, max_grad_norm=0.5, report_to="none", save_strategy="no", logging_steps=1, use_cpu=True,
        disable_tqdm=True, remove_unused_columns=False, optim={"adamw": "adamw_torch"}.get(optimizer, optimizer),
        lr_scheduler_type="constant_with_warmup" if scheduler == "constant" else scheduler,
    )  # fmt: skip

    def padded(rows: Any) -> dict[str, Any]:
        batch = collate(rows, tokenizer.pad_token_id)
        mask = (torch.arange(batch["labels"].shape[1]) < torch.tensor([[len(row.ids)] for row in rows])).long()
        return {"input_ids": batch["input_ids"], "labels": batch["labels"], "attention_mask": mask}

    class FromTheSecondRate(Trainer):
        """Our first step has a rate, too: the schedule is the library's for one step more, from its second on."""

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            library = super().create_scheduler(num_training_steps + 1, optimizer)
            set_schedule(library, 1)
            return library

    arguments.warmup_steps += 1
    trainer = FromTheSecondRate(model, arguments, train_dataset=examples, data_collator=padded)
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert ours == pytest.approx(theirs, rel=1e-4)
