"""Tables in every format and encoding, and what each error says."""

import json
import math
import pickle
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from peft_studio.errors import DataError
from peft_studio.tasks import tables
from peft_studio.tasks.tables import read_table

CHINESE = "文本,标签\n今天天气很好，我们去公园散步吧。,好\n这部电影太无聊了，我看到一半就睡着了。,坏\n"


def put(folder: Path, name: str, content: str | bytes | object) -> Path:
    path = folder / name
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode())
    return path


def refuse(path: Path, *parts: str) -> None:
    """Reading must fail with a message that names the file and holds every part."""
    with pytest.raises(DataError) as caught:
        read_table(path)
    for part in (path.name, *parts):
        assert part in str(caught.value)


ROWS = [{"text": "good film", "label": "1"}, {"text": "a bore, really", "label": ""}]


@pytest.mark.parametrize(
    ("name", "content", "numbers", "unit"),
    [
        ("a.csv", 'text,label\n"good film",1\n\n"a bore, really",\n', [2, 4], "line"),
        ("b.csv", "text;label\r\ngood film;1\r\na bore, really;\r\n", [2, 3], "line"),
        ("c.csv", "text|label\ngood film|1\na bore, really|\n", [2, 3], "line"),
        ("a.tsv", "text\tlabel\ngood film\t1\na bore, really\t\n", [2, 3], "line"),
        ("a.json", [{"text": "good film", "label": 1}, {"text": "a bore, really", "label": None}], [1, 2], "record"),
        (
            "b.json",
            {"version": 1, "train": [{"text": "good film", "label": 1}, {"text": "a bore, really"}]},
            [1, 2],
            "record",
        ),
        ("c.json", {"text": ["good film", "a bore, really"], "label": [1, math.nan]}, [1, 2], "record"),
        ("a.jsonl", '{"text": "good film", "label": 1}\n\n{"text": "a bore, really"}\n', [1, 3], "line"),
        ("A.NDJSON", '{"text": "good film", "label": "1"}\r\n{"text": "a bore, really"}', [1, 2], "line"),
    ],
)
def test_text_formats(tmp_path: Path, name: str, content: object, numbers: list[int], unit: str) -> None:
    table = read_table(put(tmp_path, name, content))
    assert (table.columns, table.rows) == (("text", "label"), ROWS)
    assert (table.numbers, table.unit, table.encoding) == (numbers, unit, "utf-8")
    assert table.place(1) == f"{name}, {unit} {numbers[1]}"


def test_parquet(tmp_path: Path) -> None:
    columns = {
        "text": ["a", None],
        "label": [1, 0],
        "refs": [["x", "y"], []],
        "ok": [True, None],
        "score": [0.5, math.nan],
    }
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    table = read_table(path)
    assert table.rows == [
        {"text": "a", "label": "1", "refs": ("x", "y"), "ok": "true", "score": "0.5"},
        {"text": "", "label": "0", "refs": (), "ok": "", "score": ""},
    ]
    assert (table.columns, table.encoding, table.numbers) == (tuple(columns), "parquet", [1, 2])


def test_cells(tmp_path: Path) -> None:
    long = "x" * 10_000
    rows = read_table(
        put(tmp_path, "a.json", [{"a": long, "b": ["r", None, 2], "c": False, "d": 1.5}, {"e": "\u2028"}])
    ).rows
    assert rows[0] == {"a": long, "b": ("r", "2"), "c": "false", "d": "1.5", "e": ""}
    assert rows[1]["e"] == "\u2028"
    quoted = read_table(put(tmp_path, "a.csv", f'a,b\n"two\nlines, ""quoted""",{long}\nx,y\n'))
    assert quoted.rows[0] == {"a": 'two\nlines, "quoted"', "b": long}
    assert quoted.numbers == [2, 4]
    bare = read_table(put(tmp_path, "a.tsv", 'a\tb\n"Hi," she said\t1\n5" disk\t2\n'))
    assert [row["a"] for row in bare.rows] == ['"Hi," she said', '5" disk']
    assert read_table(put(tmp_path, "one.csv", "text\nhello\n")).rows == [{"text": "hello"}]


