"""The base models that the app offers by name, and how any other model is found. Torch-free."""

import json
import math
import struct
from functools import lru_cache
from pathlib import Path

from peft_studio.errors import ModelError, did_you_mean
from peft_studio.models.entries import HUB_CARDS, ModelCard


def count_stored_params(file: Path) -> int:
    """Number of parameters in a safetensors file, read from its header.

    Source: https://github.com/huggingface/safetensors#format
    """
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _embedded(name: str, architecture: str, summary: str, good_for: str) -> list[ModelCard]:
    """The card of a model that ships with the app, or none while its weights are not there."""
    folder = Path(__file__).parent / name
    try:
        params = count_stored_params(folder / "model.safetensors")
    except (OSError, ValueError, struct.error):  # not there, or only half copied
        return []
    return [ModelCard(name, name, folder, params, architecture, "Apache-2.0", summary, good_for)]


_SHIPPED = "ships with PEFT Studio, pre-trained by the project itself. Needs no network."
_EMBEDDED = (
    *_embedded("nano-lm", "llama", f"A small decoder that {_SHIPPED}", "first runs and data-to-text on any machine"),
    *_embedded("nano-encoder", "modernbert", f"A small encoder that {_SHIPPED}", "classification on any machine"),
    *_embedded(
        "nano-seq2seq", "bart", f"A small encoder-decoder that {_SHIPPED}", "turning one text into another anywhere"
    ),
)
MODELS: dict[str, ModelCard] = {card.id: card for card in (*_EMBEDDED, *HUB_CARDS)}
"""All models of the catalogue by id, embedded ones first."""
SHORT_NAMES: dict[str, str] = {card.id.rpartition("/")[2]: card.id for card in MODELS.values()}
"""Ids by their part after the owner: ``gpt2`` is ``openai-community/gpt2``."""


def find_card(model_id: str) -> ModelCard | None:
    """The catalogue's entry of a model, by id or by its short name unless a folder has that; None without one."""
    if model_id in MODELS:
        return MODELS[model_id]
    if model_id in SHORT_NAMES and not Path(model_id).exists():
        return MODELS[SHORT_NAMES[model_id]]
    return None


@lru_cache(maxsize=64)
def known_params(model_id: str, otherwise: int = 1 << 40) -> int:
    """Parameters of a model as far as they are known without the network, or ``otherwise``."""
    if card := find_card(model_id):
        return card.params
    folder = Path(model_id).expanduser()
    try:
        return sum(count_stored_params(file) for file in folder.glob("*.safetensors")) or otherwise
    except (OSError, ValueError, struct.error):
        return otherwise


def resolve_model(model_id: str) -> str:
    """Turns a config's model id into what ``from_pretrained`` takes: a folder or a Hub id.

    Raises:
        ModelError: A bare name that the catalogue does not have, or a folder that does not hold a model.
    """
    if card := find_card(model_id):
        return str(card.path) if card.path is not None else card.id
    path = Path(model_id).expanduser()
    if path.exists():
        check_folder(path)
        return str(path)
    looks_local = model_id.startswith((".", "/", "~")) or model_id.count("/") > 1 or "\\" in model_id
    if looks_local:
        raise ModelError(f"There is no folder {model_id!r}. A model is a catalogue name, a folder or a Hub id.")
    if "/" not in model_id:
        raise ModelError(
            f"There is no model {model_id!r}. {did_you_mean(model_id, SHORT_NAMES)} "
            "Or give a folder, or a Hub id such as owner/name."
        )
    return model_id


def check_folder(path: Path) -> None:
    """Makes sure that a folder holds a model that can be loaded safely.

    Raises:
        ModelError: It does not; the message says what is missing.
    """
    if not path.is_dir():
        raise ModelError(f"{str(path)!r} is a file. A model is a folder with config.json and safetensors weights.")
    if not (path / "config.json").is_file():
        raise ModelError(f"The folder {str(path)!r} is not a model: it has no config.json.")
    if not any(path.glob("*.safetensors")):
        pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
        found = f" It holds {pickled[0]}, which is a pickle and may run code when read." if pickled else ""
        raise ModelError(f"The folder {str(path)!r} has no .safetensors weights.{found} Convert it to safetensors.")
