"""The README's promises that a machine can check: commands, files, links, methods and the Space's front matter."""

import re
import subprocess
from pathlib import Path

import yaml

from peft_studio.methods import METHODS
from peft_studio.settings import DEFAULT_PORT

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_front_matter_fits_the_requirements() -> None:
    front = yaml.safe_load(TEXT.split("---")[1])
    pinned = re.search(r"^gradio==(\d+\.\d+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert front["sdk"] == "gradio" and (ROOT / front["app_file"]).is_file()
    assert pinned and front["sdk_version"].startswith(pinned.group(1))
    assert len(front["short_description"]) <= 60


def test_both_commands_are_there() -> None:
    assert "pip install -r requirements.txt && python app.py" in TEXT
    assert "bash tests/run.sh" in TEXT
    assert str(DEFAULT_PORT) in TEXT


def test_every_file_of_the_package_is_in_the_tree() -> None:
    listed = subprocess.run(["git", "ls-files", "peft_studio"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not re.search(r"/nano-[a-z0-9]+/", name):
            assert re.search(rf"^\s*{re.escape(Path(name).name)}\s", TEXT, re.M), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_every_method_is_in_the_table() -> None:
    for method in METHODS.values():
        assert method.title in TEXT, method.title


def test_every_row_about_reliability_names_a_test_of_the_suite() -> None:
    section = TEXT.split("## Reliability")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 14
    for row in rows:
        path, _, name = row.split("|")[-2].strip().strip("`").partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source and name.startswith("test_"), row
        assert "pytestmark = pytest.mark.faults" in source, path
