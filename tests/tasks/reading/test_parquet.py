"""What a Parquet file takes is known before it is decoded."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from peft_studio.errors import DataError
from peft_studio.tasks.reading.parquet import parquet_file
from peft_studio.tasks.tables import read_table


def put(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")
    return path


def test_bytes_are_counted_as_they_decode(tmp_path: Path) -> None:
    path = put(
        tmp_path / "a.parquet",
        text=["abc", None, "abc", "größe"],
        lists=[["xy", "xy"], [], None, ["z"]],
        number=pyarrow.array([1, 1, 1, None], pyarrow.int64()),
    )
    with pyarrow.parquet.ParquetFile(path) as file:
        encoded = file.metadata.row_group(0).total_byte_size
    with parquet_file(path) as found:
        # Every text and every list entry counts one byte beside its own; a list without entries has one value, too.
        assert found.unpacked_bytes(10**6) == (4 + 13) + (5 + 5) + 4 * 8
        assert found.unpacked_bytes(10) == max(encoded, 4 + 5 + 32)
        assert found.count == 4


@pytest.mark.parametrize("cell", ["x" * 2000, ["y" * 500] * 4])
def test_a_repeated_text_is_refused_before_it_is_decoded(
    tmp_path: Path, cell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "bomb.parquet", a=pyarrow.array([cell] * 110_000))
    assert path.stat().st_size < 40_000
    monkeypatch.setattr("peft_studio.tasks.reading.parquet.ParquetRows.records", pytest.fail)
    with pytest.raises(DataError, match=r"bomb\.parquet unpacks to 22\d\.\d MB\. At most 200 MB are allowed"):
        read_table(path)
