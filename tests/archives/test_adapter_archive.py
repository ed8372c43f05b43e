"""An exported adapter: plain PEFT loads it, its script repeats the run, and it names no folder of this machine."""

import ast
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from peft_studio.archives.adapter_archive import export_zip
from peft_studio.archives.reproduce_script import reproduce_script
from peft_studio.cli.main import main
from peft_studio.config.run_config import parse_config
from peft_studio.errors import InvalidStateError
from peft_studio.models.opening import Opening
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore
from peft_studio.tasks.batching import EARLIER, MEGABATCH, LengthGroupedBatches

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import sys, torch, json, runpy
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
{extra}
base = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), ".")
ids = torch.tensor([tokenizer("food: Thai =>")["input_ids"]])
out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
print(json.dumps(tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)))
sys.argv = ["reproduce.py", "--base", base]
runpy.run_path("reproduce.py", run_name="__main__")
"""


@pytest.fixture(params=["lora_run", "houlsby_run"])
def run(request: pytest.FixtureRequest) -> Any:
    """A run with an adapter of PEFT's own kind, and one of ours."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def unpacked(run: Any, tmp_path: Path) -> Path:
    """The run's export, unpacked."""
    export_zip(RunPaths(run.folder), tmp_path / "adapter.zip", rows=True)
    with zipfile.ZipFile(tmp_path / "adapter.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "adapter")
    return tmp_path / "adapter"


def python(*argv: str, cwd: Path, path: str = "") -> list[str]:
    """Runs Python outside the repository; returns the lines it printed."""
    env = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *argv], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_plain_peft_loads_it_and_the_script_repeats_it(
    run: Any, unpacked: Path, tiny_model: Path, capsys: Any
) -> None:
    own = "houlsby" in run.id
    code = LOAD.format(extra="import peft_studio.methods.tuners" if own else "")
    printed_lines = python("-c", code, str(tiny_model), cwd=unpacked, path=str(ROOT) if own else "")

    argv = ["generate", "--run", run.id, "--prompt", "food: Thai =>", "--max-new-tokens", "6", "--json"]
    assert main(argv, {"PEFT_STUDIO_HOME": str(run.home)}) == 0
    columns = json.loads(capsys.readouterr().out.splitlines()[-1])["columns"]
    assert columns[1]["text"].rstrip("\ufffd") == json.loads(printed_lines[0]).rstrip("\ufffd")

    printed = json.loads(next(line for line in printed_lines if "recorded eval/loss" in line))
    assert printed["recorded eval/loss"] == run.result["metrics"]["eval/loss"]
    assert printed["eval/loss"] == pytest.approx(run.result["metrics"]["eval/loss"], rel=1e-4)
    assert (unpacked / "reproduced" / "adapter_model.safetensors").is_file()


def test_nothing_names_this_machine(run: Any, unpacked: Path, tiny_model: Path) -> None:
    for path in unpacked.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".md", ".py", ".yaml"):
            text = path.read_text(encoding="utf-8")
            for secret in (str(run.home), str(tiny_model.parent), str(Path.home()) + "/", "hf_"):
                assert secret not in text, f"{secret} in {path.name}"
    assert json.loads((unpacked / "adapter_config.json").read_text())["base_model_name_or_path"] == tiny_model.name


def test_card_and_facts(run: Any, unpacked: Path) -> None:
    card = (unpacked / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name:")
    for expected in ("## Metrics", "| eval/loss |", "PeftModel.from_pretrained", "reproduce.py", "arxiv.org"):
        assert expected in card
    assert ("import peft_studio.methods.tuners" in card) == ("houlsby" in run.id)
    facts = json.loads((unpacked / "metrics.json").read_text())
    assert facts["metrics"] == run.result["metrics"]
    assert facts["trainable_params"] == run.result["trainable_params"]
    import yaml

    parse_config(yaml.safe_load((unpacked / "preset.yaml").read_text()))


def test_a_run_without_adapter_cannot_be_exported(home: Path, tmp_path: Path) -> None:
    paths = RunStore(home / "runs").create(parse_config({"method": {"name": "lora"}, "training": {}}))
    with pytest.raises(InvalidStateError, match="not saved an adapter"):
        export_zip(paths, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_export_needs_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'peft'}"
    code = f"import sys, peft_studio.archives.adapter_archive\nprint(sorted({heavy} & set(sys.modules)))"
    assert python("-c", code, cwd=ROOT, path=str(ROOT)) == ["[]"]


@pytest.mark.parametrize("megabatch", [1, MEGABATCH, EARLIER])
@pytest.mark.parametrize(("rows", "steps"), [(37, 4), (37, 130), (400, 101), (8, 50)])
def test_the_script_makes_the_batches_of_the_run(rows: int, steps: int, megabatch: int) -> None:
    training = parse_config({"method": {"name": "lora"}, "training": {"max_steps": steps, "batch_size": 8, "seed": 5}})
    script = reproduce_script(
        title='A "title" \\ with\nmarks',
        base=("tiny", "folder"),
        opening=Opening("LORA"),
        training=training.training.model_dump(),
        megabatch=megabatch,
        versions={},
        recorded=None,
        source={},
    )
    tree = ast.parse(script)
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "batches"]
    scope: dict[str, Any] = {"random": random, "STEPS": steps, "BATCH_SIZE": 8, "SEED": 5}
    exec(compile(ast.Module([function], []), "reproduce.py", "exec"), scope)
    lengths = [(7 * row) % 23 for row in range(rows)]
    assert list(scope["batches"](lengths)) == list(LengthGroupedBatches(lengths, 8, steps, 5, megabatch=megabatch))
