"""Files that pretend to be exported runs: each is refused in words, soon, in little memory, and leaves nothing."""

import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.archives import import_apart
from peft_studio.errors import ArchiveError
from peft_studio.machine.limits import without_tokens
from peft_studio.runs.store import RunStore

CEILING = 200_000_000  # bytes that checking any of these may take, the program included
SLOWEST = 20.0  # seconds for one, on a busy machine
Files = dict[str, bytes]

PROGRAM = """
import json, sys, time
from pathlib import Path
from peft_studio.archives.run_archive import unpack_run
from peft_studio.errors import StudioError
from peft_studio.machine.limits import limit_process
from peft_studio.runs.store import RunStore

def peak():  # not that of getrusage, which begins with the parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

limit_process(1_000_000_000, 300)
folder, store = Path(sys.argv[1]), RunStore(Path(sys.argv[2]))
for path in sorted(folder.glob("*.zip")):
    begun = time.perf_counter()
    try:
        said = "taken in as " + unpack_run(path, store)
    except StudioError as exc:
        said = f"{type(exc).__name__}: {exc}"
    except BaseException as exc:
        said = f"a crash: {exc!r}"[:300]
    took = time.perf_counter() - begun
    left = [each.name for each in store.root.iterdir()]
    print(json.dumps([path.stem, said, took, peak(), left]), flush=True)
"""


def header(tensors: dict[str, Any] | bytes, size: int = 0) -> bytes:
    """A safetensors file with a header of one's own."""
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
WEIGHTS = header({"q.lora_A.weight": tensor([2, 3], 0, 24), "q.lora_B.weight": tensor([3, 2], 24, 48)}, 48)


def plain() -> Files:
    """The files of a run that nobody has tampered with."""
    config = {"v": 1, "id": "x", "name": "x", "created": 1.0, "config": make_config().model_dump(mode="json")}
    return {
        "config.json": json.dumps(config).encode(),
        "events.jsonl": b'{"v":1,"kind":"step","step":1,"loss":1.5}\n{"v":1,"kind":"finished","step":1}\n',
        "adapter/adapter_config.json": json.dumps(LORA).encode(),
        "adapter/adapter_model.safetensors": WEIGHTS,
    }


