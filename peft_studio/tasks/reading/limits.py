"""How much of a data file is taken in: counted as it is decoded, whatever the file says of itself."""

from peft_studio.errors import DataError

MAX_COLUMNS = 2_000
MAX_CELLS = 10_000_000
"""Rows times columns; where rows lack columns, these count all the same, since they are filled in."""
MAX_CELL = 1_000_000
"""Characters of one cell, and of what a template makes of a row."""
MAX_NAME = 500
"""Characters of a column's name."""
MAX_RECORD = 10_000_000
"""Characters of one row of a text file, before it is taken apart."""
MAX_VALUES = 20_000_000
"""Values in all lists of a Parquet file, empty ones counted."""
MAX_PROMPTS = 600_000_000
"""Characters that a template may make of all rows."""


def check_columns(count: int, name: str) -> None:
    """Makes sure that a table is not too wide.

    Raises:
        DataError: It is.
    """
    if count > MAX_COLUMNS:
        raise DataError(f"{name} has {count:,} columns or more. At most {MAX_COLUMNS:,} are allowed.")


def check_cells(rows: int, columns: int, name: str) -> None:
    """Makes sure that a table is not too wide for its length.

    Raises:
        DataError: It has too many columns, or cells.
    """
    check_columns(columns, name)
    if rows * columns > MAX_CELLS:
        raise DataError(
            f"{name} has more than {MAX_CELLS:,} cells ({columns:,} columns), the most allowed. Take a sample of it, "
            "or leave columns out."
        )


def check_record(length: int, where: str) -> None:
    """Makes sure that a row of a text file is not too long to be taken apart.

    Raises:
        DataError: It is.
    """
    if length > MAX_RECORD:
        raise DataError(f"{where}: one row has more than {MAX_RECORD:,} characters, the most allowed.")


def too_long(length: int) -> str:
    """What a cell holds that has more characters than are taken in."""
    return f"a text of {length:,} characters, where at most {MAX_CELL:,} are read"
