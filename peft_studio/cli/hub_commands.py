"""Adapters to and from the Hugging Face Hub, on the command line."""

import argparse

from peft_studio.cli.printing import Add, open_manager, print_json
from peft_studio.settings import Settings, prepare_home


def add_commands(add: Add) -> None:
    """Registers the commands."""
    push = add("push", _push, "Put a run's adapter with its card on the Hub; HF_TOKEN or 'hf auth login' says whose.")
    push.add_argument("run", metavar="RUN_ID")
    push.add_argument("repository", metavar="USER/NAME", help="a repository that does not exist yet")
    push.add_argument("--private", action="store_true", help="only its owner may see it")
    pull = add("pull", _pull, "Take in an adapter of the Hub, to answer and to be compared beside runs.")
    pull.add_argument("repository", metavar="USER/NAME")
    pull.add_argument("--anonymous", action="store_true", help="send no token: only what everybody may read")


def _push(options: argparse.Namespace, settings: Settings) -> int:
    from huggingface_hub import get_token

    from peft_studio.archives.hub_push import push_adapter
    from peft_studio.runs.store import RunStore

    paths = RunStore(settings.runs_dir).paths(options.run)
    address = push_adapter(paths, options.repository, get_token(), options.private)
    print_json({"url": address}) if options.json else print(address)
    return 0


def _pull(options: argparse.Namespace, settings: Settings) -> int:
    from huggingface_hub import get_token

    from peft_studio.archives.hub_adapter import fetch_adapter

    prepare_home(settings)
    manager = open_manager(settings)
    manager.keeper.check_quota(manager.library.list())
    run_id = fetch_adapter(options.repository, manager.store, False if options.anonymous else get_token() or False)
    print_json({"run_id": run_id}) if options.json else print(run_id)
    return 0
