"""Questions about answers: token by token, at another strength, merged. The engine computes, the page draws."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.access.visitors import asker
from peft_studio.archives.mixed_run import keep_mix
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError
from peft_studio.jobs.manager import JobManager
from peft_studio.ui.http import Handler, endpoint, read_object
from peft_studio.ui.tools import seen

MOST_RUNS, MOST_CHARACTERS = 5, 8000
"""Adapters that stand beside the base model, and characters of a text that is looked at."""
ANSWER_TOKENS, MERGE_TOKENS, STEP_TOKENS = 48, 432, 1000
"""What an answer at a strength, and a look at a merge and at a step, count of what visitors may have generated."""
CHARACTERS_OF_A_TOKEN = 3


class Asking:
    """Asks the engine, for whoever may see the runs and has not had too much generated.

    Args:
        manager: Runs, budgets and the engine.
    """

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    def tokens(self, prompt: str, text: str, runs: Sequence[str]) -> dict[str, Any]:
        """See ``training.inference.token_table``."""
        if len(runs) > MOST_RUNS:
            raise ConfigError(f"{len(runs)} adapters are chosen; at most {MOST_RUNS} fit side by side.", "runs")
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"The text has {len(text):,} characters; {MOST_CHARACTERS:,} are allowed.", "text")
        self._look(runs, (len(text) // CHARACTERS_OF_A_TOKEN + 1) * (1 + len(runs)))
        return self._manager.engine.inspect("", "tokens", runs=list(runs), prompt=prompt, text=text)

    def strength(self, run_id: str, prompt: str, strength: float, ends: bool) -> dict[str, Any]:
        """See ``training.inference.questions.Questions.strength``."""
        self._look([run_id], ANSWER_TOKENS * (3 if ends else 1))
        return self._manager.engine.inspect(run_id, "strength", prompt=prompt, strength=strength, ends=ends)

    def merge(self, run_id: str) -> dict[str, Any]:
        """See ``training.inference.merge_check``."""
        self._look([run_id], MERGE_TOKENS)
        return self._manager.engine.inspect(run_id, "check_merge")

    def step(self, run_id: str, number: object) -> dict[str, Any]:
        """See ``training.one_step``."""
        self._look([run_id], STEP_TOKENS)
        return self._manager.engine.inspect(run_id, "step", step=number)

    def mix(self, runs: Sequence[str], weights: Sequence[object], way: str, density: object, name: str) -> str:
        """Keeps a mix of adapters as a run of whoever asks; see ``training.inference.mix``. Returns its id."""
        if not 2 <= len(runs) <= MOST_RUNS:
            raise ConfigError(f"{len(runs)} adapters are chosen; a mix takes 2 to {MOST_RUNS}.", "runs")
        if len(weights) != len(runs) or any(type(weight) not in (int, float) for weight in weights):
            raise ConfigError(f"There are {len(runs)} runs; as many numbers are needed as weights.", "weights")
        manager, infos = self._manager, [seen(self._manager, run_id, Right.TAKE) for run_id in runs]
        config = parse_config(infos[0].config)
        manager.keep_house()
        manager.share.check_new(config)
        given = {"runs": list(runs), "weights": list(weights), "way": way, "density": density}

        def write(folder: Path) -> dict[str, Any]:
            return {**manager.engine.inspect("", "mix", folder=str(folder), **given), "way": way}

        titles = [info.name or info.title for info in infos]
        parts = zip(runs, titles, weights, strict=True)
        mixed = [{"run": run, "name": title, "weight": weight} for run, title, weight in parts]
        return keep_mix(
            manager.store, config, name[:100] or f"Mix of {' and '.join(titles)}", asker().id, mixed, write
        )

    def _look(self, runs: Sequence[str], tokens: int) -> None:
        for run_id in runs:
            seen(self._manager, run_id)
        self._manager.share.budgets.take_generation(tokens)


def ask_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes below ``/studio``; each takes a JSON object."""
    asking = Asking(manager)

    def tokens(given: dict[str, Any]) -> object:
        return asking.tokens(_text(given, "prompt"), _text(given, "text"), _runs(given))

    def strength(given: dict[str, Any]) -> object:
        value = given.get("strength")
        return asking.strength(_text(given, "run"), _text(given, "prompt"), value, given.get("ends") is True)  # type: ignore[arg-type]  # the engine checks it

    def merge(given: dict[str, Any]) -> object:
        return asking.merge(_text(given, "run"))

    def step(given: dict[str, Any]) -> object:
        return asking.step(_text(given, "run"), given.get("step", 1))

    def mix(given: dict[str, Any]) -> object:
        weights, way = given.get("weights"), _text(given, "way")
        if not isinstance(weights, list):
            raise ConfigError("weights is to be a list of numbers.", "weights")
        return {"run": asking.mix(_runs(given), weights, way, given.get("density", 1), _text(given, "name"))}

    works = {"tokens": tokens, "strength": strength, "merge": merge, "step": step}
    routes = [endpoint(f"/studio/ask/{name}", _of_body(work), "POST", Right.ASK) for name, work in works.items()]
    return [*routes, endpoint("/studio/ask/mix", _of_body(mix), "POST", Right.TRAIN)]


def _of_body(work: Callable[[dict[str, Any]], object]) -> Handler:
    async def answer(request: Request) -> object:
        return await run_in_threadpool(work, await read_object(request))

    return answer


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{name} is {value!r}; it is to be a text.", name)
    return value


def _runs(given: dict[str, Any]) -> list[str]:
    runs = given.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
        raise ConfigError("runs is to be a list of ids of runs.", "runs")
    return runs


def ask_tools(manager: JobManager) -> list[Callable[..., Any]]:
    """Functions for programs and agents."""
    asking = Asking(manager)

    def look_at_tokens(prompt: str, text: str, runs: list[str]) -> dict[str, Any]:
        """Tell how likely each token of a text is, after a prompt, to the base model and to the adapters of runs.

        Args:
            prompt: What was asked.
            text: The text to read as its answer, such as a reference.
            runs: Ids of up to five finished runs on one base model.
        """
        return asking.tokens(prompt, text, runs)

    def ask_at_strength(run_id: str, prompt: str, strength: float) -> dict[str, Any]:
        """Have an adapter answer at a strength from 0 (the base model) over 1 (as trained) to 1.5; with its test loss.

        Args:
            run_id: Id of a finished run.
            prompt: The text to continue.
            strength: From 0 to 1.5.
        """
        return asking.strength(run_id, prompt, strength, ends=True)

    def check_merge(run_id: str) -> dict[str, Any]:
        """Merge an adapter into its base model for a look: the largest difference of a logit, speed and size.

        Args:
            run_id: Id of a finished run.
        """
        return asking.merge(run_id)

    def look_at_step(run_id: str, step: int = 1) -> dict[str, Any]:
        """Take one of the first steps of a run anew: loss of each token before and after, gradients and updates.

        Args:
            run_id: Id of a run.
            step: Which step, from 1 to 20.
        """
        return asking.step(run_id, step)

    def mix_adapters(runs: list[str], weights: list[float], way: str = "linear", density: float = 1.0) -> str:
        """Mix the adapters of runs into a new one, by PEFT's add_weighted_adapter; returns the id of its run.

        Args:
            runs: Ids of two to five finished runs on one base model, of LoRA's kind or (IA)3.
            weights: The weight of each.
            way: One of linear, cat, svd, ties, dare_linear, dare_ties.
            density: Share of numbers that ties and the dare ways keep.
        """
        return asking.mix(runs, weights, way, density, "")

    return [look_at_tokens, ask_at_strength, check_merge, look_at_step, mix_adapters]