@pytest.mark.parametrize(
    ("written", "content", "found"),
    [
        ("utf-8-sig", CHINESE, "utf-8"),
        ("gb18030", CHINESE, "gb18030"),
        ("utf-16", CHINESE, "utf-16"),
        ("utf-32", CHINESE, "utf-32"),
        ("cp1252", "text,label\nÉcole naïve – déjà vu à Zürich,1\nSmörgåsbord “quoted” €5,0\n", "cp1252"),
    ],
)
def test_encodings(tmp_path: Path, written: str, content: str, found: str) -> None:
    table = read_table(put(tmp_path, "a.csv", content.encode(written)))
    assert table.encoding == found
    assert list(table.rows[0].values()) == content.splitlines()[1].split(",")
    assert table.columns == tuple(content.splitlines()[0].split(","))


def test_big_endian_mark(tmp_path: Path) -> None:
    assert read_table(put(tmp_path, "a.csv", b"\xfe\xff" + CHINESE.encode("utf-16-be"))).encoding == "utf-16"


def test_undecodable(tmp_path: Path) -> None:
    damaged = bytearray(CHINESE.encode())
    damaged[20] = 0xFF
    refuse(put(tmp_path, "a.csv", bytes(damaged)), "byte 20 (0xff)", "UTF-8")
    refuse(put(tmp_path, "b.csv", b"\xef\xbb\xbfab,c\n\xff,1\n"), "byte 8 (0xff)", "UTF-8")
    refuse(put(tmp_path, "u.csv", b"\xff\xfea\x00,\x00\x00\xdcb\x00"), "byte 6 (0x00)", "UTF-16")
    refuse(put(tmp_path, "c.csv", bytes(range(128, 256)) * 3), "byte 0 (0x80)")
    refuse(put(tmp_path, "d.csv", b"PK\x03\x04\x14\x00 zipped"), "not a text file", "compressed")
    refuse(put(tmp_path, "e.csv", b"abcde\x00 x"), "not a text file", "NUL at character 5")
    refuse(put(tmp_path, "e.csv", "text,label\na,b\n".encode("utf-16-le")), "not a text file", "NUL at character 1")


