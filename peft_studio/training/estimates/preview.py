"""What a model would read of a task: the first rows token by token, lengths, labels, and what does not fit.

Made with the tokenizer and the model's config alone; no weights are read. Rows are encoded by the very format that
training uses, so what is shown as cut is what training cuts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_studio.config.resolved_run import ResolvedRun
from peft_studio.config.run_config import RunConfig
from peft_studio.errors import DataError
from peft_studio.models.layouts import Layout
from peft_studio.tasks import CUSTOM, custom_data
from peft_studio.tasks.base import SPLITS, Row, Split, Task, some_rows
from peft_studio.training.estimates.loadable import check_loadable
from peft_studio.training.formats.formats import Continuation, Format, SourceTarget, format_for
from peft_studio.training.formats.rows import IGNORED, EncodedExample, EncodedRows, end_of_text
from peft_studio.training.formats.segments import token_text
from peft_studio.training.formats.target_logits import context_of, row_limit
from peft_studio.training.formats.token_cache import encode_once
from peft_studio.training.load import load_config, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_ROWS = 5
SHOWN_TOKENS = 1500  # of one row; enough to see how it is made, and no burden for a page
MAX_ROWS = 20_000  # training rows that are tokenized for the counts
BINS = 24
_ENDLESS = 1 << 30


def preview(run: ResolvedRun) -> dict[str, Any]:
    """Shows what training would see, as plain values.

    Returns:
        ``splits`` (per split: ``rows``, ``used``, ``encoded``, ``cut``, ``dropped``), ``rows`` (the first training
        rows: ``segments`` of ``text``, ``part`` and ``tokens``, ``tokens``, ``cut``, ``dropped``, ``label``),
        ``lengths`` (histogram of training rows in tokens), ``labels`` (rows per label and split), ``skipped`` (rows
        left out of the files, by reason), ``notes`` (sentences on the files), ``end`` (the ``token`` that ends an
        answer, and how many of the ``rows`` are ``trained`` to end with it; None of a classifier), ``max_length``,
        ``task``, ``model`` and ``kind`` of the format.

    Raises:
        ConfigError: The model cannot do such a task.
        DataError: A file cannot be used, or no row fits.
        ModelError: The model cannot be loaded whole.
    """
    check_loadable(run)
    config, task = run.config, run.task
    layout, form, length = _form_of(run)
    rows = {split: task.load(split) for split in SPLITS}
    used = {
        split: some_rows(found, MAX_ROWS if split == "train" else config.training.eval_rows)
        for split, found in rows.items()
    }
    encoded = {split: form.encode(found, length) for split, found in used.items()}
    return {
        "task": task.title,
        "model": config.model.id,
        "kind": task.kind if form.classifies else layout.kind,
        "max_length": length,
        "splits": {split: _counts(rows[split], used[split], encoded[split]) for split in SPLITS},
        "rows": [_show(form, row, length) for row in rows["train"][:SHOWN_ROWS]],
        "lengths": _histogram(_lengths(form, used["train"], encoded["train"]), length),
        "labels": _labels(task, rows),
        "end": _end(form, encoded["train"]),
        **_notes(config, encoded["train"]),
    }


def _form_of(run: ResolvedRun) -> tuple[Layout, Format, int]:
    """The model's layout, how rows become tokens for it, and of how many tokens the longest may be."""
    config = run.config
    model = load_config(config.model.id)
    layout = run.layout_of_type(model.model_type)
    form = format_for(layout, load_tokenizer(config.model.id), run.task.labels)
    context = config.lsg.length if config.lsg else context_of(model)
    return layout, form, row_limit(config.training.max_length, context, getattr(config.method, "virtual_tokens", 0))


def encode_ahead(run: ResolvedRun, cache: Path) -> None:
    """Tokenizes a run's training rows into the cache, while its form still stands on the page.

    Rows that would take long are left to the run.

    Raises:
        StudioError: The run would fail for the same reason.
    """
    if not run.task.reads_library and len(rows := run.task.load("train")) <= MAX_ROWS:
        _, form, length = _form_of(run)
        encode_once(form, rows, length, cache)


def _counts(rows: Sequence[Row], used: Sequence[Row], encoded: EncodedRows) -> dict[str, int]:
    return {
        "rows": len(rows),
        "used": len(used),
        "encoded": len(encoded.examples),
        "cut": encoded.cut,
        "dropped": encoded.dropped,
    }


def _end(form: Format, encoded: EncodedRows) -> dict[str, Any] | None:
    if form.classifies:
        return None
    end = end_of_text(form.tokenizer)
    trained = sum(example.ids[-1] == end for example in encoded.examples)
    return {"token": form.tokenizer.convert_ids_to_tokens(end), "trained": trained, "rows": len(encoded.examples)}


