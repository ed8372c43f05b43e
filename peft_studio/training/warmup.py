"""What the warm server does once, so that no worker must: libraries make tables and import parts when first used."""

import torch

from peft_studio.config.resolved_run import ResolvedRun, resolve
from peft_studio.config.run_config import parse_config
from peft_studio.methods import METHODS
from peft_studio.tasks.base import Row
from peft_studio.training import provenance
from peft_studio.training.formats.formats import format_for
from peft_studio.training.load import attach, layout_of, load_base
from peft_studio.training.loop import TrainingLoop
from peft_studio.training.quiet import be_quiet
from peft_studio.training.step_events import StepCallback


def rehearse() -> None:
    """Goes through a start on the default model, up to its first step, and throws it all away.

    Nothing that a run computes depends on it. It starts no thread, as a process with threads cannot be forked safely
    (on a CPU the gradients are computed by the thread that asks for them); and it does nothing where there is a GPU,
    which must not be touched before a fork.
    """
    if torch.cuda.is_available():
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        _start(resolve(parse_config({"method": {"name": next(iter(METHODS))}, "training": {"max_steps": 1}})))
    torch.set_num_threads(threads)


def _start(run: ResolvedRun) -> None:
    be_quiet()
    base, tokenizer = load_base(run.config.model.id)
    provenance.fingerprint_model(base)
    provenance.versions()
    form = format_for(layout_of(base), tokenizer)
    examples = form.encode([Row("a", "b")] * 2, 16).examples
    model = attach(base, run.method, run.config.method)
    callback = StepCallback(lambda _kind, **_fields: None, lambda: False, lambda _step, _tokens, _elapsed: False, 2)
    TrainingLoop(model, run, examples, form, callback).train()
