"""The command line: the same engine as the app, for terminals and scripts.

Results go to stdout, progress and errors to stderr; with ``--json`` the last line of stdout is one JSON value. Nothing
heavy is imported before a command needs it.
"""

import argparse
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.cli import (
    experiment_commands,
    hub_commands,
    inspect_command,
    listings,
    run_commands,
    storage_commands,
)
from peft_studio.cli.printing import Command, open_manager, print_json, print_notes, print_table, speak_any_terminal
from peft_studio.errors import ConfigError, StorageError, StudioError, shown, unforeseen
from peft_studio.machine.path_policy import use_home
from peft_studio.runs.queue import PRIORITIES
from peft_studio.runs.redact import redact
from peft_studio.settings import Settings, load_settings
from peft_studio.tasks.kept_rows import keeping

if TYPE_CHECKING:
    from peft_studio.runs.paths import RunPaths

EXIT_ERROR = 2  # what was asked for cannot be done


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name.
        env: Usually ``os.environ``.

    Returns:
        The exit code: 0, ``follow.EXIT_FAILED`` or ``EXIT_ERROR``.
    """
    if argv[:1] == ["pretrain"]:  # has options of its own, and its own help
        from peft_studio.pretraining.command import main as pretrain

        return int(pretrain(list(argv[1:])) or 0)
    speak_any_terminal()
    options = _parser().parse_args(argv)
    try:
        command: Command = options.command
        settings = load_settings(env, home=options.home, threads=options.threads)
        use_home(settings.home, settings.public)
        with keeping(settings.cache_dir):
            return command(options, settings)
    except StudioError as exc:
        print(f"error: {redact(str(exc))}", file=sys.stderr)
        return EXIT_ERROR
    except BrokenPipeError:
        return 0
    except OSError as exc:
        where = f"{shown(str(exc.filename))} cannot be used" if exc.filename else "The system refused"
        print(f"error: {where}: {exc.strerror or type(exc).__name__}.", file=sys.stderr)
        return EXIT_ERROR
    except (ArithmeticError, ValueError, TypeError, LookupError, RuntimeError) as exc:
        print(redact("".join(traceback.format_exception(exc))), file=sys.stderr)
        print(f"error: {redact(unforeseen(exc))}", file=sys.stderr)
        return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peft_studio", description="Parameter-efficient fine-tuning.")
    parser.add_argument("--home", metavar="FOLDER", help="where runs are kept (default: PEFT_STUDIO_HOME)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, words: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=words, description=words)
        found.set_defaults(command=command)
        # The same options after the command's name; SUPPRESS keeps them from undoing those before it.
        found.add_argument("--home", metavar="FOLDER", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        found.add_argument("--threads", type=int, metavar="N", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        found.add_argument("--json", action="store_true", help="print JSON")
        return found

    train = add("train", _train, "Train a preset and wait for it.")
    for found in (train, add("estimate", _estimate, "Say what a preset would train and cost.")):
        found.add_argument("preset", metavar="PRESET", help="name of a preset, or the path of a YAML file")
        found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as method.rank=4")
    train.add_argument("--name", default="", help="a title for the run")
    words = "add it to the queue of the app that is running, if one is, instead of starting it at once"
    train.add_argument("--priority", choices=PRIORITIES, default="", help=words)
    _add_generate(add("generate", _generate, "Let a base model and adapters continue a prompt."))
    add("runs", _runs, "List the runs.")
    add("methods", listings.methods, "List the methods.")
    add("tasks", listings.tasks, "List the tasks.")
    _add_hub(
        add("models", listings.models, "List the base models of the catalogue, or search the Hub."),
        add("data", listings.data, "List or search data sets of the Hub; 'data fetch ID' makes files of one."),
    )
    add("metrics", _metrics, "Print every recorded value of a run.").add_argument("run", metavar="RUN_ID")
    export = add("export", _export, "Pack a run's adapter with its model card and reproduce.py.")
    export.add_argument("run", metavar="RUN_ID")
    export.add_argument("--out", type=Path, metavar="FILE", help="default: RUN_ID.zip")
    what = export.add_mutually_exclusive_group()
    words = "put the data's rows in: training, validation, and test rows with answers"
    what.add_argument("--with-rows", action="store_true", help=words)
    what.add_argument("--merged", action="store_true", help="instead, base and adapter as one model for transformers")
    run_commands.add_commands(add)
    experiment_commands.add_commands(add)
    storage_commands.add_commands(add)
    inspect_command.add_commands(add)
    hub_commands.add_commands(add)
    commands.add_parser("pretrain", help="Pre-train an embedded base model.", add_help=False)
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    from peft_studio.config.sampling import Sampling

    parser.add_argument("--run", action="append", default=[], metavar="RUN_ID", help="repeat for more columns")
    parser.add_argument("--model", default="", help="base model; that of the first run by default")
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    for name, field in Sampling.model_fields.items():
        kind = int if field.annotation is int else float
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=field.default, metavar="N", help=field.description
        )


def _add_hub(models: argparse.ArgumentParser, data: argparse.ArgumentParser) -> None:
    for parser in (models, data):
        parser.add_argument("--search", default="", metavar="TEXT", help="search the Hub instead")
    data.add_argument("action", nargs="?", choices=("fetch",), help="get a data set and say how to use it")
    data.add_argument("id", nargs="?", default="", metavar="ID", help="name of the list, Hub id, or a folder")
    data.add_argument("--config", default="", metavar="NAME", help="which configuration of the data set")
    data.add_argument("--input", default="", metavar="COLUMN", help="what the model is given; guessed by default")
    data.add_argument("--target", default="", metavar="COLUMN", help="what it should answer; guessed by default")


def _train(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.cli.follow import follow_to_end
    from peft_studio.cli.launchers import take_up
    from peft_studio.config.advice import advice
    from peft_studio.config.presets import parse_preset
    from peft_studio.config.resolved_run import resolve

    config, manager = parse_preset(options.preset, options.set), open_manager(settings)
    run = resolve(config)
    for warning in advice(run):
        print(f"warning: {warning}", file=sys.stderr)
    for note in run.task.notes:
        print(f"note: {note}", file=sys.stderr)
    paths, hand = take_up(manager, config, options.name, options.priority)
    return follow_to_end(manager, paths, hand, config.training.max_steps, options.json)


def _estimate(options: argparse.Namespace, _settings: Settings) -> int:
    from peft_studio.config.presets import parse_preset
    from peft_studio.config.resolved_run import resolve

    run = resolve(parse_preset(options.preset, options.set))  # before the libraries load: a typo is told at once
    from peft_studio.training.estimates.estimate import estimate
    from peft_studio.training.quiet import be_quiet

    be_quiet()
    found = estimate(run)
    if options.json:
        print_json(found)
        return 0
    full = found["full"]
    rows: list[Sequence[Any]] = [("", "this method", "full fine-tuning")]
    for key in ("trainable_params", "adapter_bytes"):
        rows.append((key, f"{found[key]:,}", f"{full[key]:,}"))
    rows.append(("trainable_share", f"{found['trainable_share']:.4%}", f"{full['trainable_share']:.4%}"))
    for key, value in found["memory"].items():
        rows.append((f"memory: {key} (MB)", f"{value / 1e6:.1f}", f"{full['memory'][key] / 1e6:.1f}"))
    print_table([*rows, ("precision", found["precision"]["value"], found["precision"]["why"])])
    if found["guess"]:
        print(f"columns: {found['guess']}")
    for warning in found["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _generate(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.config.resolved_run import resolve
    from peft_studio.config.run_config import DEFAULT_MODEL
    from peft_studio.config.sampling import Sampling, parse_sampling
    from peft_studio.runs.store import RunStore

    sampling = parse_sampling({name: getattr(options, name) for name in Sampling.model_fields})
    store = RunStore(settings.runs_dir)
    adapters = [(run, store.config(run).model.id, store.paths(run).adapter) for run in options.run]
    if not options.prompt.strip():  # said before the libraries load
        raise ConfigError("The prompt is empty. Write some text for the models to continue.", "prompt")
    model = options.model or (adapters[0][1] if adapters else DEFAULT_MODEL)
    import torch

    from peft_studio.training.formats.chats import asked
    from peft_studio.training.inference.classify import label_columns
    from peft_studio.training.inference.generate import stream_columns
    from peft_studio.training.inference.model_pool import ModelPool, columns_of, common_variant
    from peft_studio.training.quiet import be_quiet

    be_quiet()
    torch.set_num_threads(settings.threads)
    pool = ModelPool()
    resolved = [resolve(store.config(run)) for run in options.run]
    variant = common_variant(resolved)
    models, tokenizer = columns_of(pool, model, adapters, variant), pool.base(model, variant)[1]
    if variant.labels:
        columns = label_columns(models, tokenizer, options.prompt, variant.labels)
    else:
        groups = pool.groups(models, model, variant)
        prompt = asked(options.prompt, any(run.task.chats for run in resolved))
        *_, columns = stream_columns(models, tokenizer, prompt, sampling, groups=groups)
    if options.json:
        print_json({"columns": columns})
    else:
        for column in columns:
            print(f"--- {column['name']} ({column['tokens']} tokens)\n{column['text']}")
    return 0


def _runs(options: argparse.Namespace, settings: Settings) -> int:
    runs = open_manager(settings).library.list()
    if options.json:
        print_json([run.to_dict() for run in runs])
    else:
        rows = [(run.id, run.status, run.method, run.model, run.step, run.best_eval_loss) for run in runs]
        print_table([("run", "status", "method", "model", "step", "best eval/loss"), *rows])
    return 0


def _metrics(options: argparse.Namespace, settings: Settings) -> int:
    library = open_manager(settings).library
    values, info = list(library.metrics(options.run)), library.info(options.run)
    if options.json:
        print_json(values)
        return 0
    marks = {(info.saved_step, "eval/loss"): "saved", (info.best_step, "eval/loss"): "best"}
    marks |= {(None, f"test/{name}"): f"tokenizer {used}" for name, used in info.tokenizers.items()}
    print_table([
        (step, name, value, marks.get((step, name)) or marks.get((None, name)))
        for step, name, value in (item.values() for item in values)
    ])  # fmt: skip
    print_notes(library.notes(options.run))
    return 0


def _export(options: argparse.Namespace, settings: Settings) -> int:
    from peft_studio.archives.adapter_archive import export_zip
    from peft_studio.runs.store import RunStore

    paths, out = RunStore(settings.runs_dir).paths(options.run), options.out or Path(f"{options.run}.zip")
    try:
        _export_merged(paths, out) if options.merged else export_zip(paths, out, rows=options.with_rows)
    except OSError as exc:
        raise StorageError(f"{out} could not be written: {exc.strerror or exc}.") from exc
    print_json({"path": str(out), "bytes": out.stat().st_size}) if options.json else print(out)
    return 0


def _export_merged(paths: "RunPaths", out: Path) -> None:
    import tempfile

    from peft_studio.archives.adapter_archive import exportable, pack_merged
    from peft_studio.training.merging import merge_adapter
    from peft_studio.training.quiet import be_quiet

    run = exportable(paths)
    be_quiet()
    with tempfile.TemporaryDirectory(prefix="merged-") as name:
        pack_merged(paths, Path(name), merge_adapter(run.resolved, paths.adapter, Path(name)), out)
