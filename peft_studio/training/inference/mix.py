"""Several adapters mixed into a new one, by PEFT's ``add_weighted_adapter``: where it can, else why it cannot."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.errors import ConfigError, InvalidStateError
from peft_studio.methods import Method
from peft_studio.training.load import load_adapter, share_base
from peft_studio.training.quiet import known_warnings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WAYS = ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties")
SAME_RANK = frozenset({"linear", "ties", "dare_linear", "dare_ties"})
WITH_DENSITY = frozenset({"ties", "dare_linear", "dare_ties"})
MOST_WEIGHT, MOST_RANK = 4.0, 512


@dataclass(frozen=True)
class Ingredient:
    """An adapter that goes into a mix.

    Attributes:
        run: Id of its run.
        method: What it is of.
        folder: Where it was saved.
        weight: Its share, which need not add up to 1 with the others'.
    """

    run: str
    method: Method
    folder: Path
    weight: float


def mix_adapters(
    base: "PreTrainedModel", parts: Sequence[Ingredient], way: str, density: float, out: Path
) -> dict[str, Any]:
    """Writes a mix of adapters of one base model.

    Args:
        base: Their base model.
        parts: The adapters.
        way: One of ``WAYS``.
        density: Share of numbers that ``ties`` and the ``dare`` ways keep, above 0 and at most 1.
        out: Folder of the new adapter.

    Returns:
        ``rank`` of the new adapter (None of (IA)^3) and ``parameters``, how many numbers it has.

    Raises:
        ConfigError: The way, a weight or the density is not allowed.
        InvalidStateError: PEFT cannot mix these adapters; says why.
    """
    _check(parts, way, density)
    configs = [json.loads((part.folder / "adapter_config.json").read_text()) for part in parts]
    for part, config in zip(parts, configs, strict=True):
        _check_kind(part, config, way)
    if len({config["peft_type"] for config in configs}) > 1:
        raise InvalidStateError("PEFT mixes adapters of one kind only, not LoRA with (IA)³.")
    ranks = [_rank(config) for config in configs]
    if way in SAME_RANK and len(set(ranks)) > 1:
        told = ", ".join(map(str, ranks))
        raise InvalidStateError(f"The ranks differ ({told}), and {way} needs equal ones. Use cat or svd instead.")
    if way == "cat" and sum(ranks) > MOST_RANK:
        raise InvalidStateError(f"cat would have rank {sum(ranks)}; {MOST_RANK} is allowed. Use svd instead.")
    model = load_adapter(share_base(base), parts[0].folder)
    for part in parts[1:]:
        load_adapter(base, part.folder, beside=model)
    _add_mix(model, list(model.peft_config), [part.weight for part in parts], way, density)
    _save(model, out)
    mixed: Any = model.peft_config["mixed"]
    numbers = sum(part.numel() for name, part in model.named_parameters() if ".mixed" in name)
    return {"rank": getattr(mixed, "r", None), "parameters": numbers}


def _add_mix(model: "PeftModel", names: list[str], weights: list[float], way: str, density: float) -> None:
    options: dict[str, Any] = {}
    if model.active_peft_config.peft_type.value == "LORA":
        options = {"combination_type": way} | ({"density": density} if way in WITH_DENSITY else {})
    try:
        with known_warnings():
            model.add_weighted_adapter(names, weights, "mixed", **options)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as exc:
        raise InvalidStateError("PEFT cannot mix these adapters: they change different parts of the model.") from exc


def _save(model: "PeftModel", out: Path) -> None:
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".mix-") as folder, known_warnings():
        model.save_pretrained(folder, selected_adapters=["mixed"], save_embedding_layers=False)
        shutil.move(str(Path(folder) / "mixed"), out)


def _check(parts: Sequence[Ingredient], way: str, density: float) -> None:
    if way not in WAYS:
        raise ConfigError(f"There is no way {way!r} to mix; allowed: {', '.join(WAYS)}.", "way")
    if len(parts) < 2:
        raise ConfigError("A mix takes two adapters at least.", "runs")
    for part in parts:
        if not -MOST_WEIGHT <= part.weight <= MOST_WEIGHT:
            raise ConfigError(
                f"The weight {part.weight} is not allowed: from {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}.", "weights"
            )
    if not 0 < density <= 1:
        raise ConfigError(f"The density is {density}; above 0 and at most 1 is allowed.", "density")


def _check_kind(part: Ingredient, config: dict[str, Any], way: str) -> None:
    kind, title = config.get("peft_type"), part.method.title
    if kind not in ("LORA", "IA3"):
        raise InvalidStateError(f"PEFT mixes adapters of LoRA's kind and (IA)³ only, and {part.run} is of {title}.")
    if kind == "IA3" and way != "linear":
        raise InvalidStateError(f"PEFT mixes (IA)³ by linear only, not by {way}.")
    if config.get("use_dora") or config.get("lora_bias") or config.get("modules_to_save"):
        what = "a head or whole modules" if config.get("modules_to_save") else "more than two small matrices"
        raise InvalidStateError(f"PEFT cannot mix {part.run} ({title}): it has {what} beside LoRA's matrices.")
    plain = ("use_qalora", "target_parameters", "layer_replication", "use_bdlora", "arrow_config", "velora_config")
    if any(config.get(name) for name in plain):
        raise InvalidStateError(f"PEFT cannot mix {part.run}: {title} is a variant of LoRA that it does not mix.")


def _rank(config: dict[str, Any]) -> int:
    pattern = config.get("rank_pattern") or {}
    return max([int(config.get("r") or 0), *(int(rank) for rank in pattern.values())])
