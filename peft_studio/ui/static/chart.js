// Live loss curves of the selected runs. Zoom and hidden curves outlive every update.

import { oneAtATime } from "./api.js";
import { colourOf, dashOf, inkOf } from "./colours.js";
import { cardHead, el, spacer, whenShown } from "./dom.js";
import { on } from "./events.js";
import { drawFindings, findingMarks } from "./findings.js";
import { island } from "./islands.js";
import { fitWhenShown, loadPlotly, PLOT_CONFIG, plotLayout } from "./plot.js";
import { runOf, store, titleOf } from "./run_store.js";
import { pull, pullSelected, series } from "./series.js";
import { tracesOf } from "./traces.js";

const FIRST_SECONDS = 20; // how long the first loss of a submitted run is looked for often
const FIRST_PAUSE = 80; // milliseconds between two such looks
const QUEUED_PAUSE = 200; // the same while the run waits
const PLOTLY_DELAY = 2500; // milliseconds; the page is up by then, and the first chart need not wait
const AXES = {
  step: { name: "Steps", title: "steps" },
  tokens: { name: "Tokens", title: "tokens" },
  elapsed: { name: "Time", title: "seconds of training" },
};
const HINTS = {
  waiting: "Waiting for the first loss …",
  unselected: "Select runs in the list on the Runs tab to see their curves.",
  empty: "The loss will be drawn here while a run trains. Press Train to start one.",
};

/** All charts of the page show the same view. */
const view = { axis: "step", log: false, smooth: 0.6, hidden: new Set() };
const charts = [];
const drawAll = () => Promise.all(charts.map((chart) => chart.draw()));

/** How many points of training are drawn on the charts that can be seen. */
export function pointsDrawn() {
  return charts.filter((chart) => chart.root.offsetParent).reduce((total, chart) => total + chart.points, 0);
}

function visibleTraces() {
  const drawn = [...series].filter(([id]) => !view.hidden.has(id));
  return drawn.flatMap(([id, data]) =>
    tracesOf(data, view.axis, { colour: inkOf(id), dash: dashOf(id) }, view.smooth, findingMarks(id, data, view.axis)));
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
    el("span", { class: "sub" }, "line: training, dots: validation"),
    spacer(),
    el("label", { class: "ps-smooth" }, "Smoothing", smooth),
    el("span", { class: "ps-seg", role: "group", "aria-label": "Horizontal axis" }, ...axes),
    el("span", { class: "ps-seg" }, log));
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
    el("i", { style: `background:${colourOf(run.id)}` }), titleOf(run));
}

function drawLegend(legend) {
  const shown = store.runs.filter((run) => series.has(run.id));
  const state = JSON.stringify([shown.map((run) => [run.id, titleOf(run)]), [...view.hidden]]);
  if (legend.dataset.state === state) return;
  legend.dataset.state = state;
  legend.replaceChildren(...shown.map(chip));
}

async function drawPlot(plot, points) {
  const Plotly = await loadPlotly();
  const layout = plotLayout(AXES[view.axis].title, "loss (nats per token)", view.axis);
  layout.yaxis.type = view.log ? "log" : "linear";
  layout.datarevision = `${points}-${Date.now()}`;
  await Plotly.react(plot, visibleTraces(), layout, PLOT_CONFIG);
}

island("chart", (root) => {
  const plot = el("div", {
    class: "ps-plot", hidden: true, role: "img", "aria-label": "Loss curves of the selected runs",
  });
  const hint = el("p", { class: "ps-empty" });
  const legend = el("div", { class: "ps-legend" });
  const notes = el("div", { class: "ps-findings", hidden: true });
  const { head, update } = controls();
  root.append(el("section", { class: "ps-card ps-chart" }, head, legend, hint, plot, notes));

  async function draw() {
    drawLegend(legend);
    drawFindings(notes, [...series.keys()].filter((id) => !view.hidden.has(id)));
    update();
    const points = [...series.values()].reduce((total, data) => total + (data.train.loss?.length || 0), 0);
    plot.hidden = !points;
    hint.hidden = Boolean(points);
    hint.textContent = HINTS[store.selected.size ? "waiting" : store.runs.length ? "unselected" : "empty"];
    root.dataset.points = points;
    if (!points || !root.offsetParent) return;
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
