// The answers of a class in one plot: a dot for each student above their value, and a line at each value's median.

import { marksAt } from "./colours.js";
import { BEST, titleOfMetric } from "./comparison.js";
import { cardHead, el, spacer, tableHead, token } from "./dom.js";
import { on } from "./events.js";
import { decimal } from "./format.js";
import { behind, fitWhenShown, loadPlotly, PLOT_CONFIG, plotLayout } from "./plot.js";
import { plotText } from "./text.js";
import { t } from "./words.js";

const SHAPES = ["circle", "square", "diamond", "triangle-up", "pentagon", "star"];
const WIDEST = 0.6; // of the place of a value, over which its dots are spread
const HALF = 0.34; // of a median's line
const NO_ANSWERS = "The answers grow here as soon as the first run has a validation loss.";

/** @param {number[]} scores Sorted. */
function median(scores) {
  const half = scores.length >> 1;
  return scores.length % 2 ? scores[half] : (scores[half - 1] + scores[half]) / 2;
}

/** What of a metric there is for each value, smallest first. */
const grouped = (question, metric) => question.values.map((value) => {
  const found = question.answers.filter((one) => one.value === value && one.metrics[metric] != null);
  return { value, found: found.sort((a, b) => a.metrics[metric] - b.metrics[metric]) };
});

function traceOf({ value, found }, at, metric) {
  const step = WIDEST / Math.max(found.length, 4);
  const ink = token(marksAt(at).colour);
  const shape = SHAPES[at % SHAPES.length];
  return {
    x: found.map((_one, place) => at + (place - (found.length - 1) / 2) * step),
    y: found.map((one) => one.metrics[metric]),
    text: found.map((one) => plotText(`${one.name}: ${value}, ${t("step")} ${one.step}, ${t(one.status)}`)),
    mode: "markers",
    marker: {
      size: 13,
      color: ink,
      symbol: found.map((one) => (one.status === "finished" ? shape : `${shape}-open`)),
      line: { width: 2, color: ink },
    },
    cliponaxis: false,
    hovertemplate: "%{text}<br>%{y:.4f}<extra></extra>",
  };
}

async function drawPlot(plot, question, groups, metric) {
  const Plotly = await loadPlotly();
  const layout = plotLayout(question.setting, titleOfMetric(metric), `${question.setting} ${metric}`);
  const ticktext = question.values.map(plotText);
  Object.assign(layout.xaxis, { tickvals: question.values.map((_value, at) => at), ticktext, type: "linear" });
  layout.xaxis.range = [-0.5, question.values.length - 0.5];
  layout.shapes = groups.flatMap(({ found }, at) => {
    if (!found.length) return [];
    const y = median(found.map((one) => one.metrics[metric]));
    return [{ type: "line", x0: at - HALF, x1: at + HALF, y0: y, y1: y, line: { width: 2, color: token("--ps-ink") } }];
  });
  await Plotly.react(plot, groups.map((group, at) => traceOf(group, at, metric)), layout, PLOT_CONFIG);
}

function tableOf(question, metric) {
  const rows = question.answers.map((one) => el("tr", {},
    el("th", { scope: "row", class: "ps-verbatim" }, one.name),
    el("td", {}, one.value || "–"),
    el("td", {}, one.status || "–"),
    el("td", {}, decimal(one.metrics[metric], 4) || "–")));
  const heads = ["Name", "Its value", "Status", titleOfMetric(metric)];
  return el("table", { class: "ps-table" }, tableHead(heads), el("tbody", {}, ...rows));
}

/**
 * The part of the room's page where answers grow.
 * @param {function(): void} chosen Called when another metric is chosen.
 * @returns {{node: HTMLElement, update: function(Object): void, metric: function(): string}}
 */
export function answersPart(chosen) {
  let question = null;
  const metric = el("select", { "aria-label": "Metric of the answers", onchange: () => { draw(); chosen(); } },
    el("option", { value: BEST }, titleOfMetric(BEST)));
  const plot = el("div", { class: "ps-plot", role: "img", "aria-label": "Answers of the room", hidden: true });
  const hint = el("p", { class: "ps-empty" }, NO_ANSWERS);
  const came = el("span", { class: "sub", role: "status" });
  const table = behind(() => question && tableOf(question, metric.value));
  fitWhenShown(plot);

  function draw() {
    const names = new Set([BEST, ...question.answers.flatMap((one) => Object.keys(one.metrics))]);
    if (metric.dataset.names !== [...names].join()) {
      const before = metric.value;
      metric.dataset.names = [...names].join();
      metric.replaceChildren(...[...names].map((name) => el("option", { value: name }, titleOfMetric(name))));
      metric.value = names.has(before) ? before : BEST;
    }
    const groups = grouped(question, metric.value);
    const count = groups.reduce((total, { found }) => total + found.length, 0);
    came.textContent = `${count} of ${question.answers.length} have answered`;
    plot.hidden = !count;
    hint.hidden = Boolean(count);
    table.update();
    if (count && plot.offsetParent) drawPlot(plot, question, groups, metric.value);
  }

  on("theme", () => question && draw());
  on("language", () => question && draw());
  return {
    node: el("div", {}, cardHead("Answers", came, spacer(), metric), plot, hint, table.node),
    update(told) {
      question = told;
      draw();
    },
    metric: () => metric.value,
  };
}
