"""Which files of a run that is over cannot be read, in words: what the run doctor says of a broken folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from peft_studio.errors import CheckpointError, ConfigError
from peft_studio.files import open_plain, read_json, weights_are_whole
from peft_studio.runs.event_log import whole
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import read_config


def damaged_files(paths: RunPaths, torn_lines: int = 0, ended_well: bool = False) -> tuple[str, ...]:
    """What is wrong with a run's files, one sentence for each; empty when nothing is.

    Args:
        paths: A run that no process works on.
        torn_lines: Lines of ``events.jsonl`` that no event could be read from, beyond those that kills explain.
        ended_well: Whether it finished, so that what a finished run has must be there.
    """
    return tuple(_sentences(paths, torn_lines, ended_well))


def _sentences(paths: RunPaths, torn_lines: int, ended_well: bool) -> Iterator[str]:
    try:
        os.listdir(paths.root)  # noqa: PTH208
    except OSError as exc:
        yield f"The folder cannot be read: {exc.strerror}."
        return
    try:
        read_config(paths.config)
    except ConfigError as exc:
        yield f"{str(exc)[:300]} What the run was to do is not known."
    for path in (paths.claim, paths.exit, paths.extended, paths.predicted):
        if os.path.lexists(path) and read_json(path) is None:
            yield f"{path.name} is damaged."
    yield from _lines(paths, torn_lines, ended_well)
    yield from _adapter(paths, ended_well)
    if os.path.lexists(paths.checkpoint):
        try:
            _check_checkpoint(paths.checkpoint)
        except CheckpointError as exc:
            yield f"The checkpoint is of no use, because {exc}: the run cannot go on from it."


def _lines(paths: RunPaths, torn_lines: int, ended_well: bool) -> Iterator[str]:
    try:
        with open_plain(paths.events) as file:
            empty = not file.read(1)
    except OSError:
        empty = True
    if empty and (ended_well or os.path.lexists(paths.claim)):
        yield "events.jsonl is missing or empty, and with it all losses and figures."
    if torn_lines:
        yield f"{torn_lines:,} lines of events.jsonl cannot be read; curves and figures are what the others say."
    if os.path.lexists(paths.predictions):
        try:
            with open_plain(paths.predictions) as file:
                text = file.read()
            broken = not text.endswith(b"\n") or not text.lstrip().startswith(b"{") or b"\0" in text
        except OSError:
            broken = True
        if broken:
            yield "predictions.jsonl is damaged; answers to test rows are missing."


def _adapter(paths: RunPaths, ended_well: bool) -> Iterator[str]:
    if not (ended_well or os.path.lexists(paths.adapter)):
        return
    if not weights_are_whole(paths.adapter / "adapter_model.safetensors"):
        yield "The adapter's weights are missing or damaged, so it can be neither used nor exported."
    elif read_json(paths.adapter / "adapter_config.json") is None:
        yield "adapter_config.json is missing or damaged, so the adapter can be neither used nor exported."


def _check_checkpoint(folder: Path) -> None:
    """A quick look; whoever goes on from it checks every byte.

    Raises:
        CheckpointError: It is damaged.
    """
    files = (read_json(folder / "state.json") or {}).get("files")
    if not isinstance(files, dict) or not files:
        raise CheckpointError("its state.json is damaged")
    for file in files.values():
        name = file.get("name") if isinstance(file, dict) else None
        if not isinstance(name, str) or not weights_are_whole(folder / name):
            raise CheckpointError(f"its file {name} is damaged")
        if whole(file.get("bytes")) != (folder / name).stat().st_size:
            raise CheckpointError(f"its file {name} has another length than when it was written")
