"""Rows of the standard library, made once by another process than the tests'."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_studio.tasks.kept_rows import keeping

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def library_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which ``python -m peft_studio.tasks`` keeps them; made without giving way to all other tests."""
    folder = tmp_path_factory.mktemp("library") / "cache"
    code = "import sys, pathlib, peft_studio.tasks.__main__ as made; made.make_rows(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def from_disk(library_rows: Path) -> Iterator[None]:
    """Tasks read the rows that are kept there, and make none."""
    with keeping(library_rows):
        yield
