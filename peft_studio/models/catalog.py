"""The base models that the app offers by name, and how any other model is found. Torch-free.

Parameters are those of the model that transformers builds, tied weights once; for codebert-base, JavaBERT, RoBERTa,
BERT and their like without the masked-language head, which no task here uses.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peft_studio.errors import ModelError, did_you_mean
from peft_studio.files import tensor_header
from peft_studio.machine.path_policy import check_model_name, paths_are_named
from peft_studio.models.folders import require_model, stamp
from peft_studio.models.layouts import LAYOUTS, ArchitectureKind, Purpose
from peft_studio.models.weight_files import check_weights, tensor_shapes, weight_files

_SUITS: dict[ArchitectureKind, tuple[Purpose, ...]] = {
    "decoder": ("generation", "classification"),
    "encoder": ("classification",),
    "encoder-decoder": ("generation",),
}


@dataclass(frozen=True)
class ModelCard:
    """What the form shows of a model.

    Attributes:
        id: Name in configs.
        title: Name shown to people.
        path: Folder of an embedded model; None for one on the Hub.
        params: Number of parameters; 0 when the Hub does not say.
        architecture: ``model_type`` of transformers.
        licence: SPDX identifier, or the licence's name where it has none; empty when the Hub does not say.
        summary: One or two sentences.
        good_for: A phrase on what the model is good for; empty when nobody has written one.
    """

    id: str
    title: str
    path: Path | None
    params: int
    architecture: str
    licence: str
    summary: str
    good_for: str = ""

    @property
    def kind(self) -> ArchitectureKind:
        """What the architecture reads and writes."""
        return LAYOUTS[self.architecture].kind

    @property
    def suits(self) -> tuple[Purpose, ...]:
        """The kinds of tasks that the model can be tuned for."""
        return _SUITS[self.kind]

    @property
    def size(self) -> str:
        """The number of parameters as people say it."""
        return f"{self.params / 1e6:,.1f} M" if self.params else "?"


_APACHE, _MIT = "Apache-2.0", "MIT"
_PICKLE = "The repository may hold pickle weights only; they are used if the Hub has a safetensors conversion of them."

HUB_CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        "HuggingFaceTB/SmolLM2-135M", "SmolLM2 135M", None, 134_515_008, "llama", _APACHE,
        "A modern small English decoder, trained on two trillion tokens of web, textbook-like text and code.",
        "text of all kinds, where a larger model is too slow",
    ),
    ModelCard(
        "HuggingFaceTB/SmolLM2-360M", "SmolLM2 360M", None, 361_821_120, "llama", _APACHE,
        "The middle SmolLM2: an English decoder trained on four trillion tokens.",
        "better text than the 135M model, at nearly three times the cost",
    ),
    ModelCard(
        "Qwen/Qwen3-0.6B-Base", "Qwen3 0.6B Base", None, 596_049_920, "qwen3", _APACHE,
        "The smallest Qwen3 before instruction tuning: a multilingual decoder. Best with a GPU.",
        "texts in many languages, code and summaries",
    ),
    ModelCard(
        "Qwen/Qwen3-0.6B", "Qwen3 0.6B", None, 596_049_920, "qwen3", _APACHE,
        "The smallest Qwen3 after instruction tuning. Best with a GPU.",
        "instructions and chat in many languages",
    ),
    ModelCard(
        "openai-community/gpt2", "GPT-2", None, 124_439_808, "gpt2", _MIT,
        "The decoder of many PEFT papers, trained on English web text in 2019.",
        "comparison with published PEFT results on E2E, WebNLG and DART",
    ),
    ModelCard(
        "distilbert/distilgpt2", "DistilGPT-2", None, 81_912_576, "gpt2", _APACHE,
        "GPT-2 distilled to half its layers.",
        "quick experiments with a GPT-2",
    ),
    ModelCard(
        "EleutherAI/pythia-70m", "Pythia 70M", None, 70_426_624, "gpt_neox", _APACHE,
        "The smallest of the first Pythia suite: English decoders made for research, with their training data.",
        "studies of methods on a very small model",
    ),
    ModelCard(
        "EleutherAI/pythia-160m", "Pythia 160M", None, 162_322_944, "gpt_neox", _APACHE,
        "A decoder of the Pythia suite, trained on the same data in the same order as all others.",
        "studies of how methods scale, together with its siblings",
    ),
    ModelCard(
        "facebook/opt-125m", "OPT 125M", None, 125_239_296, "opt", "OPT licence, non-commercial",
        f"The smallest of Meta's OPT decoders, for research only. {_PICKLE}",
        "comparison with published results of OPT",
    ),
    ModelCard(
        "google-t5/t5-small", "T5 small", None, 60_506_624, "t5", _APACHE,
        "An encoder-decoder trained on web text and on tasks written as text.",
        "summaries, translation and data-to-text",
    ),
    ModelCard(
        "google/flan-t5-small", "Flan-T5 small", None, 76_961_152, "t5", _APACHE,
        "T5 small (version 1.1) tuned on more than a thousand tasks with instructions.",
        "tasks that are described in the prompt",
    ),
    ModelCard(
        "facebook/bart-base", "BART base", None, 139_420_416, "bart", _APACHE,
        "An encoder-decoder trained to repair broken English text.",
        "summaries and headlines",
    ),
    ModelCard(
        "google-bert/bert-base-uncased", "BERT base, uncased", None, 109_482_240, "bert", _APACHE,
        "The encoder that most classification papers compare with.",
        "classifying English texts, and comparison with published results",
    ),
    ModelCard(
        "FacebookAI/roberta-base", "RoBERTa base", None, 124_645_632, "roberta", _MIT,
        "BERT's design, trained longer on ten times the text.",
        "classifying English texts; the usual base of PEFT papers on GLUE",
    ),
    ModelCard(
        "distilbert/distilbert-base-uncased", "DistilBERT base, uncased", None, 66_362_880, "distilbert", _APACHE,
        "BERT distilled to half its layers; nearly as good and about 60 % faster.",
        "classifying English texts on a small machine",
    ),
    ModelCard(
        "answerdotai/ModernBERT-base", "ModernBERT base", None, 149_014_272, "modernbert", _APACHE,
        "An encoder of 2024 for up to 8,192 tokens, trained on two trillion tokens of English text and code.",
        "classifying long texts and code",
    ),
    ModelCard(
        "microsoft/codebert-base", "CodeBERT base", None, 124_645_632, "roberta", _MIT,
        f"A RoBERTa trained on functions in six programming languages with their comments. {_PICKLE}",
        "defect detection and other classification of code",
    ),
    ModelCard(
        "CAUKiel/JavaBERT", "JavaBERT", None, 108_000_000, "bert", _APACHE,
        f"A BERT trained on Java files from GitHub; about 108 million parameters. {_PICKLE}",
        "classifying Java code",
    ),
    ModelCard(
        "Salesforce/codet5-small", "CodeT5 small", None, 60_492_288, "t5", _APACHE,
        f"A T5 trained on functions in eight programming languages, with an eye on names. {_PICKLE}",
        "describing, translating and repairing code",
    ),
    ModelCard(
        "microsoft/codereviewer", "CodeReviewer", None, 223_000_000, "t5", _APACHE,
        f"A CodeT5 base trained on code changes and their reviews; about 223 million parameters. {_PICKLE}",
        "writing review comments on code changes",
    ),
)  # fmt: skip
"""In the order of the form: decoders, encoder-decoders and encoders for text, then models for code."""


def count_stored_params(file: Path) -> int:
    """Number of parameters in a safetensors file, read from its header.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no safetensors file.
    """
    return sum(math.prod(entry["shape"]) for entry in tensor_header(file)[0].values())


def _embedded(name: str, architecture: str, summary: str, good_for: str) -> list[ModelCard]:
    """The card of a model that ships with the app, or none while its weights are not there."""
    folder = Path(__file__).parent / name
    try:
        params = count_stored_params(folder / "model.safetensors")
    except (OSError, ValueError):  # not there, or only half copied
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
    if model_id in SHORT_NAMES and not (paths_are_named() and Path(model_id).exists()):
        return MODELS[SHORT_NAMES[model_id]]
    return None


def known_params(model_id: str, otherwise: int = 1 << 40) -> int:
    """Parameters of a model as far as they are known without the network, or ``otherwise``."""
    if card := find_card(model_id):
        return card.params
    if not paths_are_named():
        return otherwise
    folder = Path(model_id).expanduser()
    return _stored_params(folder, stamp(folder)) or otherwise


@lru_cache(maxsize=64)
def _stored_params(folder: Path, _stamp: object) -> int:
    """Parameters in a model's folder; 0 where they cannot be counted, and whoever loads it is told why."""
    try:
        for file in weight_files(folder):
            check_weights(file)
        return sum(math.prod(shape) for _, shape in tensor_shapes(folder))
    except (OSError, ValueError, ModelError):
        return 0


def is_own_folder(model_id: str) -> bool:
    """Whether a model is neither of the catalogue nor of the Hub, but a folder that somebody brought."""
    return find_card(model_id) is None and paths_are_named() and Path(model_id).expanduser().is_dir()


def resolve_model(model_id: str) -> str:
    """Turns a config's model id into what ``from_pretrained`` takes: a folder or a Hub id.

    Raises:
        ModelError: A bare name that the catalogue does not have, or a folder that does not hold a model; or a path
            where nobody may name one.
    """
    if card := find_card(model_id):
        return str(card.path) if card.path is not None else card.id
    check_model_name(model_id)
    path = Path(model_id).expanduser()
    if paths_are_named() and path.exists():
        require_model(path)
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
