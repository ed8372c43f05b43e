"""Files made to take memory or time: the process that reads them stays below its ceiling and answers in words."""

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

ROOT = Path(__file__).resolve().parents[2]
CEILING = 600_000_000
"""Bytes that each reading may take here; less than in earnest, so that the test is cheap."""
# One interpreter for all files: each is read by a fork that does what the reader program does.
DRIVER = """
import io, json, os, sys, time
import pyarrow.parquet, pyarrow.compute
from peft_studio.tasks.reading import __main__ as reader, limits, reader_client
reader.MAX_MEMORY = reader_client.MAX_MEMORY = int(sys.argv[1])
limits.MAX_CELLS = 1_000_000
reader.MAX_CPU_SECONDS = reader_client.MAX_CPU_SECONDS = 20
found = {}
for line in sys.stdin.read().splitlines():
    source, target = os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if not child:
        os.close(source)
        sys.stdin, sys.stdout = io.StringIO(line), os.fdopen(target, "w")
        code = 1
        try:
            reader.main()
            sys.stdout.flush()
            code = 0
        finally:
            os._exit(code)
    os.close(target)
    with os.fdopen(source) as pipe:
        answer = pipe.read()
    _, status, used = os.wait4(child, 0)
    found[json.loads(line)["name"]] = (answer, status, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)
print(json.dumps(found))
"""


def parquet(compression: str = "zstd", **columns: Any) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out, compression=compression)
    return out.getvalue()


def lists(count: int, inner: Any) -> pyarrow.Array:
    return pyarrow.ListArray.from_arrays(pyarrow.array([0, count], pyarrow.int32()), inner)


def deep_list(depth: int) -> pyarrow.Array:
    values: pyarrow.Array = pyarrow.array(["x"])
    for _ in range(depth):
        values = lists(1, values)
    return values


def lying_footer() -> bytes:
    """A file whose footer says less than its pages hold."""
    whole = parquet(a=pyarrow.repeat("a" * 900, 150_000), b=pyarrow.repeat("b", 150_000))
    return whole.replace((150_000).to_bytes(3, "little"), (100).to_bytes(3, "little"))


def rows(count: int, line: str) -> bytes:
    return (line * count).encode()


