"""LSG attention is dense attention with a mask, without the mask's cost."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from peft_studio.errors import ConfigError, ModelError
from peft_studio.training import lsg
from peft_studio.training.lsg import LSGConfig, enable_lsg, extend_positions

SMALL = LSGConfig(block_size=8, sparse_block_size=8, sparsity_factor=4)
KINDS = ("bert", "roberta", "camembert", "xlm-roberta", "distilbert", "modernbert")
PADDED = 1  # the padding token of all of them


def dense_mask(length: int, settings: LSGConfig, padding: Tensor | None = None, head: int = 0) -> Tensor:
    """Which keys each query sees with ``stride``, spelt out in full.

    Args:
        length: ``T``.
        settings: What a token sees.
        padding: The attention mask ``(B, T)``, true for real tokens; None for one row without padding.
        head: Whose stride; heads take different tokens.

    Returns:
        ``(B, T, T)``, true where the query of dimension 1 sees the key of dimension 2.
    """
    place = torch.arange(length)
    start = place[:, None] // settings.block_size * settings.block_size  # of the query's block
    after, before = place - (start + 2 * settings.block_size), start - settings.block_size - 1 - place  # (T, T)
    near = (after < 0) & (before < 0)
    reach = settings.sparse_block_size * settings.sparsity_factor
    far = (after < reach) & (before < reach) & (place % settings.sparsity_factor == head % settings.sparsity_factor)
    is_global = place < settings.global_tokens
    real = torch.ones(1, length, dtype=torch.bool) if padding is None else padding.cpu().bool()
    return (near | far | is_global | is_global[:, None]) & real[:, None]


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    """One thread, one seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def make(kind: str, positions: int = 64, labels: int | None = None) -> Any:
    """A tiny random encoder in evaluation mode, with a classifier when labels are asked for."""
    sizes: dict[str, Any] = {
        "vocab_size": 50, "pad_token_id": PADDED, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": positions, "initializer_range": 0.2,
    }  # fmt: skip
    if kind == "modernbert":
        sizes |= {"local_attention": 10, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    elif kind == "distilbert":
        sizes |= {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64}
        del sizes["num_hidden_layers"], sizes["num_attention_heads"], sizes["hidden_size"]
    elif kind != "bert":
        sizes["max_position_embeddings"] += 2
    config = transformers.AutoConfig.for_model(kind, **sizes)
    if labels is None:
        return transformers.AutoModel.from_config(config).eval()
    config.num_labels = labels
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def texts(*lengths: int) -> dict[str, Tensor]:
    """Random rows of these lengths, padded on the right."""
    ids = torch.randint(4, 50, (len(lengths), max(lengths)))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids.masked_fill(~mask, PADDED), "attention_mask": mask.long()}


def tensors(length: int, heads: int = 5, rows: int = 2) -> list[Tensor]:
    """Queries, keys and values in double precision."""
    return [torch.randn(rows, heads, length, 6, dtype=torch.double, requires_grad=True) for _ in range(3)]


