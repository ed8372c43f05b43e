"""What we rely on inside of other libraries without their promise: after an upgrade this file says what is gone.

``INSIDES`` names it all. A message tells which of our files use it. The last tests look for private names in our own
code and want each of them in the table.
"""

import ast
import contextlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "peft_studio"
STATIC = PACKAGE / "ui" / "static"
INSIDES: dict[str, str] = {
    # gradio
    "gradio.Blocks": "_queue",
    "gradio.queueing.Queue": "sleep_when_free progress_update_sleep_when_free",
    "gradio.EventData": "_data",
    "gradio.context.LocalContext": "request",
    "gradio.blocks.Blocks": "fns app",
    "uvicorn.config": "HTTP_PROTOCOLS",
    "uvicorn.protocols.http.h11_impl.RequestResponseCycle": "response_complete",
    "starlette.applications.Starlette": "middleware_stack",
    "gradio.Radio": "preprocess",
    "gradio.HTML": "html_template js_on_load head apply_default_css padding",
    "gradio.oauth": "OAUTH_CLIENT_ID",
    "gradio.utils": "get_space",
    # peft
    "peft.mapping": "PEFT_TYPE_TO_CONFIG_MAPPING PEFT_TYPE_TO_PREFIX_MAPPING PEFT_TYPE_TO_TUNER_MAPPING",
    "peft.optimizers": "create_lorafa_optimizer",
    "peft.tuners.adalora.AdaLoraModel": "rankallocator update_and_allocate",
    "peft.tuners.adalora.layer.RankAllocator": "ipt exp_avg_ipt exp_avg_unc reset_ipt",
    "peft.tuners.boft.layer": "BOFTLayer get_fbd_cuda",
    "peft.tuners.boft.layer.BOFTLayer": "perm2mat",
    "peft.tuners.beft": "BeftLayer",
    "peft.tuners.ia3": "IA3Layer",
    "peft.tuners.ia3.layer": "Linear",
    "peft.tuners.ia3.layer.IA3Layer": "ia3_l is_feedforward",
    "peft.tuners.lora.config": "CordaConfig LoraGAConfig",
    "peft.tuners.lora.corda": "preprocess_corda",
    "peft.tuners.lora.intruders": "reduce_intruder_dimension",
    "peft.tuners.lora.layer": "Linear",
    "peft.tuners.lora.layer.LoraLayer": "lora_A lora_B lora_dropout lora_variant scaling merged_adapters",
    "peft.tuners.lora.loraga": "preprocess_loraga",
    "peft.tuners.prefix_tuning.PrefixEncoder": "prefix_projection transform embedding",
    "peft.tuners.tuners_utils": "BaseTuner BaseTunerLayer",
    "peft.tuners.tuners_utils.BaseTuner": (
        "prefix tuner_layer_cls target_module_mapping inject_adapter _prepare_adapter_config _create_and_replace "
        "_remove_adapter_name_from_key _unload_and_optionally_merge"
    ),
    "peft.tuners.tuners_utils.BaseTunerLayer": (
        "adapter_layer_names other_param_names merged_adapters disable_adapters active_adapters set_adapter "
        "get_base_layer _disable_adapters _move_adapter_to_device_of_base_layer"
    ),
    "peft.utils.other": "AuxiliaryTrainingWrapper",
    "peft.utils.other.AuxiliaryTrainingWrapper": "original_module",
    "peft.utils.other.ModulesToSaveWrapper": "modules_to_save enable_adapters active_adapters",
    "peft.PeftModel": "_enable_peft_forward_hooks",
    # transformers
    "transformers.activations": "ACT2FN",
    "transformers.generation.streamers": "BaseStreamer",
    "transformers.models.llama": "modeling_llama",
    "transformers.models.llama.modeling_llama": "LlamaDecoderLayer",  # others by family: test_speed_levers.py asks all
    "transformers.models.llama.modeling_llama.LlamaAttention": "q_proj k_proj v_proj o_proj head_dim scaling",
    "transformers.models.llama.modeling_llama.LlamaDecoderLayer": (
        "self_attn mlp input_layernorm post_attention_layernorm"
    ),
    "transformers.models.llama.modeling_llama.LlamaMLP": "gate_proj up_proj down_proj act_fn",
    "transformers.models.llama.modeling_llama.LlamaModel": (
        "embed_tokens layers norm rotary_emb gradient_checkpointing"
    ),
    "transformers.models.llama.modeling_llama.LlamaRMSNorm": "weight variance_epsilon",
    "transformers.models.qwen2.modeling_qwen2.Qwen2Attention": "sliding_window",
    "transformers.models.qwen3.modeling_qwen3.Qwen3Attention": "sliding_window q_norm k_norm",
    "transformers.DynamicCache": "batch_select_indices",
    "transformers.models.modernbert.modeling_modernbert.ModernBertForMaskedLM": "model head decoder",
    "transformers.models.bert.modeling_bert.BertEmbeddings": "position_embeddings position_ids token_type_ids",
    "transformers.AttentionInterface": "register",
    "transformers.AttentionMaskInterface": "register",
    "transformers.PreTrainedModel": "set_attn_implementation _is_stateful",
    "transformers.PreTrainedConfig": "_attn_implementation",
    "transformers.PreTrainedTokenizerFast": "backend_tokenizer",
    "transformers.PreTrainedTokenizerBase": "added_tokens_decoder apply_chat_template chat_template",
    "transformers.pytorch_utils": "Conv1D",
    "transformers.trainer_pt_utils": "get_parameter_names",
    # torch
    # sacrebleu
    "sacrebleu.metrics.BLEU": "_extract_corpus_statistics _compute_score_from_stats",
    "sacrebleu.metrics.CHRF": "_extract_corpus_statistics _compute_score_from_stats",
    "torch.Tensor": "_version",
    "torch.backends.cuda": "cudnn_sdp_enabled enable_cudnn_sdp",
    "torch.nn.Module": "_parameters _forward_hooks _forward_pre_hooks _backward_hooks",
    "torch.optim.Muon": "adjust_lr_fn",
    "torch.optim.lr_scheduler.LRScheduler": "_step_count _last_lr base_lrs last_epoch",
    "torch.optim.lr_scheduler.LambdaLR": "lr_lambdas",
    "torch.overrides": "TorchFunctionMode",
    # accelerate
    "accelerate.big_modeling.dispatch_model": "force_hooks hf_device_map",
    "accelerate.hooks.add_hook_to_module": "_hf_hook",
    "accelerate.utils": "get_balanced_memory",
    # ray
    "ray._private.state": "available_resources_per_node",
    "ray.exceptions": "ActorDiedError GetTimeoutError RayError",
    # datasets, huggingface_hub
    "datasets.ClassLabel": "names",
    "huggingface_hub.constants": "HF_HUB_OFFLINE ENDPOINT",
    "huggingface_hub.errors": "GatedRepoError HfHubHTTPError HTTPError",
    "huggingface_hub.utils": "disable_progress_bars",
}
"""By module, class or function: attributes, names in a module, or parameters."""
MESSAGES = {
    "peft.tuners.tuners_utils": ("not found in the base model", "No modules were targeted"),
    "peft.peft_model": ("Found missing adapter keys",),
    "datasets.load": ("scripts are no longer supported",),
    "accelerate.utils.modeling": ("The following device_map keys",),
}
"""Texts of other libraries' warnings and errors by which we tell one from another."""
CLASSES = (
    "app", "block", "block-info", "dark", "fillable", "form", "gradio-container", "html-container", "icon-wrap",
    "info", "info-text", "main", "prose", "secondary-wrap", "selected", "tab-container", "tab-wrapper", "tabitem",
    "token", "wrap", "wrap-inner",
)  # fmt: skip
"""Class names in Gradio's own page that our styles mention."""
LIBRARIES = ("gradio", "peft", "transformers", "torch", "accelerate", "ray", "datasets", "plotly", "huggingface_hub",
             "sacrebleu")  # fmt: skip
