"""Searches the Hugging Face Hub for models and data sets that this app can use. Torch-free.

Every question to the Hub has a time limit of its own: the library retries for up to half a minute, and looking up an
address has no limit at all.
"""

import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from peft_studio.errors import (
    ConfigError,
    HubOfflineError,
    LimitError,
    ModelError,
    NotAllowedError,
    StudioError,
    shown,
)
from peft_studio.models.catalog import ModelCard
from peft_studio.models.layouts import LAYOUTS

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

CONNECT_SECONDS = 4
SEARCH_SECONDS = 20
SCANNED = 200
"""Search results looked at, at most, to find those of supported architectures."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w-]{0,95}/[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
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


def refusal(exc: Exception, what: str) -> StudioError:
    """What the Hub's refusal means, in our words; for `NotAllowedError` a token is missing, wrong or not enough.

    Args:
        exc: What ``huggingface_hub`` raised.
        what: The repository that was asked for.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HTTPError

    while isinstance(exc, RuntimeError) and isinstance(exc.__cause__, Exception):
        exc = exc.__cause__  # of a file that could not be sent
    status = getattr(getattr(exc, "response", None), "status_code", None)
    if isinstance(exc, GatedRepoError):
        return NotAllowedError(f"{what} is gated: ask for access on its page, and use a token of that account.")
    if status == 401:
        return NotAllowedError(
            f"The Hub does not know this token, or {what} is private. Make a token at huggingface.co/settings/tokens."
        )
    if status == 403:
        return NotAllowedError(
            f"This token gives no right to {what}. It needs the right to write there: a token of type 'write', or "
            "signing in again."
        )
    if status == 404:
        return ModelError(f"The Hub has no {what}, or it is private.")
    if status == 409:
        return ConfigError(f"The Hub has {what} already. Choose another name.", "repository")
    if status == 429:
        return LimitError("The Hub answers that it was asked too often. Try again in some minutes.", 300.0)
    if isinstance(exc, HfHubHTTPError) and status is not None:
        return ModelError(f"The Hub answers with an error ({status}). Try again later.")
    if isinstance(exc, OSError | HTTPError):
        return HubOfflineError("The Hub cannot be reached from here.")
    return ModelError(f"What the Hub answered about {what} makes no sense here ({type(exc).__name__}).")


def check_repository(name: str) -> str:
    """A repository's id, ``owner/name``, without what people copy along with it.

    Raises:
        ConfigError: It cannot be one.
    """
    plain = name.strip().removeprefix("https://").removeprefix("huggingface.co/").rstrip("/")
    if not _REPOSITORY.fullmatch(plain) or "--" in plain or ".." in plain or plain.endswith((".git", ".ipynb")):
        raise ConfigError(
            f"{shown(name)} cannot be the name of a Hub repository. It looks like owner/name: letters, digits, "
            "'-', '_' and '.', at most 96 characters each.",
            "repository",
        )
    return plain


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
