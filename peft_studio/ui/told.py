"""What leaves the app for a page: no secrets, and for visitors no folders of the server."""

from typing import Any

from peft_studio.access.visitors import Role, asker
from peft_studio.archives.places import bare
from peft_studio.runs.redact import redact


def told(text: str) -> str:
    """A text as whoever asks may read it: secrets are gone, and paths are their last names but for the app's owner."""
    text = redact(text)
    return text if asker().role is Role.OWNER or not ("/" in text or "~" in text) else bare(text)


def told_json(value: Any) -> Any:
    """The same for every text in a value of JSON, but the names in objects."""
    if isinstance(value, str):
        return told(value)
    if isinstance(value, dict):
        return {name: told_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):  # curves are long lists of numbers
        return value if value and isinstance(value[0], int | float) else [told_json(part) for part in value]
    return value


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""With these a cell begins that a spreadsheet takes for a formula, or as the end of the cell before it."""


def safe_cell(value: Any) -> Any:
    """A cell or header of a CSV file that no spreadsheet takes for a formula; numbers stay numbers."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = told(value)
    return f"'{text}" if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def file_name(name: str) -> str:
    """A name for ``Content-Disposition`` with nothing in it that ends the name or is a folder."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in name)[
        :120
    ].lstrip(".")
