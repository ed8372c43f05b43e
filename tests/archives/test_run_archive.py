"""Whole runs as files: there and back again, and whatever is wrong with a file leaves nothing behind."""

import io
import json
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.archives import run_archive as transfer
from peft_studio.archives.run_archive import MANIFEST, pack_run, unpack_run
from peft_studio.errors import ArchiveError, InvalidStateError, StorageError, StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.status import run_state
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings, prepare_home

Files = dict[str, bytes]


def safetensors(shape: tuple[int, ...] = (2, 3), **changes: Any) -> bytes:
    """A file with one tensor of float32 zeros, or one whose header says otherwise."""
    data = b"\0" * 24
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 24], **changes}
    header = json.dumps({"weight": entry, "__metadata__": {"format": "pt"}}).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """A finished run with everything that a run has."""
    paths = RunStore(tmp_path / "there" / "runs").create(make_config(), "Grüße <b>")
    events = [{"v": 1, "kind": "step", "step": 1, "loss": 1.5}, {"v": 1, "kind": "finished", "step": 1, "summary": {}}]
    paths.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    paths.log.write_text("hello\n")
    paths.predictions.write_text('{"target": "a", "prediction": "b"}\n')
    paths.claim.write_text('{"pid": 1, "process_start": 1}')
    paths.exit.write_text('{"code": 0, "signal": null}')
    paths.adapter.mkdir()
    (paths.adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "auto_mapping": null}')
    (paths.adapter / "adapter_model.safetensors").write_bytes(safetensors())
    (paths.adapter / "README.md").write_text("# card")
    (paths.root / "checkpoint").mkdir()
    (paths.root / "checkpoint" / "state.json").write_text("{}")
    (paths.root / "notes.py").write_text("import os")
    return paths


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """An empty store on another machine."""
    (tmp_path / "here").mkdir()
    return RunStore(tmp_path / "here")


@pytest.fixture
def packed(run: RunPaths, tmp_path: Path) -> Path:
    out = tmp_path / "run.zip"
    pack_run(run, "finished", out)
    return out


def contents(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(files: Files, /, manifest: bool = True, **changes: Any) -> io.BytesIO:
    """A zip of these files, with a manifest that fits them."""
    listed = {name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in files.items()}
    listed.pop(MANIFEST, None)
    head = {"format": "peft-studio-run", "v": 1, "id": "some-run", "files": listed, **changes}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            if name != MANIFEST:
                archive.writestr(name, data)
        if manifest:
            archive.writestr(MANIFEST, json.dumps(head))
    return out


def assert_refused(source: Any, store: RunStore, match: str, kind: type[StudioError] = ArchiveError) -> None:
    with pytest.raises(kind, match=match):
        unpack_run(source, store)
    assert list(store.root.iterdir()) == []


def test_there_and_back(run: RunPaths, packed: Path, store: RunStore) -> None:
    names = set(contents(packed))
    assert names == {
        MANIFEST, "config.json", "events.jsonl", "exit.json", "output.log", "predictions.jsonl",
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/README.md",
    }  # fmt: skip
    run_id = unpack_run(packed, store)
    assert run_id == run.id
    copy = store.paths(run_id)
    for name in names - {MANIFEST, "config.json"}:
        assert (copy.root / name).read_bytes() == (run.root / name).read_bytes(), name
    assert store.record(run_id)["name"] == "Grüße <b>" and store.config(run_id) == make_config()
    assert run_state(copy).status == "finished" and not copy.claim.exists()
    assert [path.name for path in store.root.iterdir()] == [run_id]


def test_a_second_import_gets_an_id_of_its_own(packed: Path, store: RunStore) -> None:
    first, second = unpack_run(packed, store), unpack_run(packed, store)
    assert first != second and store.record(second)["id"] == second and len(store.ids()) == 2


def test_an_imported_run_is_never_run(run: RunPaths, store: RunStore, packed: Path) -> None:
    files = contents(packed)
    del files["exit.json"]
    files["events.jsonl"] = b'{"v":1,"kind":"step","step":1,"loss":2}\n'
    copy = store.paths(unpack_run(rezip(files), store))
    assert run_state(copy).status == "failed"  # queued it would be, and be started, without exit.json


def test_only_a_run_that_is_over_is_exported(run: RunPaths, tmp_path: Path) -> None:
    for status in ("queued", "running", "stopping", "paused"):
        with pytest.raises(InvalidStateError, match=status):
            pack_run(run, status, tmp_path / "no.zip")
    assert not (tmp_path / "no.zip").exists()
    with pytest.raises(StorageError):
        pack_run(run, "finished", tmp_path / "no folder" / "run.zip")


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "/etc/evil.json", "adapter/../../evil.json", "adapter\\evil.json", "C:evil.json", "claim.json",
     "adapter/evil.py", "adapter/model.bin", "adapter/model.pt", "adapter/model.pkl", "adapter/deep/a.json",
     "checkpoint/state.json", "stop", "adapter/.hidden.json", "imported.json", "adapter/a..json"],
)  # fmt: skip
def test_names_that_no_run_has(name: str, packed: Path, store: RunStore) -> None:
    assert_refused(rezip({**contents(packed), name: b"{}"}), store, "is no file of a run")


def test_links_are_refused(packed: Path, store: RunStore) -> None:
    source = rezip(contents(packed))
    with zipfile.ZipFile(source, "a") as archive:
        link = zipfile.ZipInfo("output2.log")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert_refused(source, store, "is a link")


