"""Keeps tokens, passwords and keys out of whatever leaves: the one function for that, used at every exit."""

import json
import re
from typing import Any

from peft_studio.machine.environment import secret_values

STAND_IN = "[secret]"
_VALUE = r"[^\s\"'&;,<>\\]{6,}"
_KINDS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    # What a text has, in lower case, in which the pattern could find something: nearly all texts have none of it.
    (("hf_",), re.compile(r"\bhf_[A-Za-z0-9]{16,}")),  # Hugging Face
    (("sk-",), re.compile(r"\bsk-[A-Za-z0-9_-]{16,}")),  # OpenAI, Anthropic and others
    (("gho_", "ghp_", "ghu_", "ghs_", "ghr_"), re.compile(r"\bgh[opusr]_[A-Za-z0-9]{16,}")),
    (("github_pat_",), re.compile(r"\bgithub_pat_[A-Za-z0-9_]{16,}")),
    (("glpat-",), re.compile(r"\bglpat-[\w-]{16,}")),
    (("akia", "asia"), re.compile(r"\bA[KS]IA[A-Z0-9]{12,20}\b")),
    (("aiza",), re.compile(r"\bAIza[\w-]{30,}")),
    (("xox",), re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{8,}")),  # Slack
    (("eyj",), re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{4,}")),  # JSON web tokens
    (
        ("private key",),
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----END)[\w\s+/=:,.\\-])*"
            r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
        ),
    ),
    (("bearer ", "basic "), re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{8,}|(?<=authorization: basic )[\w+/=]{8,}")),
    (
        (
            "passw",
            "passphrase",
            "pwd=",
            "secret=",
            "secret =",
            "secret_",
            "secret-",
            "token=",
            "token =",
            "apikey",
            "api_key",
            "api-key",
            "access_key",
            "access-key",
        ),
        re.compile(
            # A password may be anything; a token has a digit, unlike `pad_token = tokenizer.eos_token`.
            rf"(?i)(?P<name>(?:passw(?:or)?d|passphrase)[\"']?\s?[=:]\s?[\"']?"
            rf"|(?:pwd|secret|token|api[_-]?key|(?:access|secret)[_-]?key)\s?=\s?[\"']?(?=[\w.~+/-]*\d)){_VALUE}"
        ),
    ),
    # user:password in an address
    (("@",), re.compile(r"(?<=://)(?:[^\s/@:\"'<>]*:[^\s/@\"'<>]+|[^\s/@:\"'<>]{12,})(?=@)")),
)


def redact(text: str) -> str:
    """Replaces what token-like variables hold, and what looks like a token, a password or a key, by ``[secret]``."""
    for value in secret_values():
        if value in text:
            text = text.replace(value, STAND_IN)
    lowered = text.lower()
    for hints, pattern in _KINDS:
        if any(hint in lowered for hint in hints):
            text = pattern.sub(lambda match: match.groupdict().get("name", "") + STAND_IN, text)
    return text


def redact_json(value: Any) -> Any:
    """The same for every text in a value of JSON, names of objects included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(name)): redact_json(part) for name, part in value.items()}
    return [redact_json(part) for part in value] if isinstance(value, list | tuple) else value


def redact_lines(text: str) -> str:
    """The same for a text of which each line is JSON, which stays so; a line that is none is redacted as text."""
    return "".join(_line(line) if redact(line) != line else line for line in text.splitlines(keepends=True))


def _line(line: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return redact(line)
    return json.dumps(redact_json(value), ensure_ascii=False) + ("\n" if line.endswith("\n") else "")
