"""Presets: run configs as YAML files, with overrides such as ``method.rank=4`` from the command line."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import ConfigError, PresetError, did_you_mean, shown

_INSTALLED = Path(__file__).resolve().parents[1] / "presets"
PRESETS_DIR = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "presets"
"""Where the presets lie: in the installed package (``pyproject.toml`` puts them there), or beside it in a checkout."""


def list_presets(folder: Path = PRESETS_DIR) -> list[str]:
    """Names of the presets, without ``.yaml``, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(name: str, folder: Path = PRESETS_DIR) -> dict[str, Any]:
    """Reads a preset as a plain mapping, not yet validated.

    Args:
        name: A preset's name, or the path of a YAML file.
        folder: Where named presets live.

    Raises:
        PresetError: No such preset, or the file is not a YAML mapping.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in list_presets(folder):
            raise PresetError(f"There is no preset {name!r}. {did_you_mean(name, list_presets(folder))}")
        path = folder / f"{name}.yaml"
    try:
        data = _read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PresetError(f"There is no preset file {name!r}.") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise PresetError(f"The preset file {name!r} cannot be read: {exc}.") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:  # such as a number of thousands of digits
        raise PresetError(f"The preset file {name!r} is not YAML: {' '.join(str(exc).split())}.") from exc
    if not isinstance(data, dict):
        raise PresetError(f"The preset file {name!r} must hold a mapping, not {type(data).__name__}.")
    return data


def parse_preset(name: str, overrides: Iterable[str] = (), folder: Path = PRESETS_DIR) -> RunConfig:
    """Reads a preset, applies overrides and validates the result; overrides may add what the preset lacks.

    Raises:
        PresetError: The file is at fault; the message names it and the key.
        ConfigError: An override is at fault.
    """
    data = load_preset(name, folder)
    items = list(overrides)
    merged = apply_overrides(data, items)
    try:
        return parse_config(merged)
    except ConfigError as exc:
        if any(item.partition("=")[0].strip() == exc.path for item in items):
            raise
        raise PresetError(f"Preset {name!r}: {exc}", exc.path) from exc


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Sets dotted keys of a nested mapping; values are read as YAML, so ``4``, ``true`` and ``1e-3`` have their type.

    Naming another method drops the preset's method parameters and learning rate, which belong to the old one.

    Args:
        data: The mapping, left unchanged.
        overrides: Items such as ``method.rank=4``.

    Raises:
        ConfigError: An item is not ``section.key=value``.
    """
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    items = [_split_override(item) for item in overrides]
    for section, key, value in sorted(items, key=lambda item: item[:2] != ("method", "name")):
        if (section, key) == ("method", "name") and merged.get("method", {}).get("name") != value:
            merged["method"] = {}
            merged.get("training", {}).pop("learning_rate", None)
        merged.setdefault(section, {})[key] = value
    return merged


def _split_override(item: str) -> tuple[str, str, Any]:
    path, equals, text = item.partition("=")
    section, dot, key = path.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(f"--set {item!r} is not of the form section.key=value, such as method.rank=4.")
    if section not in RunConfig.model_fields:
        raise ConfigError(
            f"--set {item!r}: there is no section {section!r}. {did_you_mean(section, RunConfig.model_fields)}"
        )
    try:
        return section, key, _read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"--set {shown(item)}: the value is not a YAML scalar.") from exc


class _Yaml12Loader(yaml.SafeLoader):
    """Reads ``1e-3`` as a number, as YAML 1.2 does; PyYAML's YAML 1.1 wants ``1.0e-3``."""


_Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Yaml12Loader)  # a SafeLoader: plain values only
