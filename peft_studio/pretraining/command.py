"""The ``pretrain`` command: makes the embedded models again, with their model cards.

``python -m peft_studio pretrain nano-lm`` (or ``nano-encoder``, ``nano-seq2seq``) trains (``pretrainer.py``),
measures (``probe.py``) and writes an ordinary Hugging Face folder whose card (``readme_card.py``) holds the figures of
that very run.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from peft_studio.pretraining import probe
from peft_studio.pretraining.objectives import Denoising, MaskedTokens
from peft_studio.pretraining.plan import PretrainingPlan
from peft_studio.pretraining.pretrainer import Pretrainer, export_model
from peft_studio.pretraining.readme_card import CardFacts, render_card

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

PLANS = {
    "nano-lm": PretrainingPlan(),
    "nano-encoder": PretrainingPlan(tokens=14_000_000, model="nano-encoder"),
    "nano-seq2seq": PretrainingPlan(tokens=12_000_000, layers=8, model="nano-seq2seq"),
}
"""How each embedded model is made."""
SAMPLE_PROMPTS = (
    "Zorvil walked to",
    "List of names: Quompet, The Shrinov Well, Blafen. Again:",
    "The Golden Zorvil is cheap and Biox Mill is expensive. Which one is cheap?",
    "def __init__(self",
)
BROKEN_TEXTS = (
    "Biox Mill is a cheap<mask> near the river.",
    "The old mill is<mask> and the food is good.",
    "Zorvil walked to the<mask> and bought a loaf.",
)


@torch.no_grad()
def continue_text(model: "LlamaForCausalLM", tokenizer: "Tokenizer", prompt: str, tokens: int = 40) -> str:
    """Continues a prompt greedily, up to the end mark or ``tokens`` new tokens."""
    ids = tokenizer.encode(prompt).ids
    start = len(ids)
    for _ in range(tokens):
        best = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if best == model.config.eos_token_id:
            break
        ids.append(best)
    return str(tokenizer.decode(ids[start:]))


@torch.no_grad()
def rebuild_text(run: Pretrainer, broken: str) -> str:
    """What an encoder or encoder-decoder makes of a text in which ``<mask>`` stands for something."""
    marks = f"{run.objective.specials[0]}{broken}{run.objective.specials[2]}"
    ids = torch.tensor([run.tokenizer.encode(marks, add_special_tokens=False).ids])
    if isinstance(run.objective, Denoising):
        made = run.model.generate(ids, max_new_tokens=60, do_sample=False, num_beams=1)[0].tolist()
        return str(run.tokenizer.decode(made))
    mask = run.tokenizer.token_to_id("<mask>")
    best = run.model(input_ids=ids).logits.argmax(-1)
    return str(run.tokenizer.decode(torch.where(ids == mask, best, ids)[0].tolist()))


def _decoder_figures(run: Pretrainer, streams: list[probe.Tokens]) -> dict[str, Any]:
    _, rows = run.held_out()
    losses = {run.plan.model: probe.held_out_loss(run.model, rows)}
    losses |= probe.NGrams(streams, run.plan.vocab).losses(rows)
    return {
        "losses": losses,
        "bits": {who: probe.bits_per_byte(loss, rows, run.tokenizer) for who, loss in losses.items()},
        "samples": {prompt: continue_text(run.model, run.tokenizer, prompt) for prompt in SAMPLE_PROMPTS},
    }


def _rebuilder_figures(run: Pretrainer, streams: list[probe.Tokens]) -> dict[str, Any]:
    _, rows = run.held_out()
    found = probe.rebuild_figures(run.model, run.objective, rows)["held_out"]
    frequencies = probe.unigram_loss(streams, rows, run.objective, run.plan.vocab)
    return {
        "losses": {run.plan.model: found, "token frequencies": frequencies},
        "bits": {},
        "samples": {text: rebuild_text(run, text) for text in BROKEN_TEXTS},
    }


def _facts(run: Pretrainer, name: str) -> CardFacts:
    figures = run.measure()
    run.model.eval()
    streams = [np.load(run.work / f"tokens-{number:04d}.npy") for number in range(run.progress.shard)]
    rebuilds = isinstance(run.objective, MaskedTokens | Denoising)
    measured = (_rebuilder_figures if rebuilds else _decoder_figures)(run, streams)
    seed = f" --seed {run.plan.seed}" if run.plan.seed else ""
    precision = "bfloat16 autocast, compiled" if run.fast else "float32"
    return CardFacts(
        name=name,
        command=f"python -m peft_studio pretrain {name} --tokens {run.plan.tokens}{seed}",
        parameters=sum(p.numel() for p in run.model.parameters()),
        plan=asdict(run.plan),
        tokens=run.progress.seen,
        seconds=run.progress.seconds,
        text_bytes=run.progress.text_bytes,
        digest=run.progress.digest,
        probe={} if rebuilds else figures,
        curve=run.progress.curve,
        machine=f"{torch.get_num_threads()} CPU threads (shared machine), {precision}, torch {torch.__version__}",
        **measured,
    )


def finish(run: Pretrainer, folder: Path, name: str = "nano-lm") -> None:
    """Exports the weights with their model card and the raw figures, ``training.json``.

    Args:
        run: A trained run.
        folder: Where the model goes.
        name: The model's name on the card.
    """
    facts = _facts(run, name)
    export_model(run.model, run.tokenizer, folder)
    (folder / "README.md").write_text(render_card(facts), encoding="utf-8")
    record = {key: value for key, value in asdict(facts).items() if key != "samples"}
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line of ``pretrain``."""
    parser = argparse.ArgumentParser(prog="peft_studio pretrain", description="Pre-train an embedded model.")
    parser.add_argument("model", choices=list(PLANS), nargs="?", default="nano-lm")
    parser.add_argument("--out", type=Path, help="folder for the model (default: its name)")
    parser.add_argument("--work", type=Path, help="folder for checkpoints (default: ~/.cache/peft-studio/pretrain)")
    parser.add_argument("--tokens", type=int, help="training tokens in all (default: the model's plan)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--resume", action="store_true", help="continue the checkpoint in the work folder")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    args = parse(argv)
    torch.set_flush_denormal(True)
    if args.threads:
        torch.set_num_threads(args.threads)
    work = args.work or Path.home() / ".cache" / "peft-studio" / "pretrain" / f"{args.model}-{args.seed}"
    plan = replace(PLANS[args.model], tokens=args.tokens or PLANS[args.model].tokens, seed=args.seed)
    run = Pretrainer(plan, work, lambda line: print(line, flush=True))
    if args.resume:
        run.resume()
    run.train()
    finish(run, args.out or Path(args.model), args.model)
    return 0
