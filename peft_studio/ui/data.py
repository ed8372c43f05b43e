"""The panel for one's own data: files, which column is what, and what comes of it."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from peft_studio.config.run_config import parse_task
from peft_studio.config.sections import TaskConfig
from peft_studio.errors import DataError, StudioError
from peft_studio.machine.path_policy import named, paths_are_named
from peft_studio.tasks import CUSTOM, custom_data
from peft_studio.tasks.base import SPLITS
from peft_studio.tasks.custom import load_rows, table_facts
from peft_studio.ui.context import QUIET
from peft_studio.ui.shell import island
from peft_studio.ui.uploads import MayKeep, keep_anything, keep_upload

TYPES = [".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet"]
FILES = ("train_file", "validation_file", "test_file")
COLUMNS = ("input_column", "target_column", "references_column")
CHAT_COLUMNS = ("chat_column", "history_column", "system_column")
OPTIONAL = {
    "references_column": "More accepted answers",
    "chat_column": "Whole chats",
    "history_column": "Earlier turns",
    "system_column": "System prompt",
}
"""Columns that may be missing, with what the form calls them."""
LOSS_ON = [("The assistant's turns", "assistant"), ("All turns", "all")]
KINDS = [("Write a text", "generation"), ("Choose a label", "classification")]
NONE = "(none)"
HINT = (
    "Drop a file of texts, labels or chats, one row per example: CSV, TSV, JSON, JSON Lines or Parquet, up to 200 MB."
)
PATH_HINT, TICKET_HINT = "or the path of a file on this machine", "or the name that an earlier upload was given"
_EXAMPLE_CHARACTERS = 600


def facts(task: dict[str, Any]) -> dict[str, Any]:
    """What comes of the panel's contents, for its island: rows, one prompt with its answer, or what is wrong."""
    if not task.get("train_file"):
        return {"hint": HINT}
    task = {name: value for name, value in task.items() if value}
    try:
        found = load_rows(custom_data(parse_task(task)))
    except StudioError as exc:
        return {"error": str(exc), **_columns(task)}
    return {
        "rows": {split: len(found.rows[split]) for split in SPLITS},
        "skipped": dict(found.skipped),
        "reason": found.reason,
        "notes": list(found.notes),
        "labels": list(found.labels),
        "prompt": found.first.prompt[:_EXAMPLE_CHARACTERS],
        "answer": found.first.target[:_EXAMPLE_CHARACTERS],
        **_columns(task),
    }


def _columns(task: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"columns": list(table_facts(Path(task["train_file"])).columns)}
    except DataError:
        return {}


