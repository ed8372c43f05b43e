// Live loss curves of the selected runs. Zoom and hidden curves outlive every update.

import { linkCopier } from "./address.js";
import { oneAtATime } from "./api.js";
import { drawAtWork } from "./at_work.js";
import { colourOf, dashOf, inkOf } from "./colours.js";
import { cardHead, dash, el, spacer, tableHead, whenShown } from "./dom.js";
import { on } from "./events.js";
import { drawFindings, findingMarks } from "./findings.js";
import { decimal, integer } from "./format.js";
import { island } from "./islands.js";
import { behind, fitWhenShown, loadPlotly, PLOT_CONFIG, plotLayout } from "./plot.js";
import { runOf, store, titleOf } from "./run_store.js";
import { pull, pullSelected, series } from "./series.js";
import { word } from "./terms.js";
import { endNames, reachOf, tracesOf } from "./traces.js";
import { t } from "./words.js";

const FIRST_SECONDS = 20; // how long the first loss of a submitted run is looked for often
const FIRST_PAUSE = 80; // milliseconds between two such looks
const QUEUED_PAUSE = 200; // the same while the run waits
const PLOTLY_DELAY = 2500; // milliseconds; the page is up by then, and the first chart need not wait
const AXES = {
  step: { name: "Steps", title: "steps" },
  tokens: { name: "Tokens", title: "tokens" },
  elapsed: { name: "Time", title: "seconds of training" },
};
const MOST_NAMED = 10; // curves with their names at their ends
const WIDE = 560; // pixels of a chart with room for them
const HINTS = {
  waiting: "Waiting for the first loss …",
  unselected: "Select runs in the list on the Runs tab to see their curves.",
  empty: "The loss will be drawn here while a run trains. Press Train to start one.",
};

/** All charts of the page show the same view. */
const view = { axis: "step", log: false, smooth: 0.6, hidden: new Set() };
const charts = [];
const zooms = new WeakMap(); // by plot
const drawAll = () => Promise.all(charts.map((chart) => chart.draw()));

/** How many points of training are drawn on the charts that can be seen. */
export function pointsDrawn() {
  return charts.filter((chart) => chart.root.offsetParent).reduce((total, chart) => total + chart.points, 0);
}

/** The curves that are to be seen, with what each is told by; runs of one title are told apart by their ids. */
function visibleCurves() {
  const shown = [...series].filter(([id]) => !view.hidden.has(id));
  const titles = shown.map(([id]) => (runOf(id) ? titleOf(runOf(id)) : id));
  return shown.map(([id, data], at) => {
    const isTwice = titles.indexOf(titles[at]) !== titles.lastIndexOf(titles[at]);
    const name = isTwice ? `${titles[at]} (${id.slice(-6)})` : titles[at];
    return { id, data, run: runOf(id), name, mark: { colour: inkOf(id), dash: dashOf(id) } };
  });
}

/** The controls above a chart, each with what shows the present view on it. */
function controls() {
  const smooth = el("input", {
    type: "range", min: 0, max: 0.98, step: 0.02, value: view.smooth, "aria-label": "Smoothing",
    oninput: (event) => change({ smooth: Number(event.target.value) }),
  });
  const log = el("button", { type: "button", onclick: () => change({ log: !view.log }) }, "Log scale");
  const axes = Object.entries(AXES).map(([axis, { name }]) =>
    el("button", { type: "button", "data-axis": axis, onclick: () => change({ axis }) }, name));
  const head = cardHead("Loss",
    el("span", { class: "sub" },
      word("nats", "nats per token"), "; line: training, dots: ", word("validation", "validation")),
    spacer(),
    el("label", { class: "ps-smooth" }, word("smoothing", "Smoothing"), smooth),
    el("span", { class: "ps-seg", role: "group", "aria-label": "Horizontal axis" }, ...axes),
    el("span", { class: "ps-seg" }, log),
    linkCopier("Copy a link to these curves"));
  const update = () => {
    smooth.value = view.smooth;
    log.setAttribute("aria-pressed", String(view.log));
    for (const item of axes) item.setAttribute("aria-pressed", String(item.dataset.axis === view.axis));
  };
  return { head, update };
}

function change(more) {
  Object.assign(view, more);
  drawAll();
}

function chip(run) {
  const flip = () => {
    if (!view.hidden.delete(run.id)) view.hidden.add(run.id);
    drawAll();
  };
  const pressed = String(!view.hidden.has(run.id));
  return el("button", { type: "button", class: "ps-chip", "aria-pressed": pressed, title: run.id, onclick: flip },
    dash(colourOf(run.id), dashOf(run.id)), titleOf(run));
}

function drawLegend(legend) {
  const shown = store.runs.filter((run) => series.has(run.id));
  const state = JSON.stringify([shown.map((run) => [run.id, titleOf(run)]), [...view.hidden]]);
  if (legend.dataset.state === state) return;
  legend.dataset.state = state;
  legend.replaceChildren(...shown.map(chip));
}

/** Names at the ends of curves, where the chart is wide enough for them. */
function nameEnds(layout, plot, curves) {
  if (curves.length > MOST_NAMED || plot.clientWidth < WIDE) return;
  const { t: top, b: bottom } = layout.margin;
  const last = plot.layout?.yaxis; // as it was drawn last
  const range = last?.type === layout.yaxis.type ? last?.range : null;
  const scale = { range, height: plot.clientHeight - top - bottom, isLog: view.log };
  const { annotations, width } = endNames(curves, view.axis, view.smooth, scale);
  layout.annotations = annotations;
  layout.margin.r += width;
}

