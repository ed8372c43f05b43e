"""Loads base models, puts methods and saved adapters on them, and shows the base model through an adapter."""

import contextlib
import copy
import socket
import threading
import time
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peft_studio.errors import ConfigError, ModelError
from peft_studio.methods import Params, get_method
from peft_studio.models.catalog import resolve_model
from peft_studio.models.layouts import layout_for

# While transformers builds a model it changes its own and torch's global state (which weights are tied, the default
# dtype), so two threads of the engine must not build models at the same time.
_BUILDING = threading.RLock()

HUB_CHECK_SECONDS = 60
HUB_TIMEOUT_SECONDS = 4


def load_config(model_id: str) -> Any:
    """The model's transformers config.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, model_id)


def load_base(model_id: str, dtype: str = "float32") -> tuple[Any, Any]:
    """Loads a base model with its tokenizer, in evaluation mode.

    Args:
        model_id: Catalogue name, folder or Hub id.
        dtype: Name of the weights' torch dtype.

    Returns:
        The ``PreTrainedModel`` and its tokenizer.

    Raises:
        ModelError: There is no such model, it has no safetensors weights, or its architecture is not supported.
    """
    from transformers import AutoModelForCausalLM

    layout_for(load_config(model_id).model_type)
    model = _from_pretrained(
        AutoModelForCausalLM, model_id, dtype=getattr(torch, dtype), use_safetensors=True, attn_implementation="sdpa"
    )
    return model.eval(), load_tokenizer(model_id)


def load_tokenizer(model_id: str) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: There is no such model, or it has no tokenizer.
    """
    from transformers import AutoTokenizer

    return _from_pretrained(AutoTokenizer, model_id)


def load_meta(model_id: str) -> Any:
    """The model with parameters on the meta device: shapes only, no weights read.

    Raises:
        ModelError: There is no such model, or its architecture is not supported.
    """
    from transformers import AutoModelForCausalLM

    config = load_config(model_id)
    layout_for(config.model_type)
    with _BUILDING, torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _from_pretrained(loader: Any, model_id: str, **options: Any) -> Any:
    source = resolve_model(model_id)
    offline = not Path(source).is_dir() and not _hub_answers(int(time.monotonic() // HUB_CHECK_SECONDS))
    try:
        with _BUILDING:
            return loader.from_pretrained(source, local_files_only=offline, **options)
    except (OSError, ValueError, KeyError) as exc:
        if offline:
            reason = "it is not on this machine, and the Hub cannot be reached."
        else:
            reason = " ".join(str(exc).split())[:400]
        raise ModelError(f"The model {model_id!r} cannot be loaded: {reason}") from exc


@lru_cache(maxsize=1)
def _hub_answers(_period: int) -> bool:
    """Whether the Hub can be reached, asked once per period; the library itself retries for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    if address.scheme in urllib.request.getproxies():
        return True  # the proxy knows
    try:
        with socket.create_connection((address.hostname, address.port or 443), timeout=HUB_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False


def attach(model: Any, params: Params) -> Any:
    """Puts a method on a base model.

    Returns:
        A ``PeftModel`` whose adapter is called ``default``.

    Raises:
        ConfigError: The method finds nothing to train in this model.
    """
    method = get_method(params.name)
    nothing = ConfigError(
        f"{method.title} has nothing to train in a model of type {model.config.model_type!r}. {method.caveat}",
        "method.name",
    )
    with _peft_warnings():
        try:
            wrapped = method.attach(model, params, layout_for(model.config.model_type))
        except ValueError as exc:  # PEFT found none of the modules that the method wants
            raise nothing from exc
    if not any(parameter.requires_grad for parameter in wrapped.parameters()):
        raise nothing
    return wrapped


@contextlib.contextmanager
def _peft_warnings() -> Iterator[None]:
    """Silences what PEFT warns of in vain, and makes an error of what must not be passed over."""
    with warnings.catch_warnings():
        # Both are meant for others: a deprecation between two libraries, and tied weights, which our tuner handles.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings", category=UserWarning)
        warnings.filterwarnings("error", message="(?s).*Found missing adapter keys", category=UserWarning)
        yield


def load_adapter(base: Any, folder: Path) -> Any:
    """Loads a saved adapter onto a base model, for inference.

    Raises:
        ModelError: The folder does not hold an adapter for this model.
    """
    from peft import PeftModel

    import peft_studio.methods.tuners  # noqa: F401  registers our own tuners

    try:
        with _BUILDING, _peft_warnings():
            return PeftModel.from_pretrained(base, str(folder), low_cpu_mem_usage=False).eval()
    except (OSError, ValueError, KeyError, RuntimeError, UserWarning) as exc:
        raise ModelError(f"The adapter in {folder} cannot be loaded: {' '.join(str(exc).split())[:400]}") from exc


def share_base(base: nn.Module) -> Any:
    """A second model around the very same weights, so that many adapters need one base in memory."""
    tensors = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
    return copy.deepcopy(base, tensors)


@contextlib.contextmanager
def base_output(model: Any) -> Iterator[Any]:
    """Yields a model that answers exactly as the base model does.

    Prompt methods keep the base model unchanged inside; others switch their layers off.
    """
    if not hasattr(model, "get_base_model"):
        yield model
    elif model.active_peft_config.is_prompt_learning:
        yield model.get_base_model()
    else:
        with model.disable_adapter():
            yield model
