"""Searches the Hugging Face Hub for models and data sets that this app can use. Torch-free.

Every question to the Hub has a time limit of its own: the library retries for up to half a minute, and looking up an
address has no limit at all.
"""

import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from peft_studio.errors import HubOfflineError, ModelError
from peft_studio.models.catalog import ModelCard
from peft_studio.models.layouts import LAYOUTS

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

CONNECT_SECONDS = 4
SEARCH_SECONDS = 20
SCANNED = 200
"""Search results looked at, at most, to find those of supported architectures."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class DatasetHit:
    """A data set that the Hub found.

    Attributes:
        id: Hub id.
        title: Its name, or the id when it has none.
        licence: As the Hub writes it; empty when it does not say.
        tasks: Kinds of tasks that its page names.
        downloads: Downloads in the last 30 days.
    """

    id: str
    title: str
    licence: str
    tasks: tuple[str, ...]
    downloads: int


def hub_answers() -> bool:
    """Whether the Hub can be reached; takes four seconds at most."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    if address.scheme in urllib.request.getproxies():
        return True  # the proxy knows
    port = address.port or (80 if address.scheme == "http" else 443)

    def connect() -> bool:
        with socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS):
            return True

    try:
        return _within(CONNECT_SECONDS, connect)
    except OSError:
        return False


def require_hub() -> None:
    """Makes sure that the Hub can be reached.

    Raises:
        HubOfflineError: It cannot.
    """
    if not hub_answers():
        raise HubOfflineError


def search_models(query: str, limit: int = 20) -> list[ModelCard]:
    """Models on the Hub with safetensors weights and a supported architecture, most downloaded first.

    Args:
        query: What to look for in their names.
        limit: Models returned at most.

    Raises:
        HubOfflineError: The Hub cannot be reached.
        ModelError: It answers with an error.
    """
    from huggingface_hub import HfApi

    def ask() -> list[ModelCard]:
        found = HfApi().list_models(
            search=query,
            filter=["transformers", "safetensors"],
            sort="downloads",
            limit=SCANNED,
            expand=["config", "safetensors", "cardData", "tags", "downloads", "pipeline_tag"],
        )
        return list(islice(_cards(found), limit))

    return _ask(ask)


def search_datasets(query: str, limit: int = 20) -> list[DatasetHit]:
    """Data sets on the Hub, most downloaded first.

    Args:
        query: What to look for in their names.
        limit: Data sets returned at most.

    Raises:
        HubOfflineError: The Hub cannot be reached.
        ModelError: It answers with an error.
    """
    from huggingface_hub import HfApi

    def ask() -> list[DatasetHit]:
        found = HfApi().list_datasets(
            search=query, sort="downloads", limit=limit, expand=["cardData", "tags", "downloads"]
        )
        return [_hit(info) for info in found]

    return _ask(ask)


def _ask(question: Callable[[], _Result]) -> _Result:
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    require_hub()
    try:
        return _within(SEARCH_SECONDS, question)
    except HfHubHTTPError as exc:
        status = getattr(exc.response, "status_code", "")
        raise ModelError(f"The Hub answers with an error ({status}). Try again later, or with other words.") from exc
    except (OSError, HTTPError) as exc:
        raise HubOfflineError from exc


def _within(seconds: float, work: Callable[[], _Result]) -> _Result:
    """Runs ``work`` in a thread of its own, which is left behind when it takes too long."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as exc:  # raised again by the caller
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True, name="hub")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"No answer within {seconds} seconds.")
    return results[0]


def _cards(found: "Iterable[ModelInfo]") -> Iterator[ModelCard]:
    for info in found:
        config = info.config or {}
        model_type = config.get("model_type")
        if model_type in LAYOUTS and "quantization_config" not in config and "custom_code" not in (info.tags or ()):
            yield ModelCard(
                id=info.id,
                title=info.id.rpartition("/")[2],
                path=None,
                params=info.safetensors.total if info.safetensors else 0,
                architecture=model_type,
                licence=_licence(info),
                summary=_summary(info),
            )


def _summary(info: "ModelInfo") -> str:
    task = f"{info.pipeline_tag.replace('-', ' ').capitalize()}. " if info.pipeline_tag else ""
    return f"{task}{info.downloads or 0:,} downloads in the last month."


def _hit(info: "DatasetInfo") -> DatasetHit:
    card = info.card_data
    return DatasetHit(
        id=info.id,
        title=str(getattr(card, "pretty_name", None) or info.id),
        licence=_licence(info),
        tasks=tuple(_tagged(info, "task_categories")),
        downloads=info.downloads or 0,
    )


def _licence(info: "ModelInfo | DatasetInfo") -> str:
    return ", ".join(_tagged(info, "license"))


def _tagged(info: "ModelInfo | DatasetInfo", name: str) -> list[str]:
    """Values of one kind of tag, such as ``mit`` in ``license:mit``."""
    return [tag.removeprefix(f"{name}:") for tag in info.tags or () if tag.startswith(f"{name}:")]
