"""A step under the microscope is what plain PyTorch computes of the same rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from peft_studio.config.resolved_run import resolve
from peft_studio.config.run_config import parse_config
from peft_studio.errors import ConfigError
from peft_studio.training.one_step import OneStep, one_step


def run_of(folder: Path, method: str, **training: Any) -> Any:
    given = {"batch_size": 4, "max_steps": 10, "max_length": 100, "learning_rate": 0.01, **training}
    task = {"id": "bistro", "train_rows": 40}
    config = {"model": {"id": str(folder)}, "task": task, "method": {"name": method}, "training": given}
    return resolve(parse_config(config))


@pytest.mark.parametrize("method", ["lora", "bitfit", "prefix"])
def test_equal_to_plain_pytorch(tiny_model: Path, method: str) -> None:
    run = run_of(tiny_model, method)
    found = one_step(run, 2)
    again = OneStep(run, 2)
    first, second = again._batches()
    trained = [part for part in again.model.parameters() if part.requires_grad]
    for examples in (first, second):
        losses = _plain_losses(again, examples)
        if examples is second:
            told = [token["before"] for row in found["rows"] for token in row["tokens"] if "before" in token]
            assert told == pytest.approx(losses.tolist(), abs=1e-4)
            assert found["loss"]["before"] == pytest.approx(float(losses.detach().mean()), abs=1e-4)
        losses.mean().backward()
        kept = [part.detach().clone() for part in trained]
        norm = torch.cat([part.grad.flatten() for part in trained if part.grad is not None]).norm()
        gradients = [float(part.grad.norm()) if part.grad is not None else 0.0 for part in trained]
        torch.nn.utils.clip_grad_norm_(trained, again._training.max_grad_norm)
        again.optimizer.step()
        again._scheduler.step()
        again.optimizer.zero_grad()
    assert found["gradient_norm"] == pytest.approx(float(norm), rel=1e-3)
    assert [one["gradient"] for one in found["modules"]] == pytest.approx(gradients, rel=1e-3, abs=1e-6)
    moved = [float((part.detach() - before).norm()) for part, before in zip(trained, kept, strict=True)]
    assert [one["update"] for one in found["modules"]] == pytest.approx(moved, rel=1e-2, abs=1e-6)
    after = [token["after"] for row in found["rows"] for token in row["tokens"] if "after" in token]
    assert after == pytest.approx(_plain_losses(again, second).tolist(), abs=1e-3)
    assert "before" not in found["rows"][0]["tokens"][0]  # the prompt carries no loss


def _plain_losses(step: OneStep, examples: Any) -> torch.Tensor:
    """The loss of every target token, one row at a time, by the whole logits."""
    found = []
    for example in examples:
        ids, count = torch.tensor([example.ids]), example.targets
        logits = step.model.eval()(input_ids=ids).logits[0][-len(example.ids) :]
        found.append(F.cross_entropy(logits[-count - 1 : -1], ids[0, -count:], reduction="none"))
    return torch.cat(found)


def test_a_step_that_does_not_exist(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="first 10 steps"):
        one_step(run_of(tiny_model, "lora"), 11)
