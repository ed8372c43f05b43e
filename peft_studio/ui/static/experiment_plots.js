// The plots of an experiment's answer, each with its table and its words.

import { marksAt } from "./colours.js";
import { el, scrollBox, tableHead, token } from "./dom.js";
import { decimal } from "./format.js";
import { fitWhenShown, loadPlotly, PLOT_CONFIG, plotLayout } from "./plot.js";
import { plotText } from "./text.js";

/**
 * What a cell is told by, in the theme as it is now.
 * @param {number} index Its place in the table.
 * @returns {{css: string, ink: string, dash: string, symbol: string}}
 */
export function markOf(index) {
  const { colour, dash, symbol } = marksAt(index);
  return { css: `var(${colour})`, ink: token(colour), dash, symbol };
}

/**
 * A plot with a heading, what it says in words, and its figures folded below it.
 * @param {string} title
 * @param {...Node} tools What chooses what is drawn.
 * @returns {{card: HTMLElement, show: function(function(HTMLElement): Promise<void>, string, HTMLElement): void}}
 *   `show` takes how to draw it, the words and the table.
 */
export function plotCard(title, ...tools) {
  const plot = el("div", { class: "ps-plot", role: "img" });
  const table = el("div", {});
  const figures = el("details", { class: "ps-figures" }, el("summary", {}, "The figures of this plot"), table);
  const head = el("div", { class: "ps-cardhead" }, el("h3", {}, title), el("span", { class: "grow" }), ...tools);
  const card = el("section", { class: "ps-card ps-answerplot" }, head, plot, figures);
  fitWhenShown(plot);

  function show(draw, words, behind) {
    plot.setAttribute("aria-label", words);
    table.replaceChildren(scrollBox(title, behind));
    if (plot.offsetParent) draw(plot);
  }
  return { card, show };
}

const cells = ([name, ...others]) =>
  el("tr", {}, el("th", { scope: "row" }, name), ...others.map((text) => el("td", {}, text)));

const tableOf = (heads, rows) =>
  el("table", { class: "ps-table" }, tableHead(heads), el("tbody", {}, ...rows.map(cells)));

/** A number with as many decimals as a metric has. */
export const figure = (metric, value) => decimal(value, metric.startsWith("test/") ? 1 : 3);

function band({ steps, low, high }, { ink }) {
  const edge = { mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
  return [
    { ...edge, x: steps, y: low },
    { ...edge, x: steps, y: high, fill: "tonexty", fillcolor: `${ink}26` },
  ];
}

function endName({ cell, steps, mean }, { ink }) {
  return {
    x: steps.at(-1), y: mean.at(-1), text: plotText(cell), showarrow: false, xanchor: "left", xshift: 6,
    font: { size: 11, color: ink },
  };
}

/**
 * Validation loss over steps: the mean of the seeds, and from the lowest to the highest of them.
 * @param {Object} answer
 * @returns {Array} For `show`.
 */
export function curvesOf(answer) {
  const drawn = answer.curves.map((curve, at) => [curve, markOf(at)]).filter(([{ steps }]) => steps.length);
  const draw = async (plot) => {
    const Plotly = await loadPlotly();
    const layout = plotLayout("Step", "Validation loss", answer.id);
    layout.margin.r = 120;
    layout.annotations = drawn.map(([curve, mark]) => endName(curve, mark));
    const lines = drawn.map(([{ cell, steps, mean }, { ink, dash, symbol }]) => ({
      x: steps, y: mean, mode: "lines+markers", name: plotText(cell), line: { color: ink, width: 2, dash },
      marker: { color: ink, size: 6, symbol }, hovertemplate: `%{y:.4f}<extra>${plotText(cell)}</extra>`,
    }));
    await Plotly.react(plot, [...drawn.flatMap(([curve, mark]) => band(curve, mark)), ...lines], layout, PLOT_CONFIG);
  };
  const ends = drawn.map(([{ cell, mean }]) => `${cell} ${decimal(mean.at(-1))}`).join(", ");
  const rows = drawn.flatMap(([{ cell, steps, mean, low, high, n }]) => steps.map((step, at) =>
    [cell, String(step), decimal(mean[at]), decimal(low[at]), decimal(high[at]), String(n)]));
  return [draw, `Validation loss at the end: ${ends}.`,
    tableOf(["Of", "Step", "Mean", "Lowest", "Highest", "Runs"], rows)];
}

/**
 * Each cell's mean with its interval, the base model as a line.
 * @param {Object} answer
 * @param {string} metric The metric in words.
 * @returns {Array} For `show`.
 */
export function intervalsOf(answer, metric) {
  const rows = answer.table.filter(({ mean }) => mean != null);
  const base = answer.base?.mean;
  const spread = (row, side) => (row[side] == null ? 0 : Math.abs(row[side] - row.mean));
  const draw = async (plot) => {
    const Plotly = await loadPlotly();
    const layout = plotLayout(metric, "", `${answer.id} intervals`);
    layout.margin.l = 130;
    layout.yaxis.autorange = "reversed";
    if (base != null) {
      const line = { color: token("--ps-ink3"), width: 1.2, dash: "dash" };
      layout.shapes = [{ type: "line", x0: base, x1: base, yref: "paper", y0: 0, y1: 1, line }];
    }
    const traces = rows.map((row) => {
      const { ink, symbol } = markOf(row.index);
      return {
        x: [row.mean], y: [plotText(row.name)], mode: "markers", marker: { color: ink, size: 10, symbol },
        error_x: {
          type: "data", symmetric: false, array: [spread(row, "high")], arrayminus: [spread(row, "low")],
          color: ink, thickness: 1.6, width: 5,
        },
        hovertemplate: `%{x:.3f}<extra>${plotText(row.name)}</extra>`,
      };
    });
    await Plotly.react(plot, traces, layout, PLOT_CONFIG);
  };
  const told = rows.map((row) => `${row.name} ${figure(answer.metric, row.mean)}`).join(", ");
  const behind = rows.map((row) =>
    [row.name, ...["mean", "low", "high"].map((key) => figure(answer.metric, row[key]))]);
  if (base != null) behind.push(["Base model", figure(answer.metric, base), "", ""]);
  return [draw, `${metric}: ${told}.`, tableOf(["Of", metric, "From", "To"], behind)];
}

/**
 * A metric over training rows, on a logarithmic axis.
 * @param {Object} answer Of an experiment that varies `task.train_rows` alone.
 * @param {string} metric The metric in words.
 * @returns {Array} For `show`.
 */
export function learningCurveOf(answer, metric) {
  const rows = answer.table.map((row) => ({ ...row, rows: Number(row.values["task.train_rows"]) }))
    .filter(({ mean, rows: count }) => mean != null && count > 0).sort((a, b) => a.rows - b.rows);
  const { ink } = markOf(0);
  const draw = async (plot) => {
    const Plotly = await loadPlotly();
    const layout = plotLayout("Training rows", metric, `${answer.id} rows`);
    layout.xaxis.type = "log";
    const spread = (side) => rows.map((row) => (row[side] == null ? 0 : Math.abs(row[side] - row.mean)));
    await Plotly.react(plot, [{
      x: rows.map((row) => row.rows), y: rows.map((row) => row.mean), mode: "lines+markers",
      line: { color: ink, width: 2 }, marker: { color: ink, size: 8 },
      error_y: { type: "data", symmetric: false, array: spread("high"), arrayminus: spread("low"), color: ink },
      hovertemplate: "%{x} rows: %{y:.3f}<extra></extra>",
    }], layout, PLOT_CONFIG);
  };
  const told = rows.map((row) => `${row.rows}: ${figure(answer.metric, row.mean)}`).join(", ");
  const behind = rows.map((row) =>
    [String(row.rows), ...["mean", "low", "high"].map((key) => figure(answer.metric, row[key]))]);
  return [draw, `${metric} by training rows: ${told}.`, tableOf(["Training rows", metric, "From", "To"], behind)];
}

/** How strongly a figure is coloured, from 0 for the worst to 1 for the best. */
function strength(value, values, lower) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const share = most > least ? (value - least) / (most - least) : 0.5;
  return lower ? 1 - share : share;
}

