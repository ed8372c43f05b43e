"""The job manager with real processes: queue, stop, delete, failures and how they are told."""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from job_kit import family, make_config, plan, wait_for

from peft_studio.errors import ConfigError, InvalidStateError, RunNotFoundError, StorageError
from peft_studio.files import read_json
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo

MakeManager = Callable[..., JobManager]
HOSTILE = ["", ".", "..", "/", "../home", "a/b", "/etc", "x\0y", "~", "\ud800", "a" * 5000, ".new-x"]


def ended(manager: JobManager, run_id: str) -> RunInfo:
    """Waits for a run's end."""

    def look() -> RunInfo | None:
        info = manager.library.info(run_id)
        return info if info.status in ("finished", "stopped", "failed") else None

    return wait_for(look)


def stepping(manager: JobManager, run_id: str) -> RunInfo:
    """Waits for a run's second step."""
    return wait_for(lambda: manager.library.info(run_id) if manager.library.info(run_id).step >= 2 else None)


def worker_of(paths: RunPaths) -> psutil.Process:
    return psutil.Process(read_json(paths.claim)["pid"]).children()[0]


def test_a_run_from_submit_to_finished(manager: JobManager) -> None:
    run_id = manager.submit(make_config(20), plan(print="hello hf_abcdefgh12345678"))
    info = ended(manager, run_id)
    assert (info.status, info.reason, info.step, info.max_steps) == ("finished", "", 20, 20)
    assert (info.loss, info.eval_loss, info.metrics) == (0.1, 0.15, {"eval/loss": 0.15})
    assert (info.trainable_params, info.total_params, info.trainable_share) == (10, 1000, 0.01)
    assert (info.steps_per_second, info.tokens_per_second, info.seconds) == (7.0, 350.0, 1.5)
    assert (info.adapter_bytes, info.peak_memory_bytes, info.eta_seconds) == (123, 10**6, None)
    assert json.loads(json.dumps(info.to_dict(), allow_nan=False))["id"] == run_id
    assert manager.library.log_tail(run_id).strip() == "hello [secret]"
    assert read_json(manager.store.paths(run_id).exit)["code"] == 0
    assert not (manager.store.paths(run_id).root / ".reserve").exists()
    names = {row["name"] for row in manager.library.metrics(run_id)}
    assert names == {"train/loss", "train/lr", "train/grad_norm", "eval/loss"}
    assert manager.library.clone(run_id) == make_config(20).model_dump(mode="json")


def test_figures_while_running(manager: JobManager) -> None:
    run_id = manager.submit(make_config(1000), plan(sleep=0.01))
    info = wait_for(lambda: manager.library.info(run_id) if manager.library.info(run_id).step >= 10 else None)
    assert info.status == "running" and info.stage == "training"
    assert 20 < info.steps_per_second <= 100 and info.tokens_per_second == pytest.approx(50 * info.steps_per_second)
    assert 5 < info.eta_seconds < 50
    assert manager.library.list()[0].id == run_id


def test_queue_runs_in_order_and_within_the_limit(make_manager: MakeManager) -> None:
    manager = make_manager(max_running=2)
    ids = [manager.submit(make_config(30), plan(sleep=0.01)) for _ in range(5)]
    assert [info.id for info in manager.library.list()] == ids[::-1]
    most = 0

    def over() -> bool:
        nonlocal most
        states = [info.status for info in manager.library.list()]
        most = max(most, states.count("running"))
        return states.count("finished") == 5

    wait_for(over)
    order = sorted(ids, key=lambda run_id: manager.store.paths(run_id).claim.stat().st_mtime_ns)
    assert most == 2
    # Two that start together may claim in either order.
    assert all(abs(order.index(run_id) - place) <= 1 for place, run_id in enumerate(ids))


