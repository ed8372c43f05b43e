"""Real data sets through the page's upload, trained a few steps, and their figures computed again from the answers.

    python tests/audit/real_sets.py --data FOLDER [--only NAME ...] [--steps 12]

Each folder in FOLDER is a data set with ``train``, ``validation`` and ``test`` files of JSON lines; some rows of each
are dropped on the Train tab of an app of its own in Chromium (``CHROMIUM``), columns are left as the page guesses
them, and *Train* is pressed. Every test metric of the run is then computed from ``predictions.jsonl`` by sacrebleu,
rouge_score and scikit-learn, without this project's code, and the answers' rows are compared with the test file.
Prints a table in Markdown; exits with 1 where something differs.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import ARGS, App, run_app  # noqa: E402

ROWS = {"train": 400, "validation": 40, "test": 40}
SECONDS = 900  # for a run
NEAR = 1e-6  # of scores from 0 to 100


def main() -> int:
    """Trains and compares; 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of data sets, each a folder")
    parser.add_argument("--only", nargs="*", default=[], help="names of data sets")
    parser.add_argument("--steps", type=int, default=12, help="steps of each run")
    options = parser.parse_args()
    folders = [path for path in sorted(options.data.iterdir()) if (path / "train.jsonl").is_file()]
    chosen = [path for path in folders if not options.only or path.name in options.only]
    wrong = 0
    print("| data set | the page's guess | metric | run | computed again | equal |", "| --- " * 6 + "|", sep="\n")
    with tempfile.TemporaryDirectory(prefix="real-sets-") as name:
        (home := Path(name, "home")).mkdir()
        with run_app(home) as app, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=ARGS)
            for folder in chosen:
                files = some_rows(folder, Path(name, folder.name))
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                try:
                    run = train(page, app, files, options.steps)
                    wrong += report(folder.name, run, app.home / "runs" / run["id"], files["test"])
                except (TimeoutError, PlaywrightError) as exc:
                    told = " ".join(page.locator(".ps-problem, .toast-body").all_inner_texts()) or str(exc)
                    print(f"| {folder.name} | | trained | {told.splitlines()[0][:300]} | | **no** |", flush=True)
                    wrong += 1
                page.close()
    return int(bool(wrong))


def some_rows(folder: Path, into: Path) -> dict[str, Path]:
    """Copies rows of each split, evenly spaced, since files may be sorted by label."""
    into.mkdir()
    for split, rows in ROWS.items():
        lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (into / f"{split}.jsonl").write_text("".join(lines[:: max(1, len(lines) // rows)][:rows]), encoding="utf-8")
    return {split: into / f"{split}.jsonl" for split in ROWS}


def train(page: Page, app: App, files: dict[str, Path], steps: int) -> dict[str, Any]:
    """Drops the files, trains as the form stands but for the steps, and waits for the end of the run."""
    page.goto(app.url)
    before = {run["id"] for run in runs(app)}
    page.locator("#task input").click()
    page.get_by_role("option", name="Your own data").click()
    page.locator("#data-panel").get_by_text("Validation and test files").click()
    for split, path in files.items():
        page.set_input_files(f"#drop-{split}_file input[type=file]", str(path))
        page.wait_for_function(f"document.querySelector('#data-{split}_file :is(input, textarea)').value !== ''")
    expect(page.locator("#data-facts .ps-example")).to_be_visible()
    box = page.locator("#field-max_steps").locator("input, textarea")
    box.fill(str(steps))
    box.press("Tab")
    expect(page.locator("#estimate .ps-mapcard")).to_be_visible(timeout=60_000)
    page.wait_for_function("document.querySelector('#estimate').dataset.ready === '1'")
    page.click("#train-button")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        new = [run for run in runs(app) if run["id"] not in before]
        if new and new[0]["status"] in ("finished", "failed", "stopped", "interrupted"):
            return new[0]
        time.sleep(1)
    raise TimeoutError(f"No run of {files['train'].parent.name} ended in {SECONDS} s.")


def runs(app: App) -> list[dict[str, Any]]:
    """What the page's list of runs is drawn from."""
    with urlopen(f"{app.url}studio/runs.json") as answer:
        return list(json.load(answer))


def report(name: str, run: dict[str, Any], folder: Path, test_file: Path) -> int:
    """Prints the comparisons of a run; returns how many differ."""
    if run["status"] != "finished":
        print(f"| {name} | | {run['status']} | {run['reason']} | | **no** |")
        return 1
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]["task"]
    guess = " -> ".join(config.get(key) or "?" for key in ("input_column", "target_column"))
    wrong = 0
    for metric, ours, theirs in comparisons(run, folder, test_file, config):
        equal = abs(ours - theirs) <= NEAR
        wrong += not equal
        print(
            f"| {name} | {guess} | {metric} | {ours:.4f} | {theirs:.4f} | {'yes' if equal else '**no**'} |", flush=True
        )
    return wrong


def comparisons(
    run: dict[str, Any], folder: Path, test_file: Path, task: dict[str, Any]
) -> Iterator[tuple[str, float, float]]:
    """Metric, the run's value, and the value computed again."""
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    given = [json.loads(line) for line in test_file.read_text(encoding="utf-8").splitlines()]
    cells = [row.get(task["target_column"], "") for row in given]
    wanted = {str(one).strip() for cell in cells for one in (cell if isinstance(cell, list) else [cell])}
    known = [row for row in answers if row["target"].strip() in wanted]
    yield "answers whose target is in the file", float(len(answers)), float(len(known))
    said = [row["prediction"] for row in answers]
    if task["kind"] == "classification":
        found = of_labels([row["target"] for row in answers], said)
    else:
        found = of_texts([row["references"] for row in answers], said, run["tokenizers"])
    for metric, value in found.items():
        if f"test/{metric}" in run["metrics"]:
            yield metric, run["metrics"][f"test/{metric}"], value


def of_labels(right: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """Accuracy and macro-F1 by scikit-learn, 0 to 100."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": 100 * accuracy_score(right, said),
        "macro_f1": 100 * f1_score(right, said, average="macro", zero_division=0),
    }


def of_texts(references: Sequence[Sequence[str]], said: Sequence[str], tokenizers: dict[str, str]) -> dict[str, float]:
    """BLEU and chrF by sacrebleu, ROUGE by rouge_score with its own tokenizer, where that was used; 0 to 100."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    depth = max(map(len, references))
    streams = [[row[at].strip() if at < len(row) else None for row in references] for at in range(depth)]
    texts = [text.strip() for text in said]
    found = {
        "bleu": BLEU(tokenize=tokenizers.get("bleu", "13a")).corpus_score(texts, streams).score,  # type: ignore[arg-type]
        "chrf": CHRF().corpus_score(texts, streams).score,  # type: ignore[arg-type]
    }
    if tokenizers.get("rougeL", "default") == "default":
        names = ["rouge1", "rouge2", "rougeL"]
        scorer = RougeScorer(names, use_stemmer=False)
        best = [
            {name: max(scorer.score(one, text)[name].fmeasure for one in row) for name in names}
            for row, text in zip(references, said, strict=True)
        ]
        found |= {name: 100 * sum(row[name] for row in best) / len(best) for name in names}
    return found


if __name__ == "__main__":
    sys.exit(main())
