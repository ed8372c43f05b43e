"""What whoever asks may still have of runs, found out from runs, disk and the estimate; see `access.budgets`."""

import json

from peft_studio.access.budgets import Budgets, is_bound, seconds_for
from peft_studio.access.visitors import asker
from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import RunConfig
from peft_studio.errors import EngineError, InvalidStateError, LimitError
from peft_studio.files import atomic_write
from peft_studio.jobs.admission import Estimate
from peft_studio.jobs.belongings import Belongings
from peft_studio.runs.housekeeping import Housekeeper
from peft_studio.runs.index import RunIndex
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.reader import RunInfo
from peft_studio.runs.store import read_config
from peft_studio.settings import Access, Settings

PAUSED = "The room is paused: nothing new trains until your teacher lets it go on."


class FairShare:
    """Lets runs of visitors in, and ends those that take too long.

    Args:
        settings: The limits.
        index: The runs.
        keeper: Knows what they take on the disk.
        belongings: Knows what belongs to whom.
        estimate: Tells what a run costs.

    Attributes:
        budgets: What is used up, also by requests and answers.
    """

    def __init__(
        self, settings: Settings, index: RunIndex, keeper: Housekeeper, belongings: Belongings, estimate: Estimate
    ) -> None:
        self._settings = settings
        self._index = index
        self._keeper = keeper
        self._belongings = belongings
        self._estimate = estimate
        self.budgets = Budgets(settings)

    def check_new(self, config: RunConfig) -> None:
        """Lets a new run pass.

        Raises:
            StorageError: The runs take all that the disk's quota allows.
            LimitError: It is more than whoever asks may have.
            InvalidStateError: The teacher has paused the room.
        """
        self._keeper.check_quota(self._index.all())
        if is_bound(asker()):
            self._check_goes_on()
            self.budgets.check_queue(self._index.all())
            self.check_kept()
            self._check_size(config, _steps(config))

    def check_longer(self, paths: RunPaths, info: RunInfo, more_steps: int = 0) -> None:
        """Lets a run go on that is over.

        Raises:
            LimitError: It is more than whoever asks may have.
            InvalidStateError: The teacher has paused the room.
        """
        if not is_bound(asker()):
            return
        self._check_goes_on()
        if reason := self.budgets.overran(info):
            raise LimitError(f"The run {info.id} cannot go on: it has had all the time that a run may take. {reason}")
        self.budgets.check_queue(self._index.all())
        self.check_kept()
        self._check_size(read_config(paths.config), (info.max_steps or info.step) + more_steps)

    def check_kept(self, more: float = 0) -> None:
        """Lets something be kept.

        Args:
            more: Bytes that are to come.

        Raises:
            LimitError: Whoever asks, or all visitors, keep too much.
        """
        if is_bound(asker()):
            mine, everybody = self._belongings.kept([asker().id])
            near = self._belongings.kept(self.budgets.together(asker()))[0]
            self.budgets.check_kept(mine + more, everybody + more, near + more)
            self.budgets.note_origin(asker())

    def _check_goes_on(self) -> None:
        """In a paused room nobody's click is to vanish in a queue that stands still."""
        if self._settings.access is Access.CLASS and self._index.is_paused():
            raise InvalidStateError(PAUSED)

    def _check_size(self, config: RunConfig, steps: int) -> None:
        """Tokens by the bounds of the config, and time by the estimate; without an engine the tokens decide."""
        training = config.training
        rows = training.batch_size * training.gradient_accumulation
        self.budgets.check_tokens(steps, rows, training.max_length)
        if not self._settings.limit("most_minutes"):
            return
        try:
            found = self._estimate(config.model_dump(mode="json"))
        except EngineError:
            return
        length, parameters = found.get("tokens_per_row"), found.get("base_params")
        if isinstance(length, int) and isinstance(parameters, int):
            tokens = steps * rows * length
            self.budgets.check_time(seconds_for(tokens, parameters, self._index.all(), self._settings.threads))

    def end_overlong(self, paths: RunPaths) -> None:
        """Asks a running run to stop, and to save its adapter, when it has taken longer than it may."""
        if not self._settings.limit("most_minutes") or paths.stop.exists():
            return
        if reason := self.budgets.overran(self._index.get(paths.id)):
            atomic_write(paths.limited, json.dumps({"reason": reason}))
            paths.stop.touch()

    def may_start(self, paths: RunPaths, busy: list[str]) -> bool:
        """Whether one more run of its owner may be at work.

        Args:
            paths: A queued run.
            busy: Ids of the runs at work.
        """
        limit = self._settings.limit("most_running")
        owner = self._index.get(paths.id).owner if limit else ""
        return not owner or sum(self._index.get(run_id).owner == owner for run_id in busy) < limit


def _steps(config: RunConfig) -> int:
    training = config.training
    return training.steps_for(len(resolve(config).task.load("train")) if training.epochs else 0)
