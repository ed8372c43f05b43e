"""What the tests of jobs share: configs, plans for the fake worker, waiting, and finding processes."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from peft_studio.config.run_config import RunConfig, parse_config
from peft_studio.files import read_json
from peft_studio.methods import METHODS
from peft_studio.runs.event_log import LogFollower

HERE = Path(__file__).parent
PRELOAD = ("peft_studio.runs.store",)  # little, so that the warm server is warm at once


def make_config(steps: int = 20) -> RunConfig:
    """Some valid config."""
    method = {"name": next(iter(METHODS))}
    return parse_config({"method": method, "training": {"max_steps": steps, "batch_size": 1}})


def plan(**kwargs: Any) -> str:
    """The name of a run that pretends as told; see ``fake_worker``."""
    return json.dumps(kwargs)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The complete events of a log."""
    return [event for piece in LogFollower(path).pieces() for event in piece.events]


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Polls until something is true, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def lives(process: psutil.Process) -> bool:
    """Whether a process runs: exists and is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def family(home: Path) -> list[psutil.Process]:
    """The living processes of a home: those whose command line names it, and claimants with their children."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    for path in home.glob("runs/*/claim.json"):
        claim = read_json(path) or {}
        try:
            process = psutil.Process(claim["pid"])
            # A claim of the test itself: its children may be the nodes of a Ray cluster, which others need.
            if process.pid != os.getpid() and abs(process.create_time() - claim["process_start"]) < 2:
                found += [process, *process.children(recursive=True)]
        except (psutil.Error, KeyError):
            continue
    return [process for process in found if lives(process)]
