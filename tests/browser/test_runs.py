"""The list of runs, their curves, log, export, deletion, and the comparison."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import App, open_app, open_tab

pytestmark = pytest.mark.browser
LONG = 90_000  # milliseconds for what a worker does


def test_curves_of_several_runs_keep_their_zoom(page: Page, app: App, runs: tuple[str, str]) -> None:
    open_app(page, f"{app.url}?runs={','.join(runs)}")
    open_tab(page, "Runs")
    page.wait_for_function("studio.pointsDrawn() === 12")
    plot = "document.querySelector('#runs-chart .ps-plot')"
    page.evaluate(f"studio.loadPlotly().then(P => P.relayout({plot}, {{'xaxis.range': [2, 4]}}))")
    page.locator("#runs-chart .ps-chip").first.click()
    page.locator("#runs-chart").get_by_role("button", name="Log scale").click()
    page.wait_for_function(f"{plot}._fullLayout.yaxis.type === 'log'")
    assert page.evaluate(f"{plot}._fullLayout.xaxis.range") == [2, 4]
    assert page.locator("#runs-chart .ps-chip[aria-pressed=false]").count() == 1


def test_selection_is_in_the_address(page: Page, runs: tuple[str, str]) -> None:
    open_tab(page, "Runs")
    page.locator(f".ps-run[data-run='{runs[0]}'] input[type=checkbox]").check()
    expect(page).to_have_url(re.compile(runs[0]))
    page.locator(f".ps-run[data-run='{runs[0]}'] input[type=checkbox]").uncheck()
    expect(page).not_to_have_url(re.compile(runs[0]))


def test_a_link_to_a_deleted_run_does_not_wait(page: Page, app: App, runs: tuple[str, str]) -> None:
    open_app(page, f"{app.url}?runs={runs[0]},20260101-000000-lora-000000")
    open_tab(page, "Runs")
    page.wait_for_function("studio.pointsDrawn() === 6")
    expect(page.locator("#runs-chart .ps-chip")).to_have_count(1)
    expect(page).not_to_have_url(re.compile("000000-lora"))


def test_charts_fit_after_a_resize_that_they_did_not_see(page: Page, app: App, runs: tuple[str, str]) -> None:
    open_app(page, f"{app.url}?runs={runs[0]}")
    plot = "document.querySelector('#{} .ps-plot')"
    fits = f"{plot}.clientWidth > 0 && Math.abs({plot}._fullLayout?.width - {plot}.clientWidth) < 1"
    for tab, place in (("Runs", "runs-chart"), ("Compare", "compare")):
        for width in (1440, 700, 1440):
            open_tab(page, "Learn")
            page.set_viewport_size({"width": width, "height": 900})
            open_tab(page, tab)
            page.wait_for_function(fits.format(place, place, place))


def test_log_opens_as_text(page: Page, runs: tuple[str, str]) -> None:
    open_tab(page, "Runs")
    page.locator(f".ps-run[data-run='{runs[0]}']").get_by_role("button", name=re.compile("^Log")).click()
    expect(page.locator(".ps-log pre")).not_to_be_empty()


def test_clone_fills_the_form(page: Page, runs: tuple[str, str]) -> None:
    open_tab(page, "Runs")
    page.locator(f".ps-run[data-run='{runs[1]}']").get_by_role("button", name=re.compile("^Same again")).click()
    expect(page.locator("#train-button")).to_be_visible()
    expect(page.locator("#method label.selected")).to_have_text("BitFit")
    expect(page.locator("#field-max_steps input")).to_have_value("6")


def test_export_loads_in_plain_peft(page: Page, runs: tuple[str, str], tmp_path: Path) -> None:
    open_tab(page, "Runs")
    with page.expect_download() as download:
        page.locator(f".ps-run[data-run='{runs[0]}']").get_by_role("link", name="Export").click()
    archive = tmp_path / "run.zip"
    download.value.save_as(archive)
    zipfile.ZipFile(archive).extractall(tmp_path / "run")
    (config,) = (tmp_path / "run").rglob("adapter_config.json")
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n"
        "base = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "model = PeftModel.from_pretrained(base, sys.argv[2])\n"
        "print(model.active_peft_config.peft_type.value)"
    )
    argv = [sys.executable, "-c", code, str(root / "peft_studio/models/nano-lm"), str(config.parent)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "LORA"


def test_more_ways_to_export(page: Page, runs: tuple[str, str], tmp_path: Path) -> None:
    """The links say what is inside; a merged model is made when it is asked for."""
    open_tab(page, "Runs")
    line = line_of(page, runs[0])
    expect(line.get_by_role("link", name="Export")).to_have_attribute("title", re.compile("no rows of your data"))
    line.get_by_role("button", name=re.compile("^More ways to export")).click()
    rows = line.get_by_role("link", name="With rows")
    expect(rows).to_have_attribute("title", re.compile("training, validation, and test rows"))
    expect(rows).to_have_attribute("href", re.compile(r"rows=1$"))
    with page.expect_download() as download:
        line.get_by_role("button", name=re.compile("merged into its base")).click()
    download.value.save_as(tmp_path / "merged.zip")
    assert {"model.safetensors", "config.json", "README.md"} <= set(
        zipfile.ZipFile(tmp_path / "merged.zip").namelist()
    )


def test_delete_asks_first(page: Page, app: App) -> None:
    run = app.train("bistro-prompt")
    open_tab(page, "Runs")
    line = page.locator(f".ps-run[data-run='{run}']")
    line.get_by_role("button", name=re.compile("^Delete")).click()
    expect(line.get_by_text("Really delete?")).to_be_visible()
    line.get_by_role("button", name=re.compile("^Delete")).click()
    expect(line).to_have_count(0)
    assert not (app.home / "runs" / run).exists()


def test_compare_sorts_marks_and_exports(page: Page, app: App, runs: tuple[str, str]) -> None:
    open_app(page, f"{app.url}?tab=compare&metric=test/bleu")
    table = page.locator("#compare .ps-compared")
    expect(table.locator(f"tr[data-run='{runs[0]}']")).to_be_visible()

    def order() -> list[str]:
        return table.locator("tr[data-run]").evaluate_all("rows => rows.map(row => row.dataset.run)")

    head = table.locator("th button", has_text="Trainable parameters")
    head.click()  # what is better comes first: few parameters
    expect(table.locator("th[aria-sort=ascending]")).to_have_text("Trainable parameters")
    assert order().index(runs[0]) > order().index(runs[1])
    head.click()
    expect(table.locator("th[aria-sort=descending]")).to_have_text("Trainable parameters")
    assert order().index(runs[0]) < order().index(runs[1])
    expect(table.locator(".ps-baserow")).to_contain_text("Base model")
    expect(table.locator(".ps-best").first).to_be_visible()
    expect(table.locator("thead")).to_contain_text("Settings that differ")
    page.wait_for_selector("#compare .scatterlayer .point")
    assert "Nothing beats these" in str(page.locator("#compare .ps-plot").get_attribute("aria-label"))
    page.locator("#compare summary", has_text="The figures as a table").click()
    expect(page.locator("#compare .ps-behind td", has_text="yes").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    text = download.value.path().read_text()
    assert "test/bleu" in text.splitlines()[0] and runs[0] in text


def test_details_open_under_their_run_with_its_settings(page: Page, app: App, runs: tuple[str, str]) -> None:
    open_app(page, f"{app.url}?tab=compare&runs={','.join(runs)}")
    line = page.locator(f"#compare tr[data-run='{runs[1]}']")
    line.get_by_role("button", name=re.compile("^Details")).click()
    under = page.locator(f"#compare tr[data-run='{runs[1]}'] + .ps-under")
    expect(under).to_contain_text("Learning rate")
    expect(under.locator(".ps-settings .differs").first).to_be_visible()  # beside the other chosen run
    page.locator("#compare .ps-compared > thead button", has_text="BLEU").click()
    expect(under).to_contain_text("Learning rate")  # it moves with its run
    under.get_by_role("button", name="Close the details").click()
    expect(page.locator("#compare .ps-under")).to_have_count(0)
    open_tab(page, "Runs")
    line_of(page, runs[0]).get_by_role("button", name=re.compile("^Details")).click()
    expect(page.locator(f".ps-run[data-run='{runs[0]}'] + .ps-details")).to_contain_text("Settings")


def test_the_address_holds_tab_and_runs_back_and_forward(page: Page, app: App, runs: tuple[str, str]) -> None:
    open_tab(page, "Runs")
    line_of(page, runs[0]).locator("input[type=checkbox]").check()
    expect(page).to_have_url(re.compile(f"tab=runs&runs={runs[0]}$"))
    open_tab(page, "Compare")
    expect(page).to_have_url(re.compile("tab=compare"))
    page.go_back()
    expect(page.locator("#runs")).to_be_visible()
    page.go_back()
    expect(line_of(page, runs[0]).locator("input[type=checkbox]")).not_to_be_checked()
    page.go_forward()
    expect(line_of(page, runs[0]).locator("input[type=checkbox]")).to_be_checked()
    page.go_forward()
    expect(page.locator("#compare")).to_be_visible()
    page.reload()
    expect(page.locator("#compare tr[data-run]").first).to_be_visible()
    page.goto(f"{app.url}?tab=nowhere")
    expect(page.locator(".ps-toast")).to_contain_text("no tab called nowhere")
    expect(page).not_to_have_url(re.compile("nowhere"))


def line_of(page: Page, run: str) -> Locator:
    """A run's line in the list."""
    return page.locator(f".ps-run[data-run='{run}']")


