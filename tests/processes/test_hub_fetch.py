"""Fetches are processes: they end with files and a task, with words, or when somebody says so."""

import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from job_kit import wait_for

from peft_studio.config.run_config import TaskConfig
from peft_studio.errors import DataError, HubOfflineError, InvalidStateError
from peft_studio.processes.hub_fetch import MOST_AT_ONCE, Fetch, Fetcher


def ended(fetch: Fetch) -> Fetch:
    """Waits for the end of a fetch."""
    return wait_for(lambda: fetch if fetch.state != "running" else None)


class Slow(Fetcher):
    """Runs another command, which says something and then takes its time."""

    code = "import sys, time; print('progress: Reading', file=sys.stderr, flush=True); time.sleep(600)"

    def _command(self, fetch: Fetch, result: IO[str]) -> "subprocess.Popen[str]":
        argv = [sys.executable, "-c", self.code]
        return subprocess.Popen(argv, stdout=result, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_a_folder_becomes_a_task(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "reviews").mkdir()
    rows = [{"text": f"Row {at} is fine.", "label": ("good", "bad")[at % 2]} for at in range(30)]
    (tmp_path / "reviews" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fetcher = Fetcher(tmp_path / "home")
    fetch = ended(fetcher.start(str(tmp_path / "reviews")))
    assert (fetch.state, fetch.said) == ("done", "Ready")
    task = TaskConfig.model_validate(fetch.task)
    assert (task.kind, task.input_column, task.target_column) == ("classification", "text", "label")
    assert Path(task.train_file).parent.parent == tmp_path / "home" / "datasets"
    assert fetcher.get(fetch.ticket).to_dict()["state"] == "done"


def test_without_the_hub_it_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = ended(Fetcher(tmp_path).start("GEM/dart")).to_dict()
    assert (told["state"], told["said"], told["offline"]) == ("failed", str(HubOfflineError()), True)


def test_cancelling_ends_the_process(tmp_path: Path) -> None:
    fetcher = Slow(tmp_path)
    fetch = fetcher.start("a/b")
    wait_for(lambda: fetch.said == "Reading")
    (process,) = fetcher._processes.values()
    child = psutil.Process(process.pid)
    fetcher.cancel(fetch.ticket)
    assert fetch.state == "cancelled"
    wait_for(lambda: not child.is_running())
    fetcher.cancel(fetch.ticket)
    assert fetch.to_dict()["said"] == "Cancelled"


def test_closing_ends_all(tmp_path: Path) -> None:
    fetcher = Slow(tmp_path)
    fetches = [fetcher.start(f"a/{at}") for at in range(2)]
    fetcher.close()
    assert {fetch.state for fetch in fetches} == {"cancelled"}
    wait_for(lambda: not fetcher._processes)


def test_after_a_time_it_is_given_up(tmp_path: Path) -> None:
    fetch = ended(Slow(tmp_path, seconds=0.3).start("a/b"))
    assert fetch.state == "failed" and "given up" in fetch.said


def test_the_same_data_set_is_fetched_once_and_few_at_a_time(tmp_path: Path) -> None:
    fetcher = Slow(tmp_path)
    first = fetcher.start(" a/b ")
    assert fetcher.start("a/b") is first and fetcher.start("a/b", "en") is not first
    with pytest.raises(DataError, match=f"at most {MOST_AT_ONCE} at a time"):
        fetcher.start("c/d")
    fetcher.close()


def test_a_command_that_crashes_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Slow, "code", "import sys; print('Traceback', file=sys.stderr); sys.exit(7)")
    assert ended(Slow(tmp_path).start("a/b")).said == "It could not be fetched (exit code 7)."
    monkeypatch.setattr(Slow, "code", "print('no JSON')")
    assert ended(Slow(tmp_path).start("a/b")).state == "failed"


@pytest.mark.parametrize("name", ["", "  ", "--help", "a\nb", "x" * 501])
def test_names_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        Fetcher(tmp_path).start(name)


def test_on_a_space_folders_are_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path), "~", "a/../b", "."):
        with pytest.raises(DataError, match="On a Space"):
            Slow(tmp_path, public=True).start(name)


def test_old_fetches_are_forgotten(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("peft_studio.processes.hub_fetch.KEPT", 2)
    monkeypatch.setattr(Slow, "code", "")
    fetcher = Slow(tmp_path)
    tickets = [ended(fetcher.start(f"a/{at}")).ticket for at in range(4)]
    with pytest.raises(InvalidStateError, match="not known"):
        fetcher.get(tickets[0])
    assert fetcher.get(tickets[-1]).state == "failed"
