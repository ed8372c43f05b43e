"""The doctor on synthetic curves, on recorded ones of real runs that were fine, and on all the other facts."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from job_kit import make_config

from peft_studio.config.run_config import parse_config, recommended_rate
from peft_studio.doctor.diagnose import Finding, diagnose
from peft_studio.doctor.evidence import MAX_BUCKETS, Evidence, StepFigures, read_evidence
from peft_studio.doctor.findings import advised_rate
from peft_studio.errors import NonFiniteLossError
from peft_studio.runs.events import EventWriter
from peft_studio.runs.fold import RunFold
from peft_studio.runs.paths import RunPaths
from peft_studio.runs.store import RunStore

RATE = 0.01  # what LoRA recommends for a nano decoder
Losses = Sequence[float | None]


def evidence(losses: Losses = (), norms: Losses = (), **fields: Any) -> Evidence:
    """A finished run with such a training curve."""
    figures = StepFigures()
    for step, loss in enumerate(losses, 1):
        figures.add(step, loss, norms[step - 1] if norms else 0.5)
    training = {"learning_rate": RATE, "max_steps": len(losses) or 1, **fields.pop("training", {})}
    config = {"method": {"name": "lora"}, "model": {"id": "nano-lm"}, "task": {"id": "bistro"}, "training": training}
    fields = {"status": "finished", "started": {"max_steps": len(losses)}, **fields}
    return Evidence(config=config, steps=figures, **fields)


def curve(shape: Callable[[float], float], steps: int = 200, noise: float = 0.08, seed: int = 0) -> list[float]:
    """A curve over the share of steps done, with noise relative to its height."""
    dice = random.Random(seed)
    return [shape(step / steps) * (1 + dice.gauss(0, noise)) for step in range(1, steps + 1)]


def falling(share: float) -> float:
    return 0.4 + 2.3 * math.exp(-6 * share)


def ids(found: Sequence[Finding]) -> list[str]:
    return [finding.id for finding in found]


def only(found: Sequence[Finding], name: str) -> Finding:
    """The one finding, which has to be this."""
    assert ids(found) == [name]
    return found[0]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("steps", [10, 60, 300, 5000])
@pytest.mark.parametrize("noise", [0.02, 0.15])
def test_healthy_curves_get_no_finding(seed: int, steps: int, noise: float) -> None:
    losses = curve(falling, steps, noise, seed)
    assert diagnose(evidence(losses, metrics={"base/eval/loss": 2.7})) == ()
    assert diagnose(evidence(losses[: steps // 2], status="running")) == ()


# Losses of presets on the nano models, 60 steps, seed 0, as recorded (every step to two digits).
RECORDED = json.loads((Path(__file__).parent / "healthy_curves.json").read_text())


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_healthy_runs_get_no_finding(name: str) -> None:
    run = RECORDED[name]
    evals = tuple((step, loss) for step, loss in run["evals"])
    for until in range(1, len(run["loss"]) + 1):  # live, at every step
        seen = tuple(item for item in evals if item[0] <= until)
        started = {"max_steps": len(run["loss"])}
        figures = evidence(
            run["loss"][:until], run["norm"], evals=seen, metrics={"base/eval/loss": run["base"]},
            status="finished" if until == len(run["loss"]) else "running", started=started,
            training={"learning_rate": run["rate"]},
        )  # fmt: skip
        assert diagnose(figures) == (), until


def test_a_loss_that_is_lost() -> None:
    losses: list[float | None] = [*curve(falling, 40), None]
    found = only(
        diagnose(evidence(losses, training={"max_grad_norm": 0, "precision": "bf16", "learning_rate": 1.0})),
        "not_finite",
    )
    assert (found.severity, found.step) == ("problem", 41)
    assert found.settings == {
        "training.learning_rate": RATE, "training.max_grad_norm": 1.0, "training.precision": "fp32",
    }  # fmt: skip
    assert found.change == "learning rate 0.01 and max grad norm 1 and precision fp32" and "100 times" in found.cause


@pytest.mark.parametrize("seed", range(10))
def test_divergence_from_the_start(seed: int) -> None:
    losses = curve(lambda share: 2.7 + 6 * min(1, 5 * share), 60, 0.1, seed)
    found = only(diagnose(evidence(losses, training={"learning_rate": 1.0})), "diverged")
    assert found.severity == "problem" and found.step is not None and found.step <= 10
    assert found.settings == {"training.learning_rate": RATE}


@pytest.mark.parametrize("seed", range(10))
def test_divergence_after_a_good_start(seed: int) -> None:
    losses = curve(lambda share: falling(share) if share < 0.5 else falling(0.5) + 8 * (share - 0.5), 200, 0.1, seed)
    found = only(diagnose(evidence(losses)), "diverged")
    assert found.step == pytest.approx(100, abs=15)
    assert found.settings == {"training.learning_rate": pytest.approx(RATE / 3, rel=0.05)}


def test_a_loss_that_jumps() -> None:
    losses = curve(lambda share: falling(share) + (2 if 0.2 < share % 0.5 < 0.3 else 0), 200, 0.05)
    assert only(diagnose(evidence(losses)), "rate_high").severity == "warning"


def test_gradients_that_jump() -> None:
    norms = [0.5 if step % 9 else 20.0 for step in range(200)]
    losses = curve(falling)
    assert only(diagnose(evidence(losses, norms)), "rate_high").settings["training.learning_rate"] < RATE
    unclipped = diagnose(evidence(losses, norms, training={"max_grad_norm": 0}))
    assert only(unclipped, "rate_high").settings == {"training.max_grad_norm": 1.0}


@pytest.mark.parametrize("seed", range(10))
def test_too_low_and_flat_are_told_apart(seed: int) -> None:
    losses = curve(lambda share: 2.7 - 0.02 * share, 120, 0.02, seed)
    low = only(diagnose(evidence(losses, training={"learning_rate": RATE / 1000})), "rate_low")
    assert low.settings == {"training.learning_rate": RATE} and "1/1,000 of" in low.cause
    assert only(diagnose(evidence(losses)), "flat").settings == {"training.max_steps": 360}
    running = evidence(losses, status="running", started={"max_steps": 1000})
    assert diagnose(running) == ()  # it may still begin


def test_overfitting_names_the_best_step() -> None:
    losses = curve(lambda share: 2.7 * math.exp(-4 * share))
    evals = tuple((step, 1.5 + abs(step - 80) / 100) for step in range(20, 201, 20))
    found = only(diagnose(evidence(losses, evals=evals)), "overfitted")
    assert (found.step, found.severity, found.settings) == (80, "warning", {"training.early_stopping": 2})
    kept = only(diagnose(evidence(losses, evals=evals, training={"early_stopping": 3})), "overfitted")
    assert kept.severity == "note" and not kept.settings


def test_worse_than_the_base() -> None:
    evals = ((100, 2.95), (200, 2.9))
    found = only(diagnose(evidence(curve(falling), evals=evals, metrics={"base/eval/loss": 2.7})), "worse_than_base")
    assert found.step == 200 and "2.7" in found.cause


@pytest.mark.parametrize(("warmup", "steps", "long"), [(10, 2, True), (2, 2, True), (1, 2, False), (0.03, 2, False)])
def test_a_warm_up_that_does_not_end(warmup: float, steps: int, long: bool) -> None:
    started, training = {"max_steps": steps}, {"warmup_steps": warmup, "learning_rate": RATE}
    found = diagnose(evidence([2.0] * steps, started=started, training=training))
    assert ids(found) == (["warmup_long"] if long else [])
    if long:
        assert found[0].change == "warm-up 0.03" and f"within the {steps} of this run" in found[0].cause


def test_a_run_that_changed_nothing() -> None:
    same = {"evals": ((1, 3.5),), "metrics": {"base/eval/loss": 3.5}}
    one = evidence([3.6], started={"max_steps": 1}, training={"warmup_steps": 10}, **same)
    assert only(diagnose(one), "unchanged").severity == "problem"
    tiny = evidence([3.6], started={"max_steps": 1}, training={"learning_rate": 1e-9}, **same)
    assert only(diagnose(tiny), "unchanged").settings == {"training.learning_rate": RATE}


def test_the_yardstick_is_the_rate_of_the_form() -> None:
    config = {
        "model": {"id": "nano-lm"}, "method": {"name": "lora"}, "task": {"id": "custom", "kind": None},
        "training": {"learning_rate": 0.003},
    }  # fmt: skip
    guessed = Evidence(config=config, started={"data": {"kind": "classification"}})
    assert advised_rate(guessed) == recommended_rate("lora", "nano-lm", kind="classification")
    assert advised_rate(guessed) != advised_rate(Evidence(config=config))


def facts(**data: Any) -> Evidence:
    started = {"trainable_params": 10, "data": {"rows": 1000, "cut": 0, "dropped": 0, "max_length": 256, **data}}
    return evidence(curve(falling), started={"max_steps": 200, **started}, training={"max_length": 256})


def test_rows() -> None:
    assert diagnose(facts(cut=9, dropped=9)) == ()
    assert only(diagnose(facts(cut=50)), "rows_cut").severity == "note"
    cut = only(diagnose(facts(cut=250)), "rows_cut")
    assert cut.severity == "warning" and "25 %" in cut.title and cut.settings == {"training.max_length": 512}
    assert not only(diagnose(facts(cut=250, max_length=64)), "rows_cut").settings  # the model reads no more
    assert only(diagnose(facts(dropped=100)), "rows_dropped").severity == "warning"
    assert only(diagnose(facts(rows=0, dropped=100)), "rows_dropped").severity == "problem"
    assert only(diagnose(facts(rows=20)), "tiny_data").severity == "note"
    assert diagnose(facts(validation={"rows": 300, "dropped": 2})) == diagnose(facts(validation={"rows": None})) == ()
    found = only(diagnose(facts(validation={"rows": 52, "cut": 0, "dropped": 148})), "validation_dropped")
    assert found.severity == "warning" and "148 of 200 validation rows" in found.cause and "74 %" in found.title


def test_nothing_trains() -> None:
    assert ids(diagnose(evidence(started={"trainable_params": 0}))) == ["nothing_trains"]


def test_memory() -> None:
    failed = {"error": "OutOfMemoryError", "message": "..."}
    training = {"batch_size": 16, "max_length": 256, "gradient_accumulation": 2}
    found = only(diagnose(evidence(failed=failed, status="failed", training=training)), "out_of_memory")
    assert "before the first step, with 16 rows of up to 256 tokens" in found.cause
    assert found.settings == {"training.batch_size": 8, "training.gradient_accumulation": 4}
    killed = only(diagnose(evidence(curve(falling, 40), status="failed", signal=9, training=training)), "killed")
    assert killed.step == 40 and "signal 9 after step 40" in killed.cause
    single = only(diagnose(evidence(failed=failed, training={"batch_size": 1})), "out_of_memory")
    assert single.settings == {"training.gradient_checkpointing": True}


def test_a_run_that_failed_says_what_failed() -> None:
    told = {"error": "ModelError", "message": "The weights of 'x' are cut short."}
    found = only(diagnose(evidence(status="failed", failed=told)), "failed")
    assert (found.severity, found.cause) == ("problem", told["message"]) and "another model" in found.fix
    found = only(diagnose(evidence(curve(falling, 40), status="failed", reason="killed by signal 15")), "failed")
    assert found.step == 40 and "signal 15" in found.cause
    assert "signal 15" in only(diagnose(evidence(status="failed", signal=15)), "failed").cause
    assert only(diagnose(evidence(status="failed")), "failed").cause
    lost = evidence([1.0, None], status="failed", failed={"error": "NonFiniteLossError", "message": "NaN"})
    assert ids(diagnose(lost)) == ["not_finite"]  # which says why
    assert diagnose(evidence(curve(falling, 40), failed=told)) == ()  # it failed once, went on and finished


def test_answers_that_do_not_end() -> None:
    answered = {"rows": 60, "limit": 48, "cut": 45, "base_cut": 60, "long": 0, "end": "</s>"}
    found = only(diagnose(evidence(curve(falling, 50), answered=answered)), "endless")
    assert found.severity == "warning" and found.settings == {"training.max_steps": 150}
    for words in (
        "45 of 60 test answers",
        "base model's: 60",
        "limit of 48 tokens",
        "right answers 0",
        "ends with </s>",
    ):
        assert words in found.cause
    for fine in ({"cut": 10}, {"long": 40}, {"rows": 8, "cut": 8}, {"cut": None}):
        assert diagnose(evidence(curve(falling, 50), answered=answered | fine)) == ()


def test_a_base_model_of_random_weights() -> None:
    started = {"model": {"id": "x", "vocabulary": 512}}
    found = only(diagnose(evidence(started=started, metrics={"base/eval/loss": 6.247})), "knows_nothing")
    assert "6.25" in found.cause and "6.24" in found.cause
    assert diagnose(evidence(started=started, metrics={"base/eval/loss": 3.5})) == ()
    assert diagnose(evidence(started={"model": {"vocabulary": 0}}, metrics={"base/eval/loss": 0.7})) == ()


def labels(accuracy: float, macro_f1: float, base: float, base_f1: float) -> dict[str, float]:
    """Test figures of a classifier, and of always answering the commonest label."""
    ours = {"test/accuracy": accuracy, "test/macro_f1": macro_f1}
    return ours | {"base/test/accuracy": base, "base/test/macro_f1": base_f1}


@pytest.mark.parametrize(
    ("metrics", "evals", "better"),
    [
        (labels(50.0, 33.0, 50.0, 33.0), (), False),
        (labels(71.0, 70.0, 50.0, 33.0), (), True),
        (labels(94.0, 65.0, 95.0, 48.7), (), True),
        ({"test/bleu": 3.0, "base/test/bleu": 3.0, "test/chrf": 9.0, "base/test/chrf": 12.0}, (), False),
        ({"test/bleu": 3.0, "base/test/bleu": 3.5, "test/chrf": 19.0, "base/test/chrf": 12.0}, (), True),
        ({"base/eval/loss": 2.7}, ((10, 2.72), (20, 2.71)), False),
        ({"base/eval/loss": 2.7}, ((10, 2.6), (20, 2.5)), True),
        ({}, (), True),
    ],
)
def test_a_run_that_beats_nothing(metrics: dict[str, float], evals: Any, better: bool) -> None:
    found = diagnose(evidence(curve(falling, 20), metrics=metrics, evals=evals))
    if better:
        assert found == ()
    else:
        assert only(found, "no_better").severity == "warning" and "without training" in found[0].cause
    running = evidence(curve(falling, 20), metrics=metrics, evals=evals, status="running", started={"max_steps": 100})
    assert diagnose(running) == ()


def test_the_check_after_saving() -> None:
    assert diagnose(evidence(check={"rows": 4, "max_difference": 2e-5})) == ()
    assert only(diagnose(evidence(check={"rows": 4, "max_difference": 0.5})), "badly_saved").severity == "warning"
    assert only(diagnose(evidence(check={"rows": 4, "max_difference": None})), "badly_saved").severity == "problem"


def test_answers() -> None:
    half = {"good": 50, "bad": 50}
    assert diagnose(evidence(truth=half, answers={"good": 60, "bad": 40})) == ()
    assert only(diagnose(evidence(truth=half, answers={"good": 97, "bad": 3})), "one_answer").severity == "problem"
    uneven = diagnose(evidence(truth={"good": 85, "bad": 15}, answers={"good": 100}))
    assert only(uneven, "imbalance").severity == "note" and "85 %" in uneven[0].title


def test_the_gravest_comes_first_and_all_is_plain() -> None:
    failed = {"error": "OutOfMemoryError"}
    found = diagnose(evidence(failed=failed, check={"max_difference": 0.5}, started={"data": {"rows": 20}}))
    assert [finding.severity for finding in found] == ["problem", "warning", "note"]
    json.dumps([finding.to_dict() for finding in found], allow_nan=False)


def test_every_change_is_a_valid_setting() -> None:
    failed, norms = {"error": "OutOfMemoryError"}, [0.5 if step % 9 else 20.0 for step in range(200)]
    flat = [2.0] * 100
    cases = (
        evidence([1.0, None]), evidence(curve(falling), norms), evidence(flat),
        evidence(flat, training={"learning_rate": 1e-8}), evidence(failed=failed), facts(cut=300),
        evidence(failed=failed, training={"batch_size": 1, "gradient_checkpointing": True, "max_length": 16}),
    )  # fmt: skip
    for case in cases:
        (found,) = diagnose(case)
        assert found.settings
        training = {path.removeprefix("training."): value for path, value in found.settings.items()}
        parse_config({"method": {"name": "lora"}, "training": training})


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """A run without events."""
    return RunStore(tmp_path).create(make_config())


def write(run: RunPaths, losses: Losses, first: int = 1) -> None:
    writer = EventWriter(run.events)
    for step, loss in enumerate(losses, first):
        writer.emit("step", step=step, loss=math.nan if loss is None else loss, grad_norm=1.0)
    writer.close()


def test_a_growing_folder_is_read_as_if_at_once(run: RunPaths) -> None:
    losses = curve(falling, 3000)
    pieces = RunFold(run)
    for begin in range(0, 3000, 700):
        write(run, losses[begin : begin + 700], begin + 1)
        read_evidence(pieces, "running")
    grown, whole = read_evidence(pieces, "running").steps, read_evidence(RunFold(run), "running").steps
    assert (grown.last, grown.loss, grown.count) == (whole.last, whole.loss, whole.count) and grown.count == 3000
    assert len(grown.loss) < MAX_BUCKETS
    assert sum(grown.loss) / len(grown.loss) == pytest.approx(sum(losses[: len(losses)]) / 3000, rel=0.02)


def test_a_resumed_run_counts_repeated_steps_once(run: RunPaths) -> None:
    write(run, [3.0, 2.0, 1.0, 9.0, 9.0])
    write(run, [0.9, 0.8], first=4)
    steps = read_evidence(RunFold(run), "running").steps
    assert (list(steps.last), list(steps.loss), steps.count) == ([1, 2, 3, 4, 5], [3.0, 2.0, 1.0, 0.9, 0.8], 5)


def test_what_the_folder_says(run: RunPaths) -> None:
    write(run, [2.0, 1.0, None])
    writer = EventWriter(run.events)
    writer.emit("eval", step=2, metrics={"base/eval/loss": 2.5, "eval/loss": 1.5, "test/macro_f1": 40.0})
    writer.emit("failed", error=NonFiniteLossError.__name__, message="NaN")
    writer.close()
    run.exit.write_text('{"code": null, "signal": 9}')
    run.predictions.write_text('{"target": "a", "prediction": "b"}\nnot JSON\n{"target": "a", "prediction": "a"}\n')
    found = read_evidence(RunFold(run), "failed")
    assert (found.evals, found.signal, found.steps.lost) == (((2, 1.5),), 9, 3)
    assert (found.truth, found.answers) == ({"a": 2}, {"a": 1, "b": 1})
    run.stop.touch()
    assert read_evidence(RunFold(run), "failed").signal is None  # somebody had asked for it


def test_of_an_empty_folder_only_its_damage_is_told(run: RunPaths) -> None:
    assert diagnose(read_evidence(RunFold(run), "queued")) == ()
    run.config.write_text("damaged")
    write(run, curve(falling, 50))
    found = diagnose(read_evidence(RunFold(run), "failed", "events.jsonl is gone, so nobody knows how."))
    assert ids(found) == ["damaged", "failed"] and "nobody knows how" in found[1].cause


def test_steps_taken_at_once_count_as_if_one_by_one() -> None:
    for seed in range(20):
        dice = random.Random(seed)
        bulk, single, step = StepFigures(), StepFigures(), 0
        for _ in range(40):
            count = dice.choice([1, 2, 50, 400])
            events = [
                {"step": step + i, "loss": dice.gauss(2, 1), "grad_norm": dice.choice([dice.random(), 2])}
                for i in range(1, count + 1)
            ]
            step += count
            assert bulk.add_steps(events)
            for event in events:
                single.add(event["step"], event["loss"], event["grad_norm"])
            for odd in ({"loss": None}, {"loss": math.inf}, {"grad_norm": None}, {"step": 1}, {"step": "1"}):
                assert not bulk.add_steps([{"step": step + 1, "loss": 1.0, "grad_norm": 1.0, **odd}])
        assert (bulk.count, bulk.last, bulk.norm, bulk.lost) == (single.count, single.last, single.norm, None)
        assert list(bulk.loss) == pytest.approx(list(single.loss))
