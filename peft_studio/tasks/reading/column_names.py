"""Names that columns have in data sets, by the part that they play; all in the form that ``plain`` gives."""

import re
from collections.abc import Mapping, Sequence


def plain(name: str) -> str:
    """``humanReference``, ``Human Reference`` and ``human-reference`` are all ``human_reference``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"\W+", "_", parted).strip("_").lower()


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# In order of preference: when several occur in one table, the first is taken.
INPUTS = _names(
    "instruction meaning_representation mr nl buggy source src input input_text inputs prompt dialogue dialog "
    "conversation document article text sentence sentence1 premise question1 question query utterance review tweet "
    "post passage content body abstract diff patch code func function snippet source_code method email message "
    "comment description context title headline human user "
    "指令 提示 提示词 输入 源文 原文 文章 正文 文本 句子 问题 提问 题目 评论 评价 内容 对话 短信 消息 代码 标题 上下文"
)
LABELS = _names(
    "label labels class classes intent sentiment emotion emotions polarity stance is_spam spam gold gold_label "
    "label_text y 标签 类别 分类 意图 情感 情绪 极性"
)
ANSWERERS = _names("assistant bot chatbot gpt ai assistant_response bot_response model_response ai_response")
"""Beside one of these, a column ``user`` is what was asked, not who wrote the row."""
TARGETS = (
    _names(
        "target tgt output output_text outputs completion response human_reference ref fixed highlights summary tldr "
        "answer answers docstring reply translation commit_message msg reference references "
        "目标 输出 回答 答案 答复 回复 译文 翻译 摘要 总结 概要 参考 注释 描述"
    )
    + ANSWERERS
)
WEAK_LABELS = _names("category topic type rating stars score 类型 主题 评分 星级")
"""Often mere notes beside the real target, so names of targets go first."""
WEAK_TARGETS = _names("title headline message comment description abstract code 标题 代码")
REFERENCES = _names(
    "references refs human_references reference_texts all_references targets reference 参考答案 参考文本 参考译文 参考"
)
IDLE = _names(
    "id idx index uid uuid guid key no row row_id split url uri link path file filename date time timestamp year "
    "language lang locale source_id author user username name_of_file license version hash sha license_name "
    "created updated length num_tokens tokens_count embedding embeddings image images audio meta metadata "
    "编号 序号 索引 日期 时间 链接 语言"
)
"""What tells of a row where it comes from, not what it says."""
ORIGINS = _names("source src origin dataset data_source domain subset model generator topic type category")
"""Names that tell where rows come from if their values are few and short."""
IDLE_ENDS = ("_id", "_ids", "_url", "_uri", "_at", "_date", "_time", "_lang", "_language", "_path", "_hash", "_count",
             "_length", "_len", "_score", "_scores", "_embedding", "_model")  # fmt: skip
BOOLEAN_STARTS = ("is_", "has_", "was_", "should_")
PAIRS = {
    "instruction": _names("input"),
    "指令": _names("输入"),
    "premise": _names("hypothesis"),
    "sentence1": _names("sentence2"),
    "question1": _names("question2"),
    "question": _names("context passage paragraph sentence"),
    "问题": _names("上下文 背景"),
}
"""Columns that belong into the prompt together with the input."""
PREFERRED = (
    ("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"),
    ("answer_chosen", "answer_rejected"), ("chosen_answer", "rejected_answer"), ("response_j", "response_k"),
    ("preferred", "dispreferred"), ("preferred", "rejected"), ("preferred_response", "dispreferred_response"),
    ("preferred_output", "non_preferred_output"), ("chosen_output", "rejected_output"),
    ("preferred_completion", "rejected_completion"), ("chosen_completion", "rejected_completion"),
    ("accepted", "rejected"), ("accept", "reject"), ("winner", "loser"), ("win", "lose"), ("won", "lost"),
    ("better", "worse"), ("best", "worst"), ("good", "bad"), ("good_answer", "bad_answer"),
    ("better_response", "worse_response"), ("better_answer", "worse_answer"),
    ("positive", "negative"), ("pos", "neg"), ("y_w", "y_l"), ("y_win", "y_lose"), ("response_w", "response_l"),
    ("选择", "拒绝"), ("好", "坏"),
)  # fmt: skip
"""Pairs of an answer that people preferred and one that they did not."""
CHATS = _names(
    "messages conversations conversation chat chats dialogue dialog dialogs turns 对话 chosen completion prompt"
)
HISTORIES = _names("history histories previous_turns 历史 历史对话")
SYSTEMS = _names("system system_prompt system_message 系统 系统提示")
KNOWN = frozenset((*INPUTS, *LABELS, *TARGETS, *WEAK_LABELS, *WEAK_TARGETS, *REFERENCES, *IDLE, *ORIGINS, *CHATS,
                   *HISTORIES, *SYSTEMS,
                   *(name for names in PAIRS.values() for name in names)))  # fmt: skip
"""All of these: a line with one of them is a header."""


def first(names: Mapping[str, str], wanted: Sequence[str]) -> str:
    """The column whose plain name comes first among wanted ones; empty without any."""
    ranked = {name: rank for rank, name in enumerate(wanted)}
    known = [key for key in names if names[key] in ranked]
    return min(known, key=lambda key: ranked[names[key]], default="")
