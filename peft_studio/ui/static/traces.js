// A run's curves as plotly draws them.

import { smoothed, thinned } from "./curves.js";
import { token } from "./dom.js";
import { spread } from "./labels.js";
import { isActive } from "./run_store.js";
import { cut, plotText } from "./text.js";

/** Training as it was measured: pale where the smoothed curve is drawn too. */
function measured(xs, losses, { colour, dash }, pale) {
  const [x, y] = thinned(xs, losses);
  return {
    x,
    y,
    mode: xs.length === 1 ? "markers" : "lines",
    opacity: pale ? 0.22 : 1,
    line: { width: pale ? 1 : 1.6, color: colour, dash: pale ? "solid" : dash },
    marker: { color: colour, size: 5 },
    hoverinfo: pale ? "skip" : "all",
    hovertemplate: pale ? undefined : "%{y:.4f}<extra>train</extra>",
  };
}

function smooth(xs, losses, { colour, dash }, weight) {
  const [x, y] = thinned(xs, smoothed(losses, weight));
  const line = { width: 2.2, color: colour, dash };
  return { x, y, mode: "lines", line, hovertemplate: "%{y:.4f}<extra>train</extra>" };
}

function validation(columns, key, { colour }) {
  return {
    x: columns[key],
    y: columns.loss,
    mode: "lines+markers",
    line: { width: 1.4, color: colour, dash: "dot" },
    marker: { size: 6, color: token("--ps-card"), line: { width: 1.8, color: colour } },
    hovertemplate: "%{y:.4f}<extra>validation</extra>",
  };
}

const LETTER = 6; // pixels, about, of a name at the end of a curve
const LONGEST = 24; // letters of it

/** Where a curve ends, smoothed as it is drawn. */
function endOf({ train, eval: validated }, key, weight) {
  const xs = train[key] || [];
  const ys = weight > 0 ? smoothed(train.loss || [], weight) : train.loss || [];
  let at = ys.length - 1;
  while (at >= 0 && ys[at] == null) at -= 1;
  if (at >= 0) return { x: xs[at], y: ys[at] };
  return validated[key]?.length ? { x: validated[key].at(-1), y: validated.loss.at(-1) } : null;
}

/**
 * The names at the ends of curves, so far apart that each can be read.
 * @param {{name: string, data: import("./series.js").Series, mark: {colour: string}}[]} curves
 * @param {string} key The column on the horizontal axis.
 * @param {number} weight Of the smoothing.
 * @param {{range: ?[number, number], height: number, isLog: boolean}} scale Of the losses, as they were drawn last.
 * @returns {{annotations: Object[], width: number}} How plotly draws them, and the room that they need, in pixels.
 */
export function endNames(curves, key, weight, { range, height, isLog }) {
  const ends = curves.map((curve) => ({ ...curve, end: endOf(curve.data, key, weight) })).filter(({ end }) => end);
  const values = ends.map(({ end }) => (isLog ? Math.log10(end.y) : end.y));
  const [low, high] = range || [Math.min(...values), Math.max(...values)];
  const pixels = values.map((value) => (height * (high - value)) / (high - low || 1));
  const places = spread(pixels, 0, height);
  const annotations = ends.map(({ name, end, mark }, at) => ({
    x: end.x, y: values[at], xref: "x", yref: "y", xanchor: "left", xshift: 7, yshift: pixels[at] - places[at],
    showarrow: false, text: plotText(cut(name, LONGEST)), font: { size: 11, color: mark.colour },
  }));
  return { annotations, width: LETTER * Math.max(0, ...ends.map(({ name }) => Math.min(LONGEST, name.length))) };
}

/**
 * How far the horizontal axis reaches: to the last step of every run that goes on.
 * @param {{run: import("./run_store.js").Run, data: import("./series.js").Series}[]} curves
 * @param {string} key The column on the axis; what it will be at the last step is foretold from the steps so far.
 * @returns {number} 0 where there is nothing.
 */
export function reachOf(curves, key) {
  return Math.max(0, ...curves.map(({ run, data }) => {
    const [last, step] = [data.train[key]?.at(-1) || 0, data.train.step?.at(-1) || 0];
    const goesOn = run && (isActive(run.status) || run.status === "paused") && run.max_steps > step && step > 0;
    return goesOn ? (last * run.max_steps) / step : Math.max(last, data.eval[key]?.at(-1) || 0);
  }));
}

/**
 * Everything drawn for one run.
 * @param {import("./series.js").Series} data
 * @param {string} key The column on the horizontal axis: step, tokens or elapsed.
 * @param {{colour: string, dash: string}} mark What the run is told by.
 * @param {number} weight Of the smoothing; 0 for none.
 * @param {Object[]} marks Traces of the findings, drawn over the training curve.
 * @returns {Object[]}
 */
export function tracesOf(data, key, mark, weight, marks) {
  const xs = data.train[key] || [];
  const losses = data.train.loss || [];
  const traces = [measured(xs, losses, mark, weight > 0)];
  if (weight > 0 && xs.length > 1) traces.push(smooth(xs, losses, mark, weight));
  traces.push(...marks);
  if (data.eval[key]?.length) traces.push(validation(data.eval, key, mark));
  return traces;
}
