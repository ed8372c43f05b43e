"""Conversations as data files hold them: OpenAI's messages, ShareGPT's turns, Alpaca's history, and transcripts.

All become turns of four roles. A conversation that no model could lead is refused in words, before a job starts.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from peft_studio.errors import BadChatError
from peft_studio.tasks.base import Chat, Role, Row

Turn = tuple[Role, str]
PLAIN = (
    "{% for turn in messages %}"
    "{% if turn.role == 'system' %}{{ turn.content + '\\n\\n' }}"
    "{% elif turn.role == 'assistant' %}{{ 'Assistant:\\n' + turn.content + (eos_token or '') + '\\n' }}"
    "{% else %}{{ turn.role | capitalize + ':\\n' + turn.content + '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
"""The template of models without one of their own; an answer ends with the end-of-text token."""
ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "instruction": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "chatbot": "assistant", "bard": "assistant", "bing": "assistant", "ai": "assistant", "output": "assistant",
    "function_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool",
}  # fmt: skip
"""Who speaks, by the names that data sets use."""
_ROLE_KEYS = ("role", "from", "speaker", "user_type")
_TEXT_KEYS = ("content", "value", "text", "message")
_SPOKEN = re.compile(r"(?:^|\n\n)(Human|Assistant|User|System|Tool): ?")
"""How a transcript says who speaks, as in Anthropic's data on being helpful and harmless."""


def parse_turns(cell: str | Sequence[str]) -> list[Turn]:
    """The turns that a cell holds: as a list, as JSON, or as a transcript.

    Args:
        cell: What a table holds of it; nested values are JSON there.

    Raises:
        BadChatError: It holds something else.
    """
    text = _text(cell)
    if _SPOKEN.match(text.lstrip(" ") if text.startswith(" ") else text):
        return list(_transcript(text))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BadChatError(f"{_short(text)}, which is no list of turns") from None
    if isinstance(value, dict):  # {"messages": [...]} within a cell
        value = next((part for part in value.values() if isinstance(part, list)), value)
    if not isinstance(value, list):
        raise BadChatError(f"{_short(text)}, which is no list of turns")
    if value and all(isinstance(part, str) for part in value):  # by turns, the user first
        return [("assistant" if at % 2 else "user", part) for at, part in enumerate(value)]
    return [_turn(part, number) for number, part in enumerate(value, 1)]


def looks_like_chat(cell: str | Sequence[str]) -> bool:
    """Whether a cell holds turns with their speakers."""
    cell = _text(cell)
    head = cell.lstrip()
    if _SPOKEN.match(cell):
        return len(_SPOKEN.findall(cell)) > 1
    if not head.startswith("[{") and not head.startswith("[ {") and not head.startswith("{"):
        return False
    try:
        return bool(parse_turns(cell))
    except BadChatError as error:
        return "is unknown" in str(error)  # a conversation all the same, with a speaker to be told of


def history_turns(cell: str | Sequence[str]) -> list[Turn]:
    """Turns of an earlier conversation: Alpaca's pairs of question and answer, or any that ``parse_turns`` reads.

    Raises:
        BadChatError: The cell holds something else.
    """
    text = _text(cell)
    if not text.strip():
        return []
    try:
        value = json.loads(text)
    except ValueError:
        return parse_turns(text)
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        if not all(isinstance(part, str) for pair in value for part in pair):
            raise BadChatError(f"{_short(text)}, where pairs of texts are expected")
        return [turn for asked, said in value for turn in (("user", asked), ("assistant", said))]
    return parse_turns(text)


def question_of(prompt: str) -> Row:
    """What a prompt asks of a model that leads conversations: a user's turn, or a whole conversation so far.

    Args:
        prompt: A text, a transcript with lines that begin with ``User:`` and ``Assistant:``, or JSON as files hold it.

    Raises:
        BadChatError: It is a conversation that cannot be gone on with.
    """
    said = prompt.strip()
    turns: list[Turn] = parse_turns(said) if _SPOKEN.match(said) or looks_like_chat(said) else [("user", said)]
    if turns and turns[-1][0] == "assistant":
        raise BadChatError("a chat that ends with the assistant's turn; write what the user says next")
    whole = checked([*turns, ("assistant", "…")])
    return Row(plain_text(turns), "", chat=Chat(whole))


