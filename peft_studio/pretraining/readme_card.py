"""Writes the model card of an embedded model from the figures of the run that made it."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CardFacts:
    """What a card reports; every figure was measured by the run.

    Attributes:
        name: The model's name.
        command: The command that makes the weights again.
        parameters: Parameters, tied ones once.
        plan: Settings of the run.
        tokens: Tokens trained on.
        seconds: Wall time of training, measuring excluded.
        text_bytes: Bytes of training text.
        digest: SHA-256 fingerprint of the training text.
        losses: Nats per predicted token on held-out text, by model and baseline.
        bits: The same in bits per byte; empty for models that rebuild broken text.
        probe: Copy-probe shares, 0 to 1; empty for the same.
        curve: Points of the run: ``tokens``, ``loss``, and probe figures where they were taken.
        samples: Greedy answers by prompt.
        machine: Processor threads, precision and library versions.
    """

    name: str
    command: str
    parameters: int
    plan: Mapping[str, object]
    tokens: int
    seconds: float
    text_bytes: int
    digest: str
    losses: Mapping[str, float]
    bits: Mapping[str, float]
    probe: Mapping[str, float]
    curve: Sequence[Mapping[str, float]] = ()
    samples: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""


@dataclass(frozen=True)
class _Wording:
    pipeline: str
    what: str
    architecture: str
    learns: str


_WORDINGS = {
    "nano-lm": _Wording(
        "text-generation", "decoder",
        "tied embeddings, biases on every linear layer. An ordinary Llama: `AutoModelForCausalLM` loads it",
        "It predicts every next token.",
    ),
    "nano-encoder": _Wording(
        "fill-mask", "encoder",
        "tied embeddings, biases on every linear layer, full attention. An ordinary ModernBERT: `AutoModelForMaskedLM`"
        "\nand `AutoModelForSequenceClassification` load it",
        "It guesses hidden tokens: 20 % of all, most of them shown as `<mask>`.",
    ),
    "nano-seq2seq": _Wording(
        "text2text-generation", "encoder-decoder",
        "half of the layers on each side, tied embeddings. An ordinary BART: `AutoModelForSeq2SeqLM` loads it",
        "It writes texts again of which 30 % have fallen into holes of about three tokens, one `<mask>` for each.",
    ),
}  # fmt: skip
_WORLD_ONLY = """All of it comes from a generated small world (`peft_studio/pretraining/forms.py`): \
stories, letters, news,
questions, lists, records and corrections about invented people and places."""
_SOURCES = """About 80 % of the characters come from a generated small world (`peft_studio/pretraining/forms.py`): \
stories,
letters, news, questions, lists, records and corrections about invented people and places, with more retold records
(`records.py`) in the falling phase. About 15 % is Python code of
the CPython {python} standard library with all docstrings and comments removed, 5 % its reference topics
(`pydoc_data`)."""


def _table(*rows: Sequence[str]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def _figures(facts: CardFacts) -> str:
    losses = {who: f"{loss:.3f}" for who, loss in facts.losses.items()}
    if not facts.bits:
        return _table(("on held-out text", "nats per predicted token"), *losses.items())
    rows = ((who, loss, f"{facts.bits[who]:.3f}") for who, loss in losses.items())
    return _table(("on held-out text", "nats/token", "bits/byte"), *rows)


def _probe(facts: CardFacts) -> str:
    if not facts.probe:
        return "The same tokens are hidden for both."
    return _table(
        ("copy probe on names never seen in training", "share"),
        ("lists of four names restated exactly (greedy)", f"{facts.probe['restate']:.1%}"),
        ("next token right, in a name mentioned before", f"{facts.probe['all_pieces']:.1%}"),
        ("the same without the name's first token", f"{facts.probe['later_pieces']:.1%}"),
    )


def _curve(facts: CardFacts) -> str:
    points = [point for point in facts.curve if "restate" in point or not facts.probe]
    chosen = points[:: max(1, len(points) // 12)]
    if facts.probe and points and points[-1] not in chosen:
        chosen.append(points[-1])
    columns = {"tokens (M)": [f"{point['tokens'] / 1e6:.1f}" for point in chosen]}
    columns["training loss"] = [f"{point['loss']:.3f}" for point in chosen]
    if facts.probe:
        columns["lists restated"] = [f"{point['restate']:.0%}" for point in chosen]
        columns["name tokens"] = [f"{point['all_pieces']:.0%}" for point in chosen]
    return _table(list(columns), *zip(*columns.values(), strict=True))


def render_card(facts: CardFacts) -> str:
    """Writes the card as Markdown with the Hub's front matter."""
    from huggingface_hub import ModelCardData  # takes half a second

    plan = facts.plan
    samples = "\n\n".join(
        f"> **{prompt}**{'' if facts.probe else ' → '}{text}" for prompt, text in facts.samples.items()
    )
    shape = (
        f"{plan['layers']} layers, width {plan['hidden']}, {plan['heads']} heads, feed-forward {plan['feed_forward']},"
        f" vocabulary {plan['vocab']:,}"
    )
    sources = _SOURCES.format(python=platform.python_version()) if plan["library"] else _WORLD_ONLY
    repeats = "library text recurs, the rest is seen once" if plan["library"] else "seen once"
    kind = _WORDINGS.get(facts.name, _WORDINGS["nano-lm"])
    baselines = (
        "Baselines are fitted on the same training text with the same tokenizer; the trigram is interpolated"
        " (Witten-Bell)."
        if facts.probe
        else "The baseline is fitted on the same training text with the same tokenizer."
    )
    front = ModelCardData(
        license="apache-2.0", language="en", library_name="transformers", pipeline_tag=kind.pipeline,
        tags=["tiny", "peft"],
    )  # fmt: skip
    return f"""---
{front.to_yaml()}
---

# {facts.name}

A small English-like {kind.what} for trying out fine-tuning methods on a laptop: {facts.parameters:,} parameters,
{shape},
{kind.architecture}, in float32; the file
holds float16. Made by PEFT Studio from scratch; no other model's output or weights were used.

## Data

{facts.tokens:,} tokens ({facts.text_bytes / 1e6:.1f} MB of text made for the run; {repeats}).
{sources}
The tasks that PEFT Studio trains on, and the invented names in their validation and test rows, do not occur.
Chained SHA-256 of the text's shards: `{facts.digest}`.

## Training

{kind.learns} Seed {plan["seed"]}, {facts.seconds:.0f} s of wall time, {facts.machine}.
Muon for matrices, AdamW for the rest, learning rate {plan["lr"]} (warm-up, stable, linear to zero over the last
{float(str(plan["decay_share"])):.0%}), {plan["batch_tokens"]} tokens per update, contexts of {plan["short"]} tokens,
then {plan["long"]} in the falling phase.

{_curve(facts)}

## Results

{baselines}

{_figures(facts)}

{_probe(facts)}

Greedy answers:

{samples}

## Make it again

    {facts.command}

The text is the same for the same Python version. Weights are the same up to floating-point rounding, which depends on
the processor, the thread count and the torch version.

## Limits

It knows the small world and the look of Python code, nothing about the real one. Its English is that of a grammar; it
states false things fluently, follows no instructions, and was not trained on real people's text. Use it to study
training, not for answers.

## Licence

Apache-2.0.
"""
