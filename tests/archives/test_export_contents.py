"""What is in an exported adapter and what is not: labels, padding, base, rows; and where its script finds rows."""

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.archives.adapter_archive import export_zip
from peft_studio.archives.places import bare
from peft_studio.archives.reproduce_script import reproduce_script
from peft_studio.cli.main import main
from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.models.opening import Opening
from peft_studio.runs.events import EventWriter
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore
from peft_studio.training.adapter_files import write_adapter
from peft_studio.training.load import attach, load_base
from peft_studio.training.quiet import known_warnings

ROWS = "text;label\n" + "".join(f"dish {n} was {w};{w}\n" for n in range(12) for w in ("good", "bad"))


def made_run(home: Path, config: dict[str, Any]) -> RunPaths:
    """A run that has saved an adapter, without the training."""
    resolved = resolve(parse_config({"training": {"max_length": 64}, **config}))
    paths = RunStore(home / "runs").create(resolved.config)
    labels = list(resolved.task.labels)
    base, _ = load_base(resolved.config.model.id, labels=labels)
    write_adapter(attach(base, resolved.method, resolved.config.method), paths)
    writer = EventWriter(paths.events)
    model = {"id": resolved.config.model.id, "type": base.config.model_type}
    writer.emit(
        "started", model=model, data={"labels": labels, "rows": 10, "max_length": 64}, versions={}, precision="fp32"
    )
    writer.emit("saved", path="adapter", bytes=1, step=1, check={"rows": 4, "max_difference": 0.0})
    writer.emit("finished", step=1, summary={})
    writer.close()
    return paths


def unpack(paths: RunPaths, folder: Path, rows: bool = False) -> Path:
    """The run's export, unpacked."""
    buffer = io.BytesIO()
    export_zip(paths, buffer, rows)
    zipfile.ZipFile(buffer).extractall(folder)
    return folder


def run_card(folder: Path, base: str = "", **given: object) -> str:
    """Runs the card's lines in its folder; returns what they print."""
    lines = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    for old, new in given.items():
        assert old in lines
        lines = lines.replace(old, str(new))
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), known_warnings():
        exec(lines.replace(f"path/to/{Path(base).name}", base) if base else lines, {})
    return printed.getvalue()


