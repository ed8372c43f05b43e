"""The part of ``reproduce.py`` that turns rows into tokens, as the run did; see ``training.formats.seam``."""

from peft_studio.tasks.chats import PLAIN

_SEAM = '''
class Seam:
    """Prompt and answer as tokens that read back exactly as written.

    Some tokenizers put a space before every text; an answer begins without one unless it was written.
    """

    def __init__(self, tokenizer):
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        for part in ("normalizer", "pre_tokenizer"):
            step = settings.get(part) or {}
            for each in [step, *(step.get("normalizers") or step.get("pretokenizers") or [])]:
                for key, never in (("prepend_scheme", "never"), ("add_prefix_space", False), ("prepend", "")):
                    if each.get(key) is not None:
                        each[key] = never
        self.tokenizer, self.bare = tokenizer, type(tokenizer.backend_tokenizer).from_str(json.dumps(settings))
        self.bare.no_truncation()
        self.bare.no_padding()
        inner, whole = self.ids("a"), tokenizer("a")["input_ids"]
        at = next((i for i in range(len(whole)) if whole[i : i + len(inner)] == inner), 0)
        self.lead, self.tail = whole[:at], whole[at + len(inner) :]

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt(self, text):
        """A text to be continued: with the marks that stand before a text, once, and without those behind one."""
        ids = self.tokenizer(text)["input_ids"]
        if self.lead and ids[: 2 * len(self.lead)] == self.lead * 2:
            ids = ids[len(self.lead) :]
        if self.tail and ids[-2 * len(self.tail) :] == self.tail * 2:
            ids = ids[: -len(self.tail)]
        return ids[: len(ids) - len(self.tail)]

    def answer(self, text, before, answer):
        ways = [self.bare.encode(answer, add_special_tokens=False).ids]
        joined = self.prompt(text + answer)
        if joined[: len(before)] == before:
            ways.append(joined[len(before) :])
        return min([*ways, self.ids(answer)], key=lambda ids: self.fault(before, ids, answer))

    def fault(self, before, ids, answer):
        for skip in (True, False):
            options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": False}
            given, whole = (self.tokenizer.decode(part, **options) for part in (before, before + ids))
            alone = self.tokenizer.decode(ids, **options)
            found = whole[len(given) :] if whole.startswith(given) else alone
            if found == answer:
                return 0
        return 1 if found.split() == answer.split() else 2
'''

_CHATS = '''
def render(tokenizer, turns, ask):
    """A chat as text, by the model's own template or a plain one; a system turn joins the first if none is known."""
    options = {"chat_template": None if tokenizer.chat_template else PLAIN}
    options |= {"tokenize": False, "add_generation_prompt": ask}
    messages = [{"role": role, "content": text} for role, text in turns]
    try:
        return tokenizer.apply_chat_template(messages, **options)
    except Exception:
        if messages[0]["role"] != "system":
            raise
        system, first, *rest = messages
        first = {**first, "content": system["content"] + "\\n\\n" + first["content"]}
        return tokenizer.apply_chat_template([first, *rest], **options)


def encode_chat(tokenizer, seam, row):
    """Token ids of a chat, and the parts that are trained on: the assistant's turns, each with what ends it."""
    turns = row["turns"]
    read = seam.ids if tokenizer.chat_template else seam.prompt
    text, ids, parts, done = render(tokenizer, turns, False), [], [], 0
    for at, (role, answer) in enumerate(turns):
        if role != "assistant":
            continue
        asked = render(tokenizer, turns[:at], True)
        written = answer if text.find(answer, done) >= 0 else answer.strip()
        if text.startswith(asked):
            start, place = len(asked), text.find(written, len(asked))
        else:
            question = turns[at - 1][1].strip()
            start = place = text.find(written, max(done, text.find(question, done)) + len(question))
        alone = render(tokenizer, turns[: at + 1], False)
        tail = alone[alone.rfind(written) + len(written) :].rstrip()
        end = place + len(written)
        end += len(tail) if text.startswith(tail, end) else 0
        whole = read(text[:start])
        ids = whole if whole[: len(ids)] == ids else ids + seam.answer(text[:done], ids, text[done:start])
        said = seam.answer(text[:start], ids, text[start:end])
        parts.append((len(ids), len(ids) + len(said)))
        ids, done = ids + said, end
    if ids[-1] not in tokenizer.added_tokens_decoder:
        ids = [*ids, tokenizer.eos_token_id]
        parts[-1] = (parts[-1][0], len(ids))
    return ids, [(max(1, len(seam.lead)), len(ids))] if row["all_turns"] else parts
'''

_PAIRS = '''
def encode(tokenizer, seam, row):
    """Token ids of a row, and the part that is trained on: the answer with what ends it."""
    start, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    prompt = seam.prompt(row["prompt"]) or [eos if start is None else start]
    target = seam.answer(row["prompt"], prompt, row["target"])
    target = target if target[-1:] == [eos] else [*target, eos]
    return prompt + target, [(len(prompt), len(prompt) + len(target))]
'''

_READ = '''
def read(split, files, tokenizer):
    """Rows as (token ids, labels); what is too long is cut on the left, and no answer is cut."""
    seam = Seam(tokenizer)
    for row in rows_of(split, files):
        ids, parts = (encode_chat if "turns" in row else encode)(tokenizer, seam, row)
        lost = max(0, len(ids) - MAX_LENGTH)
        least = 1 - lost if row.get("all_turns") else 1
        parts = [(max(1, a - lost), b - lost) for a, b in parts if a - lost >= least]
        if parts and parts[-1][1] - parts[-1][0] > 1:
            ids, labels = ids[lost:], [-100] * (len(ids) - lost)
            for a, b in parts:
                labels[a:b] = ids[a:b]
            yield ids, labels


def collate(rows):
    """Pads on the right to the longest row; only what is trained on is labelled."""
    width = max(len(ids) for ids, _ in rows)
    pad = [width - len(ids) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([ids + [0] * n for (ids, _), n in zip(rows, pad)]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * n for (ids, _), n in zip(rows, pad)]),
        "labels": torch.tensor([labels + [-100] * n for (_, labels), n in zip(rows, pad)]),
    }
'''

READING = "\n".join([_SEAM, _PAIRS, f"\nPLAIN = {PLAIN!r}\n", _CHATS, _READ]).strip("\n")
"""The functions ``read`` and ``collate`` with what they need."""
