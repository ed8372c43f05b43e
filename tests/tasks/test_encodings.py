"""Real words of several scripts, in the encodings in which old files hold them."""

import pytest

from peft_studio.errors import DataError
from peft_studio.tasks.encodings import SAMPLE_BYTES, decode

KOREAN = [
    "이 영화는 정말 재미있었다. 배우들의 연기가 훌륭하고 음악도 좋았다.",
    "음식이 늦게 나왔고 직원이 불친절했습니다. 다시는 가지 않겠습니다.",
    "서울의 날씨는 오늘 맑고 내일은 비가 내릴 것으로 보인다.",
    "긍정,부정,중립",
]
SIMPLIFIED = [
    "这部电影非常好看，演员的表演很出色，音乐也很好听。",
    "服务员态度很差，等了一个小时才上菜，不会再来了。",
    "北京今天天气晴朗，明天有雨。",
    "餐厅 川菜 米饭 牛肉面",
]
TRADITIONAL = [
    "這部電影非常好看，演員的表演很出色，音樂也很好聽。",
    "服務生的態度很差，等了一個小時才上菜，我不會再來了。",
    "臺北今天天氣晴朗，明天會下雨。",
]
JAPANESE = [
    "この映画はとても面白かった。俳優の演技が素晴らしく、音楽も良かった。",
    "料理が出てくるのが遅く、店員の態度も悪かったです。",
    "東京の今日の天気は晴れ、明日は雨でしょう。",
]
WESTERN = [
    "Le café est très bon, la crème brûlée aussi; une année créée à Noël, où j'étais déjà.",
    "Die Größe der Häuser überraschte uns – schöne Grüße aus Köln.",
    "El niño comió piñas y jamón; ¿qué más quería mañana?",
    "Smörgåsbord på ön, hälsningar från Åmål.",
]
CASES = [
    *(("cp949", "cp949", text) for text in KOREAN),
    *(("euc_kr", "cp949", text) for text in KOREAN),
    *(("gb2312", "gb18030", text) for text in SIMPLIFIED),
    *(("gb18030", "gb18030", text) for text in [*SIMPLIFIED, *TRADITIONAL]),
    *(("big5", "big5", text) for text in TRADITIONAL),
    *(("cp932", "cp932", text) for text in JAPANESE),
    *(("euc_jp", "euc_jp", text) for text in JAPANESE),
    *(("cp1252", "cp1252", text) for text in WESTERN),
]


@pytest.mark.parametrize(("written", "found", "text"), CASES)
def test_each_script_is_read_as_it_was_written(written: str, found: str, text: str) -> None:
    table = f"text,label\n{text},good\n"
    assert decode(table.encode(written), "a.csv") == (table, found)


@pytest.mark.parametrize(("written", "found", "texts"), [
    ("euc_kr", "cp949", KOREAN), ("gb18030", "gb18030", SIMPLIFIED), ("big5", "big5", TRADITIONAL),
    ("cp932", "cp932", JAPANESE), ("cp1252", "cp1252", WESTERN),
])  # fmt: skip
def test_long_files_that_begin_in_english(written: str, found: str, texts: list[str]) -> None:
    lines = ["a plain line"] * 20_000 + texts * (2 * SAMPLE_BYTES // len("".join(texts).encode(written)))
    table = "\n".join(lines)
    assert decode(table.encode(written), "a.csv") == (table, found)


@pytest.mark.parametrize("coding", ["cp1251", "koi8_r", "iso8859_7"])
def test_scripts_that_are_not_known_are_refused_instead_of_garbled(coding: str) -> None:
    text = "Παρακαλώ δώστε μου το βιβλίο που είναι στο τραπέζι. " * 3
    if coding != "iso8859_7":
        text = "Фильм мне очень понравился, актёры играют прекрасно, музыка тоже хороша. " * 3
    with pytest.raises(DataError, match=r"a\.csv cannot be read as text: byte \d+ .* Save the file as UTF-8"):
        decode(text.encode(coding), "a.csv")


def test_a_fault_far_behind_the_sample_is_found() -> None:
    data = ("이 영화는 정말 재미있었다.\n" * 20_000).encode("euc_kr") + b"\xb0\xff\n"
    with pytest.raises(DataError, match="cannot be read as text"):
        decode(data, "a.csv")
