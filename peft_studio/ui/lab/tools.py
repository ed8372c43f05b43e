"""What programs and agents may do with experiments: names, types and docstrings are the whole interface."""

from collections.abc import Callable
from typing import Any

from peft_studio.experiments.lab import Lab


def experiment_tools(lab: Lab) -> list[Callable[..., Any]]:
    """Functions on experiments; names, types and docstrings are their whole interface."""

    def list_experiments() -> list[dict[str, Any]]:
        """List the experiments, newest first: the question, how far it is, the first words of its answer."""
        return lab.all()

    def get_experiment(experiment_id: str) -> dict[str, Any]:
        """Tell an experiment's answer so far: table with means and spreads, who beats whom, and that in words.

        Args:
            experiment_id: Id of the experiment, as start_experiment returns it.
        """
        return lab.answer(experiment_id)

    def experiment_cost(plan: dict[str, Any]) -> dict[str, Any]:
        """Say what an experiment would cost before it is made: runs, seconds on this machine, parameters of each cell.

        Args:
            plan: As for start_experiment.
        """
        return lab.cost(plan)

    def start_experiment(plan: dict[str, Any]) -> str:
        """Start an experiment: several runs as one question. They are made by themselves; returns the experiment's id.

        Args:
            plan: Such as {"question": "Which method?", "base": {"task": {"id": "bistro"}, "training": {"max_steps":
                60}}, "vary": [{"field": "method", "values": ["lora", "ia3"]}], "seeds": 3, "own_rates": false,
                "equal_parameters": 0, "metric": "test/bleu"}. "vary" has one field or two; "equal_parameters" sizes
                all methods to so many trainable parameters; "own_rates" searches a learning rate for each.
        """
        return lab.start(plan)

    def stop_experiment(experiment_id: str) -> str:
        """Stop an experiment and its runs; returns its state.

        Args:
            experiment_id: Id of the experiment.
        """
        return lab.stop(experiment_id)

    return [list_experiments, get_experiment, experiment_cost, start_experiment, stop_experiment]
