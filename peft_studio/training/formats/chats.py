"""Conversations as one text: by the model's own chat template, or a plain one for models that have none.

Templates come with models and are no code of ours: transformers runs them in a sandbox, and what they refuse is told
in our words.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from peft_studio.errors import BadChatError, ConfigError, DataError
from peft_studio.tasks.base import Chat, Role, Row
from peft_studio.tasks.chats import PLAIN, question_of
from peft_studio.training.formats.seam import seam_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Sequence[tuple[Role, str]]
Span = tuple[int, int]
"""Where something begins, and where it is over."""

_REFUSALS = (TemplateError, TypeError, ValueError)
"""How a template says no: by itself, or because it was made for something else."""


def render(tokenizer: "PreTrainedTokenizerBase", turns: Turns, ask: bool) -> str:
    """A conversation as one text.

    Args:
        tokenizer: The base model's.
        turns: Its turns.
        ask: Whether what begins an assistant's turn is put behind them.

    Raises:
        DataError: The model's template does not take such a conversation.
    """
    try:
        return _render(tokenizer, turns, ask)
    except _REFUSALS as exc:
        if turns[0][0] == "system" and len(turns) > 1:  # many templates know no system turn: the first one takes it in
            (_, system), (role, first), *rest = turns
            try:
                return _render(tokenizer, [(role, f"{system}\n\n{first}"), *rest], ask)
            except _REFUSALS:
                pass
        roles, why = ", ".join(role for role, _ in turns), " ".join(str(exc).split())[:200]
        raise DataError(f"The model's chat template does not take a chat of {roles}. It says: {why}") from exc


def _render(tokenizer: "PreTrainedTokenizerBase", turns: Turns, ask: bool) -> str:
    messages = [{"role": role, "content": text} for role, text in turns]
    own = tokenizer.chat_template  # a name for each of several templates, in some models
    template = None if own else PLAIN
    return str(
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=ask)
    )


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Ids of a rendered text: a model's own template brings the marks before a text itself."""
    seam = seam_of(tokenizer)
    if not tokenizer.chat_template:
        return seam.prompts([text])[0]
    ids: list[int] = tokenizer([text], add_special_tokens=False, verbose=False)["input_ids"][0]
    return ids


def prompt_ids_of(tokenizer: "PreTrainedTokenizerBase", turns: Turns) -> list[int]:
    """Token ids of a conversation that the assistant is to go on with.

    Raises:
        DataError: The model's template does not take such a conversation.
    """
    return _ids(tokenizer, render(tokenizer, turns, ask=True))


def asked(prompt: str, chats: bool) -> str | Row:
    """What a person asks of models: a text to go on with, or a conversation where they were trained on such.

    Raises:
        ConfigError: The conversation cannot be gone on with.
    """
    if not chats or not prompt.strip():
        return prompt
    try:
        return question_of(prompt)
    except BadChatError as error:
        raise ConfigError(f"The prompt holds {error}.", "prompt") from None


def encode_chat(chat: Chat, tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[Span]]:
    """Token ids of a whole conversation, and which of them the loss is taken on.

    Each of the assistant's turns is trained with the token that ends it.

    Raises:
        DataError: The model's template does not take such a conversation, or leaves an answer out.
    """
    text = render(tokenizer, chat.turns, ask=False)
    ids: list[int] = []
    spans: list[Span] = []
    cursor = 0
    for at, (role, answer) in enumerate(chat.turns):
        if role == "assistant":
            start, end = _place(tokenizer, chat.turns[:at], answer, text, cursor)
            ids = _go_on(tokenizer, text[:cursor], ids, text[cursor:start])
            written = seam_of(tokenizer).answers([text[:start]], [ids], [text[start:end]])[0][0]
            spans.append((len(ids), len(ids) + len(written)))
            ids = [*ids, *written]
            cursor = end
    if tokenizer.eos_token_id is not None and ids[-1] not in tokenizer.added_tokens_decoder:
        ids.append(tokenizer.eos_token_id)  # the template does not say where an answer ends
        spans[-1] = (spans[-1][0], len(ids))
    return ids, [(max(1, len(seam_of(tokenizer).lead)), len(ids))] if chat.all_turns else spans


def _go_on(tokenizer: "PreTrainedTokenizerBase", text: str, ids: list[int], more: str) -> list[int]:
    """Ids of a text that is to be answered, which go on from those of its beginning: as a model is given it, if so."""
    whole = _ids(tokenizer, text + more)
    return whole if whole[: len(ids)] == ids else [*ids, *seam_of(tokenizer).answers([text], [ids], [more])[0][0]]


def _place(tokenizer: "PreTrainedTokenizerBase", before: Turns, answer: str, text: str, cursor: int) -> Span:
    """Where an answer begins, and where what ends it is over, in the text of a whole conversation."""
    asked = render(tokenizer, before, ask=True)
    written = answer if text.find(answer, cursor) >= 0 else answer.strip()  # many templates strip
    if text.startswith(asked):
        start, at = len(asked), text.find(written, len(asked))
    else:  # what asks for an answer is written otherwise once it is there
        question = before[-1][1].strip()
        start = at = text.find(written, max(cursor, text.find(question, cursor)) + len(question))
    if at < 0:
        raise DataError(f"The model's chat template leaves out the assistant's turn {answer[:60]!r}.")
    alone = render(tokenizer, [*before, ("assistant", answer)], ask=False)
    tail = alone[alone.rfind(written) + len(written) :].rstrip()
    end = at + len(written)
    return start, end + (len(tail) if text.startswith(tail, end) else 0)
