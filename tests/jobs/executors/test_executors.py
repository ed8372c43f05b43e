"""What every executor does; one suite for all of them. A new executor adds a line to ``MAKERS``."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from job_kit import PRELOAD, make_config, plan, wait_for

from peft_studio.errors import JobError, StudioError
from peft_studio.files import read_json
from peft_studio.jobs.executors.base import Executor
from peft_studio.jobs.executors.local import LocalExecutor
from peft_studio.jobs.manager import JobManager
from peft_studio.processes.warm_client import WarmClient
from peft_studio.runs.claims import claim_run, write_exit
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunReader
from peft_studio.runs.requeue import BY_USER, requeue
from peft_studio.runs.status import Status, run_state
from peft_studio.runs.store import RunStore
from peft_studio.settings import Settings

Make = Callable[[Path, str], Executor]


PATIENCE = 60.0  # seconds; the nodes of a Ray cluster start a process for every run, which loads Ray


class NeverWarm(WarmClient):
    """A warm server that does not come up, so that every worker is started cold."""

    def _spawn(self) -> None:
        pass


def local(client: type[WarmClient]) -> Make:
    """The local executor around a warm server."""
    return lambda home, module: LocalExecutor(client(home / "warm.log", threads=1, preload=PRELOAD), 1, module)


MAKERS: dict[str, Make] = {"warm": local(WarmClient), "cold": local(NeverWarm)}


@pytest.fixture(params=[*MAKERS, "ray"])
def make(request: pytest.FixtureRequest, home: Path) -> Iterator[Callable[..., Executor]]:
    """Makes open executors and closes them afterwards; the Ray cluster's has a home of its own, and stays open."""
    makers, made = dict(MAKERS), []
    if request.param == "ray":
        ray_home, makers["ray"] = request.getfixturevalue("ray_executor")
        home.symlink_to(ray_home)
    else:
        home.mkdir()

    def build(module: str = "fake_worker") -> Executor:
        executor = makers[request.param](home, module)
        executor.open()
        if request.param != "ray":
            made.append(executor)
        wait_for(executor.ready, PATIENCE)
        return executor

    yield build
    for executor in made:
        executor.close()


def new_run(home: Path, steps: int = 10_000, **pretence: object) -> RunPaths:
    return RunStore(home / "runs").create(make_config(steps), plan(**pretence))


def started(executor: Executor, run: RunPaths) -> RunPaths:
    """Starts a run and waits for its second step."""
    executor.start(run)
    wait_for(lambda: RunReader(run, executor.lives).info().step >= 2, PATIENCE)
    return run


def status(executor: Executor, run: RunPaths) -> Status:
    return run_state(run, executor.lives).status


def ends(executor: Executor, run: RunPaths) -> Status:
    """Waits until nobody works on a run."""
    return wait_for(lambda: found if (found := status(executor, run)).is_over else None, PATIENCE)


def test_a_run_from_start_to_end(make: Callable[..., Executor], home: Path) -> None:
    executor, run = make(), new_run(home, steps=5)
    executor.start(run)
    assert ends(executor, run) is Status.FINISHED
    claim = read_json(run.claim)
    assert claim is not None and {"pid", "process_start", "host", "by"} <= set(claim)
    assert read_json(run.exit) is not None and "pretending" in run.log.read_text()
    wait_for(lambda: not executor.pending(run) and not executor.lives(run, claim))


def test_who_lives(make: Callable[..., Executor], home: Path) -> None:
    executor = make()
    run = started(executor, new_run(home))
    claim = read_json(run.claim)
    assert claim is not None and executor.lives(run, claim)
    assert not executor.lives(run, {**claim, "process_start": claim["process_start"] - 1000, "mark": None})
    assert status(executor, run) is Status.RUNNING
    executor.terminate(run, force=True)
    assert ends(executor, run) is Status.FAILED


def test_a_start_that_leads_nowhere(make: Callable[..., Executor], home: Path) -> None:
    executor, run = make("no_such_module"), new_run(home)
    executor.start(run)
    wait_for(lambda: not executor.pending(run), PATIENCE)
    assert status(executor, run) is Status.QUEUED and "no_such_module" in run.log.read_text()


def test_a_second_start_changes_nothing(make: Callable[..., Executor], home: Path) -> None:
    executor = make()
    run = started(executor, new_run(home))
    claim = read_json(run.claim)
    executor.start(run)
    wait_for(lambda: not executor.pending(run))
    assert read_json(run.claim) == claim and status(executor, run) is Status.RUNNING


@pytest.mark.parametrize("force", [False, True])
def test_terminate(make: Callable[..., Executor], home: Path, force: bool) -> None:
    executor = make()
    run = started(executor, new_run(home, deaf=True))
    executor.terminate(run, force)
    assert ends(executor, run) is Status.FAILED
    assert (read_json(run.exit) or {})["signal"] == (9 if force else 15)
    executor.terminate(run, force)  # of a run that is over: nothing


def test_terminate_leaves_other_runs_alone(make: Callable[..., Executor], home: Path) -> None:
    executor = make()
    one, other = started(executor, new_run(home)), started(executor, new_run(home))
    executor.terminate(one, force=True)
    ends(executor, one)
    assert status(executor, other) is Status.RUNNING
    never = new_run(home)
    executor.terminate(never, force=True)  # not even claimed
    assert status(executor, never) is Status.QUEUED


def test_workers_outlive_the_executor(make: Callable[..., Executor], home: Path) -> None:
    first = make()
    run = started(first, new_run(home))
    first.close()
    second = make()
    assert status(second, run) is Status.RUNNING
    second.terminate(run, force=True)
    assert ends(second, run) is Status.FAILED


def test_a_paused_run_is_started_again(make: Callable[..., Executor], home: Path) -> None:
    executor = make()
    run = started(executor, new_run(home, steps=200, sleep=0.01))
    run.pause.touch()
    assert ends(executor, run) is Status.PAUSED
    requeue(run, BY_USER)
    assert status(executor, run) is Status.QUEUED
    executor.start(run)
    assert ends(executor, run) is Status.FINISHED


def test_stopped_before_it_started(make: Callable[..., Executor], home: Path) -> None:
    executor, run = make(), new_run(home)
    run.stop.touch()
    executor.start(run)
    wait_for(lambda: not executor.pending(run))
    assert status(executor, run) is Status.STOPPED and not run.claim.exists()


def test_a_claim_of_somebody_else_is_respected(make: Callable[..., Executor], home: Path) -> None:
    executor, run = make(), new_run(home)
    assert claim_run(run, "scheduler", hold=False)
    write_exit(run, code=1, signal=None)
    executor.start(run)
    wait_for(lambda: not executor.pending(run))
    assert (read_json(run.claim) or {})["by"] == "scheduler" and not run.events.exists()


@pytest.mark.parametrize("public", [True, False])
def test_a_public_app_tells_its_processes(tmp_path: Path, public: bool) -> None:
    """What visitors may name is a setting, handed to whoever reads files."""
    told: list[list[str]] = []

    class Warm(WarmClient):
        def launch(self, module: str, args: Sequence[str], log: Path) -> int:
            told.append(list(args))
            raise JobError("enough is known")

    manager = JobManager(
        Settings(home=tmp_path, access="public" if public else "private"), warm=Warm(tmp_path / "warm.log", 1)
    )
    for start in (lambda: manager.executor.start(RunPaths(tmp_path)), lambda: manager.engine.estimate({})):
        with pytest.raises(StudioError):
            start()
    assert [("--public" in args) for args in told] == [public, public]
    assert manager.fetcher._public is public