def as_transcript(turns: Sequence[Turn]) -> str:
    """A conversation as people read it and go on writing it; ``parse_turns`` reads it."""
    return "\n\n".join(f"{role.capitalize()}: {said.strip()}" for role, said in turns)


def _text(cell: str | Sequence[str]) -> str:
    """A cell as text; in a column where any is a list, all are, so that a text is a list of one."""
    if isinstance(cell, str):
        return cell
    return cell[0] if len(cell) == 1 else json.dumps(list(cell))


def _transcript(text: str) -> Iterator[Turn]:
    """Turns of a transcript; one that ends by asking for an answer (``Assistant:``) has no turn there."""
    marks = list(_SPOKEN.finditer(text.rstrip()))
    if len(marks) > 1 and marks[-1].end() == len(text.rstrip()):
        text = text[: marks.pop().start()]
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        said = text[mark.end() : following.start() if following else len(text)]
        yield ROLES[mark.group(1).lower()], said.strip()


def _turn(value: Any, number: int) -> Turn:
    if not isinstance(value, dict):
        raise BadChatError(f"{_short(json.dumps(value))} as turn {number}, where an object with role and text belongs")
    named = next((value[key] for key in _ROLE_KEYS if isinstance(value.get(key), str)), None)
    if named is None:
        raise BadChatError(f"a turn {number} that does not say who speaks (it has: {', '.join(map(str, value))})")
    role = ROLES.get(named.strip().lower())
    if role is None:
        raise BadChatError(
            f"a turn {number} whose role {named!r} is unknown. Allowed: system, user, assistant, tool, and ShareGPT's "
            "human, gpt, function_call, observation"
        )
    said = next((value[key] for key in _TEXT_KEYS if value.get(key) is not None), "")
    return role, _said(said, value.get("tool_calls"), number)


def _said(said: Any, calls: Any, number: int) -> str:
    """What is said in a turn, with the tools it calls as lines of JSON."""
    if isinstance(said, list):
        found = [part.get("text") if isinstance(part, dict) else part for part in said]
        texts = [part for part in found if isinstance(part, str)]
        if len(texts) < len(found):
            raise BadChatError(f"a turn {number} with something other than text in it; only texts can be trained on")
        said = "".join(texts)
    if not isinstance(said, str):
        raise BadChatError(f"a turn {number} whose text is {_short(json.dumps(said))}")
    if isinstance(calls, list) and calls:
        asked = [call.get("function", call) if isinstance(call, dict) else call for call in calls]
        lines = [json.dumps(call, ensure_ascii=False) for call in asked]
        return "\n".join([said, *lines] if said.strip() else lines)
    return said


def checked(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Turns that a model can be trained on.

    Raises:
        BadChatError: An empty turn, two of one role where they must alternate, or no assistant's turn at the end.
    """
    if not turns:
        raise BadChatError("a chat without turns")
    before: Role | None = None
    for number, (role, said) in enumerate(turns, 1):
        if not said.strip():
            raise BadChatError(f"a chat whose turn {number} ({role}) is empty")
        if role == "system" and number > 1:
            raise BadChatError(f"a chat with a system turn as turn {number}; it must be the first")
        if role == before and role in ("user", "assistant"):
            raise BadChatError(f"a chat with two {role} turns in a row (turns {number - 1} and {number})")
        if role == "assistant" and before in (None, "system"):
            raise BadChatError(f"a chat that begins with the assistant (turn {number}); the user speaks first")
        before = role
    if turns[-1][0] != "assistant":
        raise BadChatError(f"a chat that ends with a turn of the {turns[-1][0]}; the assistant's answer must be last")
    return tuple(turns)


def plain_text(turns: Sequence[Turn]) -> str:
    """A conversation as plain text, as an encoder reads it, or a person."""
    said = [text if role == "system" else f"{role.capitalize()}:\n{text}" for role, text in turns]
    return "\n".join([*said, "Assistant:\n"])


def exchanges(row: Row) -> list[tuple[str, str]]:
    """Prompt and target of a row; of a chat, those of each of the assistant's turns."""
    if row.chat is None:
        return [(row.prompt, row.target)]
    turns = row.chat.turns
    return [(plain_text(turns[:at]), said) for at, (role, said) in enumerate(turns) if role == "assistant"]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
