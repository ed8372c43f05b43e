"""Curves of long runs as columns of numbers, in files of the cache: after a start, a long curve is there at once.

The files can be deleted at any time and are made again from the logs. One counts only while its log begins and goes on
as it did when the file was written; what the log has gained since then is read from the log.
"""

import contextlib
import json
import os
import sys
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from peft_studio.files import cache_write
from peft_studio.runs.paths import RunPaths

VERSION = 1
SAVE_BYTES = 4 * 2**20  # of log between two writes, some 30,000 steps; shorter logs are read quickly enough
END_BYTES = 4096  # of the log's two ends that are looked at
_LONGEST_HEADER = 4096


@dataclass(frozen=True)
class KeptCurves:
    """Both curves of a run up to some place in its log.

    Attributes:
        offset: Bytes of the log that they were read from.
        version: How often points were dropped, as viewers know it.
        columns: Arrays of 8-byte items, in an order that the reader of the curves knows.
    """

    offset: int
    version: int
    columns: Sequence["array[Any]"]


class CurveCache:
    """The files, one for each long run.

    Args:
        folder: Where they are kept; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, paths: RunPaths) -> KeptCurves | None:
        """The curves as they were last kept; None when there are none, or when they are not of this log."""
        if self._folder is None:
            return None
        try:
            with self._file(paths.id).open("rb") as file:
                header = json.loads(file.readline(_LONGEST_HEADER))
                data = file.read()
            if header.pop("crc") != _checksum(header, data) or header["layout"] != _layout():
                return None
            if header["log"] != _fingerprint(paths.events, header["offset"]):
                return None
            return KeptCurves(header["offset"], header["version"], _split(data, header["types"], header["lengths"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no such file, or a damaged one
            return None

    def save(self, paths: RunPaths, curves: KeptCurves) -> None:
        """Keeps the curves; a disk that is full only makes the next start slower."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            header = {
                "layout": _layout(), "offset": curves.offset, "version": curves.version,
                "log": _fingerprint(paths.events, curves.offset),
                "types": [column.typecode for column in curves.columns],
                "lengths": [len(column) for column in curves.columns],
            }  # fmt: skip
            data = b"".join(column.tobytes() for column in curves.columns)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep(paths.root.parent)
            content = json.dumps({**header, "crc": _checksum(header, data)}).encode() + b"\n" + data
            cache_write(self._file(paths.id), content)

    def forget(self, run_id: str) -> None:
        """Removes the file of a run that was deleted."""
        with contextlib.suppress(OSError):
            self._file(run_id).unlink()

    def _sweep(self, runs: Path) -> None:
        """Removes the files of runs that other processes deleted."""
        for file in self._folder.glob("*.curves") if self._folder else ():
            if not (runs / file.stem).is_dir():
                file.unlink()

    def _file(self, run_id: str) -> Path:
        return (self._folder or Path()) / f"{run_id}.curves"


def _layout() -> list[Any]:
    """What the bytes of a file depend on besides its curves."""
    return [VERSION, sys.byteorder]


def _checksum(header: dict[str, Any], data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(json.dumps(header).encode()))


def _split(data: bytes, types: list[str], lengths: list[int]) -> list["array[Any]"]:
    """The columns.

    Raises:
        ValueError: There are more or fewer bytes than they need.
    """
    columns, begin = [], 0
    for typecode, length in zip(types, lengths, strict=True):
        column = array(typecode)
        end = begin + length * column.itemsize
        column.frombytes(data[begin:end])
        columns.append(column)
        begin = end
    if begin != len(data):
        raise ValueError(f"The columns need {begin} bytes, and there are {len(data)}.")
    return columns


def _fingerprint(log: Path, offset: int) -> list[Any]:
    """Which file a log is, and how it begins and goes on up to a place.

    Raises:
        OSError: It is missing.
        ValueError: It is shorter than that.
    """
    with log.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_size < offset:
            raise ValueError(f"{log} has fewer than {offset} bytes.")
        return [found.st_ino, _digest(file, 0, offset), _digest(file, max(0, offset - END_BYTES), offset)]


def _digest(file: BinaryIO, begin: int, end: int) -> str:
    file.seek(begin)
    return blake2b(file.read(min(END_BYTES, end - begin)), digest_size=16).hexdigest()
