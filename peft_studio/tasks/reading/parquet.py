"""Rows of a Parquet file, and what they take in memory, counted before anything is decoded.

A value that is written once can stand for a million cells, so a file of 480 bytes may decode to gigabytes; the sizes
in its footer are those of the encoded pages and do not show that.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.errors import DataError
from peft_studio.tasks.reading.limits import MAX_VALUES, check_cells, check_columns
from peft_studio.tasks.reading.text_formats import Record, check_names

if TYPE_CHECKING:
    from pyarrow import Array, DataType
    from pyarrow.parquet import ColumnChunkMetaData

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a value by its physical type; those of a text differ from value to value."""


@dataclass(frozen=True)
class Unread:
    """Stands for the values of a column that no part of a task can use, such as images; they are not decoded.

    Attributes:
        what: What is there, for messages.
    """

    what: str


@contextmanager
def parquet_file(path: Path) -> Iterator["ParquetRows"]:
    """Opens a file.

    Raises:
        DataError: It is no Parquet file, is damaged, or has columns without a name of their own.
    """
    import pyarrow

    try:
        yield ParquetRows(path)
    except MemoryError:  # Arrow's own is a subclass; whoever reads says how much is allowed
        raise
    except (pyarrow.ArrowException, OSError):
        raise DataError(
            f"{path.name} is not a Parquet file that can be read: it is damaged, or of no kind we know."
        ) from None


class ParquetRows:
    """An open Parquet file.

    Args:
        path: The file.

    Raises:
        DataError: A column has no name, or that of another.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        facts = pyarrow.parquet.read_metadata(path)
        check_columns(facts.num_columns, path.name)
        check_cells(facts.num_row_groups, facts.num_columns, path.name)
        groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
        columns = [[group.column(number) for group in groups] for number in range(facts.num_columns)]
        schema = pyarrow.parquet.read_schema(path)
        self._unread = {field.name: Unread(what) for field in schema if (what := _unusable(field.type))}
        self.count: int = facts.num_rows
        self._columns: list[list[ColumnChunkMetaData]] = [
            chunks for chunks in columns if chunks and self._reads(chunks)
        ]
        self._encoded = sum(chunk.total_uncompressed_size for chunks in self._columns for chunk in chunks)
        values = sum(chunk.num_values for chunks in self._columns for chunk in chunks)
        if values > MAX_VALUES:
            raise DataError(f"{path.name} has {values:,} values in its cells. At most {MAX_VALUES:,} are allowed.")
        texts = [chunks[0].path_in_schema for chunks in self._columns if chunks[0].physical_type not in _WIDTHS]
        # Texts are read as numbers into a dictionary that holds each distinct one once, however often it is repeated.
        self._file = pyarrow.parquet.ParquetFile(path, read_dictionary=texts)
        check_names(self._file.schema_arrow.names, path.name)

    def _reads(self, chunks: "list[ColumnChunkMetaData]") -> bool:
        path = chunks[0].path_in_schema
        return not any(path == name or path.startswith(f"{name}.") for name in self._unread)

    def unpacked_bytes(self, limit: int) -> int:
        """Bytes of all values.

        Args:
            limit: Once the count is above this, the rest is not looked at.
        """
        total = 0
        for chunks in self._columns:
            # Even an empty text takes a place, so that a count of values that is out of all proportion tells as well.
            total += sum(chunk.num_values for chunk in chunks) * _WIDTHS.get(chunks[0].physical_type, 1)
        if max(total, self._encoded) > limit:
            return max(total, self._encoded)
        for chunks in self._columns:
            if chunks[0].physical_type not in _WIDTHS and total <= limit:
                read = self._file.read([chunks[0].path_in_schema]).column(0)
                total += sum(map(_text_bytes, read.chunks))
        return total

    def records(self) -> Iterator[Record]:
        """All rows, counted from 1, as plain values."""
        names = self._file.schema_arrow.names
        columns: list[Iterable[Any]] = [
            repeat(unread, self.count)
            if (unread := self._unread.get(name))
            else self._file.read([name]).column(0).to_pylist()
            for name in names
        ]
        for number, values in enumerate(zip(*columns, strict=True), 1):
            yield number, dict(zip(names, values, strict=True))


def _unusable(kind: "DataType") -> str:
    """What a column of a type holds, if it is nothing that a model of texts could read; else nothing."""
    from pyarrow import types

    if types.is_struct(kind):
        return next((what for at in range(kind.num_fields) if (what := _unusable(kind.field(at).type)) == "bytes"), "")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "a list of numbers" if types.is_floating(kind.value_type) else _unusable(kind.value_type)
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return "bytes" if binary else ""


def _text_bytes(values: "Array") -> int:
    """Bytes of the texts in an array of them, or of lists or structs of them."""
    import pyarrow
    import pyarrow.compute

    while pyarrow.types.is_nested(values.type):
        values = values.flatten()[0] if pyarrow.types.is_struct(values.type) else values.flatten()
    if not isinstance(values, pyarrow.DictionaryArray):
        return int(values.nbytes)
    lengths = pyarrow.compute.binary_length(values.dictionary)
    return int(pyarrow.compute.sum(lengths.take(values.indices)).as_py() or 0)