def submit(page: Page, app: App, steps: int) -> str:
    """Adds a run through the app's own API; returns its id."""
    config = {
        "method": {"name": "lora"},
        "training": {"max_steps": steps, "batch_size": 1, "eval_rows": 1, "eval_every": 100_000},
    }
    answer = page.request.post(f"{app.url}gradio_api/run/start_run", data={"data": [config, f"{steps} steps"]})
    page.evaluate("studio.pollSoon(60)")  # as after a click on Train
    return str(answer.json()["data"][0])


def test_pause_resume_finish_and_train_longer(page: Page, app: App) -> None:
    run = submit(page, app, 60)
    open_tab(page, "Runs")
    line = line_of(page, run)
    line.get_by_role("button", name=re.compile("^Pause")).click()
    expect(line.locator(".ps-pill")).to_have_text("paused", timeout=LONG)
    expect(line).to_contain_text("resumes at step", timeout=LONG)
    line.get_by_role("button", name=re.compile("^Resume")).click()
    expect(line.locator(".ps-pill")).to_have_text("finished", timeout=LONG)
    expect(line).to_contain_text("60 / 60", timeout=LONG)
    line.get_by_role("button", name=re.compile("longer$")).click()
    line.get_by_label("How many steps more").fill("5")
    page.keyboard.press("Enter")
    expect(line).to_contain_text("65 / 65", timeout=LONG)
    expect(line.locator(".ps-pill")).to_have_text("finished", timeout=LONG)


