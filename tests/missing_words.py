"""Which texts of the page have no translation: `python -m tests.missing_words` prints them, numbered.

``python -m tests.missing_words --fill FILE page`` takes lines of ``number<TAB>translation`` into ``page.json``, and
``--unused`` prints keys that no text of the page needs any more (``--drop`` removes them). ``--readme`` gives the
Chinese README the code of the English one.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from peft_studio.config.sampling import Sampling
from peft_studio.config.sections import ModelConfig, ResourcesConfig, TaskConfig, TrainingConfig
from peft_studio.experiments.cost import Costs
from peft_studio.experiments.ready import ready_list
from peft_studio.methods import METHODS
from peft_studio.methods.not_offered import NOT_OFFERED
from peft_studio.tasks import TASKS
from peft_studio.ui.form import label
from peft_studio.ui.learn import INTRO
from peft_studio.ui.words import LOCALES, dictionary

PACKAGE = Path(__file__).resolve().parent.parent / "peft_studio"
STATIC = PACKAGE / "ui" / "static"
UNSEEN = (
    "cli", "pretraining", "training", "methods", "__main__.py", "worker.py", "engine.py", "warm.py", "settings.py",
    "ui/words.py", "ui/shell.py", "ui/api.py", "models/opening.py", "archives/model_card.py",
    "archives/reproduce_script.py", "archives/reproduce_tokens.py", "tasks/reading/column_names.py",
    "tasks/reading/contents.py", "tasks/headlines.py", "tasks/headlines_events.py", "tasks/reviews.py",
    "tasks/small_world.py", "tasks/bistro.py", "tasks/bistro_plans.py", "tasks/docstrings.py", "tasks/defects.py",
    "experiments/canvas.py", "experiments/charts.py", "experiments/report.py", "experiments/notebook.py",
    "experiments/tables.py", "experiments/exports.py", "experiments/__main__.py", "experiments/outcome.py",
)  # fmt: skip
"""What speaks on a terminal, in a log, in exported files or to programs; texts of methods are read from the registry
instead."""
GRADIO = ("Drop File Here", "- or -", "Click to Upload", "Error", "or")
"""Texts that Gradio itself shows."""
STATES = (
    "queued", "running", "starting", "pausing", "paused", "stopping", "finished", "stopped", "failed", "interrupted",
    "lost", "frozen", "trains", "added", "optional", "mergeable", "prompt", "answer", "rows", "high", "normal", "low",
    "Allowed: {0}.", "Layer {0}", "against", "step", "decoders", "encoders", "encoder-decoders", "base {0}", "no: {0}",
    "Trainable parameters.", "merges into the base", "rows of a batch may differ", "slower when generating", "yes",
    "no", "Fits.", "Paper.", "Learning rate.", "Mind:", "measured", "Source:",
    "Nano models (up to {0} million parameters): {1} where they write ({2}), {3} where they classify ({4}). "
    "{5} for larger ones, not measured here. {6}",
)  # fmt: skip
"""Single words in small letters, which no rule tells from names."""
NOISE = re.compile(
    r"(top|middle|bottom) (center|left|right)|button, input|"
    r"IBM Plex|.*(_\w+ \w+_|10px|attachment;|immutable|triggers|th button|sub grow|Callable|tuple\[|\$2|"
    r"embeddings|tokens gradio|could not be loaded|\} (Summary|Review):|Value error|"
    r"\{\"code|Returns the run|(dict|Connection|Mapping)\[|None; Secure|script, style|model name|\| Data)|"
    r"max_length = \{0\}$|(Top [pk]|Alpha|Dropout|rsLoRA|DoRA|Escape|Tab|User:|Assistant:|Array|List|Sequence|Value|"
    r"Window|Finding|PEFT Studio|Llama|Alive|Features|Resources|Model|GPU UUID|Lax|queue [a-z]+|WebNLG, .*)$|"
    r"\*\*Learning rate|[a-z]+-(src|uri|action|ancestors) |(Ge|Le|Matrix|Connection|private key|Hugging Face Hub)$|"
    r"(secret|token) =|"
    r"(Pythia|OPT|T5|Flan-T5|BART|RoBERTa|ModernBERT|CodeBERT|CodeT5|Qwen3) (\w+|[\d.]+B Base)$"
)
"""What is no text of the page: styles, headers, code, lists of words for programs; and names that stay Latin."""
LITERAL = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?P<double>(?:\\.|[^\"\\\n])*)\"|`(?P<template>(?:\\.|\$\{(?:[^{}`]|\{[^{}]*\}|`(?:\$\{[^{}]*\}"
    r"|[^`])*`)*\}|[^`\\])*)`",
    re.S,
)
HOLE = re.compile(r"\$\{(?:[^{}`]|\{[^{}]*\}|`(?:\$\{[^{}]*\}|[^`])*`)*\}")


def in_words(text: str) -> bool:
    """Whether a literal reads as something that is said to people, and not as a name, path or style."""
    bare = " ".join(re.sub(r"\{\d+\}", " ", text).split())
    no_words = r"^(ps-|studio/|\./|https?:|--|#|M\d|[.\[#])|\\[swdbn]|[<>]|var\("
    if not re.search(r"[A-Za-z]{2}", bare) or re.search(no_words, text):
        return False
    if re.search(r"^[a-z-]+: ?[^ ]+;|;$|^[a-z0-9_.:/{}?=&,%()#+-]+$|[a-z]=\{|^\W+$|[{}]px|translate\(", text):
        return False
    return bool(re.search(r"[A-Za-z]{2,} \S|\S [A-Za-z]{2,}|^[A-Z][a-z]+[.:…?]?$", bare))


def numbered(parts: list[str | None]) -> str:
    """A template: its texts, with `{0}`, `{1}` … for what goes between them (None)."""
    holes = iter(range(100))
    return " ".join("".join(f"{{{next(holes)}}}" if part is None else part for part in parts).split())


def in_script(text: str) -> Iterator[str]:
    """What the literals of a script say."""
    joined = re.sub(r"\"\s*\n?\s*\+ \"", "", text)
    joined = re.sub(r"[`\"]\s*\n\s*\+ `", "", joined) if "`" not in joined else joined
    for found in LITERAL.finditer(joined):
        if found["double"] is not None:
            yield " ".join(found["double"].split())
        elif found["template"] is not None:
            pieces: list[str | None] = []
            at = 0
            for hole in HOLE.finditer(found["template"]):
                pieces += [found["template"][at : hole.start()], None]
                at = hole.end()
                yield from in_script(hole[0][2:-1])
            yield numbered([*pieces, found["template"][at:]])


def in_module(tree: ast.Module) -> Iterator[str]:
    """What the strings of a module say, docstrings apart."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))
        elif isinstance(node, ast.JoinedStr) and id(node) not in inner:
            specs = [one.format_spec for one in node.values if isinstance(one, ast.FormattedValue) and one.format_spec]
            inner.update(id(part) for one in specs for part in ast.walk(one))
            inner.update(id(value) for value in node.values)
            yield numbered([value.value if isinstance(value, ast.Constant) else None for value in node.values])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield " ".join(node.value.split())


