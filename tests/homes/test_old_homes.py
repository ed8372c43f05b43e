"""A home that an older version wrote, ``v1``: everything about its runs is told as that version told it, ``v1.json``.

Made with the version of commit db40dc2: real runs of a few steps on the nano models, of which two finished, one was
stopped, one was killed and one still waits, held back. Checkpoints that nobody goes on from are left out.
"""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from peft_studio.archives.adapter_archive import export_zip
from peft_studio.config.run_config import parse_config
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.status import Status
from peft_studio.settings import Settings
from peft_studio.ui.details import run_details

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOLD = json.loads((HERE / "v1.json").read_text(encoding="utf-8"))
IDS = {info["status"]: info["id"] for info in TOLD["list"]}
RUNS = [info["id"] for info in TOLD["list"]]


@pytest.fixture
def manager(tmp_path: Path) -> JobManager:
    """The present version on a copy of the home."""
    shutil.copytree(HERE / "v1", tmp_path / "home")
    return JobManager(Settings(home=tmp_path / "home"))


def plain(value: Any) -> Any:
    """As the page gets it."""
    return json.loads(json.dumps(value, allow_nan=False))


def test_the_list_is_as_it_was(manager: JobManager) -> None:
    infos = [plain(info.to_dict()) for info in manager.library.list()]
    assert [{key: info[key] for key in old} for info, old in zip(infos, TOLD["list"], strict=True)] == TOLD["list"]
    assert sorted(info["status"] for info in infos) == ["failed", "finished", "finished", "queued", "stopped"]
    again = JobManager(manager.settings)  # from the cache that was just written
    assert [plain(info.to_dict()) for info in again.library.list()] == infos


@pytest.mark.parametrize("run", RUNS)
def test_curves_figures_findings_and_details_are_as_they_were(manager: JobManager, run: str) -> None:
    old, info = TOLD["runs"][run], manager.library.info(run)
    assert (
        plain(manager.library.series(run)) == old["series"] and plain(manager.library.metrics(run)) == old["metrics"]
    )
    assert plain([finding.to_dict() for finding in manager.library.findings(run)]) == old["findings"]
    details = plain(run_details(info, manager.store.paths(run), manager.library.latest_event(run, "saved")))
    assert {key: details[key] for key in old["details"]} == old["details"]
    config = manager.store.config(run)
    assert manager.library.clone(run) == config.model_dump(mode="json")
    assert parse_config(info.config) == config  # settings that are newer have their defaults


def test_what_it_saved_is_exported(manager: JobManager) -> None:
    for run in (info.id for info in manager.library.list() if info.adapter_bytes):
        out = io.BytesIO()
        export_zip(manager.store.paths(run), out)
        with zipfile.ZipFile(out) as archive:
            facts = json.loads(archive.read("metrics.json"))
            assert facts["metrics"] == manager.library.info(run).metrics and facts["summary"]["seconds"] > 0
            assert archive.testzip() is None and "adapter_model.safetensors" in archive.namelist()


@pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
def test_its_runs_are_packed_and_taken_in(manager: JobManager, tmp_path: Path, status: str) -> None:
    manager.export_run(IDS[status], tmp_path / "run.zip")
    copy = manager.library.info(manager.import_run(tmp_path / "run.zip"))
    told = manager.library.info(IDS[status])
    assert (copy.status, copy.step, copy.loss, copy.metrics) == (told.status, told.step, told.loss, told.metrics)


def test_the_stopped_run_goes_on(manager: JobManager) -> None:
    run, paths = IDS["stopped"], manager.store.paths(IDS["stopped"])
    before = manager.library.metrics(run)
    manager.resume(run)
    info = manager.library.info(run)
    assert (info.status, info.reason, info.attempts) == (Status.QUEUED, f"resumes at step {info.checkpoint_step}", 1)
    command = [sys.executable, "-m", "peft_studio.worker", str(paths.root), "--threads", "1"]
    assert subprocess.run(command, cwd=ROOT, timeout=200, check=False).returncode == 0
    info = manager.library.info(run)
    assert (info.status, info.step) == (Status.FINISHED, info.max_steps), info.reason
    points = [row for row in manager.library.metrics(run) if row["name"] == "train/loss"]
    assert [row["step"] for row in points] == list(range(1, info.max_steps + 1))
    assert [row for row in before if row["name"] == "train/loss"] == points[:6]
