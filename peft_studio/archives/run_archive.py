"""A whole run as one file: packed for another machine, and taken in from there once every part of it has been checked.

The zip holds the run's files under their own names, and ``run.json`` with the size and SHA-256 of each. Checkpoints
stay behind: an imported run is there to be looked at, compared and prompted, never to be trained on.
"""

import contextlib
import hashlib
import json
import re
import secrets
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from peft_studio.archives.archive_checks import check_file
from peft_studio.archives.places import without_places
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ArchiveError, ConfigError, InvalidStateError, ModelError, StorageError, shown
from peft_studio.files import atomic_write
from peft_studio.models.adapter_configs import CONFIG, WEIGHTS, check_adapter
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.status import Status
from peft_studio.runs.store import RunStore

FORMAT, VERSION = "peft-studio-run", 1
MANIFEST, IMPORTED = "run.json", "imported.json"
STAGING = ".import-"
"""How the folder begins that a run is unpacked into."""

MAX_ENTRIES = 64
MAX_BYTES = 4 * 2**30  # of all files together, unpacked; the largest adapters of models that fit here are below
MAX_RATIO = 200  # unpacked to packed: logs of a run compress by ten to thirty, a zip bomb by a thousand
RATIO_FREE_BYTES = 2**20  # small files may compress as well as they like
MAX_MANIFEST_BYTES = 2**20
_CHUNK = 2**20

NAMES = re.compile(
    r"config\.json|events\.jsonl|exit\.json|output\.log|predictions\.jsonl|adapter/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\."
    r"(json|safetensors|md|txt)"
)
NEEDED = ("config.json", "events.jsonl")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


def pack_run(paths: RunPaths, status: str, out: Path | BinaryIO) -> None:
    """Writes a run of this status, which must be over, into a zip; folders of this machine are left out of its files.

    Raises:
        InvalidStateError: The run is not over, so that its files still change.
        StorageError: A file cannot be read, or the zip cannot be written.
    """
    if not Status(status).is_final:
        raise InvalidStateError(f"The run {paths.id} is {status}. Only a run that is over can be exported whole.")
    listed = {}
    try:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            for name, path in _files(paths):
                told = without_places(path, name)
                if told is None:
                    archive.write(path, name)
                    listed[name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
                else:
                    archive.writestr(name, told)
                    listed[name] = {"bytes": len(told), "sha256": hashlib.sha256(told).hexdigest()}
            manifest = {"format": FORMAT, "v": VERSION, "id": paths.id, "files": listed}
            archive.writestr(MANIFEST, json.dumps(manifest, indent=2) + "\n")
    except OSError as exc:
        if isinstance(out, Path):
            out.unlink(missing_ok=True)
        raise StorageError(f"The run {paths.id} could not be exported: {exc.strerror or exc}.") from exc


def _files(paths: RunPaths) -> Iterator[tuple[str, Path]]:
    for path in sorted(paths.root.rglob("*")):
        name = path.relative_to(paths.root).as_posix()
        if NAMES.fullmatch(name) and path.is_file() and not path.is_symlink():
            yield name, path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def staging_folder(store: RunStore) -> Path:
    """A new name of a folder to unpack into."""
    return store.root / f"{STAGING}{secrets.token_hex(6)}"


def unpack_run(source: Path | BinaryIO, store: RunStore, staging: Path | None = None) -> str:
    """Takes in a run that ``pack_run`` has written; afterwards it is a run that is over like any other.

    Nothing of it is trusted: names, sizes and contents are checked before it appears, and a file that fails leaves
    nothing behind.

    Args:
        source: The file.
        store: Where the run goes.
        staging: Folder to unpack into; one with a new name when not given.

    Returns:
        The run's id: its own, or a new one when there is such a run already.

    Raises:
        ArchiveError: It is not the undamaged export of a run; says what is wrong with it.
        StorageError: The disk is full or the folder is not writable.
    """
    staging = staging or staging_folder(store)
    try:
        staging.mkdir(parents=True)
        with zipfile.ZipFile(source) as archive:
            manifest = _manifest(archive)
            for entry in _entries(archive, manifest):
                _unpack(archive, entry, manifest["files"][entry.filename], staging)
        _check_adapter(staging / "adapter")
        return _adopt(staging, str(manifest["id"]), store)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as exc:
        raise ArchiveError(f"The file is not a zip of a run, or it is damaged ({exc or type(exc).__name__}).") from exc
    except OSError as exc:
        raise StorageError(f"The run could not be imported into {store.root}: {exc.strerror or exc}.") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_adapter(folder: Path) -> None:
    """An adapter's settings and tensors as PEFT would read them; either alone is never read."""
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        return
    try:
        check_adapter(folder)
    except (ModelError, ValueError) as exc:
        raise ArchiveError(f"The adapter in the zip cannot be used: {exc}") from exc


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """The list of contents, itself checked."""
    try:
        entry = archive.getinfo(MANIFEST)
    except KeyError:
        raise ArchiveError(
            f"The zip has no {MANIFEST}, so it is no exported run. A zip made by Export holds an adapter alone."
        ) from None
    if entry.file_size > MAX_MANIFEST_BYTES:
        raise ArchiveError(f"{MANIFEST} has {entry.file_size:,} bytes; {MAX_MANIFEST_BYTES:,} are allowed.")
    with archive.open(entry) as file:
        text = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        found = json.loads(text)
        known = (found["format"], found["v"]) == (FORMAT, VERSION)
        whole = known and isinstance(found["id"], str) and isinstance(found["files"], dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ArchiveError(f"{MANIFEST} does not describe a run of format {FORMAT!r}, version {VERSION}.")
    return dict(found)


def _entries(archive: zipfile.ZipFile, manifest: dict[str, Any]) -> list[zipfile.ZipInfo]:
    """The entries to unpack, after a look at all of them."""
    entries = [entry for entry in archive.infolist() if entry.filename not in (MANIFEST, "adapter/")]
    if len(entries) > MAX_ENTRIES:
        raise ArchiveError(f"The zip holds {len(entries):,} files; a run has {MAX_ENTRIES} at most.")
    for entry in entries:
        _check_entry(entry)
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names) or set(names) != set(manifest["files"]):
        odd = ", ".join(sorted(set(names) ^ set(manifest["files"])))[:300]
        raise ArchiveError(
            f"The files of the zip are not those that {MANIFEST} lists: {shown(', '.join(odd) or 'twice')}."
        )
    if missing := [name for name in NEEDED if name not in names]:
        raise ArchiveError(f"The zip has no {missing[0]}; a run cannot be without it.")
    places = sorted((entry.header_offset, entry.header_offset + entry.compress_size) for entry in entries)
    if any(end > begin for (_, end), (begin, _) in pairwise(places)):
        raise ArchiveError("The files in the zip lie one upon the other.")
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES:
        raise ArchiveError(f"Unpacked, the files have {total:,} bytes; {MAX_BYTES:,} are allowed.")
    return entries


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ArchiveError(f"{name!r} is a link; a run holds plain files only.")
    if not NAMES.fullmatch(name) or ".." in name:
        raise ArchiveError(f"{shown(name)} is no file of a run.")
    if entry.flag_bits & 1:
        raise ArchiveError(f"{name!r} is encrypted.")
    if entry.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * entry.compress_size):
        raise ArchiveError(
            f"{name!r} would unpack {entry.compress_size:,} bytes to {entry.file_size:,}, more than {MAX_RATIO} times."
        )


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, listed: Any, staging: Path) -> None:
    """Writes one file, of which no more is read than was promised, and checks what it holds."""
    path = staging / entry.filename
    path.parent.mkdir(exist_ok=True)
    digest, left = hashlib.sha256(), entry.file_size
    with archive.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise ArchiveError(f"{entry.filename!r} is longer than the zip says.")
            digest.update(chunk)
            target.write(chunk)
    told = listed.get("sha256") if isinstance(listed, dict) else None
    if left or digest.hexdigest() != told:
        raise ArchiveError(f"{entry.filename!r} is damaged: its contents are not those that were exported.")
    check_file(path, entry.filename)


