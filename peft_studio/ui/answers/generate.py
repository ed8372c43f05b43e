"""The Generate tab: one prompt, the base model and up to five adapters, their answers streaming side by side."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from peft_studio.config.sampling import Sampling
from peft_studio.errors import BadChatError, ConfigError, LimitError, StudioError
from peft_studio.models.catalog import MODELS
from peft_studio.tasks import TASKS, get_task
from peft_studio.tasks.base import Row, Task
from peft_studio.tasks.chats import as_transcript, question_of
from peft_studio.ui.answers.adapter_choices import AskableRows, adapters, offered, usable
from peft_studio.ui.context import QUIET, Studio, guard, guard_api
from peft_studio.ui.form import controls, read_values
from peft_studio.ui.hub_share import build as build_hub_share
from peft_studio.ui.shell import island

MAX_ADAPTERS = 5
AT_ONCE, PATIENCE_SECONDS = 4, 20.0
"""Answers to programs at a time, and for how long another one waits."""
MAIN_SETTINGS = ("max_new_tokens", "temperature")
MORE_SETTINGS = tuple(name for name in Sampling.model_fields if name not in MAIN_SETTINGS)


def facts(task: Task, row: Row | None, text: str) -> list[dict[str, Any]] | None:
    """Which attribute values of a row an answer states; None when the task has none."""
    judge = task.realised
    if row is None or judge is None or not row.slots:
        return None
    found = judge(row.slots, text)
    return [{"name": name, "value": row.slots[name], "ok": ok} for name, ok in found.items()]


def stream(studio: Studio, prompt: str, runs: list[str], sampling: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Yields all columns so far: ``{"name", "text", "done", ...}``, the base model first.

    Raises:
        ConfigError: The prompt is empty, there are too many adapters, or they belong to different base models.
        LimitError: Whoever asks had too much generated in the last minute.
        EngineError: The engine cannot be reached.
    """
    if not isinstance(prompt, str) or not isinstance(runs, list) or not isinstance(sampling, dict):
        raise ConfigError("The prompt is a text, the runs are a list of ids, and sampling is a mapping of settings.")
    if not prompt.strip():
        raise ConfigError("The prompt is empty. Write something, or pick a row of the test set below.", "prompt")
    if len(runs) > MAX_ADAPTERS:
        raise ConfigError(f"{len(runs)} adapters are chosen; at most {MAX_ADAPTERS} fit side by side.")
    infos = [studio.manager.library.info(str(run)) for run in runs]
    models = sorted({info.model for info in infos}) or [next(iter(MODELS))]
    if len(models) > 1:
        raise ConfigError(f"The chosen adapters belong to different base models: {', '.join(models)}.")
    asked = sampling.get("max_new_tokens")
    most = asked if type(asked) is int and asked > 0 else Sampling().max_new_tokens
    studio.manager.share.budgets.take_generation(most * (1 + len(runs)))
    titles = ["Base model", *(info.name or info.title for info in infos)]
    with contextlib.closing(studio.manager.engine.generate(models[0], runs, prompt, sampling)) as answer:
        for message in answer:
            columns = message["columns"]
            yield [
                {**column, "title": title, **_reply(message, prompt, column)}
                for column, title in zip(columns, titles, strict=True)
            ]


def _reply(message: dict[str, Any], prompt: str, column: dict[str, Any]) -> dict[str, str]:
    """The prompt that goes on with what a column answered, where the models were trained on conversations."""
    if not message.get("chat") or not column["done"] or not column["text"].strip():
        return {}
    with contextlib.suppress(BadChatError):  # which the engine has told
        turns = question_of(prompt).chat
        if turns is not None:
            return {"reply": as_transcript([*turns.turns[:-1], ("assistant", column["text"])]) + "\n\nUser: "}
    return {}


def build(studio: Studio) -> None:
    """Lays the tab out and wires it."""
    sets = AskableRows(studio)
    first = sets.row(next(iter(TASKS)), 1)
    with gr.Row(equal_height=False, elem_classes="ps-split"):
        with gr.Column(scale=4, min_width=300, elem_classes="ps-form"):
            chosen = gr.Dropdown(
                [], multiselect=True, max_choices=MAX_ADAPTERS, label="Adapters", elem_id="adapters",
                info="Finished runs, beside the base model. Those selected on the Runs tab come along.",
            )  # fmt: skip
            others = island("note", elem_id="adapters-note")
            prompt = gr.Textbox(
                label="Prompt", lines=4, elem_id="prompt", placeholder="What shall they continue?",
                value=first.prompt if first else "",
            )  # fmt: skip
            settings = controls(Sampling, MAIN_SETTINGS)
            with gr.Accordion("More settings", open=False, elem_classes="ps-more"):
                settings.update(controls(Sampling, MORE_SETTINGS))
            with gr.Row(elem_classes="ps-buttons"):
                go = gr.Button("Generate", variant="primary", elem_id="generate-button")
                stop = gr.Button("Stop", elem_id="generate-stop")
            build_hub_share(studio, chosen, lambda: adapters(studio))
        with gr.Column(scale=9, min_width=320, elem_classes="ps-side"):
            task, number = _row_picker(sets, prompt)
            columns = island("columns", elem_id="columns")
    inputs = {prompt, chosen, task, number, *settings.values()}

    def stream_answers(values: dict[Any, Any]) -> Iterator[dict[str, Any]]:
        sampling = read_values(Sampling, {name: values[item] for name, item in settings.items()})
        try:
            asked, row = sets.task(values[task]), sets.row(values[task], values[number])
            row = row if row and row.prompt.strip() == values[prompt].strip() else None
            references = list(row.references) if row and not asked.labels else []
            for state in stream(studio, values[prompt], values[chosen] or [], sampling):
                for column in state:
                    if column["done"]:
                        column["facts"] = facts(asked, row, column["text"])
                        column["right"] = row.target.strip() if row else None
                yield {"columns": state, "asked": {"prompt": values[prompt], "references": references}}
        except StudioError as exc:
            yield {"error": str(exc), "at": time.time()}

    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    running = gr.on([go.click, prompt.submit], stream_answers, inputs, columns, concurrency_limit=4, **hidden)
    stop.click(None, None, None, cancels=[running], js="() => studio.generationStopped()", api_visibility="private")
    _wire_adapters(studio, sets, chosen, others, (task, number, prompt))
    _api(studio)