ROOM = "x" * 40
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    # name -> what is in it, what is said of it; nothing where it can be read
    "giant-text-gzip.parquet": (
        lambda: parquet("gzip", a=["好" * 5_000_000, "b"], b=["x", "y"]),
        "",
    ),
    "giant-text-zstd.parquet": (lambda: parquet("zstd", a=["a" * 12_000_000, "b"], b=["x", "y"]), ""),
    "giant-text-brotli.parquet": (lambda: parquet("brotli", a=["a" * 12_000_000, "b"], b=["x", "y"]), ""),
    "giant-text-snappy.parquet": (lambda: parquet("snappy", a=["a" * 12_000_000, "b"], b=["x", "y"]), ""),
    "run-length.parquet": (lambda: parquet(a=pyarrow.repeat("a" * 2000, 110_000)), "unpacks to 22"),
    "run-length-number.parquet": (lambda: parquet(a=pyarrow.repeat(7, 1_000_000)), "more than 200,000 rows"),
    "nulls.parquet": (lambda: parquet(a=pyarrow.nulls(21_000_000, pyarrow.string())), "21,000,000 values"),
    "list-of-nulls.parquet": (
        lambda: parquet(a=lists(21_000_000, pyarrow.nulls(21_000_000, pyarrow.int8()))),
        "values in",
    ),
    "list-of-texts.parquet": (lambda: parquet(a=lists(1_500_000, pyarrow.repeat("aaa", 1_500_000)), b=["x"]), ""),
    "many-columns.parquet": (lambda: parquet(**{f"c{at}": [1] for at in range(2500)}), "2,500 columns or more"),
    "deep.parquet": (lambda: parquet(a=deep_list(60), b=["x"]), ""),
    "lying-footer.parquet": (lying_footer, ""),
    "truncated.parquet": (lambda: parquet(a=["x"])[:-9], "not a Parquet file"),
    "no.parquet": (lambda: b"PAR1" + b"\xff" * 300 + b"\xff\xff\xff\x7fPAR1", "not a Parquet file"),
    "gzip.csv": (lambda: gzip.compress(b"a,b\n" + b"1,2\n" * 100_000), "compressed"),
    "zip.csv": (lambda: b"PK\x03\x04" + b"\0" * 100, "compressed"),
    "one-line.csv": (lambda: b"a,b\n" + b"x" * 10_100_000, "one row has more than 10,000,000 characters"),
    "one-quote.csv": (lambda: b'a,b\n"' + b"x\n" * 5_100_000, "one row has more than"),
    "million-columns.csv": (lambda: b",".join(b"c%d" % at for at in range(100_000)) + b"\n1", "100,000 columns"),
    "only-commas.csv": (lambda: b"," * 10_100_000, "more than 10,000,000 characters"),
    "many-cells.csv": (lambda: b",".join(b"c%d" % at for at in range(1900)) + rows(600, "\n" + "," * 1899), "cells"),
    "empty-lines.csv": (lambda: b"a,b\n" + b"\n" * 1_000_000, "no rows"),
    "zero-bytes.csv": (lambda: b"a,b\n" + b"\0" * 3_000_000, "NUL"),
    "marks.csv": (lambda: b"\xef\xbb\xbf" * 1_000_000, ""),
    "half-utf16.csv": (lambda: b"\xff\xfe" + b"a\0" * 1_000_000 + b"\0", "cannot be read as text"),
    "long-names.csv": (lambda: (ROOM * 100 + "," + ROOM * 90).encode() + b"\n1,2\n3,4\n", "a name of 4,000"),
    "new-keys.jsonl": (lambda: b"".join(b'{"k%d": "v"}\n' % at for at in range(5_000)), "cells"),
    "deep.json": (lambda: b"[" * 1_000_000, "nested too deeply|valid JSON|nested"),
    "deep-cell.jsonl": (lambda: b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", "nested too deeply"),
    "deep-object.json": (lambda: b'{"a":' * 500_000, ""),
    "empty-objects.json": (lambda: b"[" + b"{}," * 300_000 + b"{}]", "more than 200,000 rows"),
    "digits.jsonl": (lambda: b'{"a": ' + b"9" * 1_000_000 + b', "b": "x"}\n', "too many digits"),
    "digits.json": (lambda: b'[{"a": ' + b"9" * 1_000_000 + b', "b": "x"}]', "too many digits"),
    "exponent.jsonl": (lambda: b'{"a": 1e999999999, "b": "x"}\n{"a": -1e999, "b": "y"}\n', ""),
    "many-keys.jsonl": (lambda: b"{" + b",".join(b'"%d":1' % at for at in range(200_000)) + b"}\n", "columns or more"),
    "many-numbers.json": (lambda: b'{"a": [' + b"1," * 1_500_000 + b'1], "b": ["x"]}', "but"),
    "surrogates.jsonl": (lambda: b'{"a": "\\ud800' + b"\\udfff" * 100_000 + b'", "b": "x"}\n', ""),
    "nothing.jsonl": (lambda: b" \n" * 1_000_000, "is empty"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the reader program says of every file, and what it took to say it."""
    folder = tmp_path_factory.mktemp("hostile")
    questions = []
    for name, (make, _) in FILES.items():
        (folder / name).write_bytes(make())
        settings = {"path": str(folder / name)}
        questions.append({"kind": "table", "settings": settings, "cache": str(folder / "cache"), "name": name})
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(CEILING)],
        input="\n".join(map(json.dumps, questions)), capture_output=True, text=True, check=True, timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_read_below_the_ceiling(name: str, answers: dict[str, Any]) -> None:
    answer, status, peak, seconds = answers[name]
    assert status == 0, f"the reader ended by itself: {status}"
    assert peak < CEILING + 150_000_000 and seconds < 25
    assert len(answer) < 100_000
    said = json.loads(answer).get("error", "")
    words = FILES[name][1]
    assert not words or any(part in said for part in words.split("|")), said
    assert "Traceback" not in said and "/tmp" not in said
