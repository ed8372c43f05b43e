"""A trained adapter as a zip that plain PEFT loads, with a model card and a script that repeats the run.

Torch-free: the web process packs it from files. Nothing in it names a folder of this machine.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from peft_studio.archives.reproduce_script import reproduce_script
from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError, InvalidStateError
from peft_studio.files import open_plain, weights_are_whole
from peft_studio.runs.event_log import number
from peft_studio.runs.fold import RunFold
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.progress import RunProgress
from peft_studio.tasks.base import Row, some_rows
from peft_studio.tasks.batching import EARLIER

TUNERS = "peft_studio.methods.tuners"  # importing it teaches PEFT the project's own adapter types
OWN_PREFIX = "STUDIO_"  # which all begin with this


@dataclass(frozen=True)
class TrainedRun:
    """What is known about a run from its files."""

    id: str
    title: str
    resolved: ResolvedRun
    started: Mapping[str, Any]
    metrics: dict[str, float]
    summary: Mapping[str, Any]
    steps: int
    tuner_import: str
    task_type: str = "CAUSAL_LM"

    @property
    def config(self) -> RunConfig:
        """What was asked for."""
        return self.resolved.config

    @property
    def precision(self) -> str:
        """In which it was computed; older runs say it in their config."""
        return str(self.started.get("precision") or self.config.training.precision)

    @property
    def base(self) -> tuple[str, str]:
        """Name of the base model without this machine's folders, and where it is found."""
        model, card = self.config.model.id, self.resolved.card
        if card is not None:
            return card.id, "catalogue" if card.path else "hub"
        path = Path(model).expanduser()
        return (path.name, "folder") if path.is_dir() or model.startswith(("/", "~", ".")) else (model, "hub")


def export_zip(paths: RunPaths, out: Path | BinaryIO) -> None:
    """Packs a run's adapter.

    The zip holds the adapter as PEFT saved it, ``README.md`` (model card), ``preset.yaml``, ``metrics.json``,
    ``reproduce.py`` (for decoders that any Trainer trains in the same way), its data ``train.jsonl`` and
    ``validation.jsonl``, and ``predictions.jsonl`` when there are any.

    Raises:
        InvalidStateError: The run has not saved an adapter, or it is damaged.
        ConfigError: The run's config is damaged.
        OSError: The zip cannot be written.
    """
    if not (paths.adapter / "adapter_model.safetensors").is_file():
        raise InvalidStateError(f"The run {paths.id} has not saved an adapter, so there is nothing to export.")
    if not weights_are_whole(paths.adapter / "adapter_model.safetensors"):
        raise InvalidStateError(f"The adapter of the run {paths.id} is damaged, so it cannot be exported.")
    run = _read(paths)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(paths.adapter.rglob("*")):
            if path.is_file() and path.name not in ("README.md", "adapter_config.json"):
                archive.write(path, str(path.relative_to(paths.adapter)))
        archive.writestr("adapter_config.json", _adapter_config(paths.adapter, run.base[0]))
        archive.writestr("README.md", model_card(run))
        archive.writestr("preset.yaml", _preset(run))
        archive.writestr("metrics.json", json.dumps(_facts(run), indent=2, ensure_ascii=False) + "\n")
        if repeats_plainly(run):
            archive.writestr("reproduce.py", _script(run))
        task = run.resolved.task
        archive.writestr("train.jsonl", _jsonl(task.load("train")))
        archive.writestr("validation.jsonl", _jsonl(some_rows(task.load("validation"), run.config.training.eval_rows)))
        if paths.predictions.is_file():
            archive.write(paths.predictions, paths.predictions.name)


def _read(paths: RunPaths) -> TrainedRun:
    record = _object(paths.config)
    resolved = resolve(parse_config(record.get("config")))
    with RunFold(paths).reading(RunProgress) as fold:
        progress = fold.part(RunProgress)
    started = progress.latest.get("started", {})
    ends = [event for kind, event in progress.latest.items() if kind in ("finished", "stopped")]
    end = ends[-1] if ends else {}
    summary, step = _mapping(end.get("summary")), end.get("step")
    title = str(record.get("name") or "") or resolved.method.title
    adapter = _object(paths.adapter / "adapter_config.json")
    started = {**started, **{name: _mapping(started.get(name)) for name in ("data", "versions", "model")}}
    task_type = str(adapter.get("task_type") or "CAUSAL_LM")
    steps = step if isinstance(step, int) else 0
    return TrainedRun(
        paths.id, title, resolved, started, progress.metrics, summary, steps, tuner_import(adapter), task_type
    )


def _object(path: Path) -> dict[str, Any]:
    """A JSON file that the export cannot do without."""
    try:
        with open_plain(path) as file:
            value = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path} is damaged: {str(exc)[:200]}.") from exc
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is damaged: it is not a JSON object.")
    return value


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _adapter_config(folder: Path, base: str) -> str:
    config = _object(folder / "adapter_config.json")
    config["base_model_name_or_path"] = base
    return json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def tuner_import(adapter_config: Mapping[str, Any]) -> str:
    """The import line that an adapter's type needs before PEFT loads it; empty for PEFT's own types."""
    return f"import {TUNERS}" if str(adapter_config.get("peft_type")).startswith(OWN_PREFIX) else ""