def test_a_classifier_keeps_its_labels_and_pads(families: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    task = {"id": "custom", "kind": "classification", "train_file": str(tmp_path / "rows.csv")}
    paths = made_run(tmp_path, {"model": {"id": str(families["gpt2"])}, "task": task, "method": {"name": "hra"}})
    (tmp_path / "rows.csv").unlink()  # nothing of the data is needed to take an adapter away
    folder = unpack(paths, tmp_path / "out")
    names = {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    assert json.loads((folder / "labels.json").read_text()) == names
    assert names.items() <= json.loads((folder / "metrics.json").read_text()).items()
    assert "`bad`, `good`" in (folder / "README.md").read_text()
    assert set(eval(run_card(folder, str(families["gpt2"])))) <= {"bad", "good"}
    assert not (folder / "train.jsonl").exists()


def test_an_embedded_base_travels_along(tmp_path: Path) -> None:
    paths = made_run(tmp_path, {"method": {"name": "lora"}})
    folder = unpack(paths, tmp_path / "out")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "nano-lm"
    assert (folder / "nano-lm" / "model.safetensors").is_file()
    assert isinstance(run_card(folder, **{"max_new_tokens=60": "max_new_tokens=2"}), str)
    assert "nano-lm/" in (folder / "README.md").read_text()
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md", ".py", ".yaml"):
            assert str(tmp_path) not in path.read_text(encoding="utf-8"), path


def test_rows_go_only_when_asked_for(lora_run: Any, tmp_path: Path) -> None:
    rows = {"train.jsonl", "validation.jsonl", "predictions.jsonl"}
    paths = RunPaths(lora_run.folder)
    plain, asked = ({path.name for path in unpack(paths, tmp_path / name, name == "asked").iterdir()}
                    for name in ("plain", "asked"))  # fmt: skip
    assert not rows & plain and rows <= asked
    assert "no rows of the data" in (tmp_path / "plain" / "README.md").read_text()
    assert "references" in (tmp_path / "asked" / "train.jsonl").read_text().splitlines()[0]


def test_the_command_line_exports_a_merged_model(lora_run: Any, tmp_path: Path, capsys: Any) -> None:
    argv = ["export", lora_run.id, "--merged", "--out", str(tmp_path / "merged.zip"), "--json"]
    assert main(argv, {"PEFT_STUDIO_HOME": str(lora_run.home)}) == 0
    names = zipfile.ZipFile(tmp_path / "merged.zip").namelist()
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(names)


RECORDS = [{"ask": f"问题 {number}", "more": "x, y", "say": f"答案 {number}"} for number in range(30)]


def write(path: Path, records: Sequence[dict[str, str]]) -> Path:
    """Records in the form that the file's name says."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(records)), encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = (json.dumps({**record, "say": [record["say"], "又一"]}, ensure_ascii=False) for record in records)
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        lines = [";".join(records[0]), *(";".join(record.values()) for record in records)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-16")
    return path


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("template", ["", "{{{ask}}} ({more}):"])
def test_the_script_finds_the_rows_in_the_runs_own_file(tmp_path: Path, name: str, template: str) -> None:
    """By their hashes, in the order of the run's splits, without any row in the zip."""
    file = write(tmp_path / name, RECORDS)
    task = {"id": "custom", "kind": "generation", "train_file": str(file), "template": template}
    task |= {"input_column": "ask", "target_column": "say"}
    config = parse_config({"task": task, "method": {"name": "lora"}, "training": {"precision": "fp32"}})
    folder = tmp_path / "out"
    paths = RunStore(tmp_path / "runs").create(config)
    paths.adapter.mkdir()
    (paths.adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "task_type": "CAUSAL_LM"}')
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, paths.adapter / "adapter_model.safetensors")
    unpack(paths, folder)
    script = (folder / "reproduce.py").read_text(encoding="utf-8")
    scope: dict[str, Any] = {"__file__": str(folder / "reproduce.py"), "__name__": "reproduce"}
    exec(compile(script, "reproduce.py", "exec"), scope)
    rows = resolve(config).task.load("train")
    for given in ([], [str(file)]):  # beside the folder, or named
        assert scope["rows_of"]("train", given) == [{"prompt": row.prompt, "target": row.target} for row in rows]
    write(file, RECORDS[:5])
    with pytest.raises(SystemExit, match="are not found there"):
        scope["rows_of"]("train", [])
    file.unlink()
    with pytest.raises(SystemExit, match=f"Give {name} with --rows"):
        scope["rows_of"]("train", [])


def test_the_script_opens_the_base_as_the_run_did() -> None:
    training = parse_config({"method": {"name": "lora"}, "training": {}}).training.model_dump()
    script = reproduce_script(
        title="x", base=("gpt", "folder"), opening=Opening("HRA", model_type="gpt2"), training=training,
        megabatch=4, versions={}, recorded=None, source={},
    )  # fmt: skip
    compile(script, "reproduce.py", "exec")
    assert "from linear_base import linear_everywhere" in script and "    base = linear_everywhere(base)" in script


@pytest.mark.parametrize(("text", "told"), [
    (f'File "{Path.home()}/x/y.py", line 3', 'File "y.py", line 3'),
    ('{"id":"../../models/tiny"}', '{"id":"tiny"}'),
    ("wrote /tmp/a/b.csv", "wrote b.csv"),
    ("see https://a.org/usr/bin/x and/or 1/2", "see https://a.org/usr/bin/x and/or 1/2"),
    ("the route /studio/runs/x", "the route /studio/runs/x"),
])  # fmt: skip
def test_a_path_becomes_its_last_name(text: str, told: str) -> None:
    assert bare(text) == told