def packed(files: Files, manifest: bytes | None = None, digests: bool = True, how: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these files, with a list of contents that fits them."""
    listed = {name: {"sha256": sha256(data if digests else b"").hexdigest()} for name, data in files.items()}
    head = json.dumps({"format": "peft-studio-run", "v": 1, "id": "some-run", "files": listed}).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("run.json", head if manifest is None else manifest)
    return out.getvalue()


def with_file(name: str, data: bytes) -> bytes:
    return packed({**plain(), name: data})


def events(*lines: dict[str, Any] | bytes) -> bytes:
    return with_file(
        "events.jsonl", b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines)
    )


def adapter(**changes: Any) -> bytes:
    return with_file("adapter/adapter_config.json", json.dumps({**LORA, **changes}).encode())


def weights(data: bytes) -> bytes:
    return with_file("adapter/adapter_model.safetensors", data)


def changed(change: Callable[[zipfile.ZipFile], None]) -> bytes:
    """A zip whose directory was tampered with."""
    out = io.BytesIO(packed(plain()))
    with zipfile.ZipFile(out, "a") as archive:
        change(archive)
        archive.comment = b"x"  # so that the directory is written anew
    return out.getvalue()


def overlap(archive: zipfile.ZipFile) -> None:
    archive.filelist[1].header_offset = archive.filelist[0].header_offset


def link(archive: zipfile.ZipFile) -> None:
    archive.filelist[1].external_attr = (stat.S_IFLNK | 0o777) << 16


def encrypted(archive: zipfile.ZipFile) -> None:
    archive.filelist[1].flag_bits |= 1


def promise(archive: zipfile.ZipFile) -> None:
    archive.filelist[1].file_size = 2**40


def twice() -> bytes:
    out = io.BytesIO(packed(plain()))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("config.json", b"{}")
    return out.getvalue()


DEEP = b"[" * 5000 + b"]" * 5000
NESTED = b'{"a":' * 900 + b"1" + b"}" * 900
MANY = {f"n{number}": 1.0 for number in range(40_000)}
EVAL = {"v": 1, "kind": "eval", "step": 1}
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "not a zip"),
    "a text": (lambda: b"hello" * 1000, "not a zip"),
    "half a zip": (lambda: packed(plain())[:-200], "not a zip"),
    "a bomb": (
        lambda: packed({**plain(), "output.log": bytes(100_000_000)}, how=zipfile.ZIP_DEFLATED), "more than 200 times",
    ),
    "a promise of a terabyte": (lambda: changed(promise), "would unpack"),
    "a zip in a zip": (lambda: with_file("adapter/more.zip", packed(plain())), "no file of a run"),
    "files one upon the other": (lambda: changed(overlap), "one upon the other"),
    "a link": (lambda: changed(link), "is a link"),
    "encrypted": (lambda: changed(encrypted), "is encrypted"),
    "a name twice": (twice, "twice"),
    "thousands of files": (
        lambda: packed({**plain(), **{f"adapter/n{n}.txt": b"x" for n in range(3000)}}), "a run has 64 at most",
    ),
    "a path upwards": (lambda: with_file("../../evil.json", b"{}"), "no file of a run"),
    "a path from the root": (lambda: with_file("/etc/evil.json", b"{}"), "no file of a run"),
    "a path of Windows": (lambda: with_file("C:\\evil.json", b"{}"), "no file of a run"),
    "a name without end": (lambda: with_file("adapter/" + "x" * 60_000 + ".json", b"{}"), "no file of a run"),
    "a pickle": (lambda: with_file("adapter/adapter_model.bin", b"\x80\x04"), "no file of a run"),
    "code": (lambda: with_file("adapter/modeling_x.py", b"import os"), "no file of a run"),
    "no list of contents": (lambda: packed(plain(), manifest=b"{}"), "does not describe a run"),
    "a list of contents of depth": (lambda: packed(plain(), manifest=DEEP), "does not describe a run"),
    "another content": (lambda: packed(plain(), digests=False), "is damaged"),
    "a config of depth": (lambda: with_file("config.json", NESTED), "nested too deeply"),
    "a config that is none": (lambda: with_file("config.json", b'{"config": {"model": 5}}'), "not a config"),
    "a config without end": (lambda: with_file("config.json", b'{"created": 1e999}'), "too large a number"),
    "an exit code of a million digits": (
        lambda: with_file("exit.json", b'{"code": ' + b"9" * 10**6 + b"}"), "too large a number",
    ),
    "forty thousand metrics": (lambda: events({**EVAL, "metrics": MANY}), "more than 400 names of metrics"),
    "metrics one by one": (
        lambda: events(*({**EVAL, "metrics": {name: 1}} for name in list(MANY)[:2000])), "400 names of metrics",
    ),
    "a metric with a long name": (lambda: events({**EVAL, "metrics": {"x" * 10_000: 1}}), "has 10,000 characters"),
    "kinds of events": (lambda: events(*({"kind": f"k{n}"} for n in range(1000))), "more than 40 kinds"),
    "a long kind": (lambda: events({"kind": "k" * 5000}), "has 5,000 characters"),
    "notes": (lambda: events(*[b'{"kind":"note","message":"x"}'] * 60_000), "more than 50,000 events"),
    "an event of depth": (lambda: events(b'{"kind":"note","x":' + NESTED + b"}"), "nested too deeply"),
    "an event of more depth": (lambda: events(b'{"kind":"note","x":' + DEEP + b"}"), "not JSON"),
    "a loss without end": (lambda: events(b'{"kind":"eval","metrics":{"eval/loss":1e999}}'), "too large a number"),
    "a step of many digits": (lambda: events(b'{"kind":"step","step":' + b"9" * 900 + b"}"), "too large a number"),
    "a loss that is none": (lambda: events(b'{"kind":"eval","metrics":{"eval/loss":NaN}}'), "not a JSON number"),
    "a long line": (lambda: events(b'{"kind":"note","message":"' + b"x" * 2**21 + b'"}'), "longer than"),
    "labels": (
        lambda: events({"kind": "started", "data": {"labels": [str(n) for n in range(5000)]}}), "5,000 labels",
    ),
    "a long label": (lambda: events({"kind": "started", "data": {"labels": ["x" * 9000]}}), "a label has 9,000"),
    "tensors by the million": (
        lambda: weights(header(b"{" + b",".join(b'"%d":{}' % n for n in range(400_000)) + b"}")), "100,000 tensors",
    ),
    "lists for a header": (lambda: weights(header(b'{"a":[' + b"[]," * 4_000_000 + b"[]]}")), "100,000 tensors"),
    "a header of many megabytes": (lambda: weights(header(b" " * 20_000_000)), "would have 20,000,000 bytes"),
    "a header without end": (lambda: weights(struct.pack("<Q", 2**63) + b"{}"), "would have 9,2"),
    "a header of depth": (lambda: weights(header(b'{"a":' + DEEP + b"}")), "too deeply|not a safetensors"),
    "tensors one upon the other": (
        lambda: weights(header({"a": tensor([3], 0, 12), "b": tensor([3], 4, 16)}, 16)), "overlap",
    ),
    "a negative shape": (lambda: weights(header({"a": tensor([-3, -1], 0, 12)}, 12)), "does not fit its shape"),
    "a tensor of nobody's numbers": (lambda: weights(header({"a": tensor([3], 0, 12, "F7")}, 12)), "does not fit"),
    "a long name of a tensor": (lambda: weights(header({"a" * 9000: tensor([3], 0, 12)}, 12)), "has 9,000 characters"),
    "weights that are a pickle": (lambda: weights(b"\x80\x04\x95" + bytes(100)), "not a safetensors file"),
    "a rank of a million": (lambda: adapter(r=10**6), "r = 1000000"),
    "a rank that the tensors do not have": (lambda: adapter(r=64), "rank of its tensors, 2"),
    "an expression that never ends": (lambda: adapter(target_modules="(a+)+$"), "no regular expression"),
    "the same in a list": (lambda: adapter(modules_to_save=["(a+)+$"]), "no regular expression"),
    "the same for a rank": (lambda: adapter(rank_pattern={"(a+)+$": 2}), "no regular expression"),
    "a class to import": (lambda: adapter(auto_mapping={"base_model_class": "os"}), "would run code"),
    "code of others": (lambda: adapter(x={"trust_remote_code": True}), "would run code"),
    "layers a million times": (lambda: adapter(layer_replication=[[0, 10**6]]), "layer_replication"),
    "a setting that nobody knows": (lambda: adapter(surprise=1), "surprise"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What one process said of each file, one after the other: words, seconds, peak memory, what is left."""
    folder, root = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("runs")
    for name, (make, _) in HOSTILE.items():
        (folder / f"{name}.zip").write_bytes(make())
    (folder / "~ at last a good one.zip").write_bytes(packed(plain()))
    command = [sys.executable, "-c", PROGRAM, str(folder), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    yield {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused(name: str, outcomes: dict[str, Any]) -> None:
    said, seconds, peak, left = outcomes[name]
    assert said.startswith("ArchiveError: ") and re.search(HOSTILE[name][1], said), said
    assert len(said) < 1000 and left == [] and seconds < SLOWEST
    assert peak < CEILING


def test_a_run_that_nobody_tampered_with_is_taken_in(outcomes: dict[str, Any]) -> None:
    said, _, peak, left = outcomes["~ at last a good one"]
    assert said == "taken in as some-run" and left == ["some-run"] and peak < CEILING


def test_a_process_of_its_own_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = tmp_path / "run.zip", RunStore(tmp_path / "runs")
    source.write_bytes(packed(plain()))
    assert import_apart.import_run(source, store) == "some-run"
    source.write_bytes(adapter(r=10**6))
    with pytest.raises(ArchiveError, match="r = 1000000"):
        import_apart.import_run(source, store)
    monkeypatch.setattr(import_apart, "MAX_SECONDS", 0.01)
    with pytest.raises(ArchiveError, match="was ended, for lack of memory or time"):
        import_apart.import_run(source, store)
    assert [path.name for path in store.root.iterdir()] == ["some-run"]


def test_it_knows_no_secrets() -> None:
    known = {
        "HF_TOKEN": "hf_1",
        "MY_API_KEY": "2",
        "DB_PASSWORD": "3",
        "PATH": os.defpath,
        "TOKENIZERS_PARALLELISM": "x",
    }
    kept = without_tokens(known)
    assert not {"HF_TOKEN", "MY_API_KEY", "DB_PASSWORD"} & set(kept) and kept["PATH"] == os.defpath
    assert kept["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
