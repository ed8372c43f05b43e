"""The arrows of the design: who may import whom, no cycle, a web process without torch, one place per method; and how
large a file, a room and the house may be."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "peft_studio"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate")
LONGEST = {".py": 300, ".js": 250, ".css": 300}
"""Most lines of a file, by suffix."""
WIDEST = 120
"""Most characters of a line of our scripts and styles; ruff has its own limit for Python."""
MOST_FILES, MOST_ENTRIES, FEWER_ANY = 24, 12, 60
"""Most files of a room beside its alcoves, most files directly in the package, and the bound on ``Any`` parameters."""
# room -> rooms that it may import beside itself; arrows only downwards, the table lists them from top to bottom
ROOMS: dict[str, set[str]] = {
    "app": {"ui", "experiments", "jobs", "tasks", "settings", "machine", "files", "errors"},
    "__main__": {"cli", "files"},
    "ui": {"access", "experiments", "jobs", "doctor", "archives", "processes", "runs", "config", "methods", "tasks",
           "models", "settings", "machine", "files", "errors"},
    "cli": {"experiments", "jobs", "training", "doctor", "archives", "processes", "runs", "config", "pretraining",
            "methods", "tasks", "models", "settings", "machine", "files", "errors"},
    "experiments": {"jobs", "access", "archives", "runs", "config", "methods", "tasks", "models", "machine", "files",
                    "errors"},
    "jobs": {"access", "processes", "archives", "doctor", "runs", "config", "methods", "tasks", "models", "settings",
             "machine", "files", "errors"},
    "access": {"runs", "settings", "machine", "files", "errors"},
    "worker": {"training", "runs", "config", "tasks", "machine", "files", "errors"},
    "engine": {"training", "runs", "config", "methods", "tasks", "settings", "machine", "files", "errors"},
    "warm": {"training", "processes", "tasks"},
    "training": {"runs", "config", "pretraining", "methods", "tasks", "models", "settings", "machine", "files",
                 "errors"},
    "doctor": {"runs", "config", "methods", "tasks", "models", "files", "errors"},
    "archives": {"runs", "config", "methods", "tasks", "models", "machine", "files", "errors"},
    "processes": {"runs", "config", "settings", "machine", "files", "errors"},
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


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def room(module: str) -> str:
    """Which room of the house a module belongs to: its folder below the package, or itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} uses a relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name in MODULES}


GRAPH = {module: imports(path) - {module} for module, path in MODULES.items()}


def names_in(path: Path) -> set[str]:
    """What can be imported from a file: all that it defines, sets or imports."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
    return found


def test_what_tests_and_benchmarks_import_is_there() -> None:
    names = {module: names_in(path) for module, path in MODULES.items()}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                module = node.module if isinstance(node, ast.ImportFrom) else ""
                if module and module.partition(".")[0] == "peft_studio":
                    there = f"{module}.{alias.name}" in MODULES or alias.name in names.get(module, ())
                    assert there, f"{path}:{node.lineno} imports {alias.name} from {module}"


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


def imported_first(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports when it is imported itself: not in functions, not for types only."""
    waiting: list[ast.AST] = [parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def reached(starts: list[str]) -> dict[str, tuple[str, ...]]:
    """All modules of the package that importing some of them imports, each with the way to it."""
    ways = {module: (module,) for module in starts}
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        parts = module.split(".")
        parents = {".".join(parts[:length]) for length in range(1, len(parts))}
        for target in (parents | set(imported_first(MODULES[module]))) & set(MODULES):
            if target not in ways:
                ways[target] = (*ways[module], target)
                waiting.append(target)
    return ways


def test_nothing_that_the_web_process_reaches_imports_torch() -> None:
    starts = [module for module in MODULES if room(module) in ("ui", "jobs")]
    for module, way in reached(starts).items():
        heavy = {name.partition(".")[0] for name in imported_first(MODULES[module])} & set(HEAVY)
        assert not heavy, f"{' -> '.join(way)} imports {', '.join(sorted(heavy))}"


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


def test_names_are_looked_up_where_something_begins() -> None:
    """Below, a ``ResolvedRun`` is passed on; only a loaded model tells its own type."""
    begins = ("config", "methods", "tasks", "models", "ui")
    known = {("training.load", "layout_for"), ("jobs.executors.ray.mirror", "find_card")}
    lookup = re.compile(r"\b(get_method|task_of|find_card|layout_for)\(")
    for module, path in MODULES.items():
        if room(module) not in begins:
            found = {(module.removeprefix("peft_studio."), name) for name in lookup.findall(path.read_text("utf-8"))}
            assert found <= known


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


def tracked(folder: str) -> list[Path]:
    """Files of a folder that git knows and that are still there."""
    git = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in git.stdout.splitlines() if (ROOT / name).is_file()]


ENVIRONMENTS = {
    "peft_studio.machine.environment": "knows the values that are secret, so that they are kept out of what leaves",
    "peft_studio.processes.warm_client": "makes the environment of the processes that it starts",
    "peft_studio.processes.hub_fetch": "hands its environment to the command that it starts",
    "peft_studio.tasks.reading.reader_client": "hands its environment to the reader program",
    "peft_studio.training.outside_check": "makes the environment of the process that tries an adapter",
    "peft_studio.experiments.outcome": "hands its environment, without secrets, to the program that makes statistics",
    "peft_studio.archives.import_apart": "hands its environment, without secrets, to the import program",
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
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in [*(PACKAGE.rglob("*")), ROOT / "app.py"]
        if path.suffix in LONGEST
    }
    assert {name: size for name, size in sizes.items() if size > LONGEST[Path(name).suffix]} == {}


def test_lines_of_scripts_and_styles_stay_short() -> None:
    wide = Counter[str]()
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".js", ".css"):
            lines = path.read_text(encoding="utf-8").splitlines()
            wide[path.name] += sum(len(line) > WIDEST for line in lines)
    assert +wide == Counter()


def test_rooms_stay_small() -> None:
    rooms = Counter(path.parent.name for path in tracked("peft_studio") if path.parent.parent == PACKAGE)
    assert {name: count for name, count in rooms.items() if count > MOST_FILES} == {}
    loose = sorted(path.name for path in tracked("peft_studio") if path.parent == PACKAGE)
    assert len(loose) <= MOST_ENTRIES, loose


def definitions(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[tuple[str, ast.AST]]:
    """Every class or function of the package with the name of its module."""
    for module, path in MODULES.items():
        yield from ((module, node) for node in ast.walk(parsed(path)) if isinstance(node, kind))


def test_no_two_classes_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, node in definitions(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_few_parameters_are_of_any_type() -> None:
    vague = Counter[str]()
    for module, node in definitions((ast.FunctionDef, ast.AsyncFunctionDef)):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        types = [ast.unparse(each.annotation) for each in every if each is not None and each.annotation is not None]
        vague[module] += sum(kind == "Any" for kind in types)
    assert vague.total() < FEWER_ANY, (+vague).most_common(12)


def test_lint_format_and_types_are_clean() -> None:
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        argv = [sys.executable, "-m", *command]
        result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
