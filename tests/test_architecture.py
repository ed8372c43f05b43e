"""The arrows of the design: who may import whom, no cycle, a web process without torch, one place per method."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "peft_studio"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate")
CONFIG_LEVEL = {f"peft_studio.{name}" for name in ("config", "presets", "preflight", "export", "export_script")}
ENTRY_POINTS = {"app", *(f"peft_studio.{name}" for name in ("worker", "engine", "warm", "cli", "__main__"))}

# layer of a module -> layers that it may import
ALLOWED = {
    "ui": {"ui", "jobs", "config", "base"},
    "jobs": {"jobs", "config", "base"},
    "training": {"training", "config", "base"},
    "config": {"config", "base"},
    "base": {"base"},
    "entry": {"entry", "ui", "jobs", "training", "config", "base"},
}


def layer(module: str) -> str:
    """Which layer of the design a module belongs to."""
    parts = module.split(".")
    if module in ENTRY_POINTS:
        return "entry"
    if len(parts) > 1 and parts[1] in ("ui", "jobs", "training"):
        return parts[1]
    return "config" if module in CONFIG_LEVEL else "base"


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} uses a relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name in MODULES}


GRAPH = {module: imports(path) - {module} for module, path in MODULES.items()}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_one_way(module: str) -> None:
    for target in GRAPH[module]:
        assert target not in ENTRY_POINTS or module == "peft_studio.__main__", f"{module} imports {target}"
        if target != "peft_studio":
            assert layer(target) in ALLOWED[layer(module)], f"{module} imports {target}"


def test_no_cycles() -> None:
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for target in GRAPH[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in GRAPH:
        visit(module, ())


def test_web_process_never_loads_torch() -> None:
    code = (
        "import json, sys\n"
        "import app\n"
        "import peft_studio.ui, peft_studio.jobs.manager, peft_studio.presets\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == []


def test_no_branch_on_a_method_outside_methods() -> None:
    pattern = re.compile(r"""method(\.name|_name|\["name"\])?\s*(==|!=|in\s*[(\[{])""")
    for module, path in MODULES.items():
        if not module.startswith("peft_studio.methods"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not pattern.search(line), f"{path}:{number}: {line.strip()}"


def test_nothing_unsafe() -> None:
    unsafe = re.compile(r"trust_remote_code\s*=\s*True|^\s*import pickle|pickle\.load|weights_only\s*=\s*False", re.M)
    for path in MODULES.values():
        assert not unsafe.search(path.read_text(encoding="utf-8")), path


def test_top_level_is_only_what_the_layout_names() -> None:
    git = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    allowed = {
        "app.py", "peft_studio", "presets", "tests", "requirements.txt", "README.md", "pyproject.toml", "LICENSE",
        ".ci", ".gitignore",
    }  # fmt: skip
    assert {name.split("/")[0] for name in git.stdout.splitlines()} <= allowed


def test_files_stay_short() -> None:
    for path in [*PACKAGE.rglob("*.py"), ROOT / "app.py"]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_lint_format_and_types_are_clean() -> None:
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        argv = [sys.executable, "-m", *command]
        result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