DOCUMENTED = ("torch.nn", "torch.optim", "torch.autograd", "torch.utils", "peft.utils", "sacrebleu.metrics")
"""Modules below a library's own that its documentation tells to import from."""


@cache
def our_files() -> dict[str, tuple[str, set[str]]]:
    """Our files by name: the text of each, and its words."""
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".js", ".css"))
    texts = {path.relative_to(PACKAGE.parent).as_posix(): path.read_text(encoding="utf-8") for path in files}
    return {name: (text, set(re.findall(r"\w+", text))) for name, text in texts.items()}


def used_in(words: str) -> str:
    """Which of our files mention a word or a text."""
    found = our_files().items()
    return ", ".join(name for name, (text, known) in found if words in (known if words.isidentifier() else text))


def find(path: str) -> Any:
    """A module, or something in one."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


@cache
def source_of(thing: Any) -> str:
    """The parameters and the source of a class or function, as far as they can be had: some is written in C."""
    found = ""
    for ask in (inspect.signature, inspect.getsource):
        with contextlib.suppress(TypeError, ValueError, OSError):
            found += str(ask(thing))
    return found


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in INSIDES.items() for name in names.split()])
def test_it_is_still_there(path: str, name: str) -> None:
    files = used_in(name)
    try:
        thing = find(path)
    except (ImportError, AttributeError) as exc:
        pytest.fail(f"{path} is gone ({exc}); {name} of it is used in {files}")
    # What is set for each instance, and a function's parameters, are in the source only.
    there = hasattr(thing, name) or bool(re.search(rf"\b{name}\b", source_of(thing)))
    assert there, f"{path} has no {name} any more; used in {files}"


@pytest.mark.parametrize(("path", "text"), [(path, text) for path, texts in MESSAGES.items() for text in texts])
def test_it_still_says_so(path: str, text: str) -> None:
    assert text in source_of(find(path)), f"{path} does not say {text!r} any more; see {used_in(text)}"


def test_tokenizers_say_what_puts_a_space_before_every_text() -> None:
    import json

    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence([normalizers.Prepend("_")])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.ByteLevel()])
    made.decoder = decoders.ByteLevel()
    told = json.loads(made.to_str())  # what training/formats/seam.py changes
    assert told["normalizer"]["normalizers"][0]["prepend"] == "_"
    first, second = told["pre_tokenizer"]["pretokenizers"]
    assert first["prepend_scheme"] == "always" and second["add_prefix_space"] is True
    assert told["decoder"]["type"] == "ByteLevel"


def test_plotly_brings_its_script() -> None:
    (folder,) = importlib.import_module("plotly").__path__
    assert (Path(folder) / "package_data" / "plotly.min.js").stat().st_size > 1_000_000, used_in("plotly.min.js")


def test_gradio_finds_events_in_the_text_of_a_script() -> None:
    import gradio as gr

    assert hasattr(gr.HTML(js_on_load="// triggers 'pick'"), "pick"), used_in("js_on_load")


@pytest.fixture(scope="module")
def page() -> str:
    """All of Gradio's own scripts and styles."""
    import gradio as gr

    folder = Path(gr.__file__).parent / "templates" / "frontend"
    return "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.suffix in (".css", ".js"))