def of_fields(model: type[BaseModel]) -> Iterator[str]:
    """Labels and hints of a form made from a model."""
    for name, info in model.model_fields.items():
        if name != "name":
            yield info.title or label(name)
            yield info.description or ""


def of_registry() -> Iterator[str]:
    """What the entries of tasks and methods say, beside their names."""
    for form in (Sampling, ModelConfig, ResourcesConfig, TrainingConfig, *(each.params for each in METHODS.values())):
        yield from of_fields(form)
    rows = TaskConfig.model_fields["train_rows"]
    yield from (str(rows.title), str(rows.description), *(task.title for task in TASKS.values()))
    for ready in ready_list(Costs([], 1)):
        yield from (ready["title"], ready["says"], ready["plan"]["question"])
    for method in METHODS.values():
        yield from (method.summary, method.caveat, *method.not_for.values())


def of_learn() -> Iterator[str]:
    """Paragraphs of the Learn tab, which need not all have a translation: what stands between markup and formulas."""
    written = [INTRO, *(f"{method.idea}\n\n{method.count}" for method in METHODS.values())]
    written += [text for entry in NOT_OFFERED for text in (entry.what, entry.why, entry.seen)]
    for paragraph in "\n\n".join(written).split("\n\n"):
        for text in re.split(r"\*+|\$[^$]*\$|^#+ ", paragraph):
            if re.search(r"[A-Za-z]{2}", text):
                yield " ".join(text.split())


