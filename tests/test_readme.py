"""The README's promises that a machine can check: commands, paths, links, methods and the Space's front matter."""

import ast
import re
import subprocess
from pathlib import Path

import yaml

from peft_studio.config.run_config import parse_config
from peft_studio.methods import METHODS
from peft_studio.models.catalog import MODELS
from peft_studio.settings import DEFAULT_PORT
from peft_studio.tasks.hub_catalogue import HUB_DATA

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
MAP = TEXT.split("## The map")[1].split("```")[1].strip().splitlines()


def test_front_matter_fits_the_requirements() -> None:
    front = yaml.safe_load(TEXT.split("---")[1])
    pinned = re.search(r"^gradio\[oauth,mcp\]==(\d+\.\d+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert front["sdk"] == "gradio" and (ROOT / front["app_file"]).is_file()
    assert pinned and front["sdk_version"].startswith(pinned.group(1))
    assert len(front["short_description"]) <= 60
    assert front["suggested_hardware"] == "cpu-basic" and front["hf_oauth"] is True
    assert front["hf_oauth_scopes"] == ["contribute-repos"]
    assert set(front["models"]) <= set(MODELS) and set(front["preload_from_hub"]) <= set(front["models"])
    assert set(front["datasets"]) <= set(HUB_DATA)


def test_both_commands_are_there() -> None:
    assert "pip install -r requirements.txt && python app.py" in TEXT
    assert "bash tests/run.sh" in TEXT
    assert str(DEFAULT_PORT) in TEXT


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= 300
    assert len(MAP) <= 30


def tracked(*patterns: str) -> list[str]:
    """Files that git knows and that are still there."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def paths_of(line: str) -> list[str]:
    """The paths that a line of the map begins with; ``{a,b}`` means both."""
    path = line.split()[0]
    before, brace, rest = path.partition("{")
    inner, _, after = rest.partition("}")
    return [f"{before}{name}{after}" for name in inner.split(",")] if brace else [path]


def test_every_path_of_the_map_is_there() -> None:
    for line in MAP:
        for path in paths_of(line):
            found = list(ROOT.glob(path))
            assert found and all(each.is_dir() == path.endswith("/") for each in found), path
            for name in re.findall(r"(?<![\w/])(\w+\.(?:py|js|css))\b", line.split(maxsplit=1)[1]):
                assert (found[0] / name).is_file(), f"{path} has no {name}"


def test_every_room_and_alcove_is_on_the_map() -> None:
    named = [path for line in MAP for path in paths_of(line)]
    folders = {f"{Path(name).parent.as_posix()}/" for name in tracked("peft_studio")} - {"peft_studio/"}
    missing = [name for name in folders if not any(Path(name).match(path) for path in named)]
    loose = [name for name in tracked("peft_studio/*.py") if name.count("/") == 1 and "__init__" not in name]
    assert [*missing, *(name for name in loose if name not in named)] == []


def find_definition(path: str, names: str) -> ast.AST:
    """A function or class of a file, by its qualified name."""
    found: ast.AST = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for name in names.split("."):
        found = next(node for node in ast.iter_child_nodes(found) if getattr(node, "name", None) == name)
    return found


def test_every_place_that_it_points_to_is_there() -> None:
    places = re.findall(r"`([\w/.]+\.py)::([\w.]+)`", TEXT)
    assert len(places) >= 5
    for path, names in places:
        assert isinstance(find_definition(path, names), ast.FunctionDef | ast.ClassDef), f"{path}::{names}"
    for path in re.findall(r"`((?:tests|peft_studio|presets)/[\w./]+\.\w+)[`:]", TEXT):
        assert "NAME" in path or (ROOT / path).is_file(), path


def test_examples_in_python_are_right() -> None:
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    for example in examples:
        ast.parse(example)
    (config,) = re.findall(r"^config = (.*)$", "\n".join(examples), re.M)
    assert parse_config(ast.literal_eval(config)).training.max_steps == 60


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).is_file(), target
    for path in re.findall(r"tests[/.]benchmarks[/.](bench_\w+)", RESULTS):
        assert (ROOT / "tests" / "benchmarks" / f"{path}.py").is_file(), path


def test_every_figure_has_its_command_machine_and_day() -> None:
    for section in RESULTS.split("\n## ")[1:-1]:
        rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
        stated = rows if "| machine |" in section else [section.split("\n\n| ")[0]]
        for words in stated:
            assert re.search(r"bench_\w+|tests/audit/\w+|the same", words), words
            assert re.search(r"EPYC|Xeon|machine not recorded", words), words
            assert re.search(r"2026-\d\d-\d\d", words), words


def test_every_method_is_named_and_was_measured() -> None:
    for method in METHODS.values():
        assert method.title in " ".join(TEXT.split()), method.title
        assert f"\n| {method.title} | " in RESULTS, method.title


def test_every_row_about_reliability_names_a_test_of_the_suite() -> None:
    section = RESULTS.split("## Reliability")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 14
    for row in rows:
        path, _, name = row.split("|")[-2].strip().strip("`").partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source and name.startswith("test_"), row
        assert "pytestmark = pytest.mark.faults" in source, path
