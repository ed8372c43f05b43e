"""The page in other languages: dictionaries by the English text, kept in ``locales``, looked up in the browser.

Gradio's own translations follow the browser's language only and would need every label wrapped; the blocks are built
once for all visitors. So the English page is sent to everybody, and ``static/words.js`` shows each text as the
dictionary has it, wherever on the page it comes from: forms, islands, messages, errors.
"""

import json
from functools import lru_cache
from pathlib import Path

LOCALES = Path(__file__).parent / "locales"
LANGUAGES = ("en", *sorted(path.name for path in LOCALES.iterdir() if path.is_dir()))


@lru_cache(maxsize=8)
def dictionary(language: str) -> dict[str, str]:
    """Translations by their English text; ``{0}``, ``{1}`` … stand for what differs. Empty for English.

    Args:
        language: One of ``LANGUAGES``.
    """
    found: dict[str, str] = {}
    if language in LANGUAGES:
        for path in sorted((LOCALES / language).glob("*.json")):
            found |= json.loads(path.read_text(encoding="utf-8"))
    return found