def texts_of(place: Path) -> Iterator[str]:
    """What a file of the package says."""
    text = place.read_text(encoding="utf-8")
    return in_script(text) if place.suffix == ".js" else in_module(ast.parse(text))


def shown() -> dict[str, str]:
    """Every text that the page may show, with where it is from."""
    found: dict[str, str] = dict.fromkeys((*GRADIO, *STATES), "page")
    told = (" ".join(text.split()) for text in of_registry())
    found |= dict.fromkeys((text for text in told if text and not NOISE.match(text)), "registry")
    for path in sorted([*STATIC.glob("*.js"), *PACKAGE.rglob("*.py")]):
        place = path.relative_to(PACKAGE)
        if place.parts[0] not in UNSEEN and place.as_posix() not in UNSEEN:
            for text in texts_of(path):
                if in_words(text) and not NOISE.match(text):
                    found.setdefault(text, place.as_posix())
    return found


def missing(language: str = "zh") -> dict[str, str]:
    """Texts without a translation, with where they are from."""
    known = dictionary(language)
    return {text: place for text, place in shown().items() if text not in known}


def unused(language: str = "zh") -> list[str]:
    """Keys of the dictionary that no text of the page needs."""
    learn = {" ".join(text.split()) for text in of_learn()}
    return sorted(set(dictionary(language)) - set(shown()) - learn)


def fill(lines: list[str], name: str, language: str = "zh") -> None:
    """Takes lines of number and translation into a file of the dictionary."""
    path = LOCALES / language / f"{name}.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    texts = list(missing(language))
    for line in lines:
        number, _, translation = line.strip().partition("\t")
        if translation:
            held[texts[int(number)]] = translation
    path.write_text(json.dumps(held, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def drop_unused(language: str = "zh") -> None:
    """Removes keys that nothing needs."""
    gone = set(unused(language))
    for path in (LOCALES / language).glob("*.json"):
        held = {key: text for key, text in json.loads(path.read_text(encoding="utf-8")).items() if key not in gone}
        path.write_text(json.dumps(held, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def copy_code() -> None:
    """Gives the Chinese README the code of the English one, block by block."""
    block = re.compile(r"^```.*?^```$", re.S | re.M)
    chinese = Path(__file__).with_name("README.zh.md")
    blocks = iter(block.findall((PACKAGE.parent / "README.md").read_text(encoding="utf-8")))
    text = block.sub(lambda _: next(blocks), chinese.read_text(encoding="utf-8"))
    chinese.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fill"]:
        fill(Path(sys.argv[2]).read_text(encoding="utf-8").splitlines(), sys.argv[3])
    elif sys.argv[1:] == ["--drop"]:
        drop_unused()
    elif sys.argv[1:] == ["--readme"]:
        copy_code()
    elif sys.argv[1:] == ["--unused"]:
        print(*unused(), sep="\n")
    else:
        for number, (text, place) in enumerate(missing().items()):
            print(f"{number}\t{place}\t{text}")
