"""One question put to all of a class: a preset with one setting whose values are dealt out to the students."""

import threading
from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from peft_studio.access.room import Student
from peft_studio.config.presets import list_presets, parse_preset
from peft_studio.errors import ConfigError, InvalidStateError, did_you_mean, shown
from peft_studio.files import atomic_write, read_json
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.reader import RunInfo

MOST_VALUES = 12
BEST = "eval/best"
"""The metric that a question is answered by unless the teacher chooses another: the lowest validation loss."""


class Asked(BaseModel):
    """A question.

    Attributes:
        preset: What everybody trains.
        setting: What differs, by its dotted path.
        values: Of the setting, as text.
        words: What the teacher asks; plain text, perhaps none.
        dealt: Each student's value, by the student's id.
        runs: Each student's run.
    """

    model_config = ConfigDict(strict=True)

    preset: str
    setting: str
    values: list[str]
    words: str = ""
    dealt: dict[str, str] = {}
    runs: dict[str, str] = {}


class RoomQuestion:
    """The question of a class; kept in ``question.json``. Thread-safe.

    Args:
        manager: Starts the runs.
    """

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._path = manager.settings.home / "question.json"
        self._lock = threading.Lock()
        self._starting: set[str] = set()
        try:
            self._asked: Asked | None = Asked.model_validate(read_json(self._path) or {})
        except ValidationError:  # nothing is asked, or the file is damaged
            self._asked = None

    def ask(self, preset: str, setting: str, values: list[str], words: str = "") -> None:
        """Puts a question; its answers begin anew.

        Raises:
            StudioError: No such preset or setting, or a value is not allowed.
        """
        if preset not in list_presets():
            known = did_you_mean(preset, list_presets())
            raise ConfigError(f"There is no preset {shown(preset)}. {known}", "preset")
        values = list(dict.fromkeys(value.strip() for value in values if value.strip()))
        if not 2 <= len(values) <= MOST_VALUES:
            raise ConfigError(f"A question has 2 to {MOST_VALUES} values, not {len(values)}.", "values")
        for value in values:
            parse_preset(preset, [f"{setting}={value}"])
        with self._lock:
            self._keep(Asked(preset=preset, setting=setting, values=values, words=" ".join(words.split())[:300]))

    def close(self) -> None:
        """Takes the question back; runs stay."""
        with self._lock:
            self._keep(None)

    def part(self, who: str) -> dict[str, str] | None:
        """The question with a student's value, the one that fewest have; None when nothing is asked."""
        with self._lock:
            asked = self._asked
            if asked is None:
                return None
            if who not in asked.dealt:
                counts = Counter(asked.dealt.values())
                asked.dealt[who] = min(asked.values, key=lambda value: counts[value])
                self._keep(asked)
            told = {"preset": asked.preset, "setting": asked.setting, "words": asked.words}
            return {**told, "value": asked.dealt[who], "run": asked.runs.get(who, "")}

    def start(self, who: str) -> str:
        """Starts a student's run, once; returns its id.

        Raises:
            StudioError: Nothing is asked, it was started before, or it cannot be started.
        """
        part = self.part(who)
        with self._lock:
            asked = self._asked
            if part is None or asked is None:
                raise InvalidStateError("No question is put to the room now.")
            if who in asked.runs or who in self._starting:
                raise InvalidStateError("Your run was started already; it is in Runs.")
            self._starting.add(who)
        try:  # without the lock: everybody's page asks for its part meanwhile
            config = parse_preset(asked.preset, [f"{asked.setting}={part['value']}"])
            run = self._manager.submit(config, f"{asked.setting} = {part['value']}"[:60])
            with self._lock:
                asked.runs[who] = run
                if asked is self._asked:
                    self._keep(asked)
        finally:
            with self._lock:
                self._starting.discard(who)
        return run

    def answers(self, students: list[Student], infos: dict[str, RunInfo]) -> dict[str, Any] | None:
        """The question with everybody's value and figures; None when nothing is asked.

        Args:
            students: Who is in the room.
            infos: The runs, by their ids.
        """
        with self._lock:
            asked = self._asked.model_copy(deep=True) if self._asked else None
        if asked is None:
            return None
        rows = [_answer(one, asked.dealt.get(one.id, ""), infos.get(asked.runs.get(one.id, ""))) for one in students]
        told = {"preset": asked.preset, "setting": asked.setting, "values": asked.values, "words": asked.words}
        return {**told, "answers": rows}

    def _keep(self, asked: Asked | None) -> None:
        self._asked = asked
        atomic_write(self._path, asked.model_dump_json() if asked else "{}")


def _answer(student: Student, value: str, info: RunInfo | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": student.name, "value": value, "status": "", "step": 0, "max_steps": None}
    if info is None:
        return {**row, "metrics": {}}
    metrics = {name: score for name, score in info.metrics.items() if name.startswith("test/")}
    if info.best_eval_loss is not None:
        metrics[BEST] = info.best_eval_loss
    return {**row, "status": info.status, "step": info.step, "max_steps": info.max_steps, "metrics": metrics}