def test_files_that_are_not_read(tmp_path: Path) -> None:
    refuse(tmp_path / "none.csv", "missing")
    (tmp_path / "folder.csv").mkdir()
    refuse(tmp_path / "folder.csv", "a folder")
    refuse(put(tmp_path, "a.csv", ""), "is empty")
    refuse(put(tmp_path, "b.csv", " \n\n"), "is empty")
    refuse(put(tmp_path, "a.parquet", ""), "is empty")
    refuse(put(tmp_path, "a.docx", "x"), "'.docx'", ".jsonl")
    refuse(put(tmp_path, "plain", "x"), "no suffix", ".parquet")
    refuse(put(tmp_path, "a.xlsx", "x"), "Excel", "CSV")
    for suffix in ("bin", "pt", "pkl", "pickle"):
        refuse(put(tmp_path, f"a.{suffix}", pickle.dumps([{"text": "a"}])), "pickle", "run code", ".csv")
    refuse(put(tmp_path, "b.parquet", "not parquet"), "not a Parquet file")
    for suffix in ("csv", "jsonl", "parquet"):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
        refuse(put(tmp_path, f"c.{suffix}", pointer), "a git-lfs pointer", "git lfs pull")
        refuse(put(tmp_path, f"d.{suffix}", "\n<!DOCTYPE HTML>\n<p>Sign in</p>"), "a web page, not data")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, mode: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    table = put(tmp_path, "a.csv", "a,b\n1,2\n")
    monkeypatch.setattr(Path, "open", denied)
    refuse(table, "Permission denied")


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [f"{'x' * 9000}{at % 2}" for at in range(3)]}), parquet)
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    refuse(put(tmp_path, "a.csv", "a,b\n1,2\n3,4\n5,6\n"), "more than 2 rows")
    refuse(parquet, "more than 2 rows")
    monkeypatch.setattr(tables, "MAX_BYTES", 3_000_000)
    refuse(put(tmp_path, "b.csv", "a,b\n" + "1,2\n" * 800_000), "3.2 MB", "At most 3 MB")
    monkeypatch.setattr(tables, "MAX_BYTES", parquet.stat().st_size)
    refuse(parquet, "unpacks to")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b\n1,2\n1,2,3\n", ["line 3", "3 cells", "2 are expected"]),
        ('a,b\n"x\ny",2\n1\n', ["line 4", "1 cells", "2 are expected"]),
        ("a,b,a\n1,2,3\n", ["two columns named 'a'"]),
        (",a\nz,x\n", ["column 1", "no name"]),
        ("a,b\n", ["no rows"]),
        ('a,b\n1,"open\n2,3\n', ["line 2", "quotation mark"]),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, parts: list[str]) -> None:
    refuse(put(tmp_path, "a.csv", text), *parts)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.json", '[{"a": 1},\n {"a" 2}]', ["line 2, column 7", "not valid JSON"]),
        ("b.json", '{"a": 1}\n{"a" 2}\n', ["line 2, column 6", "not valid JSON"]),
        ("a.jsonl", '{"a": 1}\n{"a": }\n', ["line 2, column 7", "not valid JSON"]),
        ("b.jsonl", '{"a": 1}\n\n[1, 2]\n', ["line 3", "a list", "object"]),
        ("c.json", [{"a": 1}, "text"], ["record 2", "a text", "object"]),
        ("g.json", [], ["no rows"]),
        ("h.json", [{}, {}], ["no columns"]),
        ("i.json", "3", ["a number", "a list of objects"]),
        ("j.json", {"a": ["x"], "b": "y"}, ["an object", "a list of objects"]),
        ("k.json", {"a": ["x"], "b": ["y", "z"]}, ["'b' has 2 values", "'a' has 1"]),
        ("l.json", {"train": [{"a": 1}], "test": [{"a": 2}]}, ["train, test", "file of its own"]),
        ("m.json", [{" ": 1}], ["column 1", "no name"]),
        ("n.json", "[" * 100_000, ["cannot be read"]),
    ],
)
def test_bad_json(tmp_path: Path, name: str, content: object, parts: list[str]) -> None:
    refuse(put(tmp_path, name, content), *parts)


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table([["x"], ["y"]], names=["a", "a"]), path)
    refuse(path, "two columns named 'a'")
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.string())}), path)
    refuse(path, "no rows")


@pytest.mark.parametrize(
    ("name", "content", "place", "what", "stand_in"),
    [
        ("d.json", [{"a": 1, "b": "x"}, {"a": {"c": [2]}, "b": "y"}], "record 2", "a nested", '{"c": [2]}'),
        ("e.json", [{"a": [{"c": "é"}], "b": "x"}], "record 1", "a nested", '[{"c": "é"}]'),
        ("f.json", [{"a": [["c"]], "b": "x"}], "record 1", "a nested", '[["c"]]'),
        ("g.jsonl", '{"a": "\\ud83d", "b": "x"}', "line 1", "surrogate", "\ufffd"),
        ("h.json", [{"a": [0.5] * 9, "b": "x"}], "record 1", "a list of numbers", ""),
    ],
)
def test_what_no_cell_can_hold_is_refused_only_where_it_is_needed(
    tmp_path: Path, name: str, content: object, place: str, what: str, stand_in: str
) -> None:
    table = read_table(put(tmp_path, name, content))
    assert table.rows[-1]["a"] == stand_in and table.rows[-1]["b"] in ("x", "y")
    table.require("b")
    with pytest.raises(DataError, match=rf"{name}, {place}, column 'a' holds .*{what}"):
        table.require("a")


def test_parquet_columns_that_no_task_can_use_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    image = [{"bytes": b"\x89" * 100_000, "path": "p"}] * 2
    values = {
        "text": ["x", "y"],
        "image": image,
        "raw": [b"\x00"] * 2,
        "vector": [[0.5, 0.25]] * 2,
        "nest": [{"b": 1}] * 2,
    }
    pyarrow.parquet.write_table(pyarrow.table(values), path)
    monkeypatch.setattr(tables, "MAX_BYTES", path.stat().st_size)
    table = read_table(path)
    assert [row["text"] for row in table.rows] == ["x", "y"]
    assert {name: what for name, (_, what) in table.faults.items()} == {
        "image": "bytes",
        "raw": "bytes",
        "vector": "a list of numbers",
        "nest": "a nested object or list",
    }
    with pytest.raises(DataError, match="row 1, column 'image' holds bytes"):
        table.require("image")


