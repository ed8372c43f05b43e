"""Data sets from the Hub as files: fetched once, then used exactly like a user's own.

``fetch`` writes training, validation and test rows as JSON Lines; ``task_settings`` says which ``task`` section of a
config reads them. Code that comes with a data set is never run. The ``datasets`` library loads with the first fetch.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft_studio.errors import DataError, HubOfflineError, StorageError
from peft_studio.models.hub import hub_answers
from peft_studio.tasks.base import SPLITS, Split
from peft_studio.tasks.custom import CustomData, load_rows, table_facts
from peft_studio.tasks.hub_catalogue import HubData, find_data
from peft_studio.tasks.reading.column_names import HISTORIES, plain
from peft_studio.tasks.reading.templates import placeholders
from peft_studio.tasks.tables import MAX_BYTES

MOST_ROWS: dict[Split, int] = {"train": 20_000, "validation": 2_000, "test": 2_000}
"""Larger splits are sampled, always in the same way."""
_EXPORT = "refs/convert/parquet"
"""The branch to which the Hub exports what a loading script gives; the scripts themselves are not run any more."""
_USUAL: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test",),
}
_READABLE = ("Value", "ClassLabel", "List", "LargeList", "Sequence")
"""Types of columns that can hold texts or numbers; others are images, sounds and the like."""


def fetch(
    data: HubData | str, home: Path, config: str = "", say: Callable[[str], object] = lambda words: None
) -> dict[Split, Path]:
    """Writes a data set's rows to files below the home folder.

    Args:
        data: An entry, a Hub id or a folder with data files.
        home: The home folder.
        config: Name of the configuration; needed when there are several and ``data`` is no entry.
        say: Is told in a few words what is being done.

    Returns:
        The file of each split that the data set has; always one for training. Without the Hub, those of an earlier
        call.

    Raises:
        HubOfflineError: The Hub cannot be reached.
        DataError: There is no such data set, or it has no rows that can be used.
        StorageError: The files cannot be written.
    """
    entry = find_data(data, config) if isinstance(data, str) else data
    folder = home / "datasets" / _safe_name(entry)
    say("Asking the Hub")
    if not Path(entry.id).expanduser().is_dir() and not hub_answers():
        there: dict[Split, Path] = {split: file for split in SPLITS if (file := folder / f"{split}.jsonl").is_file()}
        if "train" not in there:
            raise HubOfflineError
        return there
    say("Downloading, which can take minutes")
    loaded = _load(entry)
    names = _split_names(entry, loaded)
    columns = {split: _columns(entry, loaded[name].features) for split, name in names.items()}
    try:
        say("Writing the rows to files")
        folder.mkdir(parents=True, exist_ok=True)
        found = {
            split: _write(folder, split, _rows(loaded[name], entry, columns[split], split))
            for split, name in names.items()
        }
        if not found.get("train"):
            raise DataError(f"The data set {entry.id!r} has no training rows that can be used.")
        return _publish(folder, found)
    except OSError as exc:
        raise StorageError(f"{folder} cannot be written: {exc.strerror or exc}.") from exc


def task_settings(data: HubData, files: Mapping[Split, Path]) -> dict[str, str]:
    """The ``task`` section of a config that uses fetched files.

    Args:
        data: What was fetched.
        files: Its files.

    Raises:
        DataError: The columns cannot be guessed, or the rows cannot be used.
    """
    custom = CustomData(
        kind=data.kind or table_facts(files["train"]).guessed().kind,
        **{f"{split}_file": str(file) for split, file in files.items()},
        input_column=data.input_column,
        target_column=data.target_column,
        references_column=data.references_column,
        template=data.template,
    )
    settings = asdict(load_rows(custom).data)
    return {"id": "custom", **{name: value for name, value in settings.items() if value}}


def _safe_name(data: HubData) -> str:
    name = "--".join(part for part in (data.id, data.config) if part)
    return re.sub(r"[^\w.-]+", "--", name).strip("-.")[-150:] or "data"


def _load(data: HubData) -> Mapping[str, Any]:
    """All splits of a data set, by name."""
    import datasets

    name = str(Path(data.id).expanduser()) if Path(data.id).expanduser().is_dir() else data.id
    try:
        try:
            loaded = datasets.load_dataset(name, data.config or None)
        except RuntimeError as exc:
            if "scripts are no longer supported" not in str(exc):
                raise
            loaded = datasets.load_dataset(name, data_files=_exported(data), revision=_EXPORT)
    except Exception as exc:  # the library lets errors of many others through
        raise DataError(f"The data set {data.id!r} cannot be loaded: {' '.join(str(exc).split())[:400]}") from exc
    return loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _exported(data: HubData) -> dict[str, list[str]]:
    """Files of the Hub's own export by split: ``config/split/0000.parquet``."""
    from huggingface_hub import HfApi

    found: dict[str, dict[str, list[str]]] = {}
    for file in HfApi().list_repo_files(data.id, repo_type="dataset", revision=_EXPORT):
        config, _, rest = file.partition("/")
        split, _, part = rest.partition("/")
        if part.endswith(".parquet") and "/" not in part:
            found.setdefault(config, {}).setdefault(split.removeprefix("partial-"), []).append(file)
    if data.config in found or (not data.config and len(found) == 1):
        return found[data.config or next(iter(found))]
    if not data.config and "default" in found:
        return found["default"]
    raise DataError(f"It needs one of these configurations: {', '.join(found) or 'none is there'}.")


