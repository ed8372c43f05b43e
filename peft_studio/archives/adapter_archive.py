"""A trained adapter as a zip that plain PEFT loads, with a model card and a script that repeats the run.

Torch-free: the web process packs it from files. Nothing in it names a folder of this machine, and rows of the data are
in it only when asked for.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from peft_studio.archives.model_card import merged_card, model_card
from peft_studio.archives.reproduce_script import mark_of, reproduce_script
from peft_studio.archives.trained_run import TrainedRun, read_run
from peft_studio.errors import DataError, InvalidStateError
from peft_studio.files import weights_are_whole
from peft_studio.models.opening import LINEAR_BASE, TRANSPOSED
from peft_studio.runs.event_log import number
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.redact import redact, redact_json, redact_lines
from peft_studio.tasks import CUSTOM, custom_data
from peft_studio.tasks.base import Row, some_rows
from peft_studio.tasks.batching import EARLIER
from peft_studio.tasks.custom import find_table, load_rows

DATA_FILES = ("train_file", "validation_file", "test_file")
BASE_FILES = (".json", ".safetensors", ".txt", ".model", ".jinja", ".md")
"""What of an embedded base model travels along."""


def export_zip(paths: RunPaths, out: Path | BinaryIO, rows: bool = False, repository: str = "") -> None:
    """Packs a run's adapter.

    The zip holds the adapter as PEFT saved it, ``README.md`` (model card), ``preset.yaml``, ``metrics.json``,
    ``labels.json`` of a classifier, ``linear_base.py`` where the adapter needs it, the folder of an embedded base
    model, and ``reproduce.py`` (for decoders that any Trainer trains in the same way).

    Args:
        paths: The run.
        out: Where the zip goes.
        rows: Whether the data's rows go with it: ``train.jsonl``, ``validation.jsonl``, and ``predictions.jsonl``, the
            test rows with their answers, when there are any.
        repository: Id of the Hub repository that it is for, which the card names; empty for none.

    Raises:
        InvalidStateError: The run has not saved an adapter, or it is damaged.
        ConfigError: The run's config is damaged.
        DataError: Rows were asked for, and the files that they are in are gone.
        OSError: The zip cannot be written.
    """
    run = exportable(paths)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(paths.adapter.rglob("*")):
            if path.is_file() and path.name not in ("README.md", "adapter_config.json"):
                archive.write(path, str(path.relative_to(paths.adapter)))
        archive.writestr("adapter_config.json", redact(_adapter_config(run)))
        archive.writestr("README.md", redact(model_card(run, rows, repository)))
        archive.writestr("preset.yaml", redact(_preset(run)))
        archive.writestr("metrics.json", redact(_json(_facts(run))))
        if run.opening.labels:
            archive.writestr("labels.json", redact(_json(run.label_names)))
        if run.opening.linear:
            archive.write(LINEAR_BASE, LINEAR_BASE.name)
        _add_base(archive, run)
        if run.repeats_plainly:
            archive.writestr("reproduce.py", redact(_script(run)))
        if rows:
            _add_rows(archive, run, paths)
        elif run.repeats_plainly and (marks := _marks(run)):
            archive.writestr("row_hashes.json", json.dumps(marks))


def script_files(paths: RunPaths) -> dict[str, str]:
    """What repeats a run with plain libraries, but for its rows: texts by names of files.

    Empty where the run trains in a way of its own, or has saved no adapter.
    """
    try:
        run = exportable(paths)
    except InvalidStateError:
        return {}
    if not run.repeats_plainly:
        return {}
    files = {"adapter_config.json": _adapter_config(run), "reproduce.py": _script(run)}
    if run.opening.linear:
        files[LINEAR_BASE.name] = LINEAR_BASE.read_text(encoding="utf-8")
    if marks := _marks(run):
        files["row_hashes.json"] = json.dumps(marks)
    return {name: redact(text) for name, text in files.items()}


def script_rows(paths: RunPaths) -> dict[str, str]:
    """The rows of a task that comes with the app, as the script reads them: JSON lines by names of files."""
    run = read_run(paths)
    if run.config.task.id == CUSTOM:
        return {}
    task = run.resolved.task
    validation = some_rows(task.load("validation"), run.config.training.eval_rows)
    splits = {"train.jsonl": task.load("train"), "validation.jsonl": validation}
    return {
        name: "".join(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows)
        for name, rows in splits.items()
    }


def pack_merged(paths: RunPaths, folder: Path, difference: float, out: Path) -> None:
    """Packs a model that ``training.merging`` has made of a run, with its card.

    Args:
        paths: The run.
        folder: Where the model is.
        difference: Largest difference of a logit from base and adapter.
        out: Where the zip goes.

    Raises:
        InvalidStateError: The run has not saved an adapter.
        OSError: The zip cannot be written.
    """
    run = exportable(paths)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # weights do not become smaller
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
        archive.writestr("README.md", redact(merged_card(run, difference)))
        archive.writestr("metrics.json", _json({**_facts(run), "merged": {"max_difference": difference}}))


def exportable(paths: RunPaths) -> TrainedRun:
    """What is known of a run whose adapter can be taken away.

    Raises:
        InvalidStateError: The run has not saved an adapter, or it is damaged.
        ConfigError: The run's config is damaged.
    """
    weights = paths.adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise InvalidStateError(f"The run {paths.id} has not saved an adapter, so there is nothing to export.")
    if not weights_are_whole(weights):
        raise InvalidStateError(f"The adapter of the run {paths.id} is damaged, so it cannot be exported.")
    return read_run(paths)


def _add_base(archive: zipfile.ZipFile, run: TrainedRun) -> None:
    """The embedded base model, in a folder that has its name; no other machine would find it otherwise."""
    card = run.resolved.card
    if card is not None and card.path is not None:
        for path in sorted(card.path.iterdir()):
            if path.suffix in BASE_FILES:
                archive.write(path, f"{card.id}/{path.name}")


def _add_rows(archive: zipfile.ZipFile, run: TrainedRun, paths: RunPaths) -> None:
    task = run.resolved.task
    _write_rows(archive, "train.jsonl", task.load("train"))
    validation = some_rows(task.load("validation"), run.config.training.eval_rows)
    _write_rows(archive, "validation.jsonl", validation)
    if paths.predictions.is_file():
        told = paths.predictions.read_text(encoding="utf-8", errors="surrogateescape")
        archive.writestr(paths.predictions.name, redact_lines(told).encode("utf-8", errors="surrogateescape"))


def _source(run: TrainedRun) -> dict[str, Any]:
    """The run's own data files and what their columns mean, guessed ones included; nothing where they are gone."""
    task = run.config.task
    if task.id != CUSTOM:
        return {}
    try:
        data = load_rows(custom_data(task)).data
        files = [Path(file) for file in (data.train_file, data.validation_file) if file]
        named = {file.name: find_table(file).facts["encoding"] for file in files}
    except DataError:
        return {}
    return {"files": named, "input": data.input_column, "target": data.target_column, "template": data.template}


