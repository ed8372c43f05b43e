"""What can be done with experiments, for whoever asks: page, programs and agents, and the command line come here."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from peft_studio.access.budgets import is_bound
from peft_studio.access.rights import Right, may, require
from peft_studio.access.visitors import OWNER, Role, Visitor, asker, asking
from peft_studio.errors import ExperimentNotFoundError, InvalidStateError, LimitError
from peft_studio.experiments.answer import Seen, answer_of, summary_of
from peft_studio.experiments.cost import CellCost, Costs, plan_costs, told_costs
from peft_studio.experiments.equal_size import Estimates
from peft_studio.experiments.outcome import counted_infos, keep, kept, key_of, measure, request_of
from peft_studio.experiments.plan import ExperimentPlan, cells_of, parse_plan
from peft_studio.experiments.ready import ready_list
from peft_studio.experiments.record import Experiment, Owner
from peft_studio.experiments.state import Infos, holes, progress_of
from peft_studio.experiments.store import ExperimentStore, no_experiment
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.status import Status

MOST_OF_ONE = 50
"""Experiments that a visitor may have."""
Measure = Callable[[dict[str, Any]], dict[str, Any]]


class Lab:
    """Experiments over a job manager. Thread-safe; keeps nothing that is not in the folders.

    Args:
        manager: The runs.
        estimate: Counts parameters; the manager's engine does when not given.

    Attributes:
        store: The folders.
        manager: The runs.
    """

    def __init__(
        self, manager: JobManager, estimate: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    ) -> None:
        self.manager = manager
        self.store = ExperimentStore(manager.settings.home)
        self.estimates = Estimates(estimate or manager.engine.estimate)
        self._rows: dict[str, tuple[object, dict[str, Any]]] = {}
        self._answers: dict[str, tuple[object, dict[str, Any]]] = {}

    def infos(self) -> Infos:
        """What is known of every run, whoever asks."""
        return {info.id: info for info in self.manager.library.all()}

    def all(self) -> list[dict[str, Any]]:
        """Every experiment that one may see, newest first."""
        infos = self.infos()
        return [self._for_asker(one, self._row(one, infos)) for one in self.store.all() if self._sees(one)]

    def ready(self) -> list[dict[str, Any]]:
        """The ready experiments, each with what it would take here."""
        return ready_list(self._clock())

    def cost(self, data: object) -> dict[str, Any]:
        """What an experiment would cost.

        Raises:
            ConfigError: The plan is not allowed.
            StudioError: A cell does not fit its model.
        """
        plan = parse_plan(data)
        return told_costs(plan, self._costs(plan))

    def start(self, data: object) -> str:
        """Makes an experiment, whose runs are then made one after another; returns its id.

        Raises:
            ConfigError: The plan is not allowed.
            LimitError: It is more than whoever asks may have.
            StudioError: One of its runs could not start.
        """
        require(self.manager.settings.access, Right.TRAIN)
        plan, visitor = parse_plan(data), asker()
        if is_bound(visitor):
            mine = sum(one.owner.id == visitor.id for one in self.store.all())
            if mine >= MOST_OF_ONE:
                raise LimitError(f"You have {mine} experiments, the most allowed. Delete one first.")
        found = self._costs(plan)
        for one in found:
            self._check(one)
        owner = Owner(visitor.id, visitor.role.value, visitor.name)
        return self.store.create(plan, [one.cell for one in found], owner, sum(one.seconds for one in found))

    def _check(self, one: CellCost) -> None:
        """Makes sure that a cell's runs can start, and that their owner may have them."""
        training = one.cell.config.training
        rows = training.batch_size * training.gradient_accumulation
        self.manager.share.budgets.check_tokens(training.max_steps, rows, training.max_length)
        self.manager.check(one.cell.config)

    def _costs(self, plan: ExperimentPlan) -> list[CellCost]:
        return plan_costs(plan, cells_of(plan), self._clock(), self.estimates)

    def _clock(self) -> Costs:
        busy = os.getloadavg()[0] / (os.cpu_count() or 1)
        return Costs(self.manager.library.all(), self.manager.settings.threads, busy)

    def find(self, experiment_id: str, right: Right = Right.SEE) -> Experiment:
        """An experiment, for something that whoever asks must have a right to.

        Raises:
            ExperimentNotFoundError: There is none of this id that they may see.
            NotAllowedError: They may see it, but not do this.
        """
        found = self.store.load(experiment_id)
        if not self._sees(found):
            raise ExperimentNotFoundError(no_experiment(experiment_id))
        require(self.manager.settings.access, right, found.owner.id, shared=self._is_shown(found))
        return found

    def answer(self, experiment_id: str) -> dict[str, Any]:
        """An experiment as it stands; see `answer.answer_of`."""
        found, infos = self.find(experiment_id), self.infos()
        mark = _mark(found, infos), self._outcome(found, infos) is None
        known = self._answers.get(found.id)
        if known is None or known[0] != mark:
            if len(self._answers) >= MOST_OF_ONE:
                self._answers.clear()
            known = self._answers[found.id] = mark, self._answer(found, infos)
        return self._for_asker(found, known[1])

    def _answer(self, experiment: Experiment, infos: Infos) -> dict[str, Any]:
        with asking(OWNER):  # whoever may see the experiment may see what its runs come to
            counted = [run for run in experiment.counted().values() if run in infos]
            curves = {run: self.manager.library.series(run)["eval"] for run in counted}
        return answer_of(Seen(experiment, infos, self._outcome(experiment, infos), curves))

    def settle(self, experiment_id: str, by: Measure = measure) -> None:
        """Has the statistics made, if there are figures and they are not kept.

        Args:
            experiment_id: The experiment.
            by: Makes them, here or in another process.
        """
        experiment, infos = self.store.load(experiment_id), self.infos()
        if self._outcome(experiment, infos) is None and counted_infos(experiment, infos):
            made = by(request_of(experiment, infos, self.manager.store))
            keep(self.store.folder(experiment.id), key_of(experiment, infos), made)

    def is_settled(self, experiment: Experiment, infos: Infos) -> bool:
        """Whether the statistics are those of the runs that there are."""
        return self._outcome(experiment, infos) is not None or not counted_infos(experiment, infos)

    def stop(self, experiment_id: str) -> str:
        """Has no more runs made, and stops those that there are; returns the state."""
        found = self.find(experiment_id, Right.CHANGE)
        self.store.stop(found.id)
        infos = self.infos()
        for part, run in found.runs.items():
            info = infos.get(run)
            if info is not None and info.status == Status.QUEUED:
                self._take_back(found, run)
                self.store.drop(found.id, [part])
            elif info is not None and Status(info.status).is_active:
                self.manager.stop(run)
        return self._state(found.id)

    def _take_back(self, experiment: Experiment, run: str) -> None:
        """Deletes a run that has not begun; one that begins this very moment is stopped."""
        try:
            self.manager.delete(run)
        except InvalidStateError:
            self.manager.stop(run)

    def resume(self, experiment_id: str) -> str:
        """Lets an experiment go on, and makes again what failed, was stopped or deleted; returns the state."""
        found = self.find(experiment_id, Right.CHANGE)
        require(self.manager.settings.access, Right.TRAIN)
        self.store.stop(found.id, False)
        lost = []
        for part, info in holes(found, self.infos()).items():
            if info is not None and "resume" in info.actions:
                self.manager.resume(info.id)
            else:
                lost.append(part)
        if lost:
            self.store.drop(found.id, lost)
        return self._state(found.id)

    def delete(self, experiment_id: str, runs: bool = False) -> int:
        """Deletes an experiment, and its runs where that is wanted; runs that wait go in any case.

        Returns:
            How many runs were deleted.

        Raises:
            InvalidStateError: Runs are wanted to be deleted and are at work.
        """
        found, infos = self.find(experiment_id, Right.CHANGE), self.infos()
        known = [infos[run] for run in found.runs.values() if run in infos]
        if runs and any(Status(info.status).is_active for info in known):
            raise InvalidStateError("Runs of this experiment are at work. Stop it first, then delete it with them.")
        self.store.stop(found.id)
        gone = [info.id for info in known if info.status == Status.QUEUED or runs]
        for run in gone:
            self._take_back(found, run)
        self.store.delete(found.id)
        self._rows.pop(found.id, None)
        self._answers.pop(found.id, None)
        return len(gone)

    def _state(self, experiment_id: str) -> str:
        return progress_of(self.store.load(experiment_id), self.infos()).stage.value

    def _outcome(self, experiment: Experiment, infos: Infos) -> dict[str, Any] | None:
        return kept(self.store.folder(experiment.id), key_of(experiment, infos))

    def _row(self, experiment: Experiment, infos: Infos) -> dict[str, Any]:
        """What a list tells; made anew when something of its runs has changed."""
        mark = _mark(experiment, infos)
        known = self._rows.get(experiment.id)
        if known is not None and known[0] == mark and known[1]["settled"]:
            return known[1]
        outcome = self._outcome(experiment, infos)
        seen = Seen(experiment, infos, outcome, {})
        row = summary_of(experiment, infos, progress_of(experiment, infos))
        row["words"] = answer_of(seen)["words"][:1] if outcome else []
        row["settled"] = outcome is not None or not counted_infos(experiment, infos)
        self._rows[experiment.id] = mark, row
        return row

    def _sees(self, experiment: Experiment) -> bool:
        access, shared = self.manager.settings.access, self._is_shown(experiment)
        return may(access, asker(), Right.SEE, experiment.owner.id, shared=shared)

    def _is_shown(self, experiment: Experiment) -> bool:
        """Whether links show whoever asks all of its runs."""
        runs = set(experiment.runs.values())
        return bool(runs) and runs <= asker().shown

    def _for_asker(self, experiment: Experiment, told: dict[str, Any]) -> dict[str, Any]:
        """What is told with what depends on who asks: whose it is, and what they may do with it."""
        visitor, access, owner = asker(), self.manager.settings.access, experiment.owner
        mine = visitor.id == owner.id and (visitor.role is Role.OWNER) == (owner.role == Role.OWNER.value)
        actions = told["actions"] if may(access, visitor, Right.CHANGE, owner.id) else []
        return {**told, "mine": mine, "owner_name": "" if mine else owner.name, "actions": actions}


def owner_of(experiment: Experiment) -> Visitor:
    """Whoever an experiment's runs are made for."""
    roles = {role.value: role for role in Role}
    role = roles.get(experiment.owner.role, Role.VISITOR)
    if role is Role.OWNER and not experiment.owner.id:
        return OWNER
    return Visitor(experiment.owner.id, role if role is not Role.OWNER else Role.VISITOR, experiment.owner.name)


def _mark(experiment: Experiment, infos: Infos) -> tuple[object, ...]:
    """Changes when something of an experiment's runs does."""
    known = (infos.get(run) for run in experiment.runs.values())
    told = [
        (info.id, info.status, info.step, info.queue_position, info.reason, len(info.metrics)) if info else None
        for info in known
    ]
    return experiment.stopped, experiment.why, len(experiment.found), *told
