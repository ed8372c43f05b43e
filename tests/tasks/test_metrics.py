"""Metrics against the public libraries themselves, and against counting by hand."""

import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu
import sklearn.metrics
from rouge_score.rouge_scorer import RougeScorer

from peft_studio.errors import DataError
from peft_studio.tasks import metrics

REFERENCES = [
    ["the cat sat on the mat", "a cat sat there today"],
    ["dogs bark at night in town"],
    ["a b c d e", "x y", "z"],
]
TEXTS = ["the cat sat on a mat", " dogs bark in town at night ", "a b c d"]


def test_uneven_references_become_padded_streams() -> None:
    assert metrics.reference_streams(REFERENCES) == [
        ["the cat sat on the mat", "dogs bark at night in town", "a b c d e"],
        ["a cat sat there today", None, "x y"],
        [None, None, "z"],
    ]


def test_scores_equal_sacrebleu() -> None:
    streams = metrics.reference_streams(REFERENCES)
    texts = [text.strip() for text in TEXTS]
    assert metrics.corpus_scores(REFERENCES, TEXTS) == {
        "bleu": sacrebleu.corpus_bleu(texts, streams).score,
        "chrf": sacrebleu.corpus_chrf(texts, streams).score,
    }


def test_every_reference_counts() -> None:
    texts = [row[-1] for row in REFERENCES]
    assert metrics.corpus_scores(REFERENCES, texts)["chrf"] == pytest.approx(100)


def test_what_cannot_be_scored() -> None:
    for references, texts in (([], []), ([["a"], []], ["a", "b"]), ([["a"]], ["a", "b"])):
        with pytest.raises(DataError):
            metrics.corpus_scores(references, texts)
    with pytest.raises(DataError):
        metrics.percent([])


def test_percent() -> None:
    assert metrics.percent([True, False, True, True]) == 75.0


HALVES = {
    "zh": ("院子里有两只小鸟在唱歌。", "院子里有三只小猫在睡觉。"),
    "ja": ("にわに小鳥が二羽いる。", "にわに子猫が三匹いる。"),
    "ko": ("마당에 작은 새가 두 마리 있다.", "마당에 작은 고양이가 세 마리 있다."),
    "th": ("ในสวนมีนกสองตัว", "ในสวนมีแมวสามตัว"),
    "lo": ("ໃນສວນມີນົກສອງໂຕ", "ໃນສວນມີແມວສາມໂຕ"),
    "km": ("ក្នុងសួនមានបក្សីពីរក្បាល", "ក្នុងសួនមានឆ្មាបីក្បាល"),
    "my": ("ဥယျာဉ်ထဲတွင်ငှက်နှစ်ကောင်ရှိသည်", "ဥယျာဉ်ထဲတွင်ကြောင်သုံးကောင်ရှိသည်"),
    "bo": ("སྡུམ་རའི་ནང་བྱ་གཉིས་འདུག", "སྡུམ་རའི་ནང་ཞི་མི་གསུམ་འདུག"),
}


@pytest.mark.parametrize("language", HALVES)
def test_half_right_answers_in_scripts_without_spaces(language: str) -> None:
    reference, answer = HALVES[language]
    found = metrics.corpus_scores([[reference]], [answer]) | metrics.rouge_scores([[reference]], [answer])
    assert all(20 < value < 90 for value in found.values()), found
    right = metrics.corpus_scores([[reference]], [reference]) | metrics.rouge_scores([[reference]], [reference])
    assert all(value == pytest.approx(100) for value in right.values()), right


@pytest.mark.parametrize(
    ("text", "bleu", "rouge"),
    [
        ("院子里有 two 只小鸟", "zh", "char"),
        ("The dish 麻婆豆腐 is served with rice and a pot of tea", "13a", "default"),
        ("Le café est fermé le dimanche", "13a", "default"),
        ("Во дворе поют две птицы", "13a", "words"),
        ("आँगन में दो चिड़ियाँ गाती हैं", "13a", "words"),
        ("def add(a, b): return a + b", "13a", "default"),
        ("12 + 30 = 42", "13a", "default"),
        ("", "13a", "default"),
    ],
)
def test_the_script_of_the_references_chooses_the_tokenizer(text: str, bleu: str, rouge: str) -> None:
    assert metrics.tokenizers_for([[text]]) == {"bleu": bleu} | dict.fromkeys(("rouge1", "rouge2", "rougeL"), rouge)


