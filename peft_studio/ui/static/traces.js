// A run's curves as plotly draws them.

import { smoothed, thinned } from "./curves.js";
import { token } from "./dom.js";

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