def _wire_adapters(
    studio: Studio,
    sets: AskableRows,
    chosen: gr.Dropdown,
    others: Any,
    shown: tuple[gr.Dropdown, gr.Number, gr.Textbox],
) -> None:
    """Takes the runs over that are selected on the Runs tab, and offers only what goes with the chosen adapters."""
    task, number, prompt = shown
    selection, carried = gr.Textbox(visible=False), gr.State("")

    def carry(selected: str, before: str, runs: list[str] | None) -> tuple[Any, str]:
        told, known = runs or [], usable(studio)
        if selected and selected != before:
            wanted = [info for info in known if info.id in selected.split(",")]
            fit = offered(known, [info.id for info in wanted[:1]])[0]
            told = [info.id for info in wanted if info in fit][:MAX_ADAPTERS] or told
        return gr.update(choices=adapters(studio, told), value=told), selected

    @guard
    def fit(runs: list[str] | None, name: str, position: int | None, text: str) -> tuple[Any, Any, Any]:
        told = runs or []
        note = offered(usable(studio), told)[1]
        infos = [studio.manager.library.info(run) for run in told]
        choices = sets.choices(told)
        untouched = not text.strip() or ((row := sets.row(name, position)) and row.prompt.strip() == text.strip())
        known = name if name in dict(choices).values() else next(iter(TASKS))
        if infos and untouched and name not in map(sets.of, infos):
            known = sets.of(infos[0])
        return gr.update(choices=adapters(studio, told)), {"text": note}, gr.update(choices=choices, value=known)

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    selected = "(_selection, carried, runs) => [studio.selected.join(), carried, runs]"
    studio.tab["generate"].select(carry, [selection, carried, chosen], [chosen, carried], js=selected, **quiet)
    chosen.change(fit, [chosen, task, number, prompt], [chosen, others, task], **quiet)


def _row_picker(sets: AskableRows, prompt: gr.Textbox) -> tuple[gr.Dropdown, gr.Number]:
    """Controls that put a row of a test set into the prompt and show its references."""
    first = next(iter(TASKS))
    with gr.Column(elem_classes="ps-card ps-rowpick"):
        with gr.Row(elem_classes="ps-rowline"):
            task = gr.Dropdown(sets.choices([]), label="Test set", scale=2, elem_id="row-task", filterable=False)
            number = gr.Number(label="Row", precision=0, scale=1, value=1, elem_id="row-number")
            another = gr.Button("Random row", scale=1, elem_id="row-random")
        references = island("references", _references(get_task(first), sets.row(first, 1)), elem_id="references")

    @guard
    def show(name: str, position: int | None) -> tuple[Any, Any]:
        if not position:  # an empty box is 0
            return gr.skip(), None
        row = sets.row(name, position)
        if row is None:
            count = len(sets.task(name).load("test"))
            raise ConfigError(f"Row {position} does not exist; the test set has rows 1 to {count}.", "row")
        return row.prompt, _references(sets.task(name), row)

    @guard
    def draw(name: str) -> int:
        return random.randint(1, len(sets.task(name).load("test")))

    gr.on([number.change, task.change], show, [task, number], [prompt, references], **QUIET)
    another.click(draw, task, number, **QUIET)
    return task, number


def _references(task: Task, row: Row | None) -> dict[str, Any]:
    """What an answer to a row is compared with, and whether that is a label."""
    return {"references": list(row.references) if row else [], "label": bool(task.labels)}


def _api(studio: Studio) -> None:
    places = threading.BoundedSemaphore(AT_ONCE)

    @guard_api
    def generate(prompt: str, runs: list[str], sampling: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Let the base model and the adapters of runs continue a prompt; answers are side by side, the base's first.

        Args:
            prompt: The text to continue, in the form of the task that the runs were trained on.
            runs: Ids of up to five finished runs on one base model; the empty list for the base model alone.
            sampling: Such as {"max_new_tokens": 40, "temperature": 0}; what is left out has its default.
        """
        if not places.acquire(timeout=PATIENCE_SECONDS):
            raise LimitError(f"{AT_ONCE} answers are being written; ask again in some seconds.", PATIENCE_SECONDS)
        try:
            return list(stream(studio, prompt, runs, sampling or {}))[-1]
        finally:
            places.release()

    gr.api(generate, api_name="generate", queue=False)
