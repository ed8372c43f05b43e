"""Keeps libraries' advice and progress bars out of logs and terminals; errors still arrive."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

HARMLESS = (
    "is_gradient_checkpointing",  # a deprecation between two libraries
    "tie_word_embeddings",  # our tuner handles tied weights
    "PRNG",  # projections from a seed are what we ask for, and every save is checked
    "rank_pattern keys did not match",  # AdaLoRA reads its pattern elsewhere
    "low_cpu_mem_usage",  # advice
    "Full backward hook is firing",  # LoRA-GA's own way of reading gradients
    "base layer has no bias",  # merging says so when it is tried
    "have invalid shape",  # AdaLoRA may leave a layer no rank at all
    "CUDA extension",  # BOFT works without
    "boft_n_butterfly_factor",
)


def be_quiet() -> None:
    """Call once in a process of ours, never in a library function."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(peft|transformers|torch|accelerate)\b.*")


@contextlib.contextmanager
def known_warnings() -> Iterator[None]:
    """Silences what PEFT warns of in vain, and makes an error of what must not be passed over."""
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=f"(?s).*{message}")
        warnings.filterwarnings("error", message="(?s).*Found missing adapter keys", category=UserWarning)
        yield
