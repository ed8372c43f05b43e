"""Scripts and styles: their size, their modules, and where Gradio's inside may be named."""

import re
from pathlib import Path

import pytest

from peft_studio.ui.shell import HEAD, SCRIPTS, STATIC, STYLES, make_theme

MODULES = sorted(STATIC.glob("*.js"))
SHEETS = sorted(STATIC.glob("*.css"))
MAX_LINES = {".js": 250, ".css": 300}
MAX_LENGTH = 120
GRADIO = STATIC / "gradio.css"
# Names of Gradio's own elements that our scripts could be using by chance.
GRADIO_NAMES = re.compile(
    r"gradio|\.(block|form|wrap|wrap-inner|secondary-wrap|tab-\w+|tabitem|prose|html-container|token|icon-wrap|info"
    r"|column|row|main|app|hide|hidden|selected|svelte-\w+)(?![\w-])|data-testid|role=combobox"
)


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def selectors(path: Path) -> list[str]:
    """Every selector of a style sheet, also those inside of media queries."""
    heads = re.findall(r"([^{};]+)\{", without_comments(path.read_text(encoding="utf-8")))
    return [head.strip() for head in heads if not re.match(r"\s*(@|\d+%|from|to)", head)]


@pytest.mark.parametrize("path", [*MODULES, *SHEETS], ids=lambda path: path.name)
def test_files_are_short_and_so_are_their_lines(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES[path.suffix]
    assert max(map(len, lines)) <= MAX_LENGTH


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_script_is_a_module_without_globals(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^(import|export) ", text, re.M)
    names = set(re.findall(r"window\.(\w+)\s*=[^=>]", text))
    assert names <= ({"studio"} if path.name == "main.js" else {"Plotly"} if path.name == "plot.js" else set())
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


def test_every_module_is_imported_and_every_import_is_there() -> None:
    names = {path.name for path in MODULES}
    imported = {
        name
        for path in MODULES
        for name in re.findall(r'^(?:import|\} from).*"\./([\w.]+)";$', path.read_text(encoding="utf-8"), re.M)
    }
    assert imported == names - {"main.js"}


def test_only_one_file_touches_gradio() -> None:
    for path in SHEETS:
        if path == GRADIO:
            continue
        assert "!important" not in path.read_text(encoding="utf-8"), path.name
        assert [found for found in selectors(path) if GRADIO_NAMES.search(found)] == [], path.name


def test_styles_name_only_what_our_scripts_or_our_python_make() -> None:
    made = "".join(path.read_text(encoding="utf-8") for path in MODULES)
    made += "".join(path.read_text(encoding="utf-8") for path in STATIC.parents[1].rglob("*.py"))
    for path in SHEETS:
        if path == GRADIO:
            continue
        for selector in selectors(path):
            for name in re.findall(r"[.#](-?[A-Za-z][\w-]*)", selector):
                assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", made) or name in ("dark", "light"), selector


def test_no_selector_has_a_comma_that_gradio_would_cut_at() -> None:
    for path in SHEETS:
        for selector in selectors(path):
            assert not re.search(r"\([^)]*,", selector), f"{path.name}: {selector}"


def test_important_stays_rare() -> None:
    assert without_comments(GRADIO.read_text(encoding="utf-8")).count("!important") <= 4


def test_every_style_is_loaded_and_every_colour_has_a_dark_one() -> None:
    assert sorted(STYLES) == SHEETS
    light, dark = (
        set(re.findall(r"(--ps-[\w-]+):\s*#", block))
        for block in re.findall(r"\{([^}]*)\}", (STATIC / "tokens.css").read_text(encoding="utf-8"))[1:3]
    )
    assert light == dark
    theme = make_theme()
    named = {value for value in vars(theme).values() if isinstance(value, str) and value.startswith("var(--ps-")}
    defined = set(re.findall(r"(--ps-[\w-]+):", (STATIC / "tokens.css").read_text(encoding="utf-8")))
    assert {value[4:-1] for value in named} <= defined
    for path in [*MODULES, *SHEETS]:
        assert set(re.findall(r"--ps-[\w-]+", path.read_text(encoding="utf-8"))) <= defined, path.name


def test_all_modules_are_fetched_at_once_by_addresses_that_change_with_them() -> None:
    loaded = set(re.findall(r'modulepreload" href="([^"]+)"', HEAD))
    assert loaded == {f"{SCRIPTS}/{path.name}" for path in MODULES} and len(loaded) <= 75
    assert re.fullmatch(r"studio/static/[0-9a-f]{12}", SCRIPTS)