def test_analysers_are_used_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "has_modules", lambda *_names: True)
    assert [metrics.tokenizers_for([[HALVES[name][0]]])["bleu"] for name in ("ja", "ko", "th", "zh")] == [
        "ja-mecab", "ko-mecab", "char", "zh",
    ]  # fmt: skip


def test_words_of_every_script_stay_whole() -> None:
    tokens = metrics.AllScripts().tokenize("Ёлка, मैं_हूँ; 2小鸟 naïve مَدرسة")
    assert tokens == ["ёлка", "मैं", "हूँ", "2", "小", "鸟", "naïve", "مَدرسة"]


@pytest.mark.parametrize("language", ["zh", "th", "en"])
def test_bleu_and_chrf_are_those_of_the_command(language: str, tmp_path: Path) -> None:
    pairs = {**HALVES, "en": ("Two birds sing in the yard, loudly.", "Three cats sleep in the yard.")}
    lines = list(zip(*(pairs[language], pairs[language][::-1], (pairs[language][0],) * 2), strict=True))
    for name, texts in zip(("reference", "answer"), lines, strict=True):
        (tmp_path / name).write_text("\n".join(texts) + "\n", encoding="utf-8")
    references, answers = [[text] for text in lines[0]], lines[1]
    used = metrics.tokenizers_for(references)["bleu"]
    argv = ["reference", "-i", "answer", "-m", "bleu", "chrf", "-tok", used, "-b", "-w", "6", "-f", "text"]
    command = [sys.executable, "-m", "sacrebleu", *argv]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    figures = [float(word) for word in done.stdout.split()]
    assert list(metrics.corpus_scores(references, answers).values()) == pytest.approx(figures, abs=1e-6)


def test_rouge_equals_the_library() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for name, value in metrics.rouge_scores(REFERENCES, TEXTS).items():
        best = [
            max(scorer.score(reference, text)[name].fmeasure for reference in row)
            for row, text in zip(REFERENCES, TEXTS, strict=True)
        ]
        assert value == pytest.approx(100 * sum(best) / 3)


def test_rouge_does_not_stem_and_takes_empty_texts() -> None:
    assert metrics.rouge_scores([["dogs bark"]], ["dog barks"])["rouge1"] == 0
    figures = metrics.rouge_scores([["a b", "c d"], ["x y"]], ["c d", ""])
    assert figures == {"rouge1": 50.0, "rouge2": 50.0, "rougeL": 50.0}


TRUTH = ["a", "a", "b", "b", "c", "a"]
ANSWERS = ["a", "b", "b", "b", "what", "a"]


def test_classification_equals_counting() -> None:
    figures = metrics.classification_scores(TRUTH, ANSWERS, ["a", "b", "c", "in no row"])
    assert figures["accuracy"] == pytest.approx(100 * 4 / 6)
    assert figures["macro_f1"] == pytest.approx(100 * (2 * 2 / 5 + 2 * 2 / 5 + 0) / 3)
    assert metrics.classification_scores(TRUTH, TRUTH, ["a", "b", "c"]) == {"accuracy": 100.0, "macro_f1": 100.0}


def test_confusion_matrix_equals_the_library() -> None:
    labels = ["c", "a", "b"]
    matrix = metrics.confusion_matrix(TRUTH, ANSWERS, labels)
    assert matrix == [[0, 0, 0], [0, 2, 1], [0, 0, 2]]
    known = [(truth, answer) for truth, answer in zip(TRUTH, ANSWERS, strict=True) if answer in labels]
    assert matrix == sklearn.metrics.confusion_matrix(*zip(*known, strict=True), labels=labels).tolist()


def test_what_cannot_be_compared() -> None:
    for rows, texts in (([], []), (["a"], ["a", "b"])):
        for function in (metrics.classification_scores, metrics.confusion_matrix):
            with pytest.raises(DataError):
                function(rows, texts, ["a", "b"])
        with pytest.raises(DataError):
            metrics.rouge_scores([[row] for row in rows], texts)