/** Remembers which part of the horizontal axis somebody has zoomed to, until they go back or choose another axis. */
function followZoom(plot) {
  plot.on("plotly_relayout", (event) => {
    if (!Object.keys(event).some((key) => key.startsWith("xaxis"))) return;
    const range = plot.layout.xaxis.range.map(Number);
    const isWhole = event["xaxis.autorange"] || range.join() === [0, plot.dataset.reach].join();
    zooms.set(plot, isWhole ? null : { axis: view.axis, range });
    if (event["xaxis.autorange"]) drawAll();
  });
}

async function drawPlot(plot, points) {
  const Plotly = await loadPlotly();
  const layout = plotLayout(AXES[view.axis].title, "loss (nats per token)", view.axis);
  const curves = visibleCurves();
  const reach = reachOf(curves, view.axis);
  layout.yaxis.type = view.log ? "log" : "linear";
  layout.datarevision = `${points}-${Date.now()}`;
  plot.dataset.reach = reach;
  const zoom = zooms.get(plot);
  if (zoom?.axis === view.axis) layout.xaxis.range = zoom.range;
  else if (reach > 0) layout.xaxis.range = [0, reach];
  nameEnds(layout, plot, curves);
  const traces = curves.flatMap(({ id, data, mark }) =>
    tracesOf(data, view.axis, mark, view.smooth, findingMarks(id, data, view.axis)));
  const isFirst = !plot.classList.contains("js-plotly-plot");
  await Plotly.react(plot, traces, layout, PLOT_CONFIG);
  if (isFirst) followZoom(plot);
}

/** What the chart says, for those who do not see it. */
function wordsOf(curves) {
  const told = curves.map(({ name, data, run }) => {
    const best = run?.best_eval_loss;
    return `${name}: ${decimal(data.train.loss?.at(-1))}${best == null ? "" : `, ${t("validation")} ${decimal(best)}`}`;
  });
  return `${t("Loss curves of the selected runs")}. ${told.join("; ")}`;
}

/** The losses behind the chart, at each step where a run was evaluated. */
function lossTable() {
  const curves = visibleCurves();
  const steps = [...new Set(curves.flatMap(({ data }) => data.eval.step || []))].sort((a, b) => a - b);
  const valueAt = (columns, step, exact) => {
    const at = columns.step?.findIndex((one) => (exact ? one === step : one >= step)) ?? -1;
    return at < 0 ? "" : decimal(columns.loss[at]);
  };
  const row = (step) => el("tr", {}, el("th", { scope: "row" }, integer(step)), ...curves.flatMap(({ data }) =>
    [el("td", {}, valueAt(data.train, step, false)), el("td", {}, valueAt(data.eval, step, true))]));
  const heads = curves.flatMap(({ name }) => [`${name}, ${t("training")}`, `${name}, ${t("validation")}`]);
  return el("table", { class: "ps-table" }, tableHead(["Step", ...heads]), el("tbody", {}, ...steps.map(row)));
}

island("chart", (root) => {
  const plot = el("div", {
    class: "ps-plot", hidden: true, role: "img", "aria-label": "Loss curves of the selected runs",
  });
  const hint = el("p", { class: "ps-empty" });
  const legend = el("div", { class: "ps-legend" });
  const notes = el("div", { class: "ps-findings", hidden: true });
  const work = el("div", { class: "ps-work", hidden: true });
  const table = behind(lossTable);
  const { head, update } = controls();
  root.append(el("section", { class: "ps-card ps-chart" }, head, work, legend, hint, plot, table.node, notes));

  async function draw() {
    drawLegend(legend);
    drawAtWork(work);
    drawFindings(notes, [...series.keys()].filter((id) => !view.hidden.has(id)));
    update();
    const points = [...series.values()].reduce((total, data) => total + (data.train.loss?.length || 0), 0);
    plot.hidden = table.node.hidden = !points;
    hint.hidden = Boolean(points);
    hint.textContent = HINTS[store.selected.size ? "waiting" : store.runs.length ? "unselected" : "empty"];
    root.dataset.points = points;
    if (!points || !root.offsetParent) return;
    plot.setAttribute("aria-label", wordsOf(visibleCurves()));
    table.update();
    await drawPlot(plot, points);
    chart.points = points;
  }

  fitWhenShown(plot);
  const chart = { root, points: 0, draw };
  charts.push(chart);
  let width = 0;
  whenShown(root, () => {
    if (width === root.clientWidth) return;
    width = root.clientWidth;
    draw();
  });
  draw();
});

const alone = oneAtATime();

async function update() {
  await alone(pullSelected);
  drawAll();
}

/** Looks for the first loss of a run that was just submitted more often than the list is polled; draws it at once. */
async function awaitFirst(id) {
  const end = Date.now() + 1000 * FIRST_SECONDS;
  const hasPoint = () => series.get(id)?.train.loss?.length;
  let status = "";
  do {
    await new Promise((resolve) => setTimeout(resolve, status === "queued" ? QUEUED_PAUSE : FIRST_PAUSE));
    status = runOf(id)?.status;
    if (status && !["queued", "running"].includes(status)) return;
    if (document.visibilityState !== "visible") continue;
    await alone(async () => {
      await pull([id]);
      if (hasPoint()) await drawAll();
    });
  } while (Date.now() < end && !hasPoint() && store.selected.has(id));
}

on("submitted", awaitFirst);
on("submitted", () => {
  const seen = charts.find((chart) => chart.root.offsetParent);
  seen?.root.scrollIntoView({ block: "nearest", behavior: "smooth" });
});
on("runs", update);
on("selection", update);
on("findings", drawAll);
on("theme", drawAll);
on("language", drawAll);
setTimeout(() => loadPlotly().catch(() => {}), PLOTLY_DELAY);
