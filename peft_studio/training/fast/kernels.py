"""Autograd functions that do a block's work in fewer passes over memory than its modules; the numbers are the same.

All treat the base model's weights as frozen: no gradient of them is ever made.
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from peft_studio.training.formats.rows import IGNORED

HEAD_BYTES = 64_000_000  # logits in float32 that exist at one time
SHORT = {torch.float32: 128, torch.bfloat16: 512}
"""Up to these lengths, attention scores of a batch are small and two matrix products are fastest on a CPU."""


class LoraLinears(Function):
    """Linear layers that read the same input, each with a low-rank update: ``x W^T + b + s (x A^T) B^T``.

    The thin products of all layers are one, and updates are added in place. Thin matrices lie on their side, ranks
    first: matrix products are several times faster that way. Weights ``(m, n)`` and inputs ``(..., n)`` have one
    dtype; A ``(r, n)`` and B ``(m, r)`` may have another, in which they get their gradients.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, scales: tuple[float, ...], *layers: Tensor | None) -> tuple[Tensor, ...]:
        """Takes weight, bias (or None), A and B of each layer, one layer after the other."""
        weights, biases = layers[::4], layers[1::4]
        assert weights[0] is not None
        rows = x.reshape(-1, x.shape[-1]).to(weights[0].dtype)  # (N, n)
        downs = [_as(part, rows) for part in layers[2::4]]
        down = torch.cat(downs) if len(downs) > 1 else downs[0]  # (sum of ranks, n): all A below each other
        ups = [_as(part, rows).t() for part in layers[3::4]]  # each B as (r, m)
        if rows.device.type == "cpu":
            ups = [part.contiguous() for part in ups]
        ranks = [len(part) for part in ups]
        thin = down @ rows.t()  # (sum of ranks, N)
        outputs = []
        for weight, bias, up, low, scale in zip(weights, biases, ups, thin.split(ranks), scales, strict=True):
            assert weight is not None
            # (N, r) x (r, m), scaled and added in place: the update never exists on its own.
            y = F.linear(rows, weight, None if bias is None else _as(bias, rows)).addmm_(low.t(), up, alpha=scale)
            outputs.append(y.view(*x.shape[:-1], -1))  # (N, m) -> (..., m)
        ctx.save_for_backward(rows, thin, down, *weights, *ups)
        ctx.scales, ctx.ranks, ctx.shape = scales, ranks, x.shape
        ctx.dtypes = [x.dtype, *(part.dtype for part in layers[2:4] if part is not None)]
        return tuple(outputs)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, of every A and of every B."""
        rows, thin, down, *held = ctx.saved_tensors
        weights, ups = held[: len(held) // 2], held[len(held) // 2 :]
        flat = [grad.reshape(len(rows), -1).to(rows.dtype) for grad in grads]  # each (N, m)
        # s B^T dY of all layers, (sum of ranks, N): what reaches A, and through A the input.
        backs = [_product(up, g.t(), s) for g, up, s in zip(flat, ups, ctx.scales, strict=True)]
        back = torch.cat(backs) if len(backs) > 1 else backs[0]
        down_grads = (back @ rows).to(ctx.dtypes[1]).split(ctx.ranks)  # each (r, n)
        found: list[Tensor | None] = []
        for g, low, scale, down_grad in zip(flat, thin.split(ctx.ranks), ctx.scales, down_grads, strict=True):
            on_side = rows.device.type == "cpu"  # a GPU would have to copy what lies on its side
            up_grad = _product(low, g, scale).t() if on_side else _product(g.t(), low.t(), scale)  # (m, r)
            found += [None, None, down_grad, up_grad.to(ctx.dtypes[2])]
        inner = None
        if ctx.needs_input_grad[0]:
            inner = back.t() @ down  # (N, n)
            for g, weight in zip(flat, weights, strict=True):
                inner.addmm_(g, weight)
            inner = inner.view(ctx.shape).to(ctx.dtypes[0])  # (..., n)
        return (inner, None, *found)


class RmsNorm(Function):
    """Root mean square norm with a frozen weight, computed in float32 as transformers does."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """``x`` is ``(..., d)``."""
        wide = x.float()  # (..., d)
        # 1 / sqrt(mean of squares + epsilon), (..., 1); the backward pass needs it again, and it is small.
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The input's gradient."""
        x, weight, scale = ctx.saved_tensors
        wide = x.float()
        found = grads[0].float() * weight  # (..., d)
        # The scale itself depends on x: d scale / d x = -scale^3 x / d.
        share = (found * wide).sum(-1, keepdim=True).mul_(scale.pow(3)).div_(x.shape[-1])  # (..., 1)
        return (found * scale).addcmul_(wide, share, value=-1).to(x.dtype), None, None


class Padded(Function):
    """Rows of tokens ``(M, n)`` put at their places among ``B T``, with zeros between: ``(B T, n)``."""

    @staticmethod
    def forward(ctx: FunctionCtx, packed: Tensor, kept: Tensor, size: int) -> Tensor:
        """``kept`` are the ``M`` places, each once."""
        ctx.save_for_backward(kept)
        return packed.new_zeros(size, packed.shape[1]).index_copy_(0, kept, packed)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The rows' gradients."""
        (kept,) = ctx.saved_tensors
        return grads[0].index_select(0, kept), None, None


class Packed(Function):
    """The other way: rows ``(S, n)`` at some places, ``(M, n)``."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, kept: Tensor) -> Tensor:
        """``kept`` are the ``M`` places, each once, so that no gradient is a sum."""
        ctx.save_for_backward(kept)
        ctx.size = len(rows)
        return rows.index_select(0, kept)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all rows; zeros of those that were left out."""
        (kept,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.size, grads[0].shape[1]).index_copy_(0, kept, grads[0]), None


