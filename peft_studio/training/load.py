"""Loads base models, puts methods and saved adapters on them, and shows the base model through an adapter."""

import contextlib
import copy
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from peft_studio.config.preflight import check_fit
from peft_studio.errors import ConfigError, ModelError
from peft_studio.methods import Method, Params, Site
from peft_studio.models.adapter_configs import check_adapter
from peft_studio.models.catalog import resolve_model
from peft_studio.models.folders import refuse_code, refuse_settings, sound_folder
from peft_studio.models.hub import hub_answers
from peft_studio.models.layouts import Layout, Purpose, layout_for
from peft_studio.models.linear_base import linear_everywhere
from peft_studio.models.lsg_settings import LongText
from peft_studio.models.model_configs import check_bounds
from peft_studio.training import Model, loading_report
from peft_studio.training.adapter_files import Origin
from peft_studio.training.formats.greedy import pad_id
from peft_studio.training.formats.target_logits import base_of
from peft_studio.training.quiet import known_warnings
from peft_studio.training.shapes import refuse_oversized

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# While transformers builds a model it changes its own and torch's global state (which weights are tied, the default
# dtype), so two threads of the engine must not build models at the same time.
BUILDING = threading.RLock()

HEAD_SEED = 0  # layers that a checkpoint lacks are random but the same each time, so adapters need not hold them
HUB_CHECK_SECONDS = 60
# What was found and missed is read by us: the library only warns, and refuses even a new head of another size.
REPORTED = {"output_loading_info": True, "ignore_mismatched_sizes": True, "attn_implementation": "sdpa"}


def load_config(model_id: str, labels: Sequence[str] = ()) -> "PretrainedConfig":
    """The model's transformers config; with class names, for a classifier.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    from transformers import AutoConfig

    if not Path(resolve_model(model_id)).is_dir():  # a folder's settings are looked at with its other files
        check_bounds(_from_pretrained(_Settings, model_id, "its config.json"), model_id)
    config = _from_pretrained(AutoConfig, model_id, "its config.json", **_label_names(labels))
    refuse_code(config.to_dict(), model_id, "config.json")
    refuse_settings(config.to_dict(), model_id)
    return config


class _Settings:
    """Reads a model's ``config.json`` and makes nothing of it."""

    @staticmethod
    def from_pretrained(source: str, **options: bool) -> dict[str, Any]:
        """Its values."""
        from transformers import PretrainedConfig

        found: dict[str, Any] = PretrainedConfig.get_config_dict(source, **options)[0]
        return found


