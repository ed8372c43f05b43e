// What is reached against what it costs: which points nothing else beats, drawn, in a table and in words.

import { el, tableHead, token } from "./dom.js";
import { decimal } from "./format.js";
import { placeLabels } from "./labels.js";
import { loadPlotly, PLOT_CONFIG, plotLayout } from "./plot.js";
import { cut, plotText } from "./text.js";
import { t } from "./words.js";

/**
 * @typedef {Object} Point
 * @property {string} name
 * @property {?number} cost Less is better; points without it are not drawn.
 * @property {?number} quality
 * @property {string} [colour]
 * @property {string} [symbol] A marker's name in plotly.
 * @property {boolean} [base] Whether it is the model that nobody trained.
 * @property {?number} [low] Ends of the interval of its quality.
 * @property {?number} [high]
 */

/**
 * @typedef {Object} Axes
 * @property {string} cost What costs, in words.
 * @property {string} quality What is reached, in words.
 * @property {boolean} [lower] Whether less of the quality is better, as of a loss.
 * @property {boolean} [log] Whether the cost is drawn on a logarithmic scale.
 * @property {function(?number): string} [format] Of a cost.
 * @property {number} [digits] Decimals of a quality.
 */

const LONGEST_NAME = 32; // letters on the plot; the table has the whole name
const DIMMED = 0.5;
const MARGINS = [62, 100]; // pixels of the plot's place that its axes take, about

const isDrawn = ({ cost, quality }) => Number.isFinite(cost) && Number.isFinite(quality);
const better = (a, b, lower) => (lower ? a < b : a > b);

/**
 * Which points are not dominated: nothing costs less without being worse, and nothing is better without costing more.
 * @param {Point[]} points
 * @param {boolean} [lower] Whether less of the quality is better.
 * @returns {boolean[]} For each point; equal ones stand or fall together. False for points without figures.
 */
export function frontierOf(points, lower = false) {
  const order = points.map((_point, at) => at).filter((at) => isDrawn(points[at]));
  order.sort((a, b) => points[a].cost - points[b].cost
    || (better(points[a].quality, points[b].quality, lower) ? -1 : 1));
  const found = points.map(() => false);
  let best = null; // the best of all that cost less or as much
  for (const at of order) {
    const { cost, quality } = points[at];
    const equal = best && best.cost === cost && best.quality === quality;
    if (best && !equal && !better(quality, best.quality, lower)) continue;
    found[at] = true;
    best = { cost, quality };
  }
  return found;
}

/**
 * The frontier as a line of steps: for each cost, the best that can be had for it.
 * @param {Point[]} points
 * @param {boolean} [lower]
 * @returns {{x: number[], y: number[]}} Corners, from the cheapest point on; as far as the dearest of all points.
 */
export function frontierLine(points, lower = false) {
  const on = frontierOf(points, lower);
  const corners = points.filter((_point, at) => on[at]).sort((a, b) => a.cost - b.cost);
  const line = { x: [], y: [] };
  for (const { cost, quality } of corners) {
    if (line.x.length) {
      line.x.push(cost);
      line.y.push(line.y.at(-1));
    }
    line.x.push(cost);
    line.y.push(quality);
  }
  const dearest = Math.max(...points.filter(isDrawn).map(({ cost }) => cost));
  if (line.x.length && dearest > line.x.at(-1)) {
    line.x.push(dearest);
    line.y.push(line.y.at(-1));
  }
  return line;
}

const short = (name) => cut(name, LONGEST_NAME);

/** On a logarithmic scale there is no place for what costs nothing: it has its line across the plot alone. */
const hasPlace = (point, log) => isDrawn(point) && !(log && point.cost <= 0);

const frontierTrace = ({ x, y }) => ({
  x, y, name: "frontier", mode: "lines", line: { color: token("--ps-ink3"), width: 1.6 }, hoverinfo: "skip",
});

/** Names of points, and where each has room; those on the frontier choose first. */
function namesOf(points, on, axes, plot) {
  const scale = (values, size, log) => {
    const found = values.map((value) => (log ? Math.log10(value) : value));
    const low = Math.min(...found);
    const span = Math.max(...found) - low || 1;
    return found.map((value) => (size * (0.04 + (0.92 * (value - low)) / span)));
  };
  const [width, height] = [plot.clientWidth - MARGINS[0], plot.clientHeight - MARGINS[1]];
  const xs = scale(points.map(({ cost }) => cost), width, axes.log);
  const ys = scale(points.map(({ quality }) => -quality), height, false);
  const order = points.map((_point, at) => at).sort((a, b) => on[b] - on[a]);
  const texts = points.map(({ name }) => short(name));
  const found = placeLabels(order.map((at) => ({ x: xs[at], y: ys[at], text: texts[at] })), width, height);
  const places = [];
  order.forEach((at, i) => {
    places[at] = found[i];
  });
  const shown = texts.map((text, at) => (places[at] ? plotText(text) : ""));
  return { texts: shown, places: places.map((place) => place || "top center") };
}

