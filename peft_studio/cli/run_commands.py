"""Commands of the command line that change runs and their queue, whether or not an app is running."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from peft_studio.cli.printing import Add, open_manager, print_json
from peft_studio.jobs.actions import ACTIONS, Action
from peft_studio.runs.queue import NORMAL
from peft_studio.settings import Settings, prepare_home

if TYPE_CHECKING:
    from peft_studio.jobs.manager import JobManager


def add_commands(add: Add) -> None:
    """Registers the commands of the table of actions; those of the queue follow the word ``queue``, which lists."""
    for action in ACTIONS:
        if action.on == "run" and action.command and " " not in action.command:
            _add_parameters(add(action.command, _delete if action.name == "delete" else _act, action.words), action)
    queue = add("queue", _queue, "Show the queue, or change it.")
    queue.set_defaults(action=None)
    changes = queue.add_subparsers(metavar="CHANGE")
    for action in ACTIONS:
        if action.command.startswith("queue "):
            name = action.command.removeprefix("queue ")
            found = changes.add_parser(name, help=action.words, description=action.words)
            found.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            found.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            _add_parameters(found, action)


def _add_parameters(parser: argparse.ArgumentParser, action: Action) -> None:
    parser.set_defaults(action=action)
    if action.on == "run":
        parser.add_argument("run", metavar="RUN_ID")
    for one in action.parameters:
        shown: dict[str, Any] = {"type": one.kind, "choices": one.allowed or None, "help": one.words or None}
        if one.option:
            parser.add_argument(f"--{one.name}", required=True, metavar="PLACE", **shown)
        else:
            parser.add_argument(one.name, metavar=None if one.allowed else (one.query or one.name).upper(), **shown)


def _do(options: argparse.Namespace, manager: "JobManager") -> None:
    action: Action = options.action
    values = {one.name: getattr(options, one.name) for one in action.parameters}
    action.do(manager, getattr(options, "run", None), values)


def _act(options: argparse.Namespace, settings: Settings) -> int:
    """Does something to a run and says what became of it; one that is to go on is trained, unless an app does that."""
    manager = open_manager(settings)
    _do(options, manager)
    info = manager.library.info(options.run)
    if options.action.goes_on and not manager.app_is_running():
        from peft_studio.cli.follow import follow_to_end
        from peft_studio.cli.launchers import go_on

        paths = manager.store.paths(info.id)
        return follow_to_end(manager, paths, go_on(manager, paths), info.max_steps or 0, options.json)
    if options.json:
        print_json({"run_id": info.id, "status": info.status, "reason": info.reason, "max_steps": info.max_steps})
    else:
        print(f"{info.id}: {info.status}{_bracketed(info.reason)}")
    return 0


def _delete(options: argparse.Namespace, settings: Settings) -> int:
    _do(options, open_manager(settings))
    print_json({"run_id": options.run, "deleted": True}) if options.json else print(f"deleted {options.run}")
    return 0


def _queue(options: argparse.Namespace, settings: Settings) -> int:
    """Changes the queue if that is asked for, and prints it."""
    manager = open_manager(settings)
    if options.action is not None:
        if options.action.on == "queue":
            prepare_home(settings)
        _do(options, manager)
    waiting = [info for info in manager.library.list() if info.status == "queued"]
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


def _bracketed(text: str) -> str:
    return f"  ({text})" if text else ""
