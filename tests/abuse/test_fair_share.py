"""One client that submits without end, and another who only wants five steps."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from peft_studio.access.visitors import Role, Visitor, asking
from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.errors import LimitError
from peft_studio.jobs.manager import JobManager
from peft_studio.methods import METHODS
from peft_studio.settings import Access, Settings, prepare_home

GREEDY, MODEST = Visitor("v-greedy", Role.VISITOR), Visitor("v-modest", Role.VISITOR)


def config(steps: int, batch_size: int = 1) -> RunConfig:
    """A run of some steps."""
    training = {"max_steps": steps, "batch_size": batch_size}
    return parse_config({"method": {"name": next(iter(METHODS))}, "training": training})


@pytest.fixture
def public(tmp_path: Path) -> Iterator[JobManager]:
    """A public app's manager that starts nothing by itself."""
    settings = Settings(home=tmp_path, access=Access.PUBLIC, max_running=1)
    prepare_home(settings)
    costs = {"tokens_per_row": 100, "base_params": 100_000_000}
    manager = JobManager(settings, estimate=lambda _config: costs)
    yield manager
    manager.close()


def test_200_submissions_hold_nobody_up(public: JobManager) -> None:
    began, refused = time.monotonic(), ""
    with asking(GREEDY):
        for _ in range(200):
            try:
                public.submit(config(20))
            except LimitError as exc:
                refused = str(exc)
                assert exc.retry_seconds
    assert "4 of your runs wait in the queue, and 4 may" in refused
    with asking(MODEST):
        run = public.submit(config(5))
    assert public.library.info(run).queue_position == 2
    assert public._index.queued()[1] == run and time.monotonic() - began < 60


def test_a_new_cookie_is_no_new_budget(public: JobManager) -> None:
    def someone(number: int, network: str = "203.0.113.7") -> Visitor:
        return Visitor(f"v-{network}-{number}", Role.VISITOR, network=network)

    started = 0
    with pytest.raises(LimitError, match="16 runs that were started from your network wait in the queue"):
        for number in range(200):
            with asking(someone(number)):
                public.submit(config(5))
            started += 1
    assert started == 16  # four people's
    with asking(someone(0, "203.0.113.8")):
        public.submit(config(5))
    for number in range(4):
        with asking(someone(number)):
            public.share.budgets.take_generation(3000)
    with asking(someone(99)), pytest.raises(LimitError, match="12,000 a minute that all people of your network may"):
        public.share.budgets.take_generation(100)
    with asking(someone(99)), pytest.raises(LimitError, match="Your network's runs and data would take"):
        public.share.budgets.check_kept(1, 1, near=2001e6)


def test_what_would_take_for_days_is_refused_with_figures(public: JobManager) -> None:
    with asking(GREEDY):
        with pytest.raises(LimitError, match=r"1,000,000 steps of 1 rows"):
            public.submit(config(1_000_000))
        with pytest.raises(LimitError, match=r"would take about .* hours here, and a run may take 30 minutes"):
            public.submit(config(70_000))
    public.submit(config(1_000_000))  # the owner's


def test_a_run_that_takes_too_long_is_asked_to_save_and_to_end(
    public: JobManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asking(GREEDY):
        paths = public.store.paths(public.submit(config(5)))
    public.share.end_overlong(paths)
    assert not paths.stop.exists()
    info = replace(public.library.info(paths.id), seconds=1801.0)
    monkeypatch.setattr(public._index, "get", lambda _run: info)
    public.share.end_overlong(paths)
    assert paths.stop.exists() and "Ended after 30 minutes" in paths.limited.read_text()


def test_one_visitor_has_one_run_at_work(public: JobManager) -> None:
    with asking(GREEDY):
        first, second = (public.submit(config(5)) for _ in range(2))
    with asking(MODEST):
        other = public.submit(config(5))
    paths = {run: public.store.paths(run) for run in (first, second, other)}
    assert public.share.may_start(paths[first], [])
    assert not public.share.may_start(paths[second], [first]) and public.share.may_start(paths[other], [first])
