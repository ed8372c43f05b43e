"""Status as a pure function of the folder, and files that appear whole."""

import errno
import json
import os
from pathlib import Path

import psutil
import pytest
from job_kit import make_config

from peft_studio.errors import RunNotFoundError, StorageError
from peft_studio.files import atomic_write, read_json
from peft_studio.runs.claims import claim_run, reserve, use_reserve, write_exit
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.status import Status, run_state
from peft_studio.runs.store import RunStore

ME = {"pid": os.getpid(), "process_start": psutil.Process().create_time()}
GONE = {"pid": os.getpid(), "process_start": psutil.Process().create_time() - 1000}  # the pid was given out again


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """A queued run."""
    return RunStore(tmp_path).create(make_config(), "a name")


def end(run: RunPaths, kind: str, **fields: str) -> None:
    run.events.write_text(json.dumps({"v": 1, "kind": kind, **fields}) + "\n")


def test_a_new_run_is_queued(run: RunPaths, tmp_path: Path) -> None:
    assert run_state(run).status is Status.QUEUED
    assert RunStore(tmp_path).record(run.id)["name"] == "a name"
    assert RunStore(tmp_path).config(run.id) == make_config()
    assert RunStore(tmp_path).ids() == [run.id]


@pytest.mark.parametrize(
    ("claim", "stop", "ended", "last", "status"),
    [
        (None, True, None, None, Status.STOPPED),
        (ME, False, None, None, Status.RUNNING),
        (ME, True, None, None, Status.STOPPING),
        (GONE, False, None, None, Status.FAILED),
        (GONE, False, None, "finished", Status.FINISHED),
        (GONE, True, None, "stopped", Status.STOPPED),
        (GONE, False, {"code": 0}, "finished", Status.FINISHED),
        (ME, False, {"code": 0}, "finished", Status.FINISHED),
        (GONE, True, {"code": 0}, "stopped", Status.STOPPED),
        (GONE, False, {"code": 1}, "failed", Status.FAILED),
        (GONE, False, {"code": 0}, "step", Status.FAILED),
        (GONE, False, {"code": None, "signal": 9}, "step", Status.FAILED),
    ],
)
def test_status(run: RunPaths, claim: dict, stop: bool, ended: dict, last: str, status: Status) -> None:
    if claim:
        run.claim.write_text(json.dumps(claim))
    if stop:
        run.stop.touch()
    if ended:
        run.exit.write_text(json.dumps(ended))
    if last:
        end(run, last, message="words")
    state = run_state(run)
    assert state.status is status
    assert state.status is not Status.FAILED or state.reason


def test_reasons(run: RunPaths) -> None:
    write_exit(run, code=None, signal=9)
    assert run_state(run).reason == "killed by signal 9"
    write_exit(run, code=1, signal=None)
    end(run, "failed", message="The loss became NaN.")
    assert run_state(run).reason == "The loss became NaN."


def test_an_unreadable_claim_is_first_new_and_then_damaged(run: RunPaths) -> None:
    run.claim.write_text("")
    assert run_state(run).status is Status.RUNNING
    os.utime(run.claim, (1, 1))
    assert run_state(run).status is Status.FAILED


def test_claim_is_exclusive(run: RunPaths, tmp_path: Path) -> None:
    assert claim_run(run, "me") and not claim_run(run, "you")
    claim = read_json(run.claim)
    assert claim is not None and (claim["pid"], claim["by"]) == (os.getpid(), "me")
    assert run_state(run).status is Status.RUNNING
    assert not claim_run(RunPaths(tmp_path / "gone"), "me")


def test_claim_without_hard_links(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert claim_run(run, "me") and not claim_run(run, "you")
    assert sorted(path.name for path in run.root.iterdir()) == ["claim.json", "config.json"]


def test_reserve_gives_room_for_the_record(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_text

    def write(path: Path, *args: str, **kwargs: str) -> int:
        if (run.root / ".reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **kwargs)

    reserve(run)
    use_reserve(run, keep=100)
    assert (run.root / ".reserve").stat().st_size == 100
    monkeypatch.setattr(Path, "write_text", write)
    write_exit(run, code=1, signal=None)
    assert read_json(run.exit)["code"] == 1


def test_atomic_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.json"
    atomic_write(target, "old")

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        atomic_write(target, "new")
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_delete(run: RunPaths, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.delete(run.id)
    assert store.ids() == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(RunNotFoundError):
        store.delete(run.id)
