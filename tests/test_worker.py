"""How exceptions are told to people, without their secrets."""

import errno

import pytest

from peft_studio.errors import ModelError
from peft_studio.runs.redact import redact
from peft_studio.worker import describe_failure


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("exc", "name", "words"),
    [
        (ModelError("There is no model 'x'."), "ModelError", "There is no model 'x'."),
        (MemoryError(), "OutOfMemoryError", "The machine's memory ran out. A smaller batch"),
        (
            OutOfMemoryError("CUDA out of memory. Tried"),
            "OutOfMemoryError",
            "memory ran out (CUDA out of memory. Tried)",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "OutOfMemoryError", "memory ran out"),
        (RuntimeError("shapes differ"), "RuntimeError", "RuntimeError: shapes differ"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            "StorageError",
            "The disk is full while writing /x/y.",
        ),
        (RuntimeError("Error: No space left on device (os error 28)"), "StorageError", "The disk is full."),
        (OSError(errno.EACCES, "Permission denied", "/x"), "PermissionError", "PermissionError: [Errno 13]"),
        (ValueError(), "ValueError", "ValueError"),
        (KeyboardInterrupt(), "TrainingError", "Interrupted from the keyboard."),
    ],
)
def test_failures_in_words(exc: BaseException, name: str, words: str) -> None:
    assert describe_failure(exc)[0] == name
    assert words in describe_failure(exc)[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token hf_abcdefghijklmnop is bad", "token [secret] is bad"),
        ("Authorization: Bearer abc.def-12345", "Authorization: Bearer [secret]"),
        ("https://user:pass@host/x", "https://[secret]@host/x"),
        ("GET /?token=abcdefgh123&x=1", "GET /?token=[secret]&x=1"),
        ("hf_internal step 3 of model hf-tiny", "hf_internal step 3 of model hf-tiny"),
        ("nothing to hide at 12:30", "nothing to hide at 12:30"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown
