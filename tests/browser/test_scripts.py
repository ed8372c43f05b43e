"""The modules without a page: formats, curves, texts, colours, order and requests, run by Chromium from the files."""

import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from peft_studio.ui.shell import STATIC

pytestmark = pytest.mark.browser
ORIGIN = "http://scripts.test/"


def serve(route: Route) -> None:
    """Answers with a module of ours, or with an empty page."""
    path = STATIC / Path(route.request.url).name
    if path.suffix == ".js" and path.is_file():
        route.fulfill(path=path, content_type="text/javascript")
    else:
        route.fulfill(body="<!doctype html><title>empty</title>", content_type="text/html")


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """An empty page from which modules can be imported; nothing leaves the machine."""
    page = browser.new_page()
    page.route("**/*", serve)
    page.goto(ORIGIN)
    yield page
    page.close()


def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """What an exported function returns."""
    script = "async ([module, name, values]) => (await import(`/${module}.js`))[name](...values)"
    return page.evaluate(script, [module, function, list(arguments)])


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        ("integer", {0: "0", -1234567: "-1,234,567", 12.5: "13", None: "", math.nan: "", math.inf: ""}),
        (
            "compact",
            {0: "0", 999: "999", 1000: "1 K", 1234: "1.23 K", 100_000: "100 K", 999_499: "999 K", 999_600: "1 M"}
            | {-2_500_000: "-2.5 M", 7e9: "7 B", 120e9: "120 B", None: "", math.nan: ""},
        ),
        (
            "bytes",
            {0: "0 B", 999: "999 B", 1000: "1.00 kB", 9_994: "9.99 kB", 9_996: "10.0 kB", 999_960: "1.00 MB"}
            | {123_456_789: "123.5 MB", 4e9: "4.00 GB", -1500: "-1.50 kB", None: "", math.nan: ""},
        ),
        (
            "percent",
            {0: "0.00 %", 0.00123: "0.123 %", 0.0999: "9.99 %", 0.456: "45.6 %", 1: "100 %", None: "", math.nan: ""},
        ),
        (
            "duration",
            {0: "0.0 s", 9.94: "9.9 s", 9.96: "10 s", 59.4: "59 s", 59.6: "1 min 0 s", 119.6: "2 min 0 s"}
            | {3599.6: "1 h 0 min", 7261: "2 h 1 min", None: "", math.nan: ""},
        ),
        ("decimal", {0: "0.000", 1.23456: "1.235", -0.5: "-0.500", 123.4: "123", None: "", math.nan: ""}),
        ("upperBound", {0: "0", 0.00123: "2e-3", 0.002: "2e-3", 9.5e-7: "1e-6", 1: "1e0"}),
    ],
)
def test_formats(blank: Page, function: str, cases: dict[float | None, str]) -> None:
    assert {value: call(blank, "format", function, value) for value in cases} == cases


def test_more_digits_and_nouns(blank: Page) -> None:
    assert call(blank, "format", "decimal", 2.71828, 1) == "2.7"
    assert call(blank, "format", "count", 1, "row") == "1 row"
    assert call(blank, "format", "count", 1200, "row") == "1,200 rows"
    assert call(blank, "format", "count", 0, "row") == "0 rows"


def test_smoothing(blank: Page) -> None:
    assert call(blank, "curves", "smoothed", [], 0.6) == []
    assert call(blank, "curves", "smoothed", [3], 0.98) == pytest.approx([3])
    assert call(blank, "curves", "smoothed", [4] * 50, 0.9) == pytest.approx([4] * 50)  # no bias at the start
    assert call(blank, "curves", "smoothed", [1, -2, 0], 0) == [1, -2, 0]
    assert call(blank, "curves", "smoothed", [1, None, 4], 0.5) == [1, None, pytest.approx((0.25 + 2) / 0.75)]
    assert call(blank, "curves", "smoothed", [None, None], 0.5) == [None, None]


def test_thinning_keeps_ends_and_extremes(blank: Page) -> None:
    assert call(blank, "curves", "thinned", [], []) == [[], []]
    assert call(blank, "curves", "thinned", [7], [None]) == [[7], [None]]
    short = list(range(1200))
    assert call(blank, "curves", "thinned", short, short) == [short, short]
    steps = list(range(100_000))
    losses: list[float | None] = [math.sin(step / 50) for step in steps]
    losses[41_234], losses[77_777], losses[5] = 9.0, -9.0, None
    xs, ys = call(blank, "curves", "thinned", steps, losses)
    assert 600 < len(xs) == len(ys) <= 1202
    assert xs == sorted(set(xs)) and xs[0] == 0 and xs[-1] == 99_999
    assert [ys[xs.index(41_234)], ys[xs.index(77_777)]] == [9.0, -9.0]
    assert call(blank, "curves", "thinned", steps, [None] * len(steps))[0] == [0, 99_999]


def test_points_are_appended_and_found(blank: Page) -> None:
    joined = blank.evaluate(
        "async () => { const { append } = await import('/curves.js'); const curve = {};"
        " append(curve, { step: [1], loss: [2] }); append(curve, { step: [], loss: [] });"
        " append(curve, { step: Array(200000).fill(3), loss: Array(200000).fill(null) });"
        " return [curve.step.length, curve.loss[0], curve.loss.at(-1)]; }"
    )
    assert joined == [200_001, 2, None]
    curve = {"step": [1, 5, 9, 13], "loss": [3, 2, None, None]}
    assert call(blank, "curves", "placeOf", curve, 5) == {"at": 1, "valueAt": 1}
    assert call(blank, "curves", "placeOf", curve, 6) == {"at": 2, "valueAt": 1}  # a gap has the value before it
    assert call(blank, "curves", "placeOf", curve, 99) == {"at": 3, "valueAt": 1}
    assert call(blank, "curves", "placeOf", {"step": [1], "loss": [None]}, 0) == {"at": 0, "valueAt": 0}


def test_search_words_and_plotly_texts(blank: Page) -> None:
    assert call(blank, "text", "wordsOf", "  LoRA  nano ") == ["lora", "nano"]
    assert call(blank, "text", "wordsOf", "") == []
    assert call(blank, "text", "hasWords", "nano-lm LoRA", ["lora", "lm"])
    assert not call(blank, "text", "hasWords", "nano-lm", ["lora"])
    assert call(blank, "text", "hasWords", "", [])
    hostile = '<a href="https://example.org">R&D</a> a < b'
    shown = call(blank, "text", "plotText", hostile)
    assert "<" not in shown and ">" not in shown and "R&amp;D" in shown
    assert "$" not in call(blank, "text", "plotText", "costs $x_1$ and $")  # no formula for MathJax
    lines = call(blank, "text", "plotLines", "The loss <b>rises</b> " * 10).split("<br>")
    assert len(lines) > 3 and all("<" not in line and len(line) < 80 for line in lines)
    assert call(blank, "text", "sentenceCase", "slot_accuracy") == "Slot accuracy"


def test_a_run_is_told_by_its_id(blank: Page) -> None:
    ids = [f"20261128-0{at % 10}0000-lora-{at:06x}" for at in range(400)]
    marks = [call(blank, "colours", "marksOf", run) for run in ids[:60]]
    assert marks == [call(blank, "colours", "marksOf", run) for run in ids[:60]]
    script = "async (ids) => { const { marksOf } = await import('/colours.js'); return ids.map(marksOf); }"
    found = blank.evaluate(script, ids)
    for key, kinds in (("colour", 12), ("dash", 4), ("symbol", 7)):
        counts = Counter(mark[key] for mark in found)
        assert len(counts) == kinds and max(counts.values()) < 2.2 * len(ids) / kinds  # none is preferred
    assert call(blank, "colours", "marksOf", "20261128-060745-lora-da1308") == {
        "colour": "--ps-run-10", "dash": "solid", "symbol": "pentagon",
    }  # fmt: skip


def test_comparison(blank: Page) -> None:
    runs: list[dict[str, Any]] = [
        {"id": "a", "title": "LoRA", "seconds": 3, "metrics": {"test/bleu": 20, "eval/loss": 1, "train/loss": 1}},
        {"id": "b", "title": "IA3", "name": "mine", "seconds": None},
        {"id": "c", "title": "BitFit", "seconds": 0, "metrics": {"test/other": 1, "test/bleu": 30}},
    ]
    assert call(blank, "comparison", "metricsOf", runs) == ["test/bleu", "eval/best", "eval/loss", "test/other"]
    kept = [{"metrics": {"eval/loss": 1}, "best_eval_loss": 1}]
    assert call(blank, "comparison", "metricsOf", kept) == ["eval/best"]  # one column says both
    assert call(blank, "comparison", "metricsOf", []) == []

    def order(key: str, down: bool) -> str:
        return "".join(run["id"] for run in call(blank, "comparison", "sorted", runs, key, down))

    assert [order("seconds", True), order("seconds", False)] == ["acb", "cab"]  # unknown ones last either way
    assert [order("test/bleu", True), order("title", False)] == ["cab", "cab"]


def test_groups_bests_and_the_base_model(blank: Page) -> None:
    def run(name: str, bleu: float, loss: float, base: float = 3.0, **more: Any) -> dict[str, Any]:
        metrics = {"test/bleu": bleu, "base/test/bleu": base, "base/eval/loss": 4.0}
        return {"id": name, "task": "x", "model": "m", "metrics": metrics, "best_eval_loss": loss, **more}

    runs = [
        run("a", 20, 1.0),
        run("b", 30, 2.0, 5.0, answer_seconds={"test": 0.5, "base/test": 0.2}),
        run("c", 30, 3.0),
    ]
    groups = call(blank, "comparison", "groupsOf", [*runs, run("d", 1, 1, model="other")])
    assert [(group["key"], len(group["runs"])) for group in groups] == [("x~m", 3), ("x~other", 1)]
    keys = ["test/bleu", "eval/best", "seconds", "answer_seconds"]
    assert call(blank, "comparison", "bestOf", runs, keys) == {"test/bleu": 30, "eval/best": 1}
    base = call(blank, "comparison", "baseOf", runs, [*keys, "peak_memory_bytes"])
    assert base == {"test/bleu": 3, "eval/best": 4, "seconds": 0, "answer_seconds": 0.2}  # as most have found it
    lower = [
        key for key in [*keys, "eval/perplexity", "test/accuracy"] if call(blank, "comparison", "lowerIsBetter", key)
    ]
    assert lower == ["eval/best", "seconds", "answer_seconds", "eval/perplexity"]


def test_settings_that_differ(blank: Page) -> None:
    settings = [{"training.seed": 1, "method.rank": 4, "x.same": [1]}, {"training.seed": 2, "x.same": [1]}]
    paths = ["training.seed", "x.same", "method.rank"]
    assert call(blank, "comparison", "differing", settings, paths) == ["method.rank", "training.seed"]
    assert call(blank, "comparison", "differing", settings[:1], paths) == []
    shown = {True: "yes", False: "no", None: "–", "": "–", 0.003: "0.003"}
    assert {value: call(blank, "settings", "shownSetting", value) for value in shown} == shown
    assert call(blank, "settings", "shownSetting", ["q", "v"]) == "q, v"


def test_labels_find_room(blank: Page) -> None:
    spots = [{"x": x, "y": 100, "text": "twelve chars"} for x in (100, 104, 300)]
    places = call(blank, "labels", "placeLabels", spots, 400, 200)
    assert places[0] == places[2] == "top center" and places[1] not in (None, "top center")
    crowd = [{"x": 100 + at % 3, "y": 100, "text": "twelve chars"} for at in range(30)]
    assert None in call(blank, "labels", "placeLabels", crowd, 400, 200)
    assert call(blank, "labels", "spread", [50, 10, 52], 0, 200) == [50, 10, 64]
    assert call(blank, "labels", "spread", [195, 198], 0, 200) == [186, 200]


def test_the_axis_reaches_to_the_last_step_and_curves_have_names(blank: Page) -> None:
    train = {"step": [1, 2, 4], "tokens": [10, 20, 40], "loss": [3, None, 2]}
    data: dict[str, Any] = {"train": train, "eval": {"step": [4], "tokens": [40], "loss": [2.5]}}
    going = {"run": {"status": "running", "max_steps": 100}, "data": data}
    over = {"run": {"status": "stopped", "max_steps": 100}, "data": data}
    reach = [
        call(blank, "traces", "reachOf", curves, key) for curves in ([going], [over], []) for key in ("step", "tokens")
    ]
    assert reach == [100, 1000, 4, 40, 0, 0]
    curves = [{"name": name, "data": data, "mark": {"colour": "#123456"}} for name in ("one", "two <b>")]
    scale = {"range": None, "height": 300, "isLog": False}
    told = call(blank, "traces", "endNames", curves, "step", 0, scale)
    assert [(one["x"], one["y"], one["text"]) for one in told["annotations"]] == [
        (4, 2, "one"),
        (4, 2, "two &lt;b&gt;"),
    ]
    assert abs(told["annotations"][0]["yshift"] - told["annotations"][1]["yshift"]) >= 14  # not on each other


def test_times_of_runs_at_work_and_in_the_queue(blank: Page) -> None:
    queue = {"paused": False, "starts": {"a": 90, "b": 0.2}, "takes": {"a": 30}, "left": {"c": 12}}

    def told(run: dict[str, Any], **more: Any) -> Any:
        return call(blank, "at_work", "timeOf", run, {**queue, **more})

    assert told({"id": "a", "status": "queued"}) == "starts in about 1 min 30 s, takes about 30 s"
    assert told({"id": "b", "status": "queued"}) == "starts now"
    assert told({"id": "a", "status": "queued", "held": True}) == "on hold"
    assert told({"id": "a", "status": "queued"}, paused=True) == "the queue is paused"
    assert told({"id": "c", "status": "running", "eta_seconds": 5}) == "about 5.0 s left in all"
    assert told({"id": "c", "status": "running", "eta_seconds": None}) == "about 12 s left in all"
    assert told({"id": "z", "status": "running"}) == told({"id": "z", "status": "queued"}) == ""


