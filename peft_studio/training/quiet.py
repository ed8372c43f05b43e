"""Keeps libraries' advice and progress bars out of logs and terminals; errors still arrive."""

import logging
import warnings


def be_quiet() -> None:
    """Call once in a process of ours, never in a library function."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(peft|transformers|torch|accelerate)\b.*")