/**
 * The heat map of two fields: a table whose cells are coloured, so that it is read and seen alike.
 * @param {Object} answer
 * @returns {HTMLElement}
 */
export function gridOf(answer) {
  const { x, y, cells: means } = answer.grid;
  const known = means.flat().filter((value) => value != null);
  const cell = (value) => {
    if (value == null) return el("td", {}, "");
    const share = Math.round(60 * strength(value, known, answer.lower_is_better));
    return el("td", { style: `background:color-mix(in srgb, var(--ps-acc) ${share}%, var(--ps-card))`,
      class: share > 35 ? "strong" : null }, figure(answer.metric, value));
  };
  const rows = means.map((row, at) => el("tr", {}, el("th", { scope: "row" }, String(y.values[at])), ...row.map(cell)));
  return el("table", { class: "ps-table ps-heat" },
    tableHead([`${y.field} \\ ${x.field}`, ...x.values.map(String)]), el("tbody", {}, ...rows));
}

/**
 * Who beats whom: the row's lead over the column, with its interval.
 * @param {Object} answer
 * @returns {HTMLElement}
 */
export function matrixOf(answer) {
  const names = answer.table.filter(({ mean }) => mean != null).map(({ name }) => name);
  const found = new Map();
  for (const duel of answer.duels) {
    found.set(`${duel.better}\n${duel.worse}`, { ...duel, sign: "+" });
    found.set(`${duel.worse}\n${duel.better}`, { ...duel, sign: "−" });
  }
  const cell = (row, column) => {
    const duel = found.get(`${row}\n${column}`);
    if (row === column || !duel) return el("td", { class: "none" }, row === column ? "·" : "");
    const kind = duel.tie ? "tie" : duel.sign === "+" ? "better" : "worse";
    const size = figure(answer.metric, Math.abs(duel.difference));
    const range = duel.low == null ? null
      : el("small", {}, `[${figure(answer.metric, duel.low)}, ${figure(answer.metric, duel.high)}]`);
    return el("td", { class: kind }, `${duel.tie ? "=" : duel.sign} ${size}`, range);
  };
  const rows = names.map((row) =>
    el("tr", {}, el("th", { scope: "row" }, row), ...names.map((column) => cell(row, column))));
  return el("table", { class: "ps-table ps-duels" }, tableHead(["", ...names]), el("tbody", {}, ...rows));
}

/**
 * The search for rates: each cell's rates with the validation loss of their short runs.
 * @param {Object[]} search
 * @returns {HTMLElement}
 */
export function searchTable(search) {
  const rows = search.map(({ cell, round, rate, loss }) =>
    [String(cell), String(round + 1), String(rate), loss == null ? "…" : decimal(loss)]);
  return tableOf(["Of", "Round", "Learning rate", "Validation loss"], rows);
}