def real_tokens(*lengths: int) -> Tensor:
    """Which tokens of rows of these lengths are real."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def dense(query: Tensor, key: Tensor, value: Tensor, real: Tensor, settings: LSGConfig) -> Tensor:
    """Softmax attention with the whole mask, head by head."""
    mask = torch.stack([dense_mask(real.shape[1], settings, real, head) for head in range(query.shape[1])], 1)
    mask |= ~mask.any(-1, keepdim=True)  # padding that sees nothing
    scores = (query @ key.transpose(2, 3) * 0.3).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ value


def ours(query: Tensor, key: Tensor, value: Tensor, real: Tensor, settings: LSGConfig) -> Tensor:
    """The same through the module."""
    return lsg.local_sparse_global(query, key, value, real, settings, {"dropout_p": 0.0, "scale": 0.3})


@pytest.mark.parametrize("length", [1, 5, 8, 9, 16, 17, 24, 25, 40, 63, 64, 65, 130])
@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        LSGConfig(8, 16, 4),
        LSGConfig(8, 4, 2, global_tokens=3),
        LSGConfig(8, 0, 2),
        LSGConfig(8, 8, 1, global_tokens=0),
    ],
    ids=str,
)
def test_equals_dense_attention_with_the_mask(length: int, settings: LSGConfig) -> None:
    inputs, real = tensors(length), real_tokens(length, max(1, length * 2 // 3))
    weights = torch.randn(2, 5, length, 6) * real[:, None, :, None]  # padding gives anything
    results = []
    for attend in (ours, dense):
        mixed = attend(*inputs, real, settings)
        results.append((mixed[real[:, None].expand(-1, 5, -1)], *torch.autograd.grad((mixed * weights).sum(), inputs)))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-8)


def by_hand(query: Tensor, key: Tensor, value: Tensor, length: int, settings: LSGConfig) -> Tensor:
    """One query at a time, from the words of the paper, for sparsity by norm or pooling. ``(B, H, T, D)``."""
    size, factor = settings.block_size, settings.sparsity_factor
    out = torch.zeros_like(query)
    for row, head, place in torch.cartesian_prod(*(torch.arange(n) for n in (*query.shape[:2], length))).tolist():
        block, k, v = place // size, key[row, head, :length], value[row, head, :length]
        near = [p for p in range(1, length) if abs(p // size - block) <= 1]
        keys, values = [k[:1], k[near]], [v[:1], v[near]]
        reach = settings.sparse_block_size * factor // size
        for other in range(-(-length // size)):
            if not 1 < abs(other - block) <= 1 + reach:
                continue
            own = [p for p in range(other * size, other * size + size) if 0 < p < length]
            if settings.sparsity == "norm":
                best = sorted(own, key=lambda p: -float(k[p].detach().norm()))[: size // factor]
                keys.append(k[best]), values.append(v[best])
            else:
                groups = [[p for p in own if p // factor == group] for group in sorted({p // factor for p in own})]
                keys += [k[group].mean(0, keepdim=True) for group in groups]
                values += [v[group].mean(0, keepdim=True) for group in groups]
        if place == 0:
            keys, values = [k], [v]
        out[row, head, place] = (torch.cat(keys) @ query[row, head, place] * 0.3).softmax(0) @ torch.cat(values)
    return out


@pytest.mark.parametrize("sparsity", ["norm", "pooling"])
@pytest.mark.parametrize("length", [7, 23, 24, 45])
def test_norm_and_pooling_equal_what_is_spelt_out(sparsity: Any, length: int) -> None:
    settings = replace(SMALL, sparsity=sparsity, sparse_block_size=4, sparsity_factor=4)
    inputs = tensors(length + 6, heads=2, rows=1)
    real = real_tokens(length + 6, length)[1:]
    results = []
    for mixed in (ours(*inputs, real, settings), by_hand(*inputs, length, settings)):
        mixed = mixed[:, :, :length]
        results.append((mixed, *torch.autograd.grad(mixed.square().sum(), inputs)))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-8)


def test_the_mask_is_what_the_paper_draws() -> None:
    seen = dense_mask(80, SMALL)[0]
    # the query's block is 40 to 47; eight sparse keys on either side stand for 32 tokens
    assert torch.nonzero(seen[43]).flatten().tolist() == [*range(0, 32, 4), *range(32, 56), *range(56, 80, 4)]
    assert seen[0].all() and seen[:, 0].all()
    assert torch.nonzero(dense_mask(80, SMALL, head=6)[0, 43]).flatten().tolist() == [
        0, *range(2, 32, 4), *range(32, 56), *range(58, 80, 4)
    ]  # fmt: skip


def test_memory_of_the_longest_tensor_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (out if isinstance(out, tuple | list) else (out,)) if torch.is_tensor(x))
            return out

    largest = []
    for length in (256, 1024):
        sizes.clear()
        with Largest():
            ours(*tensors(length, heads=4), real_tokens(length, length // 2), SMALL)
        largest.append(max(sizes))
    assert largest[1] < 4.2 * largest[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_text_gives_what_full_attention_gives(kind: str) -> None:
    model, batch = make(kind), texts(16, 9, 3)
    full = model(**batch).last_hidden_state
    enable_lsg(model, SMALL)
    short = model(**batch).last_hidden_state
    assert model.config._attn_implementation == "lsg"
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(short[real], full[real], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(batch["input_ids"][:1]).last_hidden_state, full[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_gives_something_else_that_padding_does_not_change(kind: str) -> None:
    model, lengths = make(kind), (61, 40, 30, 17, 7)
    batch = texts(*lengths)
    full = model(**batch).last_hidden_state
    enable_lsg(model, replace(SMALL, sparse_block_size=2))
    together = model(**batch).last_hidden_state
    assert together.isfinite().all()
    assert not torch.allclose(together[0], full[0], atol=1e-3)
    for row, length in enumerate(lengths):
        alone = model(batch["input_ids"][row : row + 1, :length]).last_hidden_state
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_model_equals_itself_with_the_dense_mask(kind: str) -> None:
    model, batch = make(kind), texts(59, 37)
    settings = replace(SMALL, sparsity_factor=2, sparse_block_size=4)
    real = batch["attention_mask"].bool()
    masks = torch.stack([dense_mask(59, settings, real, head) for head in range(4)], 1)  # (B, H, T, T)
    reference = model(batch["input_ids"], attention_mask=masks).last_hidden_state
    enable_lsg(model, settings)
    torch.testing.assert_close(model(**batch).last_hidden_state[real], reference[real], atol=1e-5, rtol=1e-4)


def test_sliding_layers_keep_their_window() -> None:
    model, batch = make("modernbert"), texts(150, 90)
    for layer in model.layers:
        assert (layer.attn.sliding_window is None) == (layer.attention_type == "full_attention")
    full = model(**batch).last_hidden_state
    enable_lsg(model, LSGConfig(block_size=128))  # so wide that the other layers see everything
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(model(**batch).last_hidden_state[real], full[real], atol=1e-5, rtol=1e-4)


def test_dropout_changes_training_only() -> None:
    inputs, real = tensors(40), real_tokens(40, 30)
    module = torch.nn.Module()
    module.config = transformers.BertConfig()  # type: ignore[assignment]
    module.config.lsg = {"block_size": 8, "sparse_block_size": 8, "sparsity_factor": 4}
    dropped, none = (lsg.lsg_attention(module, *inputs, real, rate)[0] for rate in (0.5, 0.0))
    assert not torch.allclose(dropped, none)
    assert none.shape == (2, 40, 5, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_2048_tokens_after_extending(kind: str) -> None:
    model, batch = make(kind), texts(2048, 1500)
    short = {name: x[:, :60] for name, x in batch.items()}
    before = model(**short).last_hidden_state
    extend_positions(model, 2048)
    torch.testing.assert_close(model(**short).last_hidden_state, before)
    enable_lsg(model)
    out = model(**batch).last_hidden_state
    assert out.shape == (2, 2048, 32)
    assert out.isfinite().all()
    reserved = 2 if kind in ("roberta", "camembert", "xlm-roberta") else 0
    assert model.config.max_position_embeddings == 2048 + reserved


def test_positions_are_repeated_after_those_of_padding() -> None:
    model = make("roberta")
    table = model.embeddings.position_embeddings
    with torch.no_grad():
        table.weight[PADDED] = 7
    old = table.weight.detach().clone()  # 2 + 64 rows
    table.weight.requires_grad_(False)
    extend_positions(model, 150)
    assert torch.equal(table.weight, torch.cat((old, old[2:], old[2:24])))
    assert table.num_embeddings == 152 and not table.weight.requires_grad
    assert model.embeddings.token_type_ids.shape == model.embeddings.position_ids.shape == (1, 152)
    extend_positions(model, 100)
    assert table.num_embeddings == 152


def test_an_extended_model_can_be_saved_and_loaded(tmp_path: Path) -> None:
    model, batch = make("roberta"), texts(100, 80)
    extend_positions(model, 128)
    enable_lsg(model, SMALL)
    model.save_pretrained(tmp_path)
    again = transformers.AutoModel.from_pretrained(tmp_path).eval()
    enable_lsg(again, LSGConfig(**again.config.lsg))
    torch.testing.assert_close(again(**batch).last_hidden_state, model(**batch).last_hidden_state)


@pytest.mark.parametrize("sparsity", ["norm", "pooling", "stride"])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_lora_learns(kind: str, sparsity: Any) -> None:
    model, batch = make(kind, labels=2), texts(60, 44, 31, 20)
    targets = ["Wqkv"] if kind == "modernbert" else ["query", "value"]
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=targets, r=4))
    enable_lsg(model, replace(SMALL, sparsity=sparsity))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(**batch, labels=torch.tensor([0, 1, 1, 0])).loss
        loss.backward()
        grads = [p.grad for name, p in model.named_parameters() if "lora_" in name]
        assert grads and all(grad is not None and grad.isfinite().all() for grad in grads)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_all_tokens_see_a_learned_prefix() -> None:
    inputs, (_, key, value), real = tensors(40), tensors(3), real_tokens(40, 26)
    longer = [inputs[0], torch.cat((key, inputs[1]), 2), torch.cat((value, inputs[2]), 2)]
    mixed = ours(*longer, F.pad(real, (3, 0), value=True), SMALL)
    masks = torch.stack([dense_mask(40, SMALL, real, head) for head in range(5)], 1)
    scores = inputs[0] @ longer[1].transpose(2, 3) * 0.3
    reference = scores.masked_fill(~F.pad(masks, (3, 0), value=True), -torch.inf).softmax(-1) @ longer[2]
    compared = real[:, None].expand(-1, 5, -1)
    torch.testing.assert_close(mixed[compared], reference[compared])


def test_prefix_tuning_runs() -> None:
    model, batch = make("bert", labels=2), texts(50, 44)
    model = peft.get_peft_model(model, peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    enable_lsg(model, SMALL)
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    grad = model.prompt_encoder["default"].embedding.weight.grad
    assert grad.isfinite().all() and grad.abs().sum() > 0


def test_other_models_are_refused() -> None:
    causal = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9))
    with pytest.raises(ModelError, match=r"'gpt2'.*Allowed: bert, .*modernbert"):
        enable_lsg(causal)
    with pytest.raises(ModelError, match="Allowed"):
        extend_positions(causal, 100)
    with pytest.raises(ModelError, match="'Linear'"):
        enable_lsg(torch.nn.Linear(1, 1))
    model = make("bert")
    model.config.is_decoder = True
    with pytest.raises(ModelError, match="is_decoder=True"):
        enable_lsg(model)


def test_a_mask_for_pairs_is_refused() -> None:
    model = make("bert")
    enable_lsg(model, SMALL)
    with pytest.raises(ModelError, match=r"\(1, 1, 5, 5\)"):
        model(torch.full((1, 5), 7), attention_mask=torch.ones(1, 1, 5, 5, dtype=torch.bool))


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"block_size": 0}, "model.lsg_block_size"),
        ({"block_size": 10}, "model.lsg_block_size"),
        ({"sparse_block_size": 24}, "model.lsg_sparse_block_size"),
        ({"sparsity_factor": 0}, "model.lsg_sparsity_factor"),
        ({"sparsity": "strid"}, "model.lsg_sparsity"),
        ({"global_tokens": -1}, "model.lsg_global_tokens"),
    ],
)
def test_settings_that_do_not_line_up_are_refused(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LSGConfig(**wrong)
    assert caught.value.path == path