def _adopt(staging: Path, wanted: str, store: RunStore) -> str:
    """Makes a checked folder a run: with a valid config, an end, and an id of its own."""
    record = json.loads((staging / "config.json").read_bytes())
    try:
        config = parse_config(record.get("config"))
    except ConfigError as exc:
        raise ArchiveError(f"config.json is not a config that this version can read: {exc}") from exc
    created, name = record.get("created"), record.get("name")
    now = time.time()
    fresh = {
        "v": 1,
        "name": name[:500] if isinstance(name, str) else "",
        "created": min(float(created), now) if _is_time(created) else now,
        "config": config.model_dump(mode="json"),
    }
    if not (staging / "exit.json").exists():  # without one it would count as queued, and be run
        atomic_write(staging / "exit.json", '{"code": null, "signal": null}\n')
    atomic_write(staging / IMPORTED, json.dumps({"from": wanted, "time": now}) + "\n")
    return _settle(staging, fresh, _ids(wanted, config.method.name), store)


def _settle(staging: Path, record: dict[str, Any], ids: Iterator[str], store: RunStore) -> str:
    for run_id in ids:
        if (store.root / run_id).exists():
            continue
        text = json.dumps({**record, "id": run_id}, indent=2, ensure_ascii=False)
        atomic_write(staging / "config.json", text + "\n")
        with contextlib.suppress(FileExistsError):
            staging.rename(store.root / run_id)
            return run_id
    raise StorageError(f"No free name was found in {store.root}.")


def _ids(wanted: str, method: str) -> Iterator[str]:
    if _ID.fullmatch(wanted) and ".." not in wanted:
        yield wanted
    for _ in range(10):
        yield f"{time.strftime('%Y%m%d-%H%M%S')}-{method}-{secrets.token_hex(3)}"


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11
