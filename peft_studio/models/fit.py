"""Refuses a model that this machine cannot hold, before a job starts."""

from pathlib import Path

from peft_studio.errors import ModelError
from peft_studio.machine.memory import memory_limit
from peft_studio.models.catalog import is_own_folder, known_params, resolve_model
from peft_studio.models.folders import sound_folder

WEIGHT_BYTES = 4
"""Weights are loaded with 32 bits each, whatever the file holds."""
RUNTIME_BYTES = 430_000_000
"""What a worker takes besides the run's own numbers: the libraries, resident, and what they keep for themselves."""


def bytes_needed(params: int) -> int:
    """The least memory with which any method could tune a model of this size.

    The ledger of such a run: the libraries, the weights, and the second base model that the saved adapter is checked
    on; little trains, and batches are small.
    """
    return RUNTIME_BYTES + 2 * params * WEIGHT_BYTES


def refuse_too_large(params: int, available_bytes: int, model_id: str) -> None:
    """Makes sure that a model fits into memory.

    Args:
        params: Its number of parameters.
        available_bytes: Memory of the machine that will train it.
        model_id: Its name, for the message.

    Raises:
        ModelError: It does not fit; the message has the numbers.
    """
    needed = bytes_needed(params)
    if needed > available_bytes:
        largest = max(0, available_bytes - RUNTIME_BYTES) / WEIGHT_BYTES / 2
        raise ModelError(
            f"The model {model_id!r} is too large for this machine: it has {params:,} parameters, which need at least "
            f"{needed / 1e9:,.1f} GB ({WEIGHT_BYTES} bytes each, twice while the saved adapter is checked, and "
            f"{RUNTIME_BYTES / 1e9:.1f} GB for the libraries), and there are {available_bytes / 1e9:,.1f} GB. "
            f"Choose a model with at most {largest / 1e6:,.0f} million parameters."
        )


def check_model(model_id: str, available_bytes: int = 0) -> str:
    """Resolves a model and makes sure that it is whole and fits, as far as that is known without the network.

    Args:
        model_id: Catalogue name, folder or Hub id.
        available_bytes: Memory of the machine that will train it; that of this machine when 0.

    Returns:
        What ``from_pretrained`` takes.

    Raises:
        ModelError: There is no such model, its folder is damaged, or it is too large.
    """
    source = resolve_model(model_id)
    if is_own_folder(model_id):
        sound_folder(Path(source))
    if params := known_params(model_id, otherwise=0):
        refuse_too_large(params, available_bytes or memory_limit(), model_id)
    return source
