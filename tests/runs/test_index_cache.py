"""The cache of finished runs: the same list without reading their logs, and never a stale one."""

import json
from pathlib import Path

import pytest
from job_kit import make_config

from peft_studio.runs import index_cache
from peft_studio.runs.index import RunIndex
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.queue import RunQueue
from peft_studio.runs.reader import RunReader
from peft_studio.runs.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def make_index(store: RunStore, cache: Path | None = None) -> RunIndex:
    """A new index, as after a start of the app."""
    return RunIndex(store, RunQueue(store.root.parent), cache=cache)


def ended(store: RunStore, loss: float = 1.5) -> RunPaths:
    """A finished run."""
    paths = store.create(make_config())
    events = [{"kind": "step", "step": 1, "loss": loss}, {"kind": "finished", "step": 1, "summary": {"seconds": 2.0}}]
    paths.events.write_text("".join(json.dumps({"v": 1, "t": 1.0, **event}) + "\n" for event in events))
    paths.claim.write_text('{"pid": 1, "process_start": 1}')
    paths.exit.write_text('{"code": 0, "signal": null}')
    return paths


def test_a_second_start_reads_no_log(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache" / "runs.json"
    over, queued = ended(store), store.create(make_config())
    first = make_index(store, cache).all()
    read: list[str] = []
    real = RunReader.__init__
    monkeypatch.setattr(
        RunReader, "__init__", lambda self, paths, *rest: (read.append(paths.id), real(self, paths, *rest))[1]
    )
    again = make_index(store, cache)
    assert again.all() == first and read == [queued.id]
    assert [paths.id for paths, _ in again.unfinished()] == [queued.id]
    assert again.get(over.id).seconds == 2.0


def test_what_changed_is_read_again(store: RunStore, tmp_path: Path) -> None:
    cache = tmp_path / "runs.json"
    paths = ended(store)
    make_index(store, cache).all()
    text = paths.events.read_text().replace("1.5", "2.25")
    paths.events.write_text(text)
    assert make_index(store, cache).get(paths.id).loss == 2.25
    make_index(store, cache).all()
    index = make_index(store, cache)
    assert isinstance(index._reader(paths), index_cache.SettledReader)
    paths.exit.unlink()
    paths.claim.unlink()  # put back into the queue
    assert index.get(paths.id).status == "queued"
    assert make_index(store, cache).get(paths.id).status == "queued"


def test_a_deleted_run_is_forgotten(store: RunStore, tmp_path: Path) -> None:
    cache = tmp_path / "runs.json"
    paths = ended(store)
    index = make_index(store, cache)
    index.all()
    store.delete(paths.id)
    index.changed(paths.id)
    assert index.all() == [] and make_index(store, cache).all() == []


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", '{"v": 0}', '{"v": 2, "runs": 3}', "damaged entry", "\x00\xff"]
)
def test_a_damaged_cache_does_no_harm(text: str, store: RunStore, tmp_path: Path) -> None:
    cache = tmp_path / "runs.json"
    paths = ended(store)
    expected = make_index(store).all()
    if text == "damaged entry":
        text = json.dumps(
            {
                "v": index_cache.VERSION,
                "runs": {paths.id: {"stamp": index_cache.stamp(paths), "info": {"status": "x"}}},
            }
        )
    cache.write_text(text)
    assert make_index(store, cache).all() == expected


def test_a_cache_that_cannot_be_written_does_no_harm(store: RunStore, tmp_path: Path) -> None:
    ended(store)
    (tmp_path / "file").write_text("")
    assert len(make_index(store, tmp_path / "file" / "runs.json").all()) == 1
