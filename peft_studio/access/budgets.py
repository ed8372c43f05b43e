"""A fair share: what one visitor may have of an app, and all of them, and what they are told when it is used up."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peft_studio.access.visitors import Role, Visitor, asker
from peft_studio.errors import LimitError
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.status import Status
from peft_studio.settings import Settings

MINUTE = 60.0  # seconds
MOST_KNOWN = 10_000  # visitors whose use is remembered at a time
FLOPS_PER_TOKEN = 6
"""Of a parameter: two of the forward and four of the backward pass (Kaplan et al. 2020, arXiv:2001.08361, 2.1)."""
USUAL_SPEED = 5e9  # floating-point operations a second and thread, before any run here has shown its own
MOST_LOOKED_AT = 8  # runs whose speed is looked at
PEOPLE_OF_AN_ADDRESS = 4
"""A public app lets this many people's share go to one address: a new cookie is no new budget, and a household or a
classroom behind one address is not one person."""


@dataclass
class _Level:
    left: float
    at: float


class Bucket:
    """Gives out so much a minute: each has a bucket that fills evenly and holds one minute's share. Thread-safe.

    Args:
        a_minute: What flows in, and the most that is in it; 0 sets no limit.
        clock: Seconds, monotonic.
    """

    def __init__(self, a_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = a_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: dict[str, _Level] = {}

    def left(self, key: str) -> float:
        """What somebody may still take now."""
        with self._lock:
            return self._level(key).left

    def take(self, key: str, amount: float) -> None:
        """Takes what is used, even more than there is: then nothing is left for longer."""
        if self.most:
            with self._lock:
                self._level(key).left -= amount

    def wait(self, key: str, amount: float = 1) -> float:
        """Seconds until so much is there; 0 when it is, or when there is no limit.

        More than a bucket holds is there when the bucket is full.
        """
        if not self.most:
            return 0.0
        missing = min(amount, self.most) - self.left(key)
        return max(0.0, missing * MINUTE / self.most)

    def _level(self, key: str) -> _Level:
        now = self._clock()
        if key not in self._levels and len(self._levels) >= MOST_KNOWN:
            self._forget(now)
        level = self._levels.setdefault(key, _Level(self.most, now))
        level.left = min(self.most, level.left + (now - level.at) * self.most / MINUTE)
        level.at = now
        return level

    def _forget(self, now: float) -> None:
        """Drops those whose buckets are full again, and if there are none the half that was used longest ago."""
        old = [key for key, level in self._levels.items() if now - level.at >= MINUTE and level.left >= 0]
        if not old:
            old = sorted(self._levels, key=lambda key: self._levels[key].at)[: MOST_KNOWN // 2]
        for key in old:
            del self._levels[key]


class Budgets:
    """Refuses what would be more than a fair share. Thread-safe.

    Whoever asks (`asker`) is meant; the owner of the app and a teacher are bound by nothing.

    Args:
        settings: The limits.
        clock: Seconds, monotonic.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._requests = Bucket(settings.limit("most_requests"), clock)
        self._generated = Bucket(settings.limit("most_generated"), clock)
        self._all_generated = Bucket(settings.limit("all_generated"), clock)
        self._of_address = Bucket(PEOPLE_OF_AN_ADDRESS * settings.limit("most_generated"), clock)
        self._lock = threading.Lock()
        self._neighbours: dict[str, dict[str, None]] = {}  # by network: ids, in the order in which they came

    def together(self, visitor: Visitor) -> frozenset[str]:
        """Ids of all who have brought or started something from where a visitor asks now, the visitor's among them."""
        with self._lock:
            return frozenset(self._neighbours.get(visitor.network, ())) | {visitor.id}

    def note_origin(self, visitor: Visitor) -> None:
        """Remembers from where somebody brings or starts something, for as long as the app runs."""
        if visitor.network and is_bound(visitor):
            with self._lock:
                if len(self._neighbours) >= MOST_KNOWN and visitor.network not in self._neighbours:
                    del self._neighbours[next(iter(self._neighbours))]
                self._neighbours.setdefault(visitor.network, {})[visitor.id] = None

    def allow_request(self, visitor: Visitor | None, client_address: str) -> None:
        """Counts a request.

        Args:
            visitor: Who asks by a cookie or key that they brought; None for whoever brought none, who is counted by
                address: a new cookie is no new budget.
            client_address: Where the request comes from.

        Raises:
            LimitError: There were too many in the last minute.
        """
        if visitor is not None and not is_bound(visitor):
            return
        key = visitor.id if visitor is not None and visitor.id else f"@{client_address}"
        if seconds := self._requests.wait(key):
            most = self._settings.limit("most_requests")
            raise LimitError(f"Too many requests: {most:,.0f} a minute are allowed. {_again(seconds)}", seconds)
        self._requests.take(key, 1)

    def used(self, visitor: Visitor) -> dict[str, float]:
        """How much of this minute's requests and generated tokens somebody has used up, by the limits' names."""
        buckets = {"most_requests": self._requests, "most_generated": self._generated}
        return {
            name: max(0.0, self._settings.limit(name) - bucket.left(visitor.id)) for name, bucket in buckets.items()
        }

    def check_queue(self, infos: Iterable[RunInfo]) -> None:
        """Lets one more run into the queue.

        Args:
            infos: Every run.

        Raises:
            LimitError: Too many wait already, of the asker's or in all.
        """
        if not is_bound(asker()):
            return
        waiting = [info.owner for info in infos if info.status == Status.QUEUED]
        near = self.together(asker())
        mine, limit, whole = waiting.count(asker().id), self._settings.limit("most_queued"), len(waiting)
        if limit and mine >= limit:
            raise LimitError(
                f"{mine} of your runs wait in the queue, and {limit:.0f} may. When one of them starts, there is room "
                "for another; you can also stop one that waits.", MINUTE,
            )  # fmt: skip
        if limit and sum(owner in near for owner in waiting) >= PEOPLE_OF_AN_ADDRESS * limit:
            raise LimitError(
                f"{PEOPLE_OF_AN_ADDRESS * limit:.0f} runs that were started from your network wait in the queue, the "
                "most that may. When one of them starts, there is room for another.", MINUTE,
            )  # fmt: skip
        limit = self._settings.limit("all_queued")
        if limit and whole >= limit:
            raise LimitError(
                f"{whole} runs of all visitors wait in the queue, the most that may. When one of them starts, there "
                "is room for another.", MINUTE,
            )  # fmt: skip

    def check_tokens(self, steps: int, rows: int, length: int) -> None:
        """Lets a run of a size pass.

        Args:
            steps: Optimizer steps of the whole run.
            rows: Of one step.
            length: Tokens of the longest row.

        Raises:
            LimitError: It would read too many tokens.
        """
        tokens, limit = steps * rows * length, self._settings.limit("most_tokens")
        if limit and is_bound(asker()) and tokens > limit:
            fits = math.floor(limit / (rows * length))
            instead = f"{fits:,} steps of this size would fit" if fits else "a single step is too large"
            raise LimitError(
                f"{steps:,} steps of {rows:,} rows with up to {length:,} tokens are {tokens:,} tokens; a run may read "
                f"{limit:,.0f} here, so {instead}. Take fewer steps, a smaller batch or shorter rows."
            )

    def check_time(self, seconds: float) -> None:
        """Lets a run pass that will take so long.

        Raises:
            LimitError: That is too long.
        """
        limit = self._settings.limit("most_minutes") * MINUTE
        if limit and is_bound(asker()) and seconds > limit:
            raise LimitError(
                f"This run would take about {in_words(seconds)} here, and a run may take {in_words(limit)}: that is "
                f"about {max(1, math.floor(100 * limit / seconds))} % of it. Take fewer steps, a smaller batch, "
                "shorter rows or a smaller model."
            )

    def overran(self, info: RunInfo) -> str:
        """Why a run must end now, in words; empty as long as it may go on. Whoever's it is, nobody asks."""
        limit = self._settings.limit("most_minutes") * MINUTE
        if limit and info.owner and (info.seconds or 0.0) > limit:
            return f"Ended after {in_words(limit)}, the most that a run may take here; its adapter was saved."
        return ""

    def check_kept(self, mine: float, everybody: float, near: float = 0) -> None:
        """Lets something more be kept.

        Args:
            mine: Bytes that the asker's things take, with what is to come.
            everybody: The same of all visitors.
            near: The same of all who have brought something from where the asker is.

        Raises:
            LimitError: It is too much.
        """
        if not is_bound(asker()):
            return
        for taken, name, whose, people in (
            (mine, "most_mb", "Your", 1),
            (near, "most_mb", "Your network's", PEOPLE_OF_AN_ADDRESS),
            (everybody, "all_mb", "All visitors'", 1),
        ):
            limit = people * self._settings.limit(name)
            if limit and taken > limit * 1e6:
                raise LimitError(
                    f"{whose} runs and data would take {taken / 1e6:,.0f} MB, and {limit:,.0f} MB may be "
                    "kept. Delete some of your runs to make room."
                )

    def take_generation(self, tokens: int) -> None:
        """Lets answers be generated, and counts them.

        Args:
            tokens: The most that all of them may have.

        Raises:
            LimitError: There are not so many left in this minute.
        """
        if not is_bound(asker()):
            return
        buckets = [(self._generated, asker().id, "most_generated"), (self._all_generated, "", "all_generated")]
        if asker().network:
            buckets.insert(1, (self._of_address, asker().network, "most_generated"))
        for bucket, key, name in buckets:
            if seconds := bucket.wait(key, tokens):
                whose = "you may have generated" if key == asker().id else f"all {_OTHERS[name]} may have generated"
                raise LimitError(
                    f"This asks for up to {tokens:,} tokens; of the {bucket.most:,.0f} a minute that "
                    f"{whose}, {max(0, math.floor(bucket.left(key))):,} are left. {_again(seconds)}",
                    seconds,
                )
        for bucket, key, _name in buckets:
            bucket.take(key, tokens)


_OTHERS = {"most_generated": "people of your network", "all_generated": "visitors"}


def is_bound(visitor: Visitor) -> bool:
    """Whether limits hold for somebody."""
    return visitor.role not in (Role.OWNER, Role.TEACHER)


def seconds_for(tokens: float, parameters: int, infos: Iterable[RunInfo], threads: int) -> float:
    """About how long training takes, by how fast the latest runs were.

    Args:
        tokens: That it reads.
        parameters: Of the model.
        infos: Every run, newest first.
        threads: Of a worker, for the first run of all.
    """
    shown = [
        info.tokens_per_second * info.total_params for info in infos if info.tokens_per_second and info.total_params
    ]
    speeds = sorted(shown[:MOST_LOOKED_AT])
    speed = FLOPS_PER_TOKEN * speeds[len(speeds) // 2] if speeds else USUAL_SPEED * threads
    return FLOPS_PER_TOKEN * tokens * parameters / speed


def in_words(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 2 * MINUTE:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / MINUTE:,.0f} minutes" if seconds < 120 * MINUTE else f"{seconds / 3600:,.0f} hours"


def _again(seconds: float) -> str:
    return f"More comes in {in_words(seconds)}."
