"""Every method shows at least one thing that is true of it, equal to a direct computation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.methods import METHODS, get_method
from peft_studio.training.adapter_files import save_adapter
from peft_studio.training.inspection.views import Subject, inspect_adapter
from peft_studio.training.load import attach, load_adapter, load_base, share_base
from peft_studio.training.merging import unloaded

OTHER_VIEW = {
    "prefix": "attention", "prompt": "prompt", "p_tuning": "prompt", "houlsby": "bottlenecks",
    "pfeiffer": "bottlenecks", "parallel": "bottlenecks", "beft": "biases",
}  # fmt: skip
"""What is shown of methods that change no weight."""


def trained(base: Any, name: str, folder: Path) -> Path:
    """An adapter of a method whose parameters moved as if trained."""
    method = get_method(name)
    torch.manual_seed(3)
    wrapped = attach(share_base(base) if not method.changes_base else load_base(base.name_or_path)[0], method)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    save_adapter(wrapped, folder)
    return folder


def subject_of(folder: Path, name: str, adapter: Path, other: Path | None = None, task: str = "bistro") -> Subject:
    """The subject of an adapter on a model of a folder."""
    given = {"model": {"id": str(folder)}, "method": {"name": name}, "training": {"max_length": 100}}
    run = resolve(parse_config({**given, "task": {"id": task}}))
    base, tokenizer = load_base(str(folder), labels=run.task.labels)
    return Subject(run, base, tokenizer, adapter, other)


def views_of(folder: Path, name: str, tmp: Path) -> tuple[Subject, dict[str, Any]]:
    """An adapter of a method, and what is shown of it."""
    base, _ = load_base(str(folder))
    subject = subject_of(folder, name, trained(base, name, tmp / "adapter"))
    return subject, inspect_adapter(subject)["views"]


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_a_true_view(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """The change map is what plain merging changes; other methods have a view of their own."""
    subject, views = views_of(tiny_model, name, tmp_path)
    if not get_method(name).mergeable:
        assert views["matrices"] is None and views[OTHER_VIEW[name]]
        return
    merged = unloaded(load_adapter(load_base(str(tiny_model))[0], subject.adapter))
    told = {f"{one['name']}.{one['parameter']}": one for one in [*views["matrices"], *views["vectors"]]}
    assert set(told) == {parameter for parameter, _ in merged.named_parameters()}
    for parameter, after in merged.named_parameters():
        before = subject.base.get_parameter(parameter)
        change = float((after.double() - before.double()).norm())
        assert told[parameter]["change"] == pytest.approx(change, rel=1e-6, abs=1e-9)
        assert told[parameter]["relative"] == pytest.approx(change / float(before.double().norm()), rel=1e-6, abs=1e-9)
    assert any(one["change"] > 0 for one in told.values())
