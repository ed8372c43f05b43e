"""Looking after runs on the command line: what is wrong with one, what they take, and moving them elsewhere."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from peft_studio.cli.printing import Add, open_manager, print_json
from peft_studio.doctor.findings import Finding
from peft_studio.errors import ConfigError, StorageError
from peft_studio.jobs.actions import actions_on
from peft_studio.settings import Settings, prepare_home


def add_commands(add: Add) -> None:
    """Registers the commands; ``add`` makes one from its name, function and words."""
    add("doctor", _doctor, "Say what is wrong with a run, why, and what to change.").add_argument(
        "run", metavar="RUN_ID"
    )
    add("disk", _disk, "Say what runs take on the disk, and in all.")
    clean = add("clean", _clean, "Delete old runs as the limits say, and what was cut short; starred runs stay.")
    clean.add_argument("--dry-run", action="store_true", help="only say what would go")
    clean.add_argument("--keep-runs", type=int, metavar="N", help="runs to keep (PEFT_STUDIO_KEEP_RUNS)")
    clean.add_argument("--keep-days", type=float, metavar="N", help="days to keep runs (PEFT_STUDIO_KEEP_DAYS)")
    pack = add("export-run", _export_run, "Pack a whole run that is over: config, metrics, log, adapter, answers.")
    pack.add_argument("run", metavar="RUN_ID")
    pack.add_argument("file", type=Path, metavar="FILE")
    take_in = actions_on("home")["import"]
    add(take_in.command, _import_run, take_in.words).add_argument("file", type=Path, metavar="FILE")


def _doctor(options: argparse.Namespace, settings: Settings) -> int:
    found = open_manager(settings).library.findings(options.run)
    if options.json:
        print_json([finding.to_dict() for finding in found])
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


def _disk(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.runs.housekeeping import megabytes

    manager = open_manager(settings)
    use = manager.keeper.measure(manager.library.list())
    if options.json:
        print_json(use.to_dict())
        return 0
    for run in sorted(use.runs, key=lambda run: -run.total):
        part = f", {megabytes(run.checkpoint)} of it a checkpoint" if run.checkpoint else ""
        print(f"{megabytes(run.total):>10}  {run.id}{part}")
    print(f"{megabytes(use.total):>10}  in {len(use.runs)} runs; caches and uploads {megabytes(use.others)}, ", end="")
    print(f"left behind {megabytes(use.leftovers)}, free on the disk {megabytes(use.free)}")
    if use.warning:
        print(f"warning: {use.warning}", file=sys.stderr)
    return 0


def _clean(options: argparse.Namespace, settings: Settings) -> int:
    limits = {name: getattr(options, name) for name in ("keep_runs", "keep_days")}
    given = {name: value for name, value in limits.items() if value is not None}
    for name, value in given.items():
        if value < 0:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: 0 keeps all runs, and nothing is below it.", name)
    manager = open_manager(settings.model_copy(update=given))
    if options.dry_run:
        gone, freed = manager.keeper.outdated(manager.library.list()), 0
    else:
        gone, freed = manager.keep_house(), manager.keeper.remove_leftovers()
    if options.json:
        print_json({"deleted": gone, "leftovers_bytes": freed, "dry_run": options.dry_run})
    else:
        word = "would delete" if options.dry_run else "deleted"
        print("\n".join([f"{word} {run_id}" for run_id in gone] or ["No run is beyond the limits."]))
    return 0


def _export_run(options: argparse.Namespace, settings: Settings) -> int:
    open_manager(settings).export_run(options.run, options.file)
    size = options.file.stat().st_size
    print_json({"path": str(options.file), "bytes": size}) if options.json else print(options.file)
    return 0


def _import_run(options: argparse.Namespace, settings: Settings) -> int:
    if not options.file.is_file():
        raise StorageError(f"There is no file {options.file}.")
    prepare_home(settings)
    run_id = open_manager(settings).import_run(options.file)
    print_json({"run_id": run_id}) if options.json else print(run_id)
    return 0
