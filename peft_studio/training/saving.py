"""Saving a run's adapter, and making sure that what was saved says what was trained."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from peft_studio.errors import StorageError
from peft_studio.folder import RunFolder
from peft_studio.training.data import Example
from peft_studio.training.formats import Format
from peft_studio.training.load import load_adapter
from peft_studio.training.origin import save_adapter


def write_adapter(model: Any, paths: RunFolder) -> None:
    """Saves a run's adapter; it appears under its name when it is complete.

    Raises:
        StorageError: It cannot be written.
    """
    draft = paths.root / ".adapter"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        save_adapter(model, draft)
        shutil.rmtree(paths.adapter, ignore_errors=True)
        draft.rename(paths.adapter)
    except (SafetensorError, OSError) as exc:
        shutil.rmtree(draft, ignore_errors=True)
        raise StorageError(f"The adapter could not be saved in {paths.root}: {exc}.") from exc


def reload_difference(model: Any, base: Any, adapter: Path, form: Format, examples: Sequence[Example]) -> float:
    """Largest difference of a logit between a model and what was saved of it, put on a fresh base model.

    Args:
        model: The trained model.
        base: Its base model, loaded anew.
        adapter: The folder with the saved adapter.
        form: How rows meet the model.
        examples: A few rows.
    """
    batch = form.inputs(examples)
    reloaded = load_adapter(base, adapter).eval().to(model.device)
    moved = {name: part.to(model.device) for name, part in batch.items()}
    with torch.inference_mode():
        ours, _ = form.logits(model, moved)
        theirs, _ = form.logits(reloaded, moved)
    return float((ours - theirs).abs().max())