def test_figures_on_other_rows_are_found(blank: Page) -> None:
    marks = [("a", "x", "1"), ("b", "x", "1"), ("c", "x", "2"), ("d", "y", "3"), ("e", "y", None)]
    runs = [{"id": name, "task": task, "measured_on": {"eval": mark} if mark else {}} for name, task, mark in marks]
    script = "async (runs) => [...(await import('/comparison.js')).measuredElsewhere(runs, 'eval')]"
    assert blank.evaluate(script, [*runs, {"id": "f", "task": "x"}]) == ["c"]
    assert blank.evaluate(script, []) == []


def points(*pairs: tuple[float | None, float | None]) -> list[dict[str, Any]]:
    return [{"name": str(at), "cost": cost, "quality": quality} for at, (cost, quality) in enumerate(pairs)]


def test_the_frontier_is_what_nothing_beats(blank: Page) -> None:
    def on(found: list[dict[str, Any]], lower: bool = False) -> str:
        return "".join(str(at) for at, is_on in enumerate(call(blank, "pareto", "frontierOf", found, lower)) if is_on)

    some = points((10, 1), (5, 3), (20, 4), (20, 2), (None, 9), (5, 3), (1, None), (30, 4))
    assert on(some) == "125"  # equal ones both; what costs more for the same quality is beaten
    assert on(some, True) == "015"
    assert on([]) == on(points((None, None))) == ""
    assert call(blank, "pareto", "frontierLine", some) == {"x": [5, 5, 5, 20, 20, 30], "y": [3, 3, 3, 3, 4, 4]}
    assert call(blank, "pareto", "frontierLine", []) == {"x": [], "y": []}
    rng = random.Random(7)
    many = points(*((rng.randrange(12), rng.randrange(12)) for _ in range(60)))
    figures = [(-one["cost"], one["quality"]) for one in many]
    beaten = [any(b[0] >= a[0] and b[1] >= a[1] and a != b for b in figures) for a in figures]
    assert call(blank, "pareto", "frontierOf", many) == [not lost for lost in beaten]


def test_parts_of_the_address(blank: Page) -> None:
    told = blank.evaluate(
        """async () => {
          const address = await import('/address.js');
          const held = { one: '', two: 'a' }, read = [];
          history.replaceState(null, '', '/?one=runs&x=1');
          for (const name of ['one', 'two']) {
            address.part(name, (value) => { read.push(`${name}=${value}`); held[name] = value; }, () => held[name]);
          }
          const moment = () => new Promise((resolve) => setTimeout(resolve, 20));
          const before = history.length;
          held.one = 'compare'; address.changed(); held.two = 'a,b'; address.changed();
          await moment();
          const hrefs = [location.search];
          held.two = 'c'; address.changed({ step: false });
          await moment();
          hrefs.push(location.search, history.length - before, address.link({ one: '', two: 'z' }));
          history.back();
          await moment(); await moment();
          return [read, hrefs, location.search];
        }"""
    )
    assert told == [
        ["one=runs", "one=runs", "two="],
        ["?one=compare&x=1&two=a,b", "?one=compare&x=1&two=c", 1, f"{ORIGIN}?x=1&two=z"],
        "?one=runs&x=1",
    ]
    blank.goto(ORIGIN)


def test_skipped_rows_in_words(blank: Page) -> None:
    assert call(blank, "splits", "skippedText", {}) == ""
    assert (
        call(blank, "splits", "skippedText", {"no text": 1200, "no label": 1}) == "1,200 with no text, 1 with no label"
    )


def test_answers_of_the_app_become_words(blank: Page) -> None:
    def ask(path: str) -> Any:
        return call(blank, "api", "ask", path)

    blank.route("**/refused", lambda route: route.fulfill(status=409, json={"error": "No."}))
    blank.route("**/broken", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    blank.route("**/gone", lambda route: route.abort())
    blank.route("**/fine", lambda route: route.fulfill(json={"ok": True}))
    assert ask("refused") == {"error": "No."}
    assert ask("broken") == {"error": "The app answered 502.", "away": True}
    assert ask("gone")["away"] and "does not answer" in ask("gone")["error"]
    assert ask("fine") == {"ok": True}
    assert call(blank, "api", "post", "fine") is True
    assert call(blank, "api", "post", "refused") is False
    assert blank.locator(".ps-toast").inner_text() == "No."


def test_text_never_becomes_markup(blank: Page) -> None:
    made = blank.evaluate(
        "async () => { const { el } = await import('/dom.js');"
        " const node = el('p', { title: '\"><b>', hidden: false, 'data-x': 0 }, '<img src=x>', null, false, 0);"
        " return [node.children.length, node.textContent, node.title, node.hasAttribute('hidden'), node.dataset.x]; }"
    )
    assert made == [0, "<img src=x>0", '"><b>', False, "0"]