def test_beside_the_curve_is_what_a_run_does_and_may_be_asked(page: Page, app: App, runs: tuple[str, str]) -> None:
    open_tab(page, "Runs")
    page.request.post(f"{app.url}studio/queue/pause", headers={"Origin": app.url.rstrip("/")})
    run = submit(page, app, 50)
    line_of(page, run).locator("input[type=checkbox]").check()
    beside = page.locator(f"#runs-chart .ps-atwork[data-run='{run}']")
    expect(beside).to_contain_text("number 1 in the queue")
    expect(beside).to_contain_text("the queue is paused")
    assert beside.get_by_role("progressbar").get_attribute("aria-valuenow") == "0"
    told = page.request.get(f"{app.url}studio/queue.json").json()
    assert told["starts"][run] < 1 < told["takes"][run]
    beside.get_by_role("button", name=re.compile("^Stop")).click()
    expect(beside).to_have_count(0, timeout=LONG)
    page.request.post(f"{app.url}studio/queue/start", headers={"Origin": app.url.rstrip("/")})


def test_the_queue_is_reordered_held_and_paused(page: Page, app: App) -> None:
    open_tab(page, "Runs")
    page.request.post(f"{app.url}studio/queue/pause", headers={"Origin": app.url.rstrip("/")})
    ids = [submit(page, app, steps) for steps in (7, 8, 9)]
    waiting = page.locator(".ps-run.queued")
    expect(waiting).to_have_count(3, timeout=LONG)
    expect(page.locator(".ps-queue")).to_contain_text("3 runs wait; the queue is paused", timeout=LONG)

    def order() -> list[str]:
        return waiting.evaluate_all("rows => rows.map(row => row.dataset.run)")

    line_of(page, ids[2]).get_by_role("button", name=re.compile("^Run next")).focus()
    page.keyboard.press("Enter")
    expect(waiting.first).to_have_attribute("data-run", ids[2], timeout=LONG)
    line_of(page, ids[2]).get_by_role("button", name=re.compile("down$")).click()
    expect(waiting.first).to_have_attribute("data-run", ids[0], timeout=LONG)
    assert order() == [ids[0], ids[2], ids[1]]
    line_of(page, ids[1]).get_by_role("button", name=re.compile("^Priority of")).click()
    page.get_by_role("button", name=re.compile("high priority$")).click()
    expect(waiting.first).to_have_attribute("data-run", ids[1], timeout=LONG)
    expect(line_of(page, ids[1])).to_contain_text("high priority")
    assert order() == [ids[1], ids[0], ids[2]]
    line_of(page, ids[1]).get_by_role("button", name=re.compile("^Priority of")).click()
    page.get_by_role("button", name=re.compile("low priority$")).click()
    expect(waiting.last).to_have_attribute("data-run", ids[1], timeout=LONG)
    line_of(page, ids[0]).get_by_role("button", name=re.compile("^Hold")).click()
    expect(line_of(page, ids[0])).to_contain_text("on hold", timeout=LONG)
    assert order() == [ids[2], ids[1], ids[0]]
    page.get_by_role("button", name="Start the queue").click()
    for run in ids[1:]:
        expect(line_of(page, run).locator(".ps-pill")).to_have_text("finished", timeout=LONG)
    expect(line_of(page, ids[0]).locator(".ps-pill")).to_have_text("queued", timeout=LONG)
    line_of(page, ids[0]).get_by_role("button", name=re.compile("^Release")).click()
    expect(line_of(page, ids[0]).locator(".ps-pill")).to_have_text("finished", timeout=LONG)
