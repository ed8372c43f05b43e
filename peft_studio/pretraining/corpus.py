"""Pre-training text: small-world documents mixed with text from the machine's own CPython standard library.

From the library come the reference topics of ``pydoc_data`` and code without any docstring or comment. Text is made in
numbered shards: a shard depends on the seed and its number only, so a run can stop and continue anywhere between two
shards, and the same Python version gives the same text, byte for byte.
"""

import ast
import random
import sysconfig
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peft_studio.pretraining.forms import frame_document
from peft_studio.tasks.small_world import Split

WORLD_SHARE = 0.80
"""Share of the characters that come from the small world."""
_TOPICS_SHARE = 0.25
_CHUNK_CHARS = 640
_SKIPPED = {
    "test", "tests", "idlelib", "encodings", "lib2to3", "pydoc_data", "turtledemo", "site-packages", "ensurepip",
    "__pycache__", "idle_test", "msilib", "dist-packages",
}  # fmt: skip


@dataclass(frozen=True)
class Library:
    """Documents read from the standard library, in a fixed order.

    Attributes:
        topics: Reference prose, cut at paragraphs.
        code: Definitions without docstrings and comments, cut at lines.
    """

    topics: tuple[str, ...]
    code: tuple[str, ...]


def _stripped(source: str) -> ast.Module:
    """Python source without docstrings and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = [part for part in node.body if not _is_text(part)]
            node.body = body or [ast.Pass()]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _chunks(text: str, separator: str) -> list[str]:
    """Cuts text into pieces of at most about ``_CHUNK_CHARS`` characters, between two parts."""
    pieces, piece = [], ""
    for part in text.split(separator):
        if piece and len(piece) + len(part) > _CHUNK_CHARS:
            pieces.append(piece)
            piece = ""
        piece += (separator if piece else "") + part
    return [done for done in [*pieces, piece] if 40 <= len(done) <= 2 * _CHUNK_CHARS]


def _code_of(path: Path) -> list[str]:
    try:
        tree = _stripped(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return []
    pieces = []
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        for member in members:
            pieces += _chunks(ast.unparse(member), "\n")
    return [piece for piece in pieces if piece.isascii()]


def _bucket(name: str) -> Split:
    return "validation" if zlib.crc32(name.encode()) % 20 == 0 else "train"


@lru_cache(maxsize=2)
def library(split: Split) -> Library:
    """Reads the standard library of the running Python; files and topics are held out whole.

    Args:
        split: ``train`` or ``validation``. Text that also occurs in training is left out of the latter.
    """
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(root.rglob("*.py")) if not _SKIPPED & {*path.relative_to(root).parts}]
    code = [piece for path in files if _bucket(path.relative_to(root).as_posix()) == split for piece in _code_of(path)]
    prose = [piece for name in sorted(topics) if _bucket(name) == split for piece in _chunks(topics[name], "\n\n")]
    if split == "train":
        return Library(tuple(prose), tuple(code))
    known = library("train")
    seen = {*known.topics, *known.code}
    return Library(tuple(p for p in prose if p not in seen), tuple(c for c in code if c not in seen))


def shard(
    seed: int, number: int, documents: int, split: Split = "train", use_library: bool = True, late: bool = False
) -> list[str]:
    """Makes one shard of pre-training text.

    Args:
        seed: Seed of the run.
        number: Number of the shard, from 0.
        documents: Small-world documents wanted; library text is added in proportion.
        split: Which invented words and which library files may occur.
        use_library: Whether to read the standard library at all.
        late: Whether the small-world documents are mixed as in the falling phase.

    Returns:
        Documents in random order, without end marks.
    """
    rng = random.Random(f"{seed}/{split}/{number}")
    texts = [frame_document(rng, split, late) for _ in range(documents)]
    if use_library:
        source = library(split)
        wanted = sum(map(len, texts)) * (1 - WORLD_SHARE) / WORLD_SHARE
        texts += _draw(rng, source.topics, wanted * _TOPICS_SHARE)
        texts += _draw(rng, source.code, wanted * (1 - _TOPICS_SHARE))
        rng.shuffle(texts)
    return texts


def _draw(rng: random.Random, pool: tuple[str, ...], chars: float) -> list[str]:
    drawn: list[str] = []
    while chars > 0 and pool:
        text = rng.choice(pool)
        chars -= len(text)
        drawn.append(text)
    return drawn
