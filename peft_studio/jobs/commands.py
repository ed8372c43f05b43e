"""Looking after runs on the command line: what is wrong with one, what they take, and moving them elsewhere."""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from peft_studio.jobs.findings import Finding
from peft_studio.settings import Settings

Add = Callable[[str, Callable[[argparse.Namespace, Settings], int], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Registers the commands; ``add`` makes one from its name, function and words."""
    add("doctor", _doctor, "Say what is wrong with a run, why, and what to change.").add_argument(
        "run", metavar="RUN_ID"
    )


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def _doctor(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.jobs.manager import JobManager

    found = JobManager(settings).findings(options.run)
    if options.json:
        _print_json([finding.to_dict() for finding in found])
    else:
        print("\n".join(_in_words(found)))
    return 0


def _in_words(found: Sequence[Finding]) -> list[str]:
    lines = []
    for item in found:
        place = "" if item.step is None else f" (step {item.step:,})"
        again = f" Try again with {item.change}." if item.change else ""
        lines += [f"{item.severity}: {item.title}{place}", f"  {item.cause}", f"  {item.fix}{again}"]
    return lines or ["Nothing looks wrong."]