def _script(run: TrainedRun) -> str:
    length = run.started.get("data", {}).get("max_length")
    return reproduce_script(
        title=f"{run.title} ({run.id})",
        base=run.base,
        tuner_import=run.tuner_import,
        training=run.config.training.model_dump(),
        max_length=int(length) if number(length) is not None else run.config.training.max_length,
        megabatch=int(number(run.started.get("megabatch")) or EARLIER),
        versions=run.started.get("versions", {}),
        recorded=run.metrics.get("eval/loss"),
    )


def model_card(run: TrainedRun) -> str:
    """The zip's ``README.md``: what was trained, on what, how well, and how to load it."""
    from huggingface_hub import ModelCardData  # takes half a second

    method, task = run.resolved.method, run.resolved.task
    base, where = run.base
    head = ModelCardData(
        base_model=base if where == "hub" else None, library_name="peft", tags=["peft-studio", method.name, task.name]
    )
    parameters = run.config.method.model_dump(exclude={"name"})
    training = {**run.config.training.model_dump(), "precision": run.precision}
    sections = [
        f"---\n{head.to_yaml()}\n---",
        f"# {' '.join(run.title.split())}",
        f"{method.title} for the base model `{base}`, trained on the task *{task.title}* with PEFT Studio. "
        f"{method.summary}",
        f"- Method: [{method.paper.title}]({method.paper.url}), {method.paper.authors}, {method.paper.year}\n"
        f"- Parameters: {_listing(parameters)}\n"
        f"- Training: {run.steps:,} steps done; {_listing(training)}\n"
        f"- Trainable parameters: {_count(run.started.get('trainable_params'))} of "
        f"{_count(run.started.get('total_params'))}\n"
        f"- Data: {task.description} {_count(run.started.get('data', {}).get('rows'))} training rows, fingerprint "
        f"`{run.started.get('data', {}).get('fingerprint', 'unknown')}`",
        "## Metrics\n\n" + _table(run.metrics),
        "Names that begin with `base/` are the base model's own figures. Test answers are decoded greedily.",
        "## Load it\n\n" + _loading(run),
        "## Repeat it\n\n" + _repeating(run),
        "## Versions\n\n" + _listing(run.started.get("versions", {})),
    ]
    return "\n\n".join(sections) + "\n"


def repeats_plainly(run: TrainedRun) -> bool:
    """Whether a stock Trainer over one text per row does the same as our loop did."""
    method, training = run.resolved.method, run.config.training
    own = (method.optimizer, method.penalty, method.after_step)
    usual = {"epochs": 0, "gradient_accumulation": 1, "optimizer": "adamw", "early_stopping": 0}
    plain = all(getattr(training, name) == value for name, value in usual.items())
    plain = plain and run.precision == "fp32"
    decoder = run.task_type == "CAUSAL_LM"
    return decoder and plain and not any(own) and not (method.looks_at_data or method.changes_base)


def _repeating(run: TrainedRun) -> str:
    if repeats_plainly(run):
        return "`python reproduce.py` trains it again in plain transformers and peft."
    return "`python -m peft_studio train preset.yaml` trains it again."


_LOADERS = {"SEQ_CLS": "SequenceClassification", "SEQ_2_SEQ_LM": "Seq2SeqLM"}


def _loading(run: TrainedRun) -> str:
    loader = "AutoModelFor" + _LOADERS.get(run.task_type, "CausalLM")
    labels = f", num_labels={len(run.resolved.task.labels)}" if run.task_type == "SEQ_CLS" else ""
    base, where = run.base
    name = {"hub": base, "catalogue": f"peft_studio/models/{base}", "folder": f"path/to/{base}"}[where]
    first = f"{run.tuner_import}  # registers the adapter's type with PEFT\n" if run.tuner_import else ""
    return (
        "```python\n"
        "from peft import PeftModel\n"
        f"from transformers import {loader}, AutoTokenizer\n"
        f"{first}\n"
        f'base = {loader}.from_pretrained("{name}"{labels})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")\n'
        "```"
    )


def _listing(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items()) or "defaults"


def _table(metrics: Mapping[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in sorted(metrics.items()))
    return f"| metric | value |\n| --- | --- |\n{rows}" if rows else "None were recorded."


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number"


def _preset(run: TrainedRun) -> str:
    import yaml

    values = run.config.model_dump(mode="json")
    values["model"]["id"] = run.base[0]
    values["training"]["precision"] = run.precision  # what auto was on the machine that trained it
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _facts(run: TrainedRun) -> dict[str, Any]:
    kept = ("versions", "device", "threads", "precision", "seed", "data", "max_steps")
    counts = ("trainable_params", "total_params")
    facts = {key: run.started[key] for key in (*kept, *counts) if key in run.started}
    model = {**run.started.get("model", {}), "id": run.base[0]}
    return {"run": run.id, "model": model, **facts, "summary": dict(run.summary), "metrics": run.metrics}


def _jsonl(rows: Sequence[Row]) -> str:
    lines = (json.dumps({"prompt": row.prompt, "target": row.target}, ensure_ascii=False) for row in rows)
    return "".join(f"{line}\n" for line in lines)
