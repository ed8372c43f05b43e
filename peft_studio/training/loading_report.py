"""Whether a checkpoint is the model that its config describes: which tensors transformers found in it, and which not.

The report is the library's own, which knows of renamed keys, tied weights and shards; what of it matters is said here.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from peft_studio.errors import ModelError
from peft_studio.files import tensor_header
from peft_studio.models.folders import own_code
from peft_studio.models.layouts import Layout
from peft_studio.models.weight_files import shortened
from peft_studio.runs.out_of_memory import is_low_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Report = Mapping[str, Any]
"""What ``from_pretrained(output_loading_info=True)`` tells: missing, unexpected and mismatched keys."""

# Numbers that a model makes for itself, of which old checkpoints keep copies: positions, masks, a format's version.
COPIES = r"(position_ids|rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias|version|_float_tensor)$"
# Heads of other tasks, which a checkpoint may bring and this one leaves aside.
OTHER_HEADS = r"(score|classifier|pre_classifier|classification_head|qa_outputs|v_head|summary|multiple_choice_head)\."
# What a classifier leaves aside of the model that was pre-trained: all that made words of vectors.
WORD_HEADS = r"(cls|lm_head|embed_out|vocab_\w+|decoder|head|pooler|predictions)\."
# What a classifier may have to make anew beside its head: a layer between encoder and head.
BEFORE_HEAD = r"(pooler|head)\."
COMPILED = {"_orig_mod.": "torch.compile", "module.": "DataParallel", "base_model.model.": "PEFT"}
"""Prefixes of keys that are left by what a model was wrapped in when it was saved."""
_STUMBLES = (LookupError, TypeError, ArithmeticError, AttributeError)  # their words say nothing to people
PICTURES = re.compile("image|audio|video|vision", re.IGNORECASE)


def refuse_unfit(model_id: str, model: "PreTrainedModel", report: Report, layout: Layout) -> None:
    """Refuses a checkpoint that is not all of its model, or more than it. Only a new head may be missing.

    Args:
        model_id: For the message.
        model: What it was loaded into.
        report: What the library found.
        layout: The model's, for the purpose at hand.

    Raises:
        ModelError: Tensors are missing, have another shape, or belong to nothing; the message names them.
    """
    own = {name for name, _ in model.named_parameters()}
    missing = [name for name in report["missing_keys"] if name in own and not _is_new(name, layout)]
    shapes = [found for found in report["mismatched_keys"] if not _is_new(found[0], layout)]
    unknown = [name for name in report["unexpected_keys"] if not _is_left_aside(name, model, layout)]
    if not missing and not shapes and not unknown:
        return
    faults = []
    if missing:
        faults.append(f"{len(missing):,} of its {len(own):,} tensors are missing ({shortened(sorted(missing))})")
    if shapes:
        name, stored, wanted = min(shapes)
        more = f", and {len(shapes) - 1:,} more" if len(shapes) > 1 else ""
        faults.append(f"{name} has the shape {tuple(stored)} in the file and {tuple(wanted)} in the model{more}")
    if unknown:
        faults.append(f"{len(unknown):,} in the file belong to nothing in it ({shortened(sorted(unknown))})")
    raise ModelError(
        f"The weights of {model_id!r} are not those of the {model.config.model_type} model that its config.json "
        f"describes: {'; '.join(faults)}.{_why(missing, unknown)} Missing weights would be random numbers, so it is "
        "not used. Save it anew with save_pretrained, or choose the model that these weights belong to."
    )


def _is_new(name: str, layout: Layout) -> bool:
    """Whether a tensor is part of a head that every method trains, or of a layer before it."""
    if not layout.trained_heads:
        return False
    return name.startswith(tuple(f"{head}." for head in layout.trained_heads)) or bool(
        re.match(rf"(\w+\.)?{BEFORE_HEAD}", name)
    )


def _is_left_aside(name: str, model: "PreTrainedModel", layout: Layout) -> bool:
    """Whether a tensor of a file has no place in the model by design."""
    inner = name.removeprefix(f"{model.base_model_prefix}.")
    heads = f"{OTHER_HEADS}|{WORD_HEADS}" if layout.trained_heads else OTHER_HEADS
    return bool(re.search(rf"(^|\.){COPIES}", name) or re.match(heads, inner))


def _why(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """What explains most of the unknown names, if that can be told."""
    wanted, prefixes = {*missing, *(name.partition(".")[2] for name in missing)}, Counter[str]()
    for name in unknown:
        parts = name.split(".")
        ends = (".".join(parts[:length]) + "." for length in range(1, len(parts)))
        prefixes.update([next((begin for begin in ends if name.removeprefix(begin) in wanted), "")])
    prefix, count = prefixes.most_common(1)[0] if prefixes else ("", 0)
    if not prefix or count < len(unknown) / 2:
        return ""
    maker = next((f", as {maker} leaves them" for begin, maker in COMPILED.items() if prefix.startswith(begin)), "")
    return f" In the file, names begin with {prefix!r}{maker}."


def refuse_vocabulary(model_id: str, tokenizer: "PreTrainedTokenizerBase", rows: int) -> None:
    """Refuses a tokenizer that reads nothing, or some of whose tokens have no row in the model's embedding.

    Args:
        model_id: For the message.
        tokenizer: The model's.
        rows: Of the embedding.

    Raises:
        ModelError: It reads nothing, or there are such tokens, other than places for pictures, which no text has.
    """
    try:
        tokenizer(["One text.", "Another."], verbose=False)
    except Exception as exc:  # it has settings that are read no sooner
        raise refusal(model_id, "its tokenizer", exc) from exc
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    usual = set(tokenizer.special_tokens_map.values()) if isinstance(tokenizer.special_tokens_map, dict) else set()
    wrong = [number for number, token in beyond.items() if token in usual or not PICTURES.search(token)]
    if wrong:
        first = min(wrong)
        raise ModelError(
            f"The tokenizer of {model_id!r} does not belong to its weights: it has {len(tokenizer):,} tokens, and the "
            f"model's embedding has {rows:,} rows, so that {len(wrong):,} of them, such as {beyond[first]!r} (number "
            f"{first:,}), have none. Take the tokenizer that the model was trained with, or give the embedding more "
            "rows (resize_token_embeddings) and save both."
        )


def refuse_not_numbers(model_id: str, model: "PreTrainedModel") -> None:
    """Refuses weights that are NaN or infinite.

    Raises:
        ModelError: Some are; the message names the first tensor.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter.detach().sum(dtype=torch.float32)):  # NaN if one is; weights do not overflow
            raise ModelError(
                f"The weights of {model_id!r} are damaged: {name} holds NaN or infinite numbers. Copy or download the "
                "model anew."
            )


