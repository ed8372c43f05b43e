"""An adapter comes from the Hugging Face Hub, as a run that is over: it answers and is compared like one of ours.

Only safetensors weights and two small texts are fetched; they are checked as the files of an imported run are.
"""

import contextlib
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.archives.run_archive import MAX_BYTES, pack_run, unpack_run
from peft_studio.archives.trained_run import json_object
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError, ModelError, StorageError
from peft_studio.files import tensor_header
from peft_studio.methods import METHODS
from peft_studio.models.catalog import MODELS
from peft_studio.models.hub import check_repository, refusal, require_hub
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.status import Status
from peft_studio.runs.store import RunStore
from peft_studio.tasks import CUSTOM

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

CONFIG, WEIGHTS, PRESET = "adapter_config.json", "adapter_model.safetensors", "preset.yaml"
MOST_BYTES = {CONFIG: 2**20, WEIGHTS: MAX_BYTES, PRESET: 2**16}
WRITES = ("CAUSAL_LM", "SEQ_2_SEQ_LM")
"""Kinds of adapters that answer without knowing the names of labels."""


def fetch_adapter(repository: str, store: RunStore, token: str | bool = False) -> str:
    """Takes in an adapter of the Hub.

    Its settings are those of the run where PEFT Studio has pushed it, else what the adapter's own config says; its
    figures are those that its card reports.

    Args:
        repository: Id of a model repository, as ``owner/name``.
        store: Where runs are kept.
        token: For a repository that not everybody may read; none is sent when False.

    Returns:
        The id of the run.

    Raises:
        ConfigError: The name cannot be that of a repository.
        ModelError: There is no such repository, or what it holds is no adapter that this app can put on a base model.
        ArchiveError: A file is not what its name says.
        NotAllowedError: It is gated or private.
        HubOfflineError: The Hub cannot be reached.
        StorageError: The disk is full or the folder is not writable.
    """
    name = check_repository(repository)
    require_hub()
    with tempfile.TemporaryDirectory(prefix="hub-") as folder:
        root = Path(folder) / ("hub-" + name.replace("/", "-"))[:100].rstrip("-.")
        try:
            paths = RunPaths(root)
            info = _fetch(name, paths.adapter, token)
            _write_run(paths, name, info)
            packed = Path(folder) / "run.zip"
            pack_run(paths, Status.FINISHED, packed)
            return unpack_run(packed, store)
        except OSError as exc:
            raise StorageError(f"The adapter could not be kept: {exc.strerror or exc}.") from exc


def _fetch(name: str, folder: Path, token: str | bool) -> "ModelInfo":
    """Brings the files, after a look at which there are and how large they are."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api = HfApi(token=token)
    try:
        info = api.model_info(name, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        _check_files(name, sizes)
        for file in MOST_BYTES:
            if file in sizes:
                api.hf_hub_download(name, file, revision=info.sha, local_dir=folder)
    except ModelError:
        raise
    except Exception as exc:  # whatever the library meets: its words may hold addresses with keys in them
        raise refusal(exc, name) from None
    return info


def _check_files(name: str, sizes: Mapping[str, int]) -> None:
    if CONFIG not in sizes:
        raise ModelError(f"{name} holds no adapter of PEFT: it has no {CONFIG}.")
    if WEIGHTS not in sizes:
        pickles = any(file.endswith((".bin", ".pt", ".pth", ".ckpt")) for file in sizes)
        why = "Its weights are a pickle, which could run code and is never opened here." if pickles else ""
        raise ModelError(f"{name} has no {WEIGHTS}. {why}".strip())
    for file, most in MOST_BYTES.items():
        if sizes.get(file, 0) > most:
            raise ModelError(f"{file} of {name} has {sizes[file]:,} bytes; {most:,} are allowed.")


def _write_run(paths: RunPaths, name: str, info: "ModelInfo") -> None:
    """Writes config and log of a run that is over, around an adapter."""
    header, _ = _header(paths.adapter / WEIGHTS, name)
    trained = sum(_count(tensor) for tensor in header.values())
    config = _config(paths.adapter, name)
    (paths.adapter / PRESET).unlink(missing_ok=True)
    record = {"v": 1, "name": name, "created": time.time(), "config": config.model_dump(mode="json")}
    paths.config.write_text(json.dumps(record), encoding="utf-8")
    with contextlib.closing(EventWriter(paths.events)) as write:
        write.emit("started", model={"id": config.model.id}, trainable_params=trained, source=name, sha=info.sha)
        if metrics := _metrics(info):
            write.emit("eval", step=0, tokens=0, elapsed=0.0, metrics=metrics)
        write.emit("saved", path="adapter", step=0, bytes=(paths.adapter / WEIGHTS).stat().st_size)
        write.emit("finished", step=0, summary={})


def _header(path: Path, name: str) -> tuple[Mapping[str, Any], int]:
    try:
        return tensor_header(path)
    except ValueError as exc:
        raise ModelError(f"{WEIGHTS} of {name} is not a safetensors file: {exc}.") from exc


def _count(tensor: object) -> int:
    """Numbers of a tensor; 0 for what is none, which the check of the file will tell."""
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    count = 1
    for width in shape if isinstance(shape, list) else [0]:
        count *= width if type(width) is int else 0
    return count


def _config(folder: Path, name: str) -> RunConfig:
    """The settings of the run: those that were pushed with it, else as the adapter's own config tells them."""
    adapter = json_object(folder / CONFIG)
    base = _base(adapter, name)
    if (pushed := _pushed(folder / PRESET, base)) is not None:
        return pushed
    kind, task = str(adapter.get("peft_type")), adapter.get("task_type")
    method = next((one for one in (kind.lower(), kind.lower().removesuffix("_tuning")) if one in METHODS), None)
    if method is None:
        raise ModelError(f"{name} is an adapter of the kind {kind[:40]!r}, which this app cannot put on a model.")
    if task not in WRITES:
        raise ModelError(
            f"{name} is an adapter for {str(task)[:40]!r}. Without its run's settings the names of its labels are not "
            f"known, so only those for {' and '.join(WRITES)} are taken in."
        )
    rank = {"rank": adapter["r"]} if "rank" in METHODS[method].params.model_fields and "r" in adapter else {}
    try:
        return parse_config({"model": {"id": base}, "method": {"name": method, **rank}, "training": {}})
    except ConfigError:  # a rank beyond ours: the adapter is whole all the same
        return parse_config({"model": {"id": base}, "method": {"name": method}, "training": {}})


def _base(adapter: Mapping[str, Any], name: str) -> str:
    base = adapter.get("base_model_name_or_path")
    if isinstance(base, str) and base in MODELS:
        return base
    try:
        return check_repository(str(base))
    except ConfigError:
        raise ModelError(f"{name} does not name its base model by its Hub id, but as {str(base)[:80]!r}.") from None


def _pushed(path: Path, base: str) -> RunConfig | None:
    """The config of a run of this app; None where there is none, or the task's rows are its owner's own."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = parse_config({**values, "model": {**values["model"], "id": base}})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError, ConfigError):
        return None
    return None if config.task.id == CUSTOM else config


def _metrics(info: "ModelInfo") -> dict[str, float]:
    """The figures of the card's ``model-index`` that are named as ours are."""
    results = getattr(info.card_data, "eval_results", None) or ()
    found = {str(result.metric_name): result.metric_value for result in results}
    return {
        name: float(value)
        for name, value in list(found.items())[:64]
        if name.startswith(("test/", "eval/")) and len(name) <= 64 and isinstance(value, int | float)
    }
