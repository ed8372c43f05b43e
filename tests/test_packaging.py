"""``pip install .``: all files come along, the command runs anywhere, and plain PEFT loads our own adapters."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from peft_studio.config.presets import list_presets
from peft_studio.methods import METHODS, Site
from peft_studio.models.layouts import layout_for

ROOT = Path(__file__).resolve().parent.parent
OWN = ("houlsby", "pfeiffer", "parallel", "bitfit", "full")
"""Methods whose tuners PEFT itself does not have."""
LOAD = """
import json, sys
for name in ("gradio", "datasets", "plotly", "sacrebleu", "rouge_score", "sklearn", "ray"):
    sys.modules[name] = None  # as if it were not installed
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
import peft_studio.methods.tuners

base, *folders = sys.argv[1:]
found = []
for folder in folders:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    with torch.no_grad():
        found.append(model(input_ids=torch.arange(4, 20)[None]).logits[0, -1].tolist())
print(json.dumps([peft_studio.__file__, found]))
"""


def tracked(*patterns: str) -> list[str]:
    """Files that git knows, or would if they were added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [name for name in listed if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package was installed from a copy of its sources; nothing is downloaded."""
    folder = tmp_path_factory.mktemp("install")
    for name in tracked("peft_studio", "presets", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).symlink_to(ROOT / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), "."]
    done = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_a_space_can_be_built() -> None:
    """Its builder asks in one line for the requirements and for Gradio with what signing in and agents need."""
    front = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---")[1])
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check"]
    command += ["-r", "requirements.txt", f"gradio[oauth,mcp]=={front['sdk_version']}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def python(site: Path, *argv: str) -> str:
    """What Python prints in a folder far from the checkout, with what was installed."""
    env = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *argv], cwd=site, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_package_is_named() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {name.removesuffix("/__init__.py").replace("/", ".") for name in tracked("peft_studio/*__init__.py")}
    assert set(settings["packages"]) == found | {"peft_studio.presets"}


def test_every_file_is_installed(site: Path) -> None:
    installed = {path.relative_to(site).as_posix() for path in site.rglob("*")}
    assert set(tracked("peft_studio")) <= installed
    assert {f"peft_studio/{name}" for name in tracked("presets")} <= installed


def test_the_command_runs_without_the_checkout(site: Path) -> None:
    (command,) = (site / "bin").iterdir()
    assert command.name == "peft-studio"
    models = json.loads(python(site, str(command), "models", "--json").splitlines()[-1])
    assert {"nano-lm", "nano-encoder", "nano-seq2seq"} <= {entry["id"] for entry in models}
    code = "import json\nfrom peft_studio.config.presets import PRESETS_DIR, list_presets\n"
    folder, presets = json.loads(python(site, "-c", f"{code}print(json.dumps([str(PRESETS_DIR), list_presets()]))"))
    assert Path(folder) == site / "peft_studio" / "presets"
    assert presets == list_presets()


def test_plain_peft_loads_our_own_adapters(site: Path, tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from peft_studio.training.quiet import known_warnings

    expected = []
    for name in OWN:
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        with known_warnings():
            model = METHODS[name].attach(base, METHODS[name].params(), Site(layout_for("llama"), 1))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
            expected.append(model.eval()(input_ids=torch.arange(4, 20)[None]).logits[0, -1])
        model.save_pretrained(tmp_path / name, save_embedding_layers=False)

    home, found = json.loads(python(site, "-c", LOAD, str(tiny_model), *(str(tmp_path / name) for name in OWN)))
    assert Path(home).is_relative_to(site)
    for name, logits, wanted in zip(OWN, found, expected, strict=True):
        torch.testing.assert_close(torch.tensor(logits), wanted, msg=name)