def test_queue_positions(make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    ids = [manager.submit(make_config()) for _ in range(3)]
    assert {info.id: info.queue_position for info in manager.library.list()} == {ids[0]: 1, ids[1]: 2, ids[2]: 3}


def test_stop_saves_the_adapter(manager: JobManager) -> None:
    run_id = manager.submit(make_config(10_000), plan())
    stepping(manager, run_id)
    manager.stop(run_id)
    manager.stop(run_id)
    info = ended(manager, run_id)
    assert info.status == "stopped" and info.adapter_bytes == 123
    assert manager.store.paths(run_id).adapter.is_dir()
    manager.stop(run_id)
    assert manager.library.info(run_id).status == "stopped"


def test_stop_a_queued_run(manager: JobManager) -> None:
    first = manager.submit(make_config(10_000), plan())
    second = manager.submit(make_config(10_000), plan())
    stepping(manager, first)
    manager.stop(second)
    assert manager.library.info(second).status == "stopped"
    assert "before it started" in manager.library.info(second).reason
    manager.stop(first)
    ended(manager, first)
    time.sleep(0.5)
    assert not manager.store.paths(second).claim.exists()


def test_a_worker_deaf_to_stop_is_ended_after_the_grace(make_manager: MakeManager) -> None:
    manager = make_manager(grace=0.3)
    run_id = manager.submit(make_config(10_000), plan(deaf=True))
    stepping(manager, run_id)
    manager.stop(run_id)
    info = ended(manager, run_id)
    assert info.status == "stopped" and info.step >= 2


def test_a_second_stop_does_not_wait(manager: JobManager) -> None:
    run_id = manager.submit(make_config(10_000), plan(deaf=True))
    stepping(manager, run_id)
    manager.stop(run_id)
    stop = manager.store.paths(run_id).stop
    os.utime(stop, (stop.stat().st_mtime - 3, stop.stat().st_mtime - 3))
    manager.stop(run_id)
    assert ended(manager, run_id).status == "stopped"


def test_a_worker_that_ignores_signals_is_killed(make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.jobs.termination.KILL_AFTER", 0.3)
    manager = make_manager(grace=0.1)
    run_id = manager.submit(make_config(10_000), plan(deaf=True))
    stepping(manager, run_id)
    worker_of(manager.store.paths(run_id)).send_signal(signal.SIGSTOP)
    manager.stop(run_id)
    info = ended(manager, run_id)
    assert (info.status, info.reason) == ("failed", "killed by signal 9")


def test_killed_worker_keeps_its_metrics(manager: JobManager) -> None:
    run_id = manager.submit(make_config(10_000), plan())
    stepping(manager, run_id)
    worker_of(manager.store.paths(run_id)).kill()
    info = ended(manager, run_id)
    assert (info.status, info.reason) == ("failed", "killed by signal 9")
    assert info.step >= 2 and len(manager.library.series(run_id)["train"]["step"]) == info.step
    assert not family(manager.settings.home)[1:]  # only the warm server at most


def test_terminated_worker(manager: JobManager) -> None:
    run_id = manager.submit(make_config(10_000), plan())
    stepping(manager, run_id)
    worker_of(manager.store.paths(run_id)).terminate()
    assert ended(manager, run_id).reason == "killed by signal 15"


def test_killed_supervisor_fails_the_run_in_words(manager: JobManager) -> None:
    run_id = manager.submit(make_config(10_000), plan())
    stepping(manager, run_id)
    paths = manager.store.paths(run_id)
    worker = worker_of(paths)
    psutil.Process(read_json(paths.claim)["pid"]).kill()
    info = ended(manager, run_id)
    assert info.status == "failed" and "supervisor" in info.reason
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("NonFiniteLossError", "The loss became NaN at step 3."),
        ("MemoryError", "memory ran out"),
        ("torch", "memory ran out"),
        ("ValueError", "ValueError: bad token [secret]"),
        ("ENOSPC", "The disk is full while writing /home/x/adapter"),
        ("SystemExit", "SystemExit: 7"),
    ],
)
def test_failures_say_why(manager: JobManager, what: str, words: str) -> None:
    run_id = manager.submit(make_config(5), plan(**{"raise": what}))
    info = ended(manager, run_id)
    assert info.status == "failed" and words in info.reason and info.step == 1
    log = manager.store.paths(run_id).log.read_text()
    assert "Traceback" in log and "hf_abc" not in log


def test_ending_without_a_word_is_a_failure(manager: JobManager) -> None:
    info = ended(manager, manager.submit(make_config(3), plan(no_end=True)))
    assert info.status == "failed" and "without saying" in info.reason


