"""The ``README.md`` of an export: what was trained, on what, how well, how to load it, and what is in the zip."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_studio.archives.trained_run import EMBEDDED, FOLDER, HUB, TrainedRun

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


_SPLITS = {"eval": "validation", "test": "test"}
_TASKS = {"SEQ_CLS": "text-classification"}


def model_card(run: TrainedRun, rows: bool, repository: str = "") -> str:
    """The card of an exported adapter.

    Args:
        run: The run.
        rows: Whether rows of the data are with it.
        repository: Id of the Hub repository that it is for; empty for a zip.
    """
    return "\n\n".join([
        *_about(run, "peft"),
        "## Load it\n\n" + _loading(run, repository),
        "## Repeat it\n\n" + _repeating(run, rows),
        f"## What is in the {'repository' if repository else 'zip'}\n\n" + _contents(run, rows),
        "## Versions\n\n" + _listing(run.started["versions"]),
    ]) + "\n"  # fmt: skip


def merged_card(run: TrainedRun, difference: float) -> str:
    """The card of a merged model.

    Args:
        run: The run.
        difference: Largest difference of a logit between the merged model and base with adapter.
    """
    loader, name = run.opening.loader, run.base[0]
    return "\n\n".join([
        *_about(run, "transformers"),
        f"The adapter is folded into the weights of `{name}`, in float32. Loaded again by plain transformers, no "
        f"logit differed by more than {difference:.1e} from base and adapter side by side.",
        "## Load it\n\n```python\n"
        f"from transformers import {loader}, AutoTokenizer\n\n"
        f'model = {loader}.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        "```",
        "## Versions\n\n" + _listing(run.started["versions"]),
    ]) + "\n"  # fmt: skip


def _about(run: TrainedRun, library: str) -> list[str]:
    from huggingface_hub import ModelCardData  # takes half a second

    method, (base, where) = run.resolved.method, run.base
    head = ModelCardData(
        base_model=base if where == HUB else None, library_name=library, model_name=" ".join(run.title.split()),
        tags=["peft-studio", method.name, run.config.task.id], eval_results=_results(run),
    )  # fmt: skip
    data, training = run.started["data"], {**run.config.training.model_dump(), "precision": run.precision}
    labels = f"\n- Labels, in the order of the outputs: {', '.join(map(_quoted, run.opening.labels))}"
    return [
        f"---\n{head.to_yaml()}\n---",
        f"# {' '.join(run.title.split())}",
        f"{method.title} for the base model `{base}`, trained on the task *{run.task_title}* with PEFT Studio. "
        f"{method.summary}",
        f"- Method: [{method.paper.title}]({method.paper.url}), {method.paper.authors}, {method.paper.year}\n"
        f"- Parameters: {_listing(run.config.method.model_dump(exclude={'name'}))}\n"
        f"- Training: {run.steps:,} steps done; {_listing(training)}\n"
        f"- Trainable parameters: {_count(run.started.get('trainable_params'))} of "
        f"{_count(run.started.get('total_params'))}\n"
        f"- Data: {run.task_description} {_count(data.get('rows'))} training rows, fingerprint "
        f"`{data.get('fingerprint', 'unknown')}`" + (labels if run.opening.labels else ""),
        "## Metrics\n\n" + _figures(run),
        "Names that begin with `base/` are the base model's own figures. `eval/` was computed on "
        f"{run.config.training.eval_rows:,} validation rows at most, `test/` on the test rows, once, after training; "
        "no row of either was trained on. Test answers are decoded greedily.",
    ]


def _results(run: TrainedRun) -> "list[EvalResult] | None":
    """The adapter's own figures, as the Hub's ``model-index`` has them; None when none were recorded."""
    from huggingface_hub import EvalResult

    found, data = [], run.started["data"]
    for name, value in sorted(run.metrics.items()):
        kind, _, metric = name.partition("/")
        if kind in _SPLITS and metric:
            found.append(EvalResult(
                task_type=_TASKS.get(run.opening.task_type, "text-generation"), dataset_type=run.config.task.id,
                dataset_name=run.task_title, dataset_split=_SPLITS[kind], metric_type=metric, metric_value=value,
                metric_name=name, dataset_args={"fingerprint": str(data.get("fingerprint", "unknown"))},
            ))  # fmt: skip
    return found or None


def _loading(run: TrainedRun, repository: str) -> str:
    where = run.base[1]
    notes = ["Run this in the folder of this file."]
    if repository:
        notes.insert(0, f"Fetch the files: `hf download {repository} --local-dir .`")
    if where == FOLDER:
        notes.append("The base model is a folder of whoever trained this: put the path of your copy in its place.")
    if run.opening.needs_project:
        notes.append(
            "It needs parts of PEFT Studio: `pip install --no-deps .` in a checkout, beside torch, transformers, peft "
            "and pydantic."
        )
    code = f"{run.opening.code(run.base_expression)}\n\n{run.opening.use(run.config.training.max_length)}"
    return f"{' '.join(notes)}\n\n```python\n{code}\n```"


def _repeating(run: TrainedRun, rows: bool) -> str:
    if not run.repeats_plainly:
        return "`python -m peft_studio train preset.yaml` trains it again."
    if rows:
        return "`python reproduce.py` trains it again in plain transformers and peft."
    return (
        "`python reproduce.py` trains it again in plain transformers and peft. It needs the rows, which are not in "
        "this zip: export the run with its rows, or give the run's own data file with `--rows`."
    )


def _contents(run: TrainedRun, rows: bool) -> str:
    lines = ["the adapter (`adapter_config.json`, `adapter_model.safetensors`)"]
    if run.base[1] == EMBEDDED:
        lines.append(f"the base model (`{run.base[0]}/`)")
    if run.opening.labels:
        lines.append("the names of the outputs (`labels.json`)")
    if run.opening.linear:
        lines.append("what makes the base's transposed layers ordinary ones (`linear_base.py`)")
    lines.append("the run's settings and figures (`preset.yaml`, `metrics.json`)")
    lines.append(
        "rows of the data: training, validation, and test rows with answers" if rows else "no rows of the data"
    )
    return "\n".join(f"- {line}" for line in lines)


def _quoted(label: str) -> str:
    return f"`{label}`"


def _listing(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items()) or "defaults"


def _figures(run: TrainedRun) -> str:
    """The table of metrics, what is special about them in words below it."""
    words = []
    if run.best is not None:
        step, loss = run.best
        words.append(f"**Best validation loss: {loss:.4g}**, at step {step:,}.")
    if isinstance(run.saved_step, int):
        words.append(f"The adapter has the weights of step {run.saved_step:,}; `eval/loss` is theirs.")
    words += [f"`test/{name}` was computed with the tokenizer *{used}*." for name, used in run.tokenizers.items()]
    return "\n\n".join(filter(None, (_table(run.metrics), " ".join(words))))


def _table(metrics: Mapping[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in sorted(metrics.items()))
    return f"| metric | value |\n| --- | --- |\n{rows}" if rows else "None were recorded."


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number"
