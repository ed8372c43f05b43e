"""The commands for looking after runs, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.runs.housekeeping import set_star
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore

Studio = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ended(place: Path) -> list[RunPaths]:
    """Three finished runs, oldest first."""
    made = []
    for number in range(3):
        paths = RunStore(place / "runs").create(make_config())
        record = json.loads(paths.config.read_text())
        paths.config.write_text(json.dumps({**record, "created": 1e9 + number}))
        lines = [{"v": 1, "kind": "step", "step": 1, "loss": 2.0}, {"v": 1, "kind": "finished", "summary": {}}]
        paths.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
        paths.exit.write_text('{"code": 0, "signal": null}')
        made.append(paths)
    return made


def last_line(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_disk(studio: Studio, place: Path, ended: list[RunPaths]) -> None:
    use = last_line(studio("disk", "--json", home=place))
    assert {run["id"] for run in use["runs"]} == {paths.id for paths in ended} and use["total"] > 0
    done = studio("disk", home=place, PEFT_STUDIO_QUOTA_MB="0.001")
    assert ended[0].id in done.stdout and "no new run can start" in done.stderr
    refused = studio("train", "bistro-lora", home=place, PEFT_STUDIO_QUOTA_MB="0.001")
    assert refused.returncode == 2 and "PEFT_STUDIO_QUOTA_MB" in refused.stderr


def test_clean(studio: Studio, place: Path, ended: list[RunPaths]) -> None:
    assert last_line(studio("clean", "--json", home=place))["deleted"] == []
    set_star(ended[0], True)
    dry = last_line(studio("clean", "--keep-runs", "1", "--dry-run", "--json", home=place))
    assert dry["deleted"] == [ended[1].id] and ended[1].root.exists()
    assert f"deleted {ended[1].id}" in studio("clean", "--keep-runs", "1", home=place).stdout
    assert [paths.root.exists() for paths in ended] == [True, False, True]
    assert studio("clean", "--keep-runs", "-1", home=place).returncode == 2


def test_a_run_moves_to_another_home(studio: Studio, place: Path, ended: list[RunPaths], tmp_path: Path) -> None:
    archive = tmp_path / "run.zip"
    packed = last_line(studio("export-run", ended[0].id, str(archive), "--json", home=place))
    assert packed == {"path": str(archive), "bytes": archive.stat().st_size}
    moved = last_line(studio("import-run", str(archive), "--json", home=tmp_path / "other"))
    assert moved == {"run_id": ended[0].id}
    found = last_line(studio("doctor", ended[0].id, "--json", home=place))
    assert last_line(studio("doctor", ended[0].id, "--json", home=tmp_path / "other")) == found
    archive.write_bytes(archive.read_bytes()[:-50])
    damaged = studio("import-run", str(archive), home=place)
    assert damaged.returncode == 2 and "damaged" in damaged.stderr and len(list((place / "runs").iterdir())) == 3
    assert studio("import-run", str(tmp_path / "none.zip"), home=place).returncode == 2
