"""Finds out how the bytes of a text file are encoded."""

import re

from peft_studio.errors import DataError
from peft_studio.tasks.scripts import SCRIPTS, plausibility

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ", b"7z\xbc\xaf")
_ASCII = re.compile(r"[\x00-\x7f]+")
_HIGH = re.compile(rb"[\x80-\xff]")
SAMPLE_BYTES = 100_000
"""About how much of a file is looked at to guess its encoding."""
_SAVE_AS_UTF8 = "Save the file as UTF-8 and try again."


def decode(data: bytes, name: str) -> tuple[str, str]:
    """Turns the bytes of a text file into text.

    Tried in turn: a byte order mark, UTF-8, then by plausibility GB18030, EUC-KR, Big5, Shift-JIS, EUC-JP and
    Windows-1252.

    Args:
        data: The whole file.
        name: The file's name, for messages.

    Returns:
        The text, and the name of the encoding that was used.

    Raises:
        DataError: No encoding fits, or the bytes are not text; names the first byte at fault.
    """
    if data.startswith(_PACKED):
        raise DataError(f"{name} is not a text file: it is compressed, or an archive of files. Unpack it first.")
    encoding = next((coding for mark, coding in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        encoding = "" if encoding != "utf-8" else _guess_encoding(data)
        if not encoding:
            at = len(data) - len(error.object) + error.start  # its object lacks the mark of UTF-8
            raise DataError(
                f"{name} cannot be read as text: byte {at:,} (0x{data[at]:02x}) is not valid "
                f"{error.encoding.upper()}, and no other encoding fits. {_SAVE_AS_UTF8}"
            ) from None
        text = data.decode(encoding)
    if "\0" in text:
        raise DataError(
            f"{name} is not a text file: it holds a NUL at character {text.index(chr(0)):,}. {_SAVE_AS_UTF8}"
        )
    return text, encoding.removesuffix("-sig")


def _guess_encoding(data: bytes) -> str:
    """The most plausible encoding of Chinese, Korean or Japanese text, ``cp1252``, or nothing when none is."""
    sample = _sample(data)
    as_utf8 = _ASCII.sub("", sample.decode("utf-8", "replace"))
    damaged = as_utf8.count("\ufffd")
    if len(as_utf8) - damaged > 4 * damaged:
        return ""  # UTF-8 with a few damaged bytes: any other reading garbles the rest
    scores = {encoding: plausibility(_try(sample, encoding), encoding) for encoding in SCRIPTS}
    for encoding in sorted(scores, key=lambda name: -scores[name]):
        if scores[encoding] and _try(data, encoding):
            return encoding
    western = _try(data, "cp1252")
    if western and len(_ASCII.sub("", western)) <= 0.3 * len("".join(western.split())):
        return "cp1252"
    return ""


def _sample(data: bytes) -> bytes:
    """Whole lines from the first that is not ASCII on; a line break is never part of a longer character."""
    first = next(_HIGH.finditer(data)).start()
    start = data.rfind(b"\n", 0, first) + 1
    end = data.find(b"\n", start + SAMPLE_BYTES)
    return data[start : end if end >= 0 else len(data)]


def _try(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return ""