def refuse_foreign_adapter(folder: Path, base: "PreTrainedModel", layout: Layout) -> None:
    """Refuses an adapter that holds layers which the base model does not have; PEFT would drop them in silence.

    Raises:
        ModelError: It does.
        OSError: Its weights cannot be read.
        ValueError: They are no safetensors file.
    """
    depths = [len(base.get_submodule(path)) for path in layout.blocks]
    for name in tensor_header(folder / "adapter_model.safetensors")[0]:
        place = layout.block_of(name.removeprefix("base_model.model."))
        if place and place[1] >= depths[place[0]]:
            raise ModelError(
                f"The adapter in {folder} was made for another base model: it changes block {place[1]} of "
                f"{layout.blocks[place[0]]}, and this one has {depths[place[0]]} of them, counted from 0."
            )


def refusal(model_id: str, part: str, exc: Exception, offline: bool = False) -> ModelError:
    """The error for a model that a library does not load.

    Args:
        model_id: Catalogue name, folder or Hub id.
        part: What was to be loaded, such as "its tokenizer".
        exc: What the library raised; short of memory, it is raised again.
        offline: Whether it was looked for on this machine only, because the Hub does not answer.
    """
    if is_low_memory(exc):
        raise exc
    if offline:
        told = "it is not on this machine, and the Hub cannot be reached."
        return ModelError(f"The model {model_id!r} cannot be loaded: {told}")
    text = " ".join(str(exc).split())
    if "trust_remote_code" in text or "custom code" in text:
        return own_code(model_id, "auto_map")
    told = f" In the library's words: {text[:300]}" if text and not isinstance(exc, _STUMBLES) else ""
    return ModelError(
        f"The model {model_id!r} cannot be loaded: {part} cannot be read, or has an entry that is not allowed.{told}"
    )