def test_a_zip_bomb_is_refused_unopened(packed: Path, store: RunStore) -> None:
    files = {**contents(packed), "output.log": b"a" * (300 * 2**20 // 16)}
    assert_refused(rezip(files), store, "more than 200 times")


def test_limits(packed: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(packed)
    many = {f"adapter/part-{number}.txt": b"x" for number in range(80)}
    assert_refused(rezip({**files, **many}), store, "holds 88 files")
    monkeypatch.setattr(transfer, "MAX_BYTES", 100)
    assert_refused(rezip(files), store, "100 are allowed")


def test_a_size_that_lies_is_noticed(packed: Path, store: RunStore) -> None:
    source = rezip({**contents(packed), "output.log": b"b" * 5000})
    raw = bytearray(source.getvalue())
    at = raw.rindex(b"output.log") - 46  # the entry in the central directory
    raw[at + 24 : at + 28] = struct.pack("<I", 10)
    assert_refused(io.BytesIO(bytes(raw)), store, "damaged|longer")


DAMAGES: list[tuple[str, bytes, str]] = [
    ("config.json", b"[]", "not a JSON object"),
    ("config.json", b"{", "not JSON"),
    ("config.json", b'{"config": {"method": {"name": "evil"}}}', "not a config"),
    ("config.json", b'{"config": NaN}', "NaN"),
    ("events.jsonl", b"\x80\x04\x95pickle\n", "line 1"),
    ("events.jsonl", b'{"v":1}\n', "has a kind"),
    ("events.jsonl", b'{"kind":"' + random.Random(0).randbytes(2**20).hex().encode() + b'"}\n', "longer than"),
    ("exit.json", b'{"code": "0"}', "whole number"),
    ("output.log", b"\x7fELF\0\0", "not a text"),
    ("predictions.jsonl", b"3\n", "not a JSON object"),
    ("adapter/adapter_config.json", b'{"a": [{"trust_remote_code": true}]}', "would run code"),
    ("adapter/adapter_config.json", b'{"megatron_config": {"x": 1}}', "would run code"),
    ("adapter/adapter_config.json", b'{"auto_mapping": {"parent_library": "evil"}}', "would run code"),
    ("adapter/adapter_model.safetensors", b"PK\x03\x04 no", "not a safetensors file"),
    ("adapter/adapter_model.safetensors", b"", "not a safetensors file"),
    ("adapter/adapter_model.safetensors", safetensors()[:-1], "tensors have 24 bytes"),
    ("adapter/adapter_model.safetensors", safetensors() + b"!", "tensors have 24 bytes"),
    ("adapter/adapter_model.safetensors", safetensors((2, 4)), "does not fit"),
    ("adapter/adapter_model.safetensors", safetensors((-2, -3)), "does not fit"),
    ("adapter/adapter_model.safetensors", safetensors(dtype="PYTHON"), "does not fit"),
    ("adapter/adapter_model.safetensors", safetensors(data_offsets=[0, 10**12]), "does not fit"),
]


@pytest.mark.parametrize(("name", "data", "match"), DAMAGES)
def test_contents_that_are_not_what_their_name_says(
    name: str, data: bytes, match: str, packed: Path, store: RunStore
) -> None:
    assert_refused(rezip({**contents(packed), name: data}), store, match)


def test_damaged_files(packed: Path, store: RunStore) -> None:
    files = contents(packed)
    assert_refused(io.BytesIO(b"not a zip"), store, "not a zip of a run")
    assert_refused(io.BytesIO(packed.read_bytes()[:-200]), store, "not a zip of a run")
    assert_refused(rezip(files, manifest=False), store, "no run.json")
    assert_refused(rezip(files, v=99), store, "version 1")
    assert_refused(rezip(files, files={}), store, "not those that run.json lists")
    assert_refused(rezip(files, files=None), store, "does not describe")
    del files["events.jsonl"]
    assert_refused(rezip(files), store, "has no events.jsonl")


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_byte_is_noticed_or_harmless(seed: int, packed: Path, store: RunStore) -> None:
    raw = bytearray(packed.read_bytes())
    raw[len(raw) * seed // 40] ^= 0x55
    try:
        run_id = unpack_run(io.BytesIO(bytes(raw)), store)
    except (ArchiveError, StorageError):
        assert list(store.root.iterdir()) == []
    else:
        assert store.paths(run_id).events.read_bytes() == contents(packed)["events.jsonl"]


@pytest.mark.parametrize("wanted", ["../../evil", "", ".hidden", "a" * 300, "a/b", "x\0y"])
def test_an_id_that_is_no_folder_name_is_replaced(wanted: str, packed: Path, store: RunStore) -> None:
    run_id = unpack_run(rezip(contents(packed), id=wanted), store)
    assert run_id != wanted and store.ids() == [run_id] and run_id == Path(run_id).name


def test_the_manager_lists_what_it_imported(packed: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    prepare_home(settings)
    manager = JobManager(settings)
    assert manager.library.list() == []
    run_id = manager.import_run(packed)
    (info,) = manager.library.list()
    assert (info.id, info.status, info.step) == (run_id, "finished", 1)
    again: Callable[..., None] = manager.export_run
    again(run_id, tmp_path / "again.zip")
    assert set(contents(tmp_path / "again.zip")) == set(contents(packed))