def _adapter_config(run: TrainedRun) -> str:
    """The adapter's config without this machine's folders, and right for the untouched base."""
    config = dict(sorted(run.adapter_config.items()))
    for key in ("base_model_name_or_path", "tokenizer_name_or_path"):
        if config.get(key):
            config[key] = run.base[0]
    if isinstance(config.get("modules_to_save"), list):
        config["modules_to_save"] = list(dict.fromkeys(config["modules_to_save"]))
    if "fan_in_fan_out" in config and run.opening.model_type in TRANSPOSED:
        config["fan_in_fan_out"] = not run.opening.linear
    return _json(config)


def _script(run: TrainedRun) -> str:
    training, length = run.config.training.model_dump(), run.started["data"].get("max_length")
    return reproduce_script(
        title=f"{run.title} ({run.id})",
        base=run.base,
        opening=run.opening,
        training=training if number(length) is None else {**training, "max_length": int(length)},
        megabatch=int(number(run.started.get("megabatch")) or EARLIER),
        versions=run.started.get("versions", {}),
        recorded=run.metrics.get("eval/loss"),
        source=_source(run),
    )


def _preset(run: TrainedRun) -> str:
    import yaml

    values = run.config.model_dump(mode="json")
    values["model"]["id"] = run.base[0]
    for name in DATA_FILES:
        values["task"][name] = Path(values["task"][name]).name
    values["training"]["precision"] = run.precision  # what auto was on the machine that trained it
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _facts(run: TrainedRun) -> dict[str, Any]:
    kept = ("versions", "device", "threads", "precision", "seed", "data", "max_steps")
    counts = ("trainable_params", "total_params")
    facts = {key: run.started[key] for key in (*kept, *counts) if key in run.started}
    model = {**run.started["model"], "id": run.base[0]}
    labels = run.label_names if run.opening.labels else {}
    figures = {"check": dict(run.check), "summary": dict(run.summary), "metrics": run.metrics}
    step, loss = run.best or (None, None)
    best = {
        "best_eval_loss": loss,
        "best_step": step,
        "saved_step": run.saved_step,
        "tokenizers": dict(run.tokenizers),
    }
    return {"run": run.id, "model": model, **labels, **facts, **figures, **best}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write_rows(archive: zipfile.ZipFile, name: str, rows: Sequence[Row]) -> None:
    """Adds rows one after the other: all of them as one text would take the web process many times their size."""
    with archive.open(name, "w") as file:
        for row in rows:
            line = json.dumps(redact_json(_plain(row)), ensure_ascii=False)
            file.write(f"{line}\n".encode("utf-8", errors="surrogateescape"))


def _plain(row: Row) -> dict[str, Any]:
    chat = {"turns": row.chat.turns, "all_turns": row.chat.all_turns} if row.chat else {}
    return {"prompt": row.prompt, "target": row.target, "references": row.references, **chat}


def _marks(run: TrainedRun) -> dict[str, list[str]]:
    """Short hashes of the rows, by which the script finds them in the run's own data file; none where that is gone."""
    if run.config.task.id != CUSTOM:
        return {}
    try:
        task = run.resolved.task
        train, validation = task.load("train"), task.load("validation")
    except DataError:
        return {}
    used = {"train": train, "validation": some_rows(validation, run.config.training.eval_rows)}
    return {split: [mark_of(row.prompt, row.target) for row in rows] for split, rows in used.items()}
