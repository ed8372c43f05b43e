"""Starts PEFT Studio: reads the command line and the environment, and serves the page until it is told to stop."""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn would believe proxies by itself; the gate tells whom they speak for

from peft_studio.errors import StorageError, StudioError
from peft_studio.files import write_privately
from peft_studio.machine.path_policy import stand_in_empty_folder, use_home
from peft_studio.settings import Access, Settings, load_settings
from peft_studio.tasks.kept_rows import use_folder
from peft_studio.tasks.reading.table_cache import read_elsewhere


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; what is not given comes from the environment."""
    parser = argparse.ArgumentParser(description="PEFT Studio: explore parameter-efficient fine-tuning.")
    parser.add_argument("--host", help="address to listen on (GRADIO_SERVER_NAME)")
    parser.add_argument("--port", help="port to listen on (GRADIO_SERVER_PORT; 7860)")
    parser.add_argument("--home", help="folder for runs and caches (PEFT_STUDIO_HOME; ~/.peft-studio)")
    parser.add_argument("--access", help="who uses it (PEFT_STUDIO_ACCESS): private, class, public or demo")
    parser.add_argument(
        "--no-token", action="store_true", default=None,
        help="private, and whoever comes from this machine is its owner (PEFT_STUDIO_NO_TOKEN=1)",
    )  # fmt: skip
    parser.add_argument("--max-running", type=int, help="training workers at a time (PEFT_STUDIO_MAX_RUNNING)")
    parser.add_argument("--keep-runs", type=int, help="runs to keep once they are over (PEFT_STUDIO_KEEP_RUNS; all)")
    parser.add_argument("--keep-days", type=float, help="days to keep runs (PEFT_STUDIO_KEEP_DAYS; for ever)")
    parser.add_argument("--quota-mb", type=float, help="megabytes that runs may take (PEFT_STUDIO_QUOTA_MB; no limit)")
    return parser.parse_args(argv)


def check_port(settings: Settings) -> None:
    """Makes sure that the port is free, before anything slow happens.

    Raises:
        StorageError: It is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as exc:
            raise StorageError(
                f"Port {settings.port} on {settings.host} cannot be used ({exc.strerror}). "
                "Perhaps another PEFT Studio runs there; choose another port with --port or GRADIO_SERVER_PORT."
            ) from exc


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the app; returns the exit status."""
    args = parse_args(argv)
    write_privately()
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        settings = load_settings(os.environ, **vars(args))
        check_port(settings)
        use_folder(settings.cache_dir)
        read_elsewhere()
        use_home(settings.home, settings.public)
        from peft_studio.experiments.conductor import Conductor
        from peft_studio.experiments.lab import Lab
        from peft_studio.jobs.manager import JobManager

        if settings.public:
            stand_in_empty_folder(settings.cache_dir)
        manager = JobManager(settings)
        manager.start()
        conductor = Conductor(Lab(manager))
    except StudioError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    try:
        from peft_studio.ui import build_app, launch

        demo = build_app(manager, settings)
        token = launch(demo, manager, settings)
        if not manager.trouble:
            conductor.start()
        if manager.trouble:
            print(f"warning: {manager.trouble}", file=sys.stderr)
        needs_none = settings.token or (settings.access is Access.PRIVATE and settings.no_token)
        address = f"http://{settings.host}:{settings.port}" + ("" if needs_none else f"/?token={token}")
        print(f"PEFT Studio is at {address}  (data in {settings.home})", flush=True)
        done.wait()
        demo.close(verbose=False)
    finally:
        conductor.close()
        manager.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