class DataPanel:
    """The panel's controls and how they become a config's ``task`` and back.

    Attributes:
        may_keep: Refuses a file that is more than whoever asks may keep.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self.may_keep: MayKeep = keep_anything
        self.paths: dict[str, Any] = {}
        self.drops: dict[str, Any] = {}
        self.columns: dict[str, Any] = {}
        with gr.Column(visible=False, elem_id="data-panel", elem_classes="ps-data") as self.group:
            self.hub = island("hubdata", elem_id="hub-data", event="pick")
            self._file("train_file", "Training file")
            with gr.Accordion("Validation and test files", open=False, elem_classes="ps-more"):
                gr.Markdown("Without these, rows of the training file are set aside.", elem_classes="ps-hint")
                self._file("validation_file", "Validation file")
                self._file("test_file", "Test file")
            self.kind = gr.Radio(
                KINDS, value="generation", label="The model is to", elem_classes="ps-choice", elem_id="data-kind"
            )
            with gr.Column(elem_classes="ps-params ps-columns-pick"):
                for name in COLUMNS:
                    self.columns[name] = self._column(name)
            with gr.Accordion("Chats", open=False, elem_classes="ps-more"):
                gr.Markdown(
                    "A column of whole chats takes the place of input and target; earlier turns or a system prompt "
                    "make a chat of each row.",
                    elem_classes="ps-hint",
                )
                for name in CHAT_COLUMNS:
                    self.columns[name] = self._column(name)
                self.loss_on = gr.Radio(
                    LOSS_ON, value="assistant", label="Loss on", elem_classes="ps-choice", elem_id="data-loss_on"
                )
            self.template = gr.Textbox(
                label="Prompt template", lines=2, max_lines=8, elem_id="data-template",
                placeholder="Empty: the input column alone",
                info="Write {column} where a row's text belongs, and {{ }} for braces.",
            )  # fmt: skip
            self.facts = island("data", {"hint": HINT}, elem_id="data-facts")

    def _file(self, name: str, title: str) -> None:
        self.drops[name] = gr.File(
            label=title, file_types=TYPES, height=112, elem_id=f"drop-{name}", elem_classes="ps-drop"
        )
        self.paths[name] = gr.Textbox(
            label=title, show_label=False, max_lines=1, elem_id=f"data-{name}", elem_classes="ps-path",
            placeholder=PATH_HINT if paths_are_named() else TICKET_HINT,
        )  # fmt: skip

    def _column(self, name: str) -> Any:
        optional = name in OPTIONAL
        title = OPTIONAL.get(name) or f"{name.removesuffix('_column').capitalize()} column"
        choices, value = ([NONE], NONE) if optional else ([], None)
        return gr.Dropdown(choices, value=value, label=title, allow_custom_value=True, elem_id=f"data-{name}")

    def inputs(self) -> list[Any]:
        """Every control that makes up the config's ``task``."""
        return [*self.paths.values(), self.kind, *self.columns.values(), self.loss_on, self.template]

    def outputs(self) -> list[Any]:
        """What ``show`` and ``look_at`` may change."""
        return [self.group, *self.inputs(), *self.drops.values(), self.facts]

    def task(self, values: dict[Any, Any]) -> dict[str, Any]:
        """The panel as a config's ``task``, not yet validated."""
        held = {name: (values[item] or "").strip() for name, item in self.paths.items()}
        more = values[self.kind] == "generation"  # a label has no other accepted answers
        held |= {name: str(values[item] or "") for name, item in self.columns.items() if values[item] != NONE}
        held["references_column"] = held.get("references_column", "") if more else ""
        if not more:
            held |= dict.fromkeys(CHAT_COLUMNS, "")
        held |= {"kind": values[self.kind], "template": values[self.template] or ""}
        if any(held.get(name) for name in CHAT_COLUMNS) and values[self.loss_on] != "assistant":
            held["loss_on"] = values[self.loss_on]
        return {"id": CUSTOM, **{name: value for name, value in held.items() if value}}

    def show(self, task: TaskConfig) -> dict[Any, Any]:
        """Updates that show a config's task: its files and columns, or no panel for a built-in task."""
        if task.id != CUSTOM:
            return {self.group: gr.update(visible=False)}
        updates: dict[Any, Any] = {self.group: gr.update(visible=True)}
        updates |= {self.paths[name]: getattr(task, name) for name in FILES}
        shown: Any = task
        names: tuple[str, ...] = ()
        with contextlib.suppress(DataError):  # what is wrong is among the facts
            names = table_facts(Path(task.train_file)).columns
            shown = load_rows(custom_data(task)).data  # with guesses where nothing was given
        updates |= self._filled(names, {name: getattr(shown, name) for name in (*COLUMNS, *CHAT_COLUMNS)})
        updates |= {self.kind: shown.kind or "generation", self.template: shown.template, self.loss_on: task.loss_on}
        return updates | {self.facts: facts(task.model_dump())}

    def look_at(self, path: str, *chosen: str | None) -> dict[Any, Any]:
        """Updates after a training file was named: its columns, and what they seem to be.

        Args:
            path: The file.
            *chosen: Columns chosen so far; they are kept when the file has them.
        """
        if not path.strip():
            return {self.facts: gr.skip()}  # Gradio takes an empty mapping for a value
        given: dict[str, Any] = {"id": CUSTOM, "train_file": path.strip()}
        try:
            table = table_facts(Path(path.strip()))
            found = table.guessed()
        except DataError:
            return {self.facts: facts(given)}
        source, target, chat = (*chosen, None, None, None)[:3]
        kept = {chat} if chat and chat != NONE else {source, target}
        if chosen and kept <= set(table.columns):
            return {self.facts: gr.skip()}
        columns = {name: getattr(found, name) for name in (*COLUMNS, *CHAT_COLUMNS)}
        updates = self._filled(table.columns, columns)
        updates |= {self.kind: found.kind, self.template: found.template}
        told = facts({**given, **columns, "kind": found.kind, "template": found.template})
        if "notes" in told:
            notes = dict.fromkeys([*found.notes, *told["notes"]])
            told |= {"reason": found.reason, "notes": list(notes)}
        return updates | {self.facts: told}

    def _filled(self, names: tuple[str, ...], chosen: dict[str, str]) -> dict[Any, Any]:
        updates = {}
        for name, value in chosen.items():
            empty = NONE if name in OPTIONAL else None
            choices = [*([NONE] if empty else []), *names]
            updates[self.columns[name]] = gr.update(choices=choices, value=value or empty)
        return updates

    def take(self, name: str, upload: str | None) -> dict[Any, Any]:
        """Updates after a file was dropped: it is kept, and the panel shows where."""
        if not upload:
            return {self.facts: gr.skip()}
        updates: dict[Any, Any] = {self.drops[name]: None}
        try:
            kept = named(keep_upload(Path(upload), self._home, self.may_keep))
        except StudioError as exc:
            return {**updates, self.facts: {"error": str(exc)}}
        updates[self.paths[name]] = kept
        return updates | (self.look_at(kept) if name == "train_file" else {})

    def wire(self) -> None:
        """Keeps files, guesses columns and shows what comes of it."""
        for name, drop in self.drops.items():
            drop.upload(partial(self.take, name), drop, self.outputs(), **QUIET)
        path, columns = self.paths["train_file"], [self.columns[name] for name in (*COLUMNS[:2], "chat_column")]
        gr.on([path.submit, path.blur], self.look_at, [path, *columns], self.outputs(), **QUIET)
        references = self.columns["references_column"]
        self.kind.change(lambda kind: gr.update(visible=kind == "generation"), self.kind, references, **QUIET)
        # Never "always_last" here: Gradio runs two such listeners of one event in turns for ever.
        chosen = [item.input for item in (self.kind, self.loss_on, *self.columns.values())]
        events = [*chosen, *(item.change for item in (*self.paths.values(), self.template))]
        gr.on(
            events, lambda values: facts(self.task(values)), set(self.inputs()), self.facts,
            trigger_mode="multiple", **QUIET,
        )  # fmt: skip