def _labels(task: Task, rows: Mapping[Split, Sequence[Row]]) -> dict[str, dict[str, int]]:
    counts = {split: Counter(row.target for row in found) for split, found in rows.items()}
    return {label: {split: counts[split][label] for split in SPLITS} for label in task.labels}


def _notes(config: RunConfig, train: EncodedRows) -> dict[str, Any]:
    notes = []
    if train.altered:
        notes = [
            f"In {train.altered:,} of {len(train.examples):,} training rows this tokenizer cannot write the answer as "
            "it stands: it changes spaces, line breaks or capitals, or lacks some characters."
        ]
    if config.task.id != CUSTOM:
        return {"skipped": {}, "notes": notes}
    from peft_studio.tasks.custom import load_rows

    found = load_rows(custom_data(config.task))
    return {"skipped": dict(found.skipped), "notes": [*found.notes, *notes]}


def _lengths(form: Format, rows: Sequence[Row], encoded: EncodedRows) -> list[int]:
    """Tokens of every row before anything is cut; for models with a source and a target, of the longer of the two."""
    if encoded.cut or encoded.dropped:
        encoded = form.encode(rows, _ENDLESS)
    if form.classifies:
        return [example.prompt_length for example in encoded.examples]
    if isinstance(form, SourceTarget):
        return [max(example.prompt_length, example.targets) for example in encoded.examples]
    return [len(example.ids) for example in encoded.examples]


def _histogram(lengths: Sequence[int], max_length: int) -> dict[str, Any]:
    """Counts by length; rows far beyond ``max_length`` are all counted in the last bin."""
    longest = max(lengths)
    width = max(1, -(-min(longest, 2 * max_length) // BINS))
    number = max(1, -(-min(longest, 2 * max_length) // width))
    counts = [0] * number
    for length in lengths:
        counts[min((length - 1) // width, number - 1)] += 1
    return {
        "width": width,
        "bins": [place * width + 1 for place in range(number)],
        "counts": counts,
        "max_length": max_length,
        "longest": longest,
        "median": sorted(lengths)[len(lengths) // 2],
    }


def _show(form: Format, row: Row, max_length: int) -> dict[str, Any]:
    """One row, token by token."""
    label = row.target if form.classifies else None
    whole = _encode(form, row, _ENDLESS)
    kept = _encode(form, row, max_length)
    if whole is None or kept is None:
        text = row.prompt if form.classifies else f"{row.prompt}{row.target}"
        parts: list[tuple[list[int], str]] = [(list(form.tokenizer(text, verbose=False)["input_ids"]), "cut")]
    else:
        parts = list(_parts(form, whole, kept))
    segments = [segment for ids, part in parts for segment in _segments(form.tokenizer, ids, part)]
    tokens = {name: sum(len(ids) for ids, part in parts if part == name) for name in ("prompt", "target", "cut")}
    shown = segments[:SHOWN_TOKENS]
    return {
        "segments": shown,
        "more": len(segments) - len(shown),
        "tokens": tokens,
        "dropped": kept is None,
        "label": label,
    }


def _encode(form: Format, row: Row, max_length: int) -> EncodedExample | None:
    try:
        return form.encode([row], max_length).examples[0]
    except DataError:
        return None


def _parts(form: Format, whole: EncodedExample, kept: EncodedExample) -> Iterator[tuple[list[int], str]]:
    """A row's ids in order, each piece with what becomes of it."""
    if isinstance(form, Continuation):  # which loses its beginning
        yield whole.ids[: len(whole.ids) - len(kept.ids)], "cut"
        for scored, places in groupby(zip(kept.ids, kept.labels, strict=True), lambda place: place[1] != IGNORED):
            yield [token for token, _ in places], "target" if scored else "prompt"
        return
    full, left = whole.ids[: whole.prompt_length], kept.ids[: kept.prompt_length]
    start = max(len(left) - 1, 0)  # others lose what stands before their own end mark
    lost = len(full) - len(left)
    if not lost:
        start = len(full)
    yield full[:start], "prompt"
    yield full[start : start + lost], "cut"
    yield full[start + lost :], "prompt"
    if not form.classifies:
        yield kept.ids[kept.prompt_length :], "target"


def _segments(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], part: str) -> list[dict[str, Any]]:
    """Tokens as texts; tokens that only together make a character share one segment."""
    found: list[dict[str, Any]] = []
    start = 0
    for end in range(1, len(ids) + 1):
        text = token_text(tokenizer, ids, start, end)
        if text.endswith("\ufffd") and end - start < 4 and end < len(ids):
            continue  # the beginning of a character
        found.append({"text": text, "part": part, "tokens": end - start})
        start = end
    return found
