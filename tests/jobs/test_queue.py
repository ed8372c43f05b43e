"""Order, holding back and standing still; memory as a reason to wait."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from job_kit import make_config, plan, wait_for

from peft_studio.access.visitors import Role, Visitor, asking
from peft_studio.errors import InvalidStateError, RunNotFoundError
from peft_studio.files import read_json
from peft_studio.jobs.manager import JobManager
from peft_studio.machine.memory import available_memory, memory_of, resident_memory_of
from peft_studio.runs.queue import QueueState, RunQueue, Turns

MakeManager = Callable[..., JobManager]
GB = 1_000_000_000


def order(manager: JobManager) -> list[str]:
    """Ids of the queued runs by their places."""
    places = {info.queue_position: info.id for info in manager.library.list() if info.queue_position}
    return [places[place] for place in sorted(places)]


@pytest.fixture
def still(make_manager: MakeManager) -> JobManager:
    """A manager that starts nothing."""
    return make_manager(start=False)


def test_moving(still: JobManager) -> None:
    a, b, c, d = (still.submit(make_config()) for _ in range(4))
    assert order(still) == [a, b, c, d]
    still.move(d, "front")
    assert order(still) == [d, a, b, c]
    still.move(d, "up")
    still.move(c, "down")
    assert order(still) == [d, a, b, c]
    still.move(a, "down")
    still.move(c, 2)
    assert order(still) == [d, c, b, a]
    late = still.submit(make_config())
    assert order(still) == [d, c, b, a, late]
    for to in (0, 6, "sideways"):
        with pytest.raises(InvalidStateError, match="allowed: front, up, down, 1 to 5"):
            still.move(a, to)
    with pytest.raises(RunNotFoundError):
        still.move("nothing", "up")
    still.stop(a)
    with pytest.raises(InvalidStateError, match="not in the queue"):
        still.move(a, "up")


def test_the_order_outlives_the_app_and_the_file_can_be_lost(still: JobManager, make_manager: MakeManager) -> None:
    a, b, c = (still.submit(make_config()) for _ in range(3))
    still.move(c, "front")
    still.hold(b)
    again = make_manager(start=False)
    assert order(again) == [c, a] and again.library.info(b).held
    path = again.settings.home / "queue.json"
    for damage in (
        b"{torn",
        b"[]",
        b'{"order": 5, "held": [7, null], "paused": "yes", "priorities": {"x": "y"}}',
        None,
    ):
        path.write_bytes(damage) if damage is not None else path.unlink()
        again._index.changed()
        assert order(again) == [a, b, c]
    again.move(b, "front")
    assert json.loads(path.read_text())["order"] == [b, a, c]


def test_priority_comes_before_place(still: JobManager, make_manager: MakeManager) -> None:
    a, b, c, d = (still.submit(make_config()) for _ in range(4))
    urgent, idle = still.submit(make_config(), priority="high"), still.submit(make_config(), priority="low")
    assert order(still) == [urgent, a, b, c, d, idle]
    still.prioritize(c, "high")
    still.prioritize(a, "low")
    assert order(still) == [c, urgent, b, d, a, idle]
    again = make_manager(start=False)  # as after a restart
    assert order(again) == [c, urgent, b, d, a, idle]
    assert [again.library.info(run).priority for run in (c, b, a)] == ["high", "normal", "low"]
    again.move(d, "up")
    again.move(idle, 5)
    assert order(again) == [c, urgent, d, b, idle, a]
    for place in (2, 5):
        with pytest.raises(InvalidStateError, match=f"has normal priority, so it cannot stand at place {place}"):
            again.move(b, place)
    offered = {run: {"up", "down"} & set(again.library.info(run).actions) for run in (c, urgent, d, b)}
    assert offered == {c: {"down"}, urgent: {"up"}, d: {"down"}, b: {"up"}}


def test_run_next_beats_every_priority(still: JobManager) -> None:
    a, b, late = (still.submit(make_config(), priority=level) for level in ("normal", "high", "low"))
    still.move(late, "front")
    urgent = still.submit(make_config(), priority="high")
    assert order(still) == [late, b, urgent, a]
    assert still.library.info(late).priority == "low"
    with pytest.raises(InvalidStateError, match="has low priority"):
        still.move(late, "down")  # among those of high priority
    still.prioritize(late, "low")
    assert order(still) == [b, urgent, a, late]
    still.move(urgent, 1)
    still.move(a, 1)
    assert order(still) == [a, urgent, b, late]


def test_a_priority_is_kept_until_the_run_is_deleted(still: JobManager) -> None:
    a, b = (still.submit(make_config()) for _ in range(2))
    still.prioritize(b, "high")
    still.stop(b)
    assert still.library.info(b).priority == ""
    with pytest.raises(InvalidStateError, match="only a queued run has a priority"):
        still.prioritize(b, "low")
    still.resume(b)
    assert order(still) == [b, a] and still.library.info(b).priority == "high"
    with pytest.raises(InvalidStateError, match="no priority 'urgent'; allowed: high, normal, low"):
        still.prioritize(b, "urgent")
    still.delete(b)
    assert not still.queue.state().priorities


def test_steps_are_exactly_the_moves_that_work(still: JobManager) -> None:
    for level in ("low", "normal", "high", "normal", "high"):
        still.submit(make_config(), priority=level)
    still.move(order(still)[3], "front")
    runs = order(still)
    for run in runs:
        for word in ("up", "down"):
            before = still.queue.state()
            with contextlib.suppress(InvalidStateError):
                still.move(run, word)
            moved = still._index.queued() != runs
            assert moved == (word in before.steps(runs)[run]), (runs.index(run), word)
            with still.queue._changing():
                still.queue._write(before)
            assert still._index.queued() == runs


def test_two_processes_change_one_file(tmp_path: Path) -> None:
    here, there = RunQueue(tmp_path), RunQueue(tmp_path)
    for number in range(20):
        (here if number % 2 else there).hold(f"run{number}", True)
    assert len(here.state().held) == len(there.state().held) == 20
    there.pause(True)
    assert here.state().paused and len(here.state().held) == 20


def test_sorting_is_first_come_first_served_after_those_with_a_place() -> None:
    state = QueueState(order=("c", "gone", "a"))
    assert state.sort([(1, "a"), (3, "d"), (2, "b"), (4, "c")]) == ["c", "a", "b", "d"]


def test_a_held_run_waits_until_it_is_released(make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    first, second = manager.submit(make_config(3), plan()), manager.submit(make_config(3), plan())
    manager.hold(first)
    manager.hold(first)
    info = manager.library.info(first)
    assert (info.status, info.reason, info.queue_position) == ("queued", "on hold", None)
    assert "release" in info.actions and "hold" not in info.actions
    manager.start(preload_engine=False)
    wait_for(lambda: manager.library.info(second).status == "finished")
    assert manager.library.info(first).status == "queued"
    manager.hold(first, held=False)
    wait_for(lambda: manager.library.info(first).status == "finished")
    with pytest.raises(InvalidStateError, match="only a queued run"):
        manager.hold(first)


def test_a_paused_queue_starts_nothing(make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    manager.pause_queue()
    run = manager.submit(make_config(3), plan())
    assert manager.library.info(run).reason == "the queue is paused"
    manager.start(preload_engine=False)
    wait_for(manager._warm.ready)
    manager._scheduler.tick()
    assert not manager._scheduler.is_starting(run)
    manager.pause_queue(False)
    wait_for(lambda: manager.library.info(run).status == "finished")


def test_run_next(make_manager: MakeManager) -> None:
    manager = make_manager(start=False)
    ids = [manager.submit(make_config(3), plan()) for _ in range(3)]
    manager.move(ids[2], "front")
    manager.start(preload_engine=False)
    wait_for(lambda: all(manager.library.info(run).status == "finished" for run in ids))
    began = {run: manager.store.paths(run).claim.stat().st_mtime_ns for run in ids}
    assert sorted(ids, key=began.__getitem__) == [ids[2], ids[0], ids[1]]


def test_a_run_waits_for_memory_but_never_alone(make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = make_manager(max_running=2, memory={"weights": 10_000 * GB})  # more than any machine has
    first = manager.submit(make_config(10_000), plan())
    wait_for(lambda: manager.library.info(first).step >= 2)
    second = manager.submit(make_config(3), plan())
    reason = wait_for(
        lambda: manager.library.info(second).reason if "memory:" in manager.library.info(second).reason else ""
    )
    assert reason.startswith("waits for memory: needs about 10000.0 GB, 0.0 GB free")
    assert manager.library.info(second).queue_position == 1
    manager.stop(first)
    wait_for(lambda: manager.library.info(second).status == "finished")


def test_a_run_alone_is_estimated_too(make_manager: MakeManager) -> None:
    manager = make_manager(memory={"runtime": 3, "weights": 4})
    run = manager.submit(make_config(3), plan())
    wait_for(lambda: manager.library.info(run).status == "finished")
    found = wait_for(lambda: read_json(manager.store.paths(run).predicted))
    assert found == {"memory_bytes": 7, "memory": {"runtime": 3, "weights": 4}}
    manager._changed()
    assert wait_for(lambda: manager.library.info(run).predicted_memory_bytes) == 7


def test_an_unknown_need_does_not_block(make_manager: MakeManager) -> None:
    manager = make_manager(max_running=2, memory=None)
    first = manager.submit(make_config(10_000), plan())
    second = manager.submit(make_config(3), plan())
    wait_for(lambda: manager.library.info(second).status == "finished")
    assert manager.library.info(first).status == "running"


def test_a_container_s_limit_is_the_memory_that_counts(tmp_path: Path) -> None:
    machine = available_memory(tmp_path)
    assert machine > 0
    (tmp_path / "memory.max").write_text("300000000\n")
    (tmp_path / "memory.current").write_text("290000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 40000000\n")
    assert available_memory(tmp_path) == 50_000_000
    (tmp_path / "memory.max").write_text("max\n")
    old = tmp_path / "memory"
    old.mkdir()
    for name, value in (("limit_in_bytes", 300), ("usage_in_bytes", 400), ("stat", "total_inactive_file 7")):
        (old / f"memory.{name}").write_text(f"{value}\n")
    assert available_memory(tmp_path) == 0
    (old / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert abs(available_memory(tmp_path) - machine) < 4 * GB


def test_memory_of_a_process() -> None:
    assert memory_of(2**22 + 5) == 0
    assert memory_of(1) >= 0
    assert resident_memory_of(2**22 + 5) == 0
    assert resident_memory_of(os.getpid()) > 10**6 and memory_of(os.getpid()) > 10**6


def by(owner: str, manager: JobManager, steps: int = 20) -> str:
    """Submits a run in the name of a visitor."""
    with asking(Visitor(owner, Role.VISITOR)):
        return manager.submit(make_config(steps))


def test_people_take_turns(still: JobManager) -> None:
    a1, a2, a3 = (by("a", still) for _ in range(3))
    assert order(still) == [a1, a2, a3] == still._index.queued()
    b1, c1, b2 = by("b", still), by("c", still), by("b", still)
    assert order(still) == [a1, b1, c1, a2, b2, a3] == still._index.queued()
    still.hold(a1)
    assert order(still) == [a2, b1, c1, a3, b2]
    still.hold(a1, False)
    still.move(a3, "up")
    assert order(still) == [a1, b1, c1, a3, b2, a2] == still._index.queued()
    steps = {run: {"up", "down"} & set(still.library.info(run).actions) for run in (a1, b1, c1, a3)}
    assert steps == {a1: {"down"}, b1: {"down"}, c1: set(), a3: {"up", "down"}}
    with pytest.raises(InvalidStateError, match=r"allowed: front, up, down, 1, 4, 6 \(those of its owner\)"):
        still.move(a3, 2)
    still.move(a3, 1)
    assert order(still) == [a3, b1, c1, a1, b2, a2]
    still.move(b2, "front")  # beats everything, and counts as a turn of its owner
    still.prioritize(a2, "low")
    assert order(still) == [b2, a3, c1, b1, a1, a2] == still._index.queued()


def test_whoever_has_least_at_work_and_waited_longest_comes_first() -> None:
    waiting = [(float(number), run) for number, run in enumerate(("a1", "a2", "b1", "b2", "c1"))]
    owners = {run: run[0] for _, run in waiting}
    busy = Turns(owners, {"a": 1, "b": 0}, {"a": 50.0, "b": 90.0})
    assert QueueState().sort(waiting, busy) == ["c1", "b1", "a1", "b2", "a2"]
    # Nobody is at work, and the last one was a's: it is not served again only because it came first.
    idle = Turns(owners, {}, {"a": 99.0, "b": 90.0})
    assert QueueState().sort(waiting, idle) == ["c1", "b1", "a1", "b2", "a2"]
    assert QueueState().sort(waiting) == [run for _, run in waiting]