function pointsTrace(points, on, axes, plot) {
  const { texts, places } = namesOf(points, on, axes, plot);
  const spread = (side) => points.map(({ [side]: end, quality }) => (end == null ? 0 : Math.abs(end - quality)));
  const bars = points.some(({ low, high }) => low != null && high != null);
  return {
    x: points.map(({ cost }) => cost),
    y: points.map(({ quality }) => quality),
    name: "points",
    text: texts,
    customdata: points.map(({ cost, quality, name }) => [
      plotText(name), plotText(axes.format ? axes.format(cost) : cost), decimal(quality, axes.digits ?? 3),
    ]),
    mode: "markers+text",
    textposition: places,
    textfont: { size: 11, color: points.map((_point, at) => token(on[at] ? "--ps-ink" : "--ps-ink3")) },
    error_y: bars ? {
      type: "data", symmetric: false, array: spread("high"), arrayminus: spread("low"), thickness: 1.2, width: 4,
      color: token("--ps-ink3"),
    } : { visible: false },
    marker: {
      size: points.map((_point, at) => (on[at] ? 12 : 10)),
      symbol: points.map(({ symbol, base }) => (base ? "diamond" : symbol || "circle")),
      color: points.map(({ colour, base }) => (base || !colour ? token("--ps-ink2") : colour)),
      opacity: points.map((_point, at) => (on[at] ? 1 : DIMMED)),
      line: { width: 1.5, color: token("--ps-card") },
    },
    cliponaxis: false,
    hovertemplate: "%{customdata[0]}<br>%{customdata[1]}, %{customdata[2]}<extra></extra>",
  };
}

/** A line across the plot at what the model reaches that nobody trained. */
function baseMarks(points) {
  const base = points.find((point) => point.base && Number.isFinite(point.quality));
  if (!base) return {};
  const line = { color: token("--ps-ink3"), width: 1.2, dash: "dash" };
  const at = { y0: base.quality, y1: base.quality, yref: "y" };
  return {
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, ...at, line }],
    annotations: [{
      xref: "paper", x: 1, xanchor: "right", y: base.quality, yref: "y", yanchor: "bottom", yshift: 2, showarrow: false,
      text: plotText(t(base.name)), font: { size: 11, color: token("--ps-ink2") },
    }],
  };
}

/**
 * Draws the plot.
 * @param {HTMLElement} plot
 * @param {Point[]} points
 * @param {Axes} axes
 */
export async function drawPareto(plot, points, axes) {
  const Plotly = await loadPlotly();
  const layout = plotLayout(axes.cost, axes.quality, `${axes.cost} ${axes.quality} ${axes.log}`);
  layout.xaxis.type = axes.log ? "log" : "linear";
  Object.assign(layout, baseMarks(points));
  const on = frontierOf(points, axes.lower);
  const line = frontierLine(points, axes.lower);
  const kept = line.x.map((x) => !axes.log || x > 0);
  const seen = points.map((point) => hasPlace(point, axes.log) && !(axes.log && point.base));
  const shown = points.filter((_point, at) => seen[at]);
  const traces = [
    frontierTrace({ x: line.x.filter((_x, at) => kept[at]), y: line.y.filter((_y, at) => kept[at]) }),
    pointsTrace(shown, on.filter((_on, at) => seen[at]), axes, plot),
  ];
  await Plotly.react(plot, traces, layout, PLOT_CONFIG);
}

/**
 * What the plot says, for those who do not see it.
 * @param {Point[]} points
 * @param {Axes} axes
 * @returns {string}
 */
export function paretoWords(points, axes) {
  const on = frontierOf(points, axes.lower);
  const best = points.filter((_point, at) => on[at]).sort((a, b) => a.cost - b.cost);
  if (!best.length) return t("No point has both figures.");
  const told = best.map(({ name, cost, quality }) =>
    `${t(name)} (${axes.format ? axes.format(cost) : cost}, ${decimal(quality, axes.digits ?? 3)})`);
  return `${t("Nothing beats these, from the cheapest on:")} ${told.join("; ")}.`;
}

/**
 * The table behind the plot, the cheapest first.
 * @param {Point[]} points
 * @param {Axes} axes
 * @returns {HTMLElement}
 */
export function paretoTable(points, axes) {
  const on = frontierOf(points, axes.lower);
  const rows = points.map((point, at) => [point, on[at]]).filter(([point]) => Number.isFinite(point.quality));
  rows.sort(([a], [b]) => (a.cost ?? Infinity) - (b.cost ?? Infinity));
  const cells = ([{ name, cost, quality }, best]) => el("tr", {},
    el("th", { scope: "row" }, name),
    el("td", {}, axes.format ? axes.format(cost) : String(cost ?? "")),
    el("td", {}, decimal(quality, axes.digits ?? 3)),
    el("td", {}, best ? "yes" : "no"));
  return el("table", { class: "ps-table" },
    tableHead(["Run", axes.cost, axes.quality, "On the frontier"]), el("tbody", {}, ...rows.map(cells)));
}
