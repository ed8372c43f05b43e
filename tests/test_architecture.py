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
# room -> rooms that it may import beside itself; arrows only downwards, the table lists them from top to bottom
ROOMS: dict[str, set[str]] = {
    "app": {"ui", "jobs", "tasks", "settings", "errors"},
    "__main__": {"cli"},
    "ui": {"jobs", "doctor", "archives", "processes", "runs", "config", "methods", "tasks", "models", "settings",
           "machine", "files", "errors"},
    "cli": {"jobs", "training", "doctor", "archives", "processes", "runs", "config", "pretraining", "methods", "tasks",
            "models", "settings", "machine", "files", "errors"},
    "jobs": {"processes", "archives", "doctor", "runs", "config", "methods", "tasks", "models", "settings", "machine",
             "files", "errors"},
    "worker": {"training", "runs", "config", "tasks", "machine", "files", "errors"},
    "engine": {"training", "runs", "config", "methods", "tasks", "settings", "files", "errors"},
    "warm": {"training", "processes", "tasks"},
    "training": {"runs", "config", "methods", "tasks", "models", "settings", "machine", "files", "errors"},
    "doctor": {"runs", "config", "methods", "tasks", "models", "files", "errors"},
    "archives": {"runs", "config", "methods", "tasks", "models", "files", "errors"},
    "processes": {"runs", "config", "settings", "files", "errors"},
    "runs": {"config", "methods", "settings", "machine", "files", "errors"},
    "config": {"methods", "tasks", "models", "machine", "files", "errors"},
    "pretraining": {"tasks", "models", "files", "errors"},
    "methods": {"models", "errors"},
    "tasks": {"models", "machine", "files", "errors"},
    "models": {"machine", "files", "errors"},
    "settings": {"machine", "files", "errors"},
    "machine": {"files", "errors"},
    "files": {"errors"},
    "errors": set(),
}  # fmt: skip
PROGRAMS = {"app", "__main__", "worker", "engine", "warm"}
"""What starts a process; nobody imports these."""


def room(module: str) -> str:
    """Which room of the house a module belongs to: its folder below the package, or itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


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


def test_the_table_names_every_room_once() -> None:
    assert {room(module) for module in MODULES} - {"peft_studio"} == set(ROOMS) - {"app"}


def test_the_table_has_no_arrow_upwards() -> None:
    order = list(ROOMS)
    for number, name in enumerate(order):
        assert ROOMS[name] <= set(order[number + 1 :]), name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_one_way(module: str) -> None:
    for target in GRAPH[module] - {"peft_studio"}:
        assert room(target) not in PROGRAMS, f"{module} imports {target}"
        assert room(target) == room(module) or room(target) in ROOMS[room(module)], f"{module} imports {target}"


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
        "import peft_studio.ui, peft_studio.jobs.manager, peft_studio.config.presets\n"
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


ENVIRONMENTS = {
    "peft_studio.processes.warm_client": "makes the environment of the processes that it starts",
    "peft_studio.processes.hub_fetch": "hands its environment to the command that it starts",
    "peft_studio.worker": "hides GPUs from CUDA in the process that trains, which listens to nothing else",
}
"""Where the environment of a process is made; nowhere but in the programs is anything decided by it."""


def test_only_the_programs_read_the_environment() -> None:
    for module, path in MODULES.items():
        names = {
            getattr(node, "attr", getattr(node, "name", ""))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute | ast.alias)
        }
        reads = bool(names & {"environ", "environb", "getenv"})
        assert reads == (module == "peft_studio.__main__" or module in ENVIRONMENTS), module


def test_files_stay_short() -> None:
    for path in [*PACKAGE.rglob("*.py"), ROOT / "app.py"]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_lint_format_and_types_are_clean() -> None:
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        argv = [sys.executable, "-m", *command]
        result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
