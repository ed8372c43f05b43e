"""A fair share: what is used up, what is told, and when more comes."""

from dataclasses import dataclass

import pytest

from peft_studio.access.budgets import Bucket, Budgets, in_words, seconds_for
from peft_studio.access.visitors import OWNER, Role, Visitor, asking
from peft_studio.errors import ConfigError, LimitError
from peft_studio.settings import DEFAULT_LIMITS, Access, Limits, Settings, load_settings

ANN, BEN = Visitor("v-ann", Role.VISITOR), Visitor("v-ben", Role.VISITOR)


@dataclass
class Clock:
    """Time that passes when told."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def public(**limits: float) -> Settings:
    return Settings.model_validate({"access": Access.PUBLIC, **limits})


def test_every_way_of_being_run_has_limits_and_a_private_app_none() -> None:
    assert set(DEFAULT_LIMITS) == set(Access) and not DEFAULT_LIMITS[Access.PRIVATE]
    assert all(set(limits) <= set(Limits.model_fields) for limits in DEFAULT_LIMITS.values())
    assert set(DEFAULT_LIMITS[Access.PUBLIC]) == set(Limits.model_fields)
    assert load_settings({"PEFT_STUDIO_MOST_MINUTES": "5"}, access="public").limit("most_minutes") == 5
    assert public(most_queued=0).limit("most_queued") == 0
    with pytest.raises(ConfigError, match="PEFT_STUDIO_MOST_QUEUED = '-1'"):
        load_settings({"PEFT_STUDIO_MOST_QUEUED": "-1"})


def test_a_bucket_fills_evenly_and_remembers_debts() -> None:
    clock = Clock()
    bucket = Bucket(60, clock)
    bucket.take("a", 60)
    assert bucket.wait("a") == pytest.approx(1) and not bucket.wait("b")
    clock.now = 0.5
    assert bucket.wait("a") == pytest.approx(0.5)
    bucket.take("a", 90)
    assert bucket.wait("a", 1000) == pytest.approx(60 + 89.5)
    assert not Bucket(0, clock).wait("a", 1e9)


def test_strangers_without_a_cookie_share_their_address() -> None:
    clock = Clock()
    budgets = Budgets(public(most_requests=3), clock)
    for _ in range(3):
        budgets.allow_request(None, "192.0.2.7")
        budgets.allow_request(ANN, "192.0.2.7")
    for who in (None, ANN):
        with pytest.raises(LimitError, match=r"3 a minute are allowed. More comes in 20 s") as refused:
            budgets.allow_request(who, "192.0.2.7")
        assert refused.value.retry_seconds == pytest.approx(20)
    budgets.allow_request(BEN, "192.0.2.7")
    budgets.allow_request(None, "192.0.2.8")
    for _ in range(9):
        budgets.allow_request(OWNER, "192.0.2.7")
    clock.now = 20.0
    budgets.allow_request(None, "192.0.2.7")


def test_a_flood_of_visitors_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_studio.access.budgets.MOST_KNOWN", 20)
    bucket = Bucket(5, Clock())
    for number in range(200):
        bucket.take(str(number), 1)
    assert len(bucket._levels) <= 20


def test_answers_are_counted_by_visitor_and_in_all() -> None:
    budgets = Budgets(public(most_generated=100, all_generated=150), Clock())
    with asking(ANN):
        budgets.take_generation(80)
        with pytest.raises(LimitError, match=r"up to 50 tokens; of the 100 a minute that you .* 20 are left"):
            budgets.take_generation(50)
    with asking(BEN), pytest.raises(LimitError, match="all visitors may have generated, 70 are left"):
        budgets.take_generation(80)
    budgets.take_generation(10**6)  # the owner


def test_a_run_of_313_hours_is_refused_in_words() -> None:
    budgets = Budgets(public())
    with asking(ANN):
        budgets.check_time(29 * 60)
        with pytest.raises(LimitError, match="would take about 313 hours here, and a run may take 30 minutes"):
            budgets.check_time(313 * 3600)
        with pytest.raises(LimitError, match=r"100,000 steps .* 409,600,000 tokens.* 4,882 steps of this size"):
            budgets.check_tokens(100_000, 16, 256)
        with pytest.raises(LimitError, match="Your runs and data would take 501 MB, and 500 MB may"):
            budgets.check_kept(501e6, 501e6)
    budgets.check_time(1e9)
    budgets.check_kept(1e12, 1e12)


def test_time_by_size_and_threads_and_in_words() -> None:
    assert seconds_for(1e6, 1_000_000, [], 2) == pytest.approx(600)
    assert [in_words(seconds) for seconds in (0.2, 90, 600, 7200)] == ["1 s", "90 s", "10 minutes", "2 hours"]
