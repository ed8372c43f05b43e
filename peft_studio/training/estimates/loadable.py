"""Whether a base model can be loaded whole, known before a job starts: no weights are read.

The library's own loading runs on names and shapes alone, those of the files' headers, on PyTorch's meta device. So
renamed keys, tied weights and shards are judged as they will be when it counts.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import StudioError
from peft_studio.models.folders import stamp
from peft_studio.models.weight_files import tensor_shapes
from peft_studio.training.formats.rows import end_of_text
from peft_studio.training.load import BUILDING, REPORTED, layout_of, load_shapes, load_tokenizer
from peft_studio.training.loading_report import Report, refusal, refuse_unfit, refuse_vocabulary
from peft_studio.training.quiet import be_quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_loadable(run: ResolvedRun) -> None:
    """Makes sure that the base model of a run can be loaded whole, and that its tokenizer can end an answer.

    Models that ship with the app are tested with it, and what only the Hub has is judged when it is loaded.

    Raises:
        ModelError: It cannot; the message says why.
        ConfigError: The architecture cannot serve the task.
    """
    folder, _ = Path(run.source), run.layout  # an architecture that cannot do it is told first
    if folder.is_dir() and (run.card is None or run.card.path is None):
        _check(run.config.model.id, run.task.labels, folder, stamp(folder))


@lru_cache(maxsize=32)
def _check(model_id: str, labels: tuple[str, ...], folder: Path, _stamp: object) -> None:
    model = load_shapes(model_id, labels)
    refuse_unfit(model_id, model, _report(model_id, model, dict(tensor_shapes(folder))), layout_of(model))
    tokenizer = load_tokenizer(model_id)
    refuse_vocabulary(model_id, tokenizer, model.get_input_embeddings().num_embeddings)
    if not labels:
        end_of_text(tokenizer)


def _report(model_id: str, model: "PreTrainedModel", shapes: Mapping[str, Sequence[int]]) -> Report:
    """What the library would find and miss of a model, were it loaded from tensors of these names and shapes."""
    tensors = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    options = {"config": model.config, "state_dict": tensors, "device_map": {"": "meta"}, "dtype": torch.float32}
    try:
        with BUILDING:
            _, report = type(model).from_pretrained(None, **options, **REPORTED)
    except Exception as exc:
        raise refusal(model_id, "its weights", exc) from exc
    found: Report = report
    return found


def answer(config: str) -> dict[str, object]:
    """What to tell a process without the libraries of a config as JSON: ``{"ok": true}``, or the error."""
    be_quiet()
    try:
        check_loadable(resolve(parse_config(json.loads(config))))
    except StudioError as exc:
        return exc.to_dict()
    return {"ok": True}