def test_full_disk_while_training_keeps_every_step(manager: JobManager) -> None:
    run_id = manager.submit(make_config(9), plan(full=True, at=4))
    info = ended(manager, run_id)
    assert info.status == "failed" and "The disk is full" in info.reason
    assert info.step == 3
    assert manager.store.paths(run_id).exit.exists()


def test_full_disk_at_submit(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(StorageError, match="No space left"):
            manager.submit(make_config())
    assert manager.library.list() == [] and list(manager.store.root.iterdir()) == []


def test_delete(manager: JobManager) -> None:
    running = manager.submit(make_config(10_000), plan())
    queued = manager.submit(make_config(10_000), plan())
    stepping(manager, running)
    with pytest.raises(InvalidStateError, match="Stop it first"):
        manager.delete(running)
    manager.delete(queued)
    manager.stop(running)
    ended(manager, running)
    manager.delete(running)
    assert manager.library.list() == [] and list(manager.store.root.iterdir()) == []
    with pytest.raises(RunNotFoundError):
        manager.library.info(running)


@pytest.mark.parametrize("run_id", HOSTILE)
def test_hostile_run_ids_are_not_found(make_manager: MakeManager, run_id: str) -> None:
    manager = make_manager(start=False)
    manager.submit(make_config())
    calls = [
        manager.library.info,
        manager.stop,
        manager.delete,
        manager.library.series,
        manager.library.metrics,
        manager.library.log_tail,
        manager.library.clone,
    ]
    for call in calls:
        with pytest.raises(RunNotFoundError):
            call(run_id)
    assert len(manager.library.list()) == 1


def test_damaged_folders_never_break_the_list(manager: JobManager) -> None:
    good = manager.submit(make_config(3), plan())
    ended(manager, good)
    contents: dict[str, dict[str, bytes]] = {
        "empty": {},
        "torn": {"config.json": b'{"v": 1, "conf'},
        "wrong": {"config.json": b'{"config": {"method": {"name": "nonsense"}}, "name": 5, "created": "x"}'},
        "list": {
            "config.json": b"[]",
            "events.jsonl": b'\xff\xfe\n[]\n{"kind":3}\n{"kind":"step"}\n',
            "output.log": b"\xff",
        },
        "odd": {
            "config.json": b'{"config": 7}',
            "exit.json": b'{"code": 0}',
            "events.jsonl": b'{"kind":"finished"}\n',
        },
        "noclaim": {"config.json": b"{}", "claim.json": b""},
    }
    for name, files in contents.items():
        folder = manager.store.root / name
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
    os.utime(manager.store.root / "noclaim" / "claim.json", (1, 1))
    (manager.store.root / "file").write_text("not a folder")
    time.sleep(0.5)
    infos = {info.id: info for info in manager.library.list()}
    assert set(infos) == {good, *contents}
    for name in contents:
        assert infos[name].status in ("failed", "finished"), name
        assert infos[name].reason or infos[name].status == "finished"
        manager.library.series(name), manager.library.metrics(name), manager.library.log_tail(name)
        json.dumps(infos[name].to_dict(), allow_nan=False)
        with pytest.raises(ConfigError):
            manager.library.clone(name)
        manager.delete(name)
    assert ended(manager, manager.submit(make_config(3), plan())).status == "finished"


def test_torn_last_line_is_read_when_it_is_complete(make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    run_id = manager.submit(make_config())
    events = manager.store.paths(run_id).events
    line = b'{"v":1,"kind":"step","t":1,"step":%d,"loss":0.5,"lr":1,"grad_norm":1,"tokens":9,"elapsed":0.1}\n'
    events.write_bytes(line % 1 + (line % 2)[:30])
    assert manager.library.info(run_id).step == 1
    assert manager.library.series(run_id)["next"] == 1
    with events.open("ab") as file:
        file.write((line % 2)[30:])
    assert manager.library.info(run_id).step == 2
    assert manager.library.series(run_id, 1)["train"]["step"] == [2]


def test_progress_bars_in_the_log(make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    run_id = manager.submit(make_config())
    assert manager.library.log_tail(run_id) == ""
    manager.store.paths(run_id).log.write_bytes(b"a\r\n10%\r 50%\r100%\nlast")
    assert manager.library.log_tail(run_id) == "a\n100%\nlast"
    assert manager.library.log_tail(run_id, lines=2) == "100%\nlast"