@pytest.mark.parametrize("name", CLASSES)
def test_gradio_has_the_class(name: str, page: str) -> None:
    assert re.search(rf"""[."'`\s]{name}(?![\w-])""", page), f"Gradio has no class {name} any more: {used_in(name)}"


def test_every_class_of_gradio_in_our_styles_is_named() -> None:
    ours = "\n".join(path.read_text(encoding="utf-8") for path in [*PACKAGE.rglob("*.py"), *STATIC.rglob("*.js")])
    for path in STATIC.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/|\{[^{}]*\}", "{}", path.read_text(encoding="utf-8"), flags=re.S)
        for name in set(re.findall(r"\.([a-zA-Z][\w-]*)", text)):
            known = name.startswith("ps-") or name in CLASSES or re.search(rf"(?<![\w-]){name}(?![\w-])", ours)
            assert known, f"{path.name} styles .{name}, which is neither ours nor in this file"


def test_the_table_names_nothing_that_is_not_used() -> None:
    for path, names in INSIDES.items():
        for name in names.split():
            assert used_in(name), f"{path}: nobody uses {name}"


NAMED = frozenset(name for names in INSIDES.values() for name in names.split())


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def own_names(path: Path) -> set[str]:
    """Names that a file defines: its functions and classes, and what it gives to ``self``."""
    tree = parsed(path)
    found = {node.name for node in ast.walk(tree) if hasattr(node, "name") and isinstance(node.name, str)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # self.__dict__["_known_copies"]
    return found


def foreign_bases(tree: ast.AST) -> Iterator[tuple[ast.ClassDef, Any]]:
    """Classes of a file that are made from a library's, each with that."""
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in LIBRARIES
        for alias in node.names
    }
    for node in ast.walk(tree):
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            name, _, rest = ast.unparse(base).partition(".")
            if isinstance(node, ast.ClassDef) and name in imported:
                yield node, find(f"{imported[name]}.{rest}".rstrip("."))


FILES = sorted(PACKAGE.rglob("*.py"))


def strange_names(path: Path) -> Iterator[tuple[int, str]]:
    """Private names of others that a file uses, and what it imports from inside of libraries: line and text."""
    own, inherited = own_names(path), set().union(*map(own_names, FILES))
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node) != "os._exit":
            known = inherited if ast.unparse(node.value) in ("self", "cls") else own
            if node.attr not in known | NAMED:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in LIBRARIES:
            place = node.module
            inside = place not in LIBRARIES and not place.startswith(DOCUMENTED)
            for alias in node.names:
                named = alias.name in INSIDES.get(place, "").split() or f"{place}.{alias.name}" in INSIDES
                if not named and (inside or is_private(alias.name)):
                    yield node.lineno, f"from {place} import {alias.name}"


def replaced_names(path: Path) -> Iterator[tuple[int, str]]:
    """Private methods of libraries' classes that a file's own classes replace: line and text."""
    for node, base in foreign_bases(parsed(path)):
        for part in node.body:
            private = isinstance(part, ast.FunctionDef) and is_private(part.name) and hasattr(base, part.name)
            if isinstance(part, ast.FunctionDef) and private and part.name not in NAMED:
                yield part.lineno, f"{node.name} replaces {base.__name__}.{part.name}"


@pytest.mark.parametrize("look", [strange_names, replaced_names])
def test_private_names_of_others_are_in_the_table(look: Callable[[Path], Iterator[tuple[int, str]]]) -> None:
    found = [f"{path.relative_to(PACKAGE)}:{line}: {text}" for path in FILES for line, text in look(path)]
    assert found == []