class Rotary(Function):
    """Rotary positions: ``(B, T, H, D)`` to contiguous ``(B, H, T, D)``, with cosines and sines ``(T, D / 2)``."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Turns pairs of numbers by angles that grow with the position."""
        ctx.save_for_backward(cosines, sines)
        return _turn(x.transpose(1, 2), cosines, sines)  # (B, H, T, D)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Turns them back."""
        cosines, sines = ctx.saved_tensors
        return _turn(grads[0], cosines, -sines).transpose(1, 2), None, None  # a turn's transpose is the turn back


class FrozenHeadLoss(Function):
    """Summed cross entropy behind a frozen vocabulary projection, a few rows of logits at a time.

    The gradient of the hidden states is made along with the loss, so that no logits are kept for it.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """``hidden`` is ``(N, d)``, ``weight`` ``(V, d)``, ``targets`` ``(N,)`` or IGNORED; the sum is in nats."""
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden)  # (N, d)
        step = max(1, HEAD_BYTES // (4 * len(weight)))  # rows of float32 logits at a time
        for start in range(0, len(hidden), step):
            part, wanted = hidden[start : start + step], targets[start : start + step, None]  # (S, d), (S, 1)
            counts = (wanted != IGNORED).float()  # (S, 1)
            wanted = wanted.clamp(min=0)  # IGNORED is no place to look up; such rows count 0 anyway
            logits = torch.log_softmax((part @ weight.t()).float(), 1)  # (S, V)
            total -= (logits.gather(1, wanted) * counts).sum()
            # The gradient of cross entropy by its logits is softmax minus one-hot; made in place of the logits.
            shares = logits.exp_().scatter_add_(1, wanted, -torch.ones_like(counts)).mul_(counts)  # (S, V)
            gradient[start : start + step] = shares.to(weight.dtype) @ weight  # (S, d)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The hidden states' gradient."""
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].to(gradient.dtype), None, None


def gpu_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """A root mean square norm in one kernel, computed in float32: starting kernels is what a GPU's time goes into.

    Args:
        x: ``(..., d)``.
        weight: ``(d,)``.
        epsilon: Added to the mean of squares.
    """
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), epsilon).to(x.dtype)  # autocast may have widened it


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attention to oneself and all before; heads of keys and values may be fewer.

    Args:
        q: ``(B, H, T, D)``.
        k: ``(B, K, T, D)``, where K divides H.
        v: The same.
        scale: Of the scores.

    Returns:
        ``(B, T, H * D)``.
    """
    batch, heads, length, width = q.shape  # B, H, T, D
    if q.device.type != "cpu" or length > SHORT.get(q.dtype, 0):
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=heads > k.shape[1])
        return found.transpose(1, 2).reshape(batch, length, -1)  # (B, H, T, D) -> (B, T, H D)
    # Queries of heads that share their keys stand below each other, so that keys need not be repeated.
    groups = heads // k.shape[1]  # H / K
    rows = q.reshape(-1, groups * length, width)  # (B K, H / K T, D)
    mask = torch.full((length, length), float("-inf"), dtype=q.dtype).triu_(1).repeat(groups, 1)  # (H / K T, T)
    scores = torch.baddbmm(mask, rows, k.reshape(-1, length, width).transpose(1, 2), alpha=scale)  # (B K, H / K T, T)
    found = torch.bmm(scores.softmax(-1), v.reshape(-1, length, width)).view(batch, heads, length, width)
    return found.transpose(1, 2).reshape(batch, length, -1)  # (B, H, T, D) -> (B, T, H D)


LoraParts = tuple[Tensor, Tensor | None, Tensor, Tensor, float]
"""Weight ``(m, n)``, bias ``(m,)`` or None, A ``(r, n)``, B ``(m, r)`` and scale."""


def lora_parts(module: nn.Module) -> LoraParts | None:
    """What a linear layer with one plain LoRA at work consists of; None for everything else."""
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or type(module.base_layer) is not nn.Linear:
        return None
    names = [name for name in module.active_adapters if name in module.lora_A]
    if len(names) != 1 or module.disable_adapters or module.merged or names[0] in module.lora_variant:
        return None
    down, up, drop = module.lora_A[names[0]], module.lora_B[names[0]], module.lora_dropout[names[0]]
    plain = up.bias is None and down.bias is None and (isinstance(drop, nn.Identity) or drop.p == 0)
    base = module.base_layer
    trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    whole = down.weight.requires_grad and up.weight.requires_grad
    if not plain or trained or not whole or any(is_hooked(part) for part in (module, base, down, up)):
        return None
    return base.weight, base.bias, down.weight, up.weight, float(module.scaling[names[0]])


def is_hooked(module: nn.Module) -> bool:
    """Whether something else wants to happen when a module is called, so that its parts must not be read alone."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return bool(hooks) or hasattr(module, "_hf_hook")  # accelerate's, which moves what a layer reads


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """``scale a b`` in one pass; with ``beta=0`` nothing is added, whatever stands there."""
    return torch.addmm(a[:1, :1], a, b, beta=0, alpha=scale)


def _as(part: Tensor | None, like: Tensor) -> Tensor:
    assert part is not None
    return part.to(like.dtype)


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Pairs are number i of the first half and of the second, as transformers has them: ``(B, H, T, D)``."""
    first, second = x.chunk(2, -1)  # each (B, H, T, D / 2)
    turned = torch.empty(x.shape, dtype=x.dtype, device=x.device)  # contiguous, unlike x
    low, high = turned.chunk(2, -1)  # views, so that products land in place
    torch.mul(first, cosines, out=low).addcmul_(second, sines, value=-1)
    torch.mul(second, cosines, out=high).addcmul_(first, sines)
    return turned
