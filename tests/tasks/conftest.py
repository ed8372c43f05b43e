"""Rows of the standard library, made once by another process than the tests'."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def library_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which ``python -m peft_studio.tasks`` keeps them."""
    folder = tmp_path_factory.mktemp("library") / "cache"
    subprocess.run([sys.executable, "-m", "peft_studio.tasks", str(folder)], cwd=ROOT, check=True)
    return folder
