"""Puts a saved adapter on its untouched base outside: a process with plain transformers and PEFT, and limits.

It runs the very lines that an exported adapter's card prints. Only what they need of this project can be imported.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.errors import ModelError
from peft_studio.files import read_json, search_path
from peft_studio.models.opening import LINEAR_BASE, Opening, opening_of
from peft_studio.tasks.base import Row
from peft_studio.training import Model
from peft_studio.training.evaluate import reload_difference
from peft_studio.training.formats.formats import Format, Labelling
from peft_studio.training.formats.rows import EncodedExample
from peft_studio.training.formats.target_logits import base_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHECK_ROWS = 4
MAX_SECONDS = 600  # of a core, and of waiting
_LIMITS = f"import resource\nresource.setrlimit(resource.RLIMIT_CPU, ({MAX_SECONDS}, {MAX_SECONDS}))\n"
_COMPARE = """
import json
import sys
import torch
from pathlib import Path
from safetensors.torch import load_file

torch.set_num_threads(int(sys.argv[2]))
folder = Path(sys.argv[1])
expected = load_file(folder / "expected.safetensors")["logits"]
given = load_file(folder / "given.safetensors")
texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
with torch.inference_mode():
    if texts:
        at_a_time = 1 if model.active_peft_config.is_prompt_learning else len(texts)
        found = []
        for start in range(0, len(texts), at_a_time):
            inputs = tokenizer(
                texts[start : start + at_a_time], padding=True, return_token_type_ids=False, return_tensors="pt"
            )
            found.append(model(**inputs).logits)
        found = torch.cat(found)  # (B, C)
    else:
        wanted = given.pop("wanted").bool()  # (B, T)
        logits = model(**given).logits  # (B, P + T, V)
        found = logits[:, -wanted.shape[1] :][wanted]  # (N, V)
print(json.dumps({"max_difference": float((found.float() - expected).abs().max())}))
"""


@dataclass(frozen=True)
class Question:
    """What a model is asked, as trained and as saved.

    Attributes:
        model: The trained model, in evaluation mode.
        form: How it is fed.
        rows: Rows that fit, of which the first few are asked; a classifier gets their texts.
        examples: Rows with their tokens, for other models.
    """

    model: "PeftModel"
    form: Format
    rows: Sequence[Row]
    examples: Sequence[EncodedExample]

    @property
    def few(self) -> Sequence[EncodedExample]:
        """The examples that are asked."""
        return self.examples[:CHECK_ROWS]


def saved_difference(
    asked: Question, adapter: Path, resolved: ResolvedRun, fresh_base: "Callable[[], PreTrainedModel]"
) -> tuple[float, str]:
    """Largest difference of a logit between a model and what was saved of it, on a base that nobody has touched.

    Where transformers loads the very base that was trained on, and the adapter needs PEFT or an import alone, that is
    seen in this process. Where the base was changed first, a process of its own does what the exported card says.

    Returns:
        The difference, not a number where the adapter could not be put on; and words for people on that.
    """
    settings = read_json(adapter / "adapter_config.json") or {}
    opening = opening_of(settings, asked.model.config.model_type, resolved.task.labels, resolved.config.lsg)
    if not opening.changes_base:
        return reload_difference(asked.model, fresh_base(), adapter, asked.form, asked.few), ""
    try:
        return outside_difference(asked, opening, resolved.source, adapter), ""
    except ModelError as exc:
        return math.nan, str(exc)


def outside_difference(asked: Question, opening: Opening, source: str, adapter: Path) -> float:
    """The same, seen by a process with plain transformers and PEFT.

    Args:
        asked: What to ask.
        opening: How the adapter is opened elsewhere.
        source: Folder or Hub id of the untouched base.
        adapter: Folder of the saved adapter.

    Raises:
        ModelError: It could not be put on the base; the message has the last words of the process.
    """
    with tempfile.TemporaryDirectory(prefix="peft-check-") as name:
        folder = Path(name)
        _write_question(folder, asked)
        # Where the lines look for their files: the adapter, and the base's layers if they have to be changed.
        for file in (*adapter.glob("adapter_*"), *([LINEAR_BASE] if opening.linear else [])):
            shutil.copy2(file, folder)
        script = folder / "check.py"
        place = str(Path(source).resolve()) if Path(source).is_dir() else source
        script.write_text(_LIMITS + opening.code(repr(place)) + "\n" + _COMPARE, encoding="utf-8")
        return _ask(script, opening.needs_project)


def _write_question(folder: Path, asked: Question) -> None:
    model, form, examples = asked.model, asked.form, asked.few
    texts: list[str] = []
    if isinstance(form, Labelling):
        most = max(example.prompt_length for example in asked.examples)
        texts = [_fitting(row.prompt, form.tokenizer, most) for row in asked.rows[:CHECK_ROWS]]
        ids = form.tokenizer(texts, verbose=False)["input_ids"]
        examples = [EncodedExample([*row, 0], len(row)) for row in ids]
    batch = {key: part.to(model.device) for key, part in form.inputs(examples).items()}
    with torch.inference_mode():
        given = {} if texts else _as_forward_takes(model, batch)
        logits, _ = form.logits(model, batch)
    save_file({"logits": logits.float().cpu().contiguous()}, folder / "expected.safetensors")
    save_file({key: part.cpu().contiguous() for key, part in given.items()}, folder / "given.safetensors")
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def _fitting(text: str, tokenizer: "PreTrainedTokenizerBase", most: int) -> str:
    """The beginning of a text that the model can read whole."""
    while len(tokenizer(text, verbose=False)["input_ids"]) > most:
        text = text[: len(text) * 3 // 4]
    return text


def _as_forward_takes(model: Model, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of a language model's ``forward``, and ``wanted`` ``(B, T)``, the positions whose logits are compared."""
    labels = batch["labels"]  # (B, T)
    if "attention_mask" in batch:  # an encoder-decoder
        given = base_of(model).prepare_decoder_input_ids_from_labels(labels=labels)
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        return {**inputs, "decoder_input_ids": given, "wanted": (labels != -100).to(torch.uint8)}
    wanted = labels.new_zeros(labels.shape)
    wanted[:, :-1] = labels[:, 1:] != -100  # position t predicts token t + 1
    return {"input_ids": batch["input_ids"], "wanted": wanted.to(torch.uint8)}


def _ask(script: Path, needs_project: bool) -> float:
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    env = {**os.environ, **quiet, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    if needs_project:
        env["PYTHONPATH"] = search_path(os.environ)
    else:
        env.pop("PYTHONPATH", None)
    command = [sys.executable, script.name, ".", str(torch.get_num_threads())]
    try:
        done = subprocess.run(
            command, cwd=script.parent, env=env, capture_output=True, text=True, timeout=MAX_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ModelError(f"The saved adapter could not be tried outside: {type(exc).__name__}.") from exc
    try:
        return float(json.loads(done.stdout.splitlines()[-1])["max_difference"])
    except (IndexError, ValueError, KeyError, TypeError) as exc:
        words = " ".join(done.stderr.split())[-300:]
        raise ModelError(
            f"Outside, the saved adapter could not be put on its base (exit code {done.returncode}): {words}"
        ) from exc
