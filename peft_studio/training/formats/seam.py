"""Where a prompt ends and its answer begins: token ids that, joined, read back exactly as the two were written.

Two texts that are tokenized apart do not always join to the tokens of one text. SentencePiece's kind puts a space
before every text, so an answer would begin with one that nobody wrote; WordPiece marks the pieces that go on in a
word; some normalizers drop a line break at the end. Generation only ever has the prompt, so its ids stay as they are
when it is tokenized alone, and the answer's are chosen among the ways in which a tokenizer can write what follows.
"""

import json
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_PROBE = "a"  # any text will do that every tokenizer can write


class Seam:
    """A tokenizer, for texts that follow another one.

    Args:
        tokenizer: The base model's.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        settings: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
        # Bytes are written one by one, so any two texts join, unless a space is put before each.
        self.joins = (settings.get("decoder") or {}).get("type") == "ByteLevel"
        self.bare: Tokenizer | None = None
        if _without_space(settings):
            self.joins = False
            self.bare = type(backend).from_str(json.dumps(settings))  # type: ignore[union-attr]
            self.bare.no_truncation()
            self.bare.no_padding()
        inner, whole = self._ids([_PROBE], False)[0], self._ids([_PROBE], True)[0]
        start = next((at for at in range(len(whole)) if whole[at : at + len(inner)] == inner), 0)
        self.lead, self.tail = whole[:start], whole[start + len(inner) :]

    def _ids(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        if not texts:
            return []  # which the library does not take
        found: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        return found

    def whole(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that stand for themselves, with the tokenizer's own marks around them, none of them twice."""
        return [self._once(ids) for ids in self._ids(texts, True)]

    def _once(self, ids: list[int]) -> list[int]:
        """Ids without the tokenizer's marks where the text brought its own."""
        lead, tail = len(self.lead), len(self.tail)
        start = lead if lead and ids[: 2 * lead] == [*self.lead, *self.lead] else 0
        end = len(ids) - (tail if tail and ids[-2 * tail :] == [*self.tail, *self.tail] else 0)
        return ids[start:end]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that are to be continued: with what belongs before a text, without what belongs behind one."""
        end = len(self.tail)
        return [ids[: len(ids) - end] if end else ids for ids in self.whole(texts)]

    def answers(
        self, prompts: Sequence[str], prompt_ids: Sequence[Sequence[int]], answers: Sequence[str]
    ) -> tuple[list[list[int]], int]:
        """Ids of what follows prompts, without any marks: those that read back best.

        Args:
            prompts: The texts before.
            prompt_ids: Their ids.
            answers: The texts that follow.

        Returns:
            The ids, and how many of them do not read back exactly as written.
        """
        if self.joins:
            return self._ids(answers, False), 0
        return self._best(
            prompt_ids,
            answers,
            self._bare(answers),
            lambda row: self._other_ways(prompts[row], prompt_ids[row], answers[row]),
        )

    def targets(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Ids of texts that a decoder of its own writes, with the tokenizer's marks; else as ``answers``."""
        given: list[list[int]] = self._tokenizer(text_target=list(texts), verbose=False)["input_ids"]
        found = [self._once(ids) for ids in given]
        if self.joins:
            return found, 0
        bare = self._bare(texts)
        nothing: list[list[int]] = [[]] * len(texts)
        return self._best(nothing, texts, found, lambda row: iter([self._once([*self.lead, *bare[row], *self.tail])]))

    def _best(
        self,
        before: Sequence[Sequence[int]],
        texts: Sequence[str],
        first: Sequence[list[int]],
        others: Callable[[int], Iterator[list[int]]],
    ) -> tuple[list[list[int]], int]:
        """The way of each text that reads back best; other ways than the first are tried where that is not exact."""
        found, altered = [], 0
        for row, ids in enumerate(first):
            grade = self._grade(before[row], ids, texts[row])
            for way in others(row) if grade else ():
                other = self._grade(before[row], way, texts[row])
                ids, grade = (way, other) if other < grade else (ids, grade)
            found.append(ids)
            altered += grade > 0
        return found, altered

    def _bare(self, texts: Sequence[str]) -> list[list[int]]:
        if self.bare is None:
            return self._ids(texts, False)
        return [encoding.ids for encoding in self.bare.encode_batch(list(texts), add_special_tokens=False)]

    def _other_ways(self, prompt: str, before: Sequence[int], answer: str) -> Iterator[list[int]]:
        joined = self.prompts([prompt + answer])[0]
        if joined[: len(before)] == list(before):
            yield joined[len(before) :]
        yield self._ids([answer], False)[0]

    def _grade(self, before: Sequence[int], ids: Sequence[int], text: str) -> int:
        """How ids read behind others: 0 exactly as a text, 1 with other spaces, 2 as something else."""
        found = completion_text(self._tokenizer, before, ids)
        if found != text:  # which may hold marks of its own
            found = completion_text(self._tokenizer, before, ids, skip=False)
        return 0 if found == text else 1 if found.split() == text.split() else 2


def completion_text(
    tokenizer: "PreTrainedTokenizerBase", before: Sequence[int], ids: Sequence[int], skip: bool = True
) -> str:
    """The text of new tokens as it continues what is before them, without special tokens if these are to be skipped.

    Decoding both together keeps a leading space that some tokenizers drop at the start of a text.
    """
    options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": False}
    given = tokenizer.decode(list(before), **options)
    whole = tokenizer.decode([*before, *ids], **options)
    if whole.startswith(given):
        return str(whole[len(given) :])
    return str(tokenizer.decode(list(ids), **options))


def _without_space(settings: dict[str, Any]) -> bool:
    """Takes what puts a space before every text out of a tokenizer's settings; whether anything did."""
    found = False
    for part in ("normalizer", "pre_tokenizer"):
        steps = [settings.get(part) or {}]
        steps += steps[0].get("normalizers") or steps[0].get("pretokenizers") or []
        for step in steps:
            for key, never in (("prepend_scheme", "never"), ("add_prefix_space", False), ("prepend", "")):
                if step.get(key) not in (None, never):
                    step[key] = never
                    found = True
    return found


_seams: "weakref.WeakKeyDictionary[PreTrainedTokenizerBase, Seam]" = weakref.WeakKeyDictionary()


def seam_of(tokenizer: "PreTrainedTokenizerBase") -> Seam:
    """The seam of a tokenizer, made once."""
    if tokenizer not in _seams:
        _seams[tokenizer] = Seam(tokenizer)
    return _seams[tokenizer]
