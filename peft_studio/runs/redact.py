"""Keeps access tokens out of logs and error messages."""

import re

_TOKEN = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}"  # Hugging Face access tokens
    r"|(?i:(?<=bearer )[\w.~+/=-]{8,})"
    r"|(?i:(?<=token=)[\w.~+/-]{8,})"
    r"|(?i:(?<=api_key=)[\w.~+/-]{8,})"
    r"|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"  # user:password in an address
)


def redact(text: str) -> str:
    """Replaces what looks like an access token or a password by ``[secret]``."""
    return _TOKEN.sub("[secret]", text)