def load_base(
    model_id: str, dtype: str = "float32", labels: Sequence[str] = (), lsg: LongText | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Loads a base model with its tokenizer, in evaluation mode.

    Args:
        model_id: Catalogue name, folder or Hub id.
        dtype: Name of the weights' torch dtype.
        labels: Class names; with them the model gets a new classification head instead of a vocabulary projection.
        lsg: LSG attention; None leaves the model its own.

    Raises:
        ModelError: There is no such model, it has no safetensors weights, they are not all of it, its tokenizer is not
            its own, or its architecture is not supported.
        ConfigError: The architecture cannot do this kind of task.
    """
    loader = _loader(load_config(model_id).model_type, labels)
    with torch.random.fork_rng([]):  # layers are made on the CPU; without a list, every GPU would be started
        torch.default_generator.manual_seed(HEAD_SEED)
        model, report = _from_pretrained(
            loader,
            model_id,
            "its weights",
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            **REPORTED,
            **_label_names(labels),
        )
    loading_report.refuse_unfit(model_id, model, report, layout_of(model))
    loading_report.refuse_not_numbers(model_id, model)
    tokenizer = load_tokenizer(model_id)
    loading_report.refuse_vocabulary(model_id, tokenizer, model.get_input_embeddings().num_embeddings)
    model.config.pad_token_id = pad_id(tokenizer)  # classifiers of transformers ask for it
    return _with_lsg(linear_everywhere(model).eval(), lsg), tokenizer


def _with_lsg(model: "PreTrainedModel", lsg: LongText | None) -> "PreTrainedModel":
    if lsg:
        from peft_studio.training.lsg import enable_lsg, extend_positions

        enable_lsg(model, lsg.settings)
        extend_positions(model, lsg.length)
    return model


def _loader(model_type: str, labels: Sequence[str]) -> Any:
    """The auto class of transformers that makes such a model."""
    import transformers

    layout = layout_for(model_type, "classification" if labels else "generation")
    if labels:
        return transformers.AutoModelForSequenceClassification
    seq2seq = layout.kind == "encoder-decoder"
    return transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM


def _label_names(labels: Sequence[str]) -> dict[str, Any]:
    if not labels:
        return {}
    numbers = {label: number for number, label in enumerate(labels)}
    return {"num_labels": len(labels), "id2label": dict(enumerate(labels)), "label2id": numbers}


def layout_of(model: Model) -> Layout:
    """The layout of a loaded model, with or without a method."""
    base = base_of(model)
    purpose: Purpose = "classification" if type(base).__name__.endswith("ForSequenceClassification") else "generation"
    return layout_for(base.config.model_type, purpose)


def load_tokenizer(model_id: str) -> "PreTrainedTokenizerBase":
    """The model's tokenizer.

    Raises:
        ModelError: There is no such model, or it has no tokenizer.
    """
    from transformers import AutoTokenizer

    tokenizer = _from_pretrained(AutoTokenizer, model_id, "its tokenizer")
    refuse_code(tokenizer.init_kwargs, model_id, "tokenizer_config.json")
    return tokenizer


def load_meta(model_id: str, labels: Sequence[str] = (), lsg: LongText | None = None) -> "PreTrainedModel":
    """The model with parameters on the meta device: shapes only, no weights read.

    Raises:
        StudioError: See ``load_shapes``.
    """
    model = load_shapes(model_id, labels)
    with BUILDING, torch.device("meta"):
        return _with_lsg(linear_everywhere(model), lsg)


def load_shapes(model_id: str, labels: Sequence[str] = ()) -> "PreTrainedModel":
    """Like ``load_meta``, as the library makes it.

    Raises:
        ModelError: There is no such model, or its architecture is not supported.
        ConfigError: The architecture cannot do this kind of task.
    """
    config = load_config(model_id, labels)
    loader = _loader(config.model_type, labels)
    try:
        with BUILDING, torch.device("meta"):
            return loader.from_config(config, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False)
    except Exception as exc:
        raise loading_report.refusal(model_id, "its config.json", exc) from exc


def _from_pretrained(loader: Any, model_id: str, part: str, **options: object) -> Any:
    source = resolve_model(model_id)
    sound_folder(Path(source))
    offline = not Path(source).is_dir() and not _hub_answers(int(time.monotonic() // HUB_CHECK_SECONDS))
    try:
        with BUILDING:
            return loader.from_pretrained(source, local_files_only=offline, trust_remote_code=False, **options)
    except Exception as exc:  # whatever a library makes of files that anybody may have written
        raise loading_report.refusal(model_id, part, exc, offline) from exc


@lru_cache(maxsize=1)
def _hub_answers(_period: int) -> bool:
    """Whether the Hub can be reached, asked once per period; the library itself retries for half a minute."""
    return hub_answers()


def attach(
    model: "PreTrainedModel",
    method: Method,
    params: Params | None = None,
    steps: int = 1000,
    batches: Sequence[Mapping[str, Any]] = (),
) -> "PeftModel":
    """Puts a method on a base model.

    Args:
        model: From ``load_base`` or ``load_meta``; some methods change its weights.
        method: The method.
        params: Its parameters; the defaults when not given.
        steps: Optimizer steps of the run.
        batches: A few training batches, for methods that look at data.

    Returns:
        A model whose adapter is called ``default``.

    Raises:
        ConfigError: The method does not fit this model, or finds nothing to train in it.
    """
    params = method.params(name=method.name) if params is None else params
    layout = layout_of(model)
    check_fit(method, layout)
    nothing = ConfigError(
        f"{method.title} has nothing to train in a model of type {layout.model_type!r}. {method.caveat}", "method.name"
    )
    on_meta = next(model.parameters()).is_meta
    origin = Origin(model, layout) if method.changes_base and not on_meta else None
    with known_warnings():
        try:
            wrapped = method.attach(model, params, Site(layout, steps, () if on_meta else batches))
        except ValueError as exc:  # PEFT found none of the modules that the method wants
            if not any(words in str(exc) for words in ("not found in the base model", "No modules were targeted")):
                raise
            raise nothing from exc
    if not any(parameter.requires_grad for parameter in wrapped.parameters()):
        raise nothing
    if origin is not None:
        origin.remember(wrapped)
    return wrapped


def load_adapter(base: "PreTrainedModel", folder: Path, beside: "PeftModel | None" = None) -> "PeftModel":
    """Loads a saved adapter onto a base model, for inference; or, under a new name, beside those that a model has.

    Raises:
        ModelError: The folder does not hold an adapter for this model.
    """
    from peft import PeftModel

    import peft_studio.methods.tuners  # noqa: F401  registers our own tuners

    try:
        check_adapter(folder)
        loading_report.refuse_foreign_adapter(folder, base, layout_of(base))
        with BUILDING, known_warnings():
            refuse_oversized(folder, base)
            if beside is None:
                return PeftModel.from_pretrained(base, str(folder), low_cpu_mem_usage=False).eval()
            beside.load_adapter(str(folder), f"beside{len(beside.peft_config)}", low_cpu_mem_usage=False)
            return beside.eval()
    except (OSError, ValueError, KeyError, RuntimeError, UserWarning) as exc:
        raise ModelError(f"The adapter in {folder} cannot be loaded: {' '.join(str(exc).split())[:400]}") from exc


def share_base(base: "PreTrainedModel") -> "PreTrainedModel":
    """A second model around the very same weights, so that many adapters need one base in memory."""
    tensors = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
    return copy.deepcopy(base, tensors)


@contextlib.contextmanager
def base_output(model: Model) -> Iterator[Model]:
    """Yields a model that answers exactly as the base model does (its classification head, if any, untrained).

    Prompt methods keep the base model unchanged inside; methods that change base weights have kept a copy of them;
    others switch their layers off.
    """
    from peft.utils import ModulesToSaveWrapper

    origin = Origin.known(model)
    if not hasattr(model, "get_base_model"):
        yield model
    elif origin is not None:
        yield origin.model
    elif model.active_peft_config.is_prompt_learning:
        heads = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
        try:
            for head in heads:
                head.enable_adapters(False)
            yield model.get_base_model()
        finally:
            for head in heads:
                head.enable_adapters(True)
    else:
        with model.disable_adapter():
            yield model