def _split_names(data: HubData, loaded: Mapping[str, Any]) -> dict[Split, str]:
    usual = {split: next((name for name in names if name in loaded), "") for split, names in _USUAL.items()}
    names = {split: data.splits.get(split, "") if data.splits else usual[split] for split in SPLITS}
    if not names["train"] and len(loaded) == 1:  # all there is; validation and test rows are set aside from it
        names = {"train": next(iter(loaded)), "validation": "", "test": ""}
    missing = [name for name in names.values() if name and name not in loaded]
    if missing or not names["train"]:
        wanted = missing[0] if missing else "train"
        raise DataError(f"The data set {data.id!r} has no split {wanted!r}. It has: {', '.join(loaded)}.")
    return {split: name for split, name in names.items() if name}


def _write(folder: Path, split: Split, records: Iterable[Mapping[str, Any]]) -> int:
    """Writes a draft of a split's file, no larger than a table may be; returns the number of rows."""
    size = count = 0
    with (folder / f"{split}.part").open("w", encoding="utf-8", newline="\n") as stream:
        for record in records:
            line = json.dumps(record, ensure_ascii=False, default=str).encode("utf-8", "replace").decode() + "\n"
            size += len(line.encode())
            if size > MAX_BYTES:
                break
            stream.write(line)
            count += 1
    return count


def _publish(folder: Path, counts: Mapping[Split, int]) -> dict[Split, Path]:
    """Puts the drafts that hold rows in place of earlier files."""
    files: dict[Split, Path] = {}
    for split in SPLITS:
        draft, file = folder / f"{split}.part", folder / f"{split}.jsonl"
        if counts.get(split):
            files[split] = draft.replace(file)
        else:
            draft.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
    return files


def _columns(data: HubData, features: Mapping[str, Any]) -> list[str]:
    """The columns that a known data set needs; all that hold texts or numbers of an unknown one."""
    named = [name for name in (data.input_column, data.target_column, data.references_column) if name]
    for name in named:
        if name not in features:
            raise DataError(f"The data set {data.id!r} has no column {name!r}. It has: {', '.join(features)}.")
    if not data.input_column or not data.target_column:
        return [name for name, feature in features.items() if type(feature).__name__ in _READABLE]
    return list(dict.fromkeys([*named, *placeholders(data.template, features)]))


def _rows(rows: Any, data: HubData, columns: list[str], split: Split) -> Iterator[dict[str, Any]]:
    """Rows of a split as a table can hold them, without those whose label is hidden."""
    names = {column: getattr(rows.features[column], "names", None) for column in columns}
    if data.labels:
        names[data.target_column] = data.labels
    if len(rows) > MOST_ROWS[split]:
        rows = rows.shuffle(seed=0).select(range(MOST_ROWS[split]))
    for row in rows.select_columns(columns):
        record = {
            column: row[column]
            if plain(column) in HISTORIES
            else _value(row[column], names[column], column in data.tokens)
            for column in columns
        }
        if not any(names[column] and record[column] == "" for column in columns):
            yield {column: value for column, value in record.items() if value is not None}


def _value(value: Any, names: Sequence[str] | None, tokens: bool) -> Any:
    """A value as a table can hold it; None for one that it cannot hold, empty for a hidden label."""
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else ""
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return value  # turns of a chat, or something else that a table keeps as JSON
    if isinstance(value, list | tuple):
        texts = [" | ".join(map(str, part)) if isinstance(part, list) else part for part in value]
        if tokens:
            return " ".join(map(str, texts))
        return texts if all(isinstance(part, str | int | None) for part in texts) else None
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value if finite or isinstance(value, str) else None