@pytest.mark.parametrize(
    ("name", "content", "unit"),
    [
        ("a.txt", '[{"a": "x", "b": 1}, {"a": "y", "b": 2}]', "record"),
        ("a.jsonl", '[{"a": "x", "b": 1},\n {"a": "y", "b": 2}]\n', "record"),
        ("a.csv", '[{"a": "x", "b": 1}, {"a": "y", "b": 2}]', "record"),
        ("a.json", '{"a": "x", "b": 1}\n{"a": "y", "b": 2}\n', "line"),
        ("b.json", '{\n"a": "x", "b": 1\n}\n{\n"a": "y", "b": 2}', "record"),
        ("b.txt", '{"a": "x", "b": 1}\n{"a": "y", "b": 2}\n', "line"),
        ("c.txt", "a\tb\nx\t1\ny\t2\n", "line"),
        ("b.csv", "sep=;\na;b\nx;1\ny;2\n", "line"),
        ("c.csv", "\ufeffsep=,\r\na,b\r\nx,1\r\ny,2\r\n", "line"),
    ],
)
def test_contents_count_and_not_the_ending(tmp_path: Path, name: str, content: str, unit: str) -> None:
    table = read_table(put(tmp_path, name, content))
    assert (table.columns, table.unit, table.notes) == (("a", "b"), unit, ())
    assert table.rows == [{"a": "x", "b": "1"}, {"a": "y", "b": "2"}]
    assert table.numbers == ([3, 4] if "sep=" in content else [1, 2] if unit == "record" or "{" in content else [2, 3])


@pytest.mark.parametrize(
    "content",
    [
        "1,the first text,7\n2,the second text,8\n1,a third one,9\n",
        "positive,what a film\nnegative,what a bore\npositive,well done\n",
        "spam,free entry\nham,on my way\nspam,call now\n",
        "it was a long day and nobody knew what to do,ja\nanother text of some length that goes on and on,nein\n",
    ],
)
def test_a_table_without_header_keeps_its_first_row_and_says_so(tmp_path: Path, content: str) -> None:
    table = read_table(put(tmp_path, "a.csv", content))
    assert len(table.rows) == content.count("\n") and table.numbers[0] == 1
    assert table.columns[:2] == ("column 1", "column 2")
    assert list(table.rows[0].values()) == content.partition("\n")[0].split(",")
    assert "a.csv seems to have no header" in table.notes[0] and "column 1" in table.notes[0]


def test_row_numbers_that_pandas_wrote_get_a_name(tmp_path: Path) -> None:
    assert read_table(put(tmp_path, "a.csv", ",text\n0,x\n1,y\n")).columns == ("index", "text")


@pytest.mark.parametrize(
    "content",
    [
        "When did you visit,What did you like most of all the things you saw?\nmay,boats\njune,the very old tower\n",
        "When did you visit,Tell us what you liked most of all the things here\nmay,a boat\njune,all\n",
        "left,right\nx,a\ny,b\nleft,right\nz,c\n",
        "2020 words,rank\nx,1\ny,2\n",
    ],
)
def test_a_header_stays_a_header(tmp_path: Path, content: str) -> None:
    table = read_table(put(tmp_path, "a.csv", content))
    assert table.columns == tuple(content.partition("\n")[0].split(",")) and table.notes == ()


def test_texts_that_stand_beside_their_places_are_cells(tmp_path: Path) -> None:
    rows = [{"a": {"text": ["x", "y"], "answer_start": [1, 2]}}, {"a": {"text": "z"}}]
    table = read_table(put(tmp_path, "a.json", rows))
    assert [row["a"] for row in table.rows] == [("x", "y"), "z"] and not table.faults
