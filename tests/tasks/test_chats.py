"""Conversations as data files hold them, and those that are refused."""

import json
from typing import Any

import pytest

from peft_studio.tasks.base import Chat, Row
from peft_studio.tasks.chats import (
    BadChatError,
    as_transcript,
    checked,
    exchanges,
    history_turns,
    looks_like_chat,
    parse_turns,
    plain_text,
    question_of,
)

TURNS = [("system", "Be kind."), ("user", "hi"), ("assistant", "hello"), ("user", "bye"), ("assistant", "so long")]


@pytest.mark.parametrize(
    "value",
    [
        [{"role": role, "content": text} for role, text in TURNS],
        {"messages": [{"role": role, "content": text} for role, text in TURNS]},
        [{"role": role.upper(), "content": [{"type": "text", "text": text}]} for role, text in TURNS],
        [
            {"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text, "weight": None}
            for role, text in TURNS
        ],
    ],
)
def test_all_forms_give_the_same_turns(value: Any) -> None:
    cell = json.dumps(value)
    assert parse_turns(cell) == parse_turns((cell,)) == TURNS
    assert looks_like_chat(cell) and checked(parse_turns(cell)) == tuple(TURNS)


def test_transcripts_and_bare_lists() -> None:
    spoken = "\n\nHuman: hi\n\nAssistant: hello\nyou\n\nHuman: bye\n\nAssistant: so long"
    assert parse_turns(spoken) == [("user", "hi"), ("assistant", "hello\nyou"), *TURNS[3:]]
    assert looks_like_chat(spoken) and not looks_like_chat("Human: are they?") and not looks_like_chat("[1, 2]")
    assert parse_turns(("hi", "hello")) == TURNS[1:3]
    assert parse_turns("Human: hi\n\nAssistant:") == parse_turns("User: hi\n\nAssistant: ") == [("user", "hi")]


def test_tools_and_their_calls() -> None:
    call = {"type": "function", "function": {"name": "sum", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "It is 2."},
    ]
    found = checked(parse_turns(json.dumps(turns)))
    assert found[1] == ("assistant", '{"name": "sum", "arguments": "{}"}') and found[2] == ("tool", "2")
    shared = [{"from": "human", "value": "q"}, {"from": "function_call", "value": "f()"}]
    shared += [{"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"}]
    assert [role for role, _ in checked(parse_turns(json.dumps(shared)))] == ["user", "assistant", "tool", "assistant"]


def test_histories() -> None:
    pairs = [["q", "a"], ["r", "b"]]
    expected = [("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")]
    assert history_turns(json.dumps(pairs)) == history_turns((json.dumps(pairs),)) == expected
    assert history_turns("") == history_turns(()) == history_turns("null") == []
    assert history_turns(json.dumps([{"role": "user", "content": "q"}])) == [("user", "q")]


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([], "without turns"),
        ([("user", "a"), ("user", "b"), ("assistant", "c")], "two user turns in a row (turns 1 and 2)"),
        ([("user", "a"), ("assistant", "b"), ("assistant", "c")], "two assistant turns in a row (turns 2 and 3)"),
        ([("user", "a"), ("assistant", " ")], "turn 2 (assistant) is empty"),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], "ends with a turn of the user"),
        ([("user", "a"), ("system", "b"), ("assistant", "c")], "system turn as turn 2"),
        ([("assistant", "a"), ("user", "b"), ("assistant", "c")], "begins with the assistant (turn 1)"),
    ],
)
def test_what_no_model_could_lead_is_refused(turns: list[Any], told: str) -> None:
    with pytest.raises(BadChatError) as caught:
        checked(turns)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ('[{"role": "wizard", "content": "x"}]', "turn 1 whose role 'wizard' is unknown. Allowed: system, user"),
        ('[{"content": "x"}]', "turn 1 that does not say who speaks (it has: content)"),
        ('[{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]', "something other than text"),
        ('[{"role": "user", "content": 7}]', "turn 1 whose text is '7'"),
        ("[1, 2]", "'1' as turn 1"),
        ("just words", "'just words', which is no list of turns"),
        ("{}", "which is no list of turns"),
    ],
)
def test_what_is_no_chat_is_refused(cell: str, told: str) -> None:
    with pytest.raises(BadChatError) as caught:
        parse_turns(cell)
    assert told in str(caught.value)


def test_an_encoder_reads_what_came_before_each_answer() -> None:
    turns = checked(TURNS)  # type: ignore[arg-type]
    row = Row(plain_text(turns[:-1]), "so long", chat=Chat(turns))
    first, second = exchanges(row)
    assert first == ("Be kind.\nUser:\nhi\nAssistant:\n", "hello")
    assert second == (row.prompt, "so long") and "hello" in row.prompt
    assert exchanges(Row("a", "b")) == [("a", "b")]


def test_a_prompt_is_a_turn_or_a_whole_conversation() -> None:
    assert question_of(" What is it? ").chat == Chat((("user", "What is it?"), ("assistant", "…")))
    talk = as_transcript([*TURNS, ("user", "one more")])  # type: ignore[list-item]
    row = question_of(talk)
    assert row.chat is not None and row.chat.turns[:-1] == (*TURNS, ("user", "one more"))
    assert question_of('[{"role": "user", "content": "hi"}]').prompt == "User:\nhi\nAssistant:\n"
    with pytest.raises(BadChatError, match="ends with the assistant's turn; write"):
        question_of("User: hi\n\nAssistant: hello")
