"""Commands of the command line that change runs and their queue, whether or not an app is running."""

import argparse
import sys
from typing import TYPE_CHECKING

from peft_studio.cli.printing import print_json
from peft_studio.runs.queue import NORMAL, PRIORITIES
from peft_studio.settings import Settings, prepare_home

if TYPE_CHECKING:
    from peft_studio.jobs.manager import JobManager


def add_queue(parser: argparse.ArgumentParser) -> None:
    """Adds the words that may follow ``queue``; without one it lists."""
    changes = parser.add_subparsers(dest="change", metavar="CHANGE")
    for name, words in (
        ("move", "Give a queued run another place."),
        ("hold", "Hold a queued run back."),
        ("release", "Let a run go that is held back."),
        ("priority", "Give a queued run a priority: high ones start first."),
        ("pause", "Start no run any more; running ones go on."),
        ("start", "Start queued runs again."),
    ):
        found = changes.add_parser(name, help=words, description=words)
        found.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        found.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if name not in ("pause", "start"):
            found.add_argument("run", metavar="RUN_ID")
        if name == "move":
            found.add_argument("--to", required=True, metavar="PLACE", help="front, up, down, or a number from 1")
        elif name == "priority":
            found.add_argument("priority", choices=PRIORITIES)


def ask(options: argparse.Namespace, settings: Settings) -> int:
    """Pauses, resumes or stops a run: the command's name is the manager's."""
    manager = _manager(settings)
    getattr(manager, options.verb)(options.run)
    return _report(options, manager)


def queue(options: argparse.Namespace, settings: Settings) -> int:
    """Changes the queue if that is asked for, and prints it."""
    manager = _manager(settings)
    if options.change in ("pause", "start"):
        prepare_home(settings)
        manager.pause_queue(options.change == "pause")
    elif options.change == "move":
        manager.move(options.run, int(options.to) if options.to.isdecimal() else options.to)
    elif options.change == "priority":
        manager.prioritize(options.run, options.priority)
    elif options.change:
        manager.hold(options.run, options.change == "hold")
    waiting = [info for info in manager.list() if info.status == "queued"]
    waiting.sort(key=lambda info: (info.queue_position is None, info.queue_position or 0))
    paused = manager.queue.state().paused
    if options.json:
        names = ("id", "queue_position", "priority", "held", "reason")
        print_json({"paused": paused, "queue": [{name: getattr(info, name) for name in names} for info in waiting]})
        return 0
    for info in waiting:
        priority = f"{info.priority} priority" if info.priority != NORMAL else ""
        why = "; ".join(filter(None, (priority, info.reason)))
        print(f"{info.queue_position or '-':>3}  {info.id}  {info.title}{_bracketed(why)}")
    if paused:
        print("The queue is paused; 'queue start' starts it.", file=sys.stderr)
    return 0


def extend(options: argparse.Namespace, settings: Settings) -> int:
    """Trains a run longer."""
    manager = _manager(settings)
    manager.extend(options.run, options.steps)
    return _report(options, manager)


def delete(options: argparse.Namespace, settings: Settings) -> int:
    """Deletes a run."""
    _manager(settings).delete(options.run)
    print_json({"run_id": options.run, "deleted": True}) if options.json else print(f"deleted {options.run}")
    return 0


def _report(options: argparse.Namespace, manager: "JobManager") -> int:
    info = manager.info(options.run)
    if options.json:
        print_json({"run_id": info.id, "status": info.status, "reason": info.reason, "max_steps": info.max_steps})
    else:
        print(f"{info.id}: {info.status}{_bracketed(info.reason)}")
    if info.status == "queued" and not manager.app_is_running():
        print("No app runs on this home folder; the run starts when one does.", file=sys.stderr)
    return 0


def _manager(settings: Settings) -> "JobManager":
    from peft_studio.jobs.manager import JobManager  # other commands start sooner without it

    return JobManager(settings)


def _bracketed(text: str) -> str:
    return f"  ({text})" if text else ""
