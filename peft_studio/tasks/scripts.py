"""How plausible a text is as Chinese, Japanese or Korean, to tell apart encodings that read the same bytes.

A wrong reading gives characters that exist but that hardly any text uses. Two shares tell: of characters from the part
of an encoding's table that its standard orders by frequency, and of the few characters that fill half of any text.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

_HANZI = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方"
    "多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实很非常无最高新很菜味道店服务吃这價電影"
    "這個們來為國說時會對過發後裡樣麼經學現當沒動還進開從實點無問長與書話車東間讓給"
)
_HANGUL = (
    "이다는의에가을로고하지한도를은기사리서자어들시나아인대정니그해있게보수일라만스습부여전으면상원주제과우구것장와없했"
    "적비성요성오안영용문소조선경무위요미물거방공음식좋았었"
)
_HIRAGANA = "".join(map(chr, range(0x3041, 0x3097)))
_ASCII = re.compile(r"[\x00-\x7f]+")
_SHORT = 30
"""Characters up to which a text may lack all common ones."""


class _Script(NamedTuple):
    """What a text in an encoding looks like."""

    coding: str  # the standard's own encoding, whose first bytes tell how frequent a character is
    leads: frozenset[int]  # first bytes of punctuation and of frequent characters
    common: frozenset[str]  # the most frequent characters


def _leads(*ranges: tuple[int, int]) -> frozenset[int]:
    return frozenset(byte for first, last in ranges for byte in range(first, last + 1))


SCRIPTS: Mapping[str, _Script] = {
    "gb18030": _Script("gb2312", _leads((0xA1, 0xA3), (0xB0, 0xD7)), frozenset(_HANZI)),
    "cp949": _Script("euc_kr", _leads((0xA1, 0xA3), (0xB0, 0xC8)), frozenset(_HANGUL)),
    "big5": _Script("big5", _leads((0xA1, 0xC6)), frozenset(_HANZI)),
    "cp932": _Script("shift_jis", _leads((0x81, 0x83), (0x88, 0x98)), frozenset(_HIRAGANA)),
    "euc_jp": _Script("euc_jp", _leads((0xA1, 0xA5), (0xB0, 0xCF)), frozenset(_HIRAGANA)),
}
"""Encodings that are told apart, with what their texts look like."""


def plausibility(text: str, encoding: str) -> float:
    """How much a text looks like one that is written in an encoding; 0 when it cannot be.

    Args:
        text: The text as this encoding reads it.
        encoding: One of ``SCRIPTS``.
    """
    letters = _ASCII.sub("", text)
    if not letters:
        return 0.0
    script = SCRIPTS[encoding]
    common = sum(char in script.common for char in letters) / len(letters)
    counts = Counter(letters).items()
    frequent = sum(count for char, count in counts if _lead(char, script.coding) in script.leads) / len(letters)
    likely = common >= 0.05 or len(letters) <= _SHORT
    return frequent + common if common >= 0.25 or (frequent >= 0.7 and likely) else 0.0


def _lead(char: str, coding: str) -> int:
    """First byte of a character of two bytes, -1 for any other."""
    data = char.encode(coding, "ignore")
    return data[0] if len(data) == 2 else -1
