// What runs are compared by: costs, metrics, and their order.

import { bytes, duration, integer, percent } from "./format.js";
import { METRICS, sentenceCase } from "./text.js";

/** @type {Object<string, {title: string, format: function(?number): string}>} By the name of a run's figure. */
export const COSTS = {
  trainable_params: { title: "Trainable parameters", format: integer },
  trainable_share: { title: "Share that trains", format: percent },
  seconds: { title: "Time", format: duration },
  peak_memory_bytes: { title: "Peak memory", format: bytes },
  adapter_bytes: { title: "Adapter file", format: bytes },
};

/** What stands in a row beside a run's metrics: its lowest validation loss. */
export const BEST = "eval/best";

const VALIDATION = { [BEST]: "Best val. loss", "eval/loss": "Val. loss, saved", "eval/perplexity": "Val. perplexity" };
// In the order in which they are shown; other metrics come after them.
const ORDER = [...Object.keys(VALIDATION), ...Object.keys(METRICS).map((name) => `test/${name}`)];

/** @param {string} metric */
export function titleOfMetric(metric) {
  const name = metric.slice(metric.indexOf("/") + 1);
  return VALIDATION[metric] || METRICS[name] || sentenceCase(name);
}

/**
 * The metrics of validation and test that any of the runs has.
 * @param {{metrics: (Object<string, number>|undefined)}[]} runs
 * @returns {string[]}
 */
export function metricsOf(runs) {
  const names = new Set(runs.flatMap((run) => Object.keys(run.metrics || {})));
  if (names.has("eval/loss")) names.add(BEST);
  const rank = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return [...names].filter((name) => /^(eval|test)\//.test(name)).sort((a, b) => rank(a) - rank(b));
}

/**
 * Of runs of one task, those whose figures were measured on other rows than most runs' figures.
 * @param {Object[]} runs
 * @param {string} part `eval` or `test`.
 * @returns {Set<string>} Their ids.
 */
export function measuredElsewhere(runs, part) {
  const marks = new Map(); // by task: how many runs have which fingerprint
  const measured = runs.filter((run) => run.measured_on?.[part]);
  for (const { task, measured_on: { [part]: mark } } of measured) {
    const counts = marks.get(task) || marks.set(task, new Map()).get(task);
    counts.set(mark, (counts.get(mark) || 0) + 1);
  }
  const usual = new Map([...marks].map(([task, counts]) => [task, [...counts].sort((a, b) => b[1] - a[1])[0][0]]));
  return new Set(measured.filter((run) => run.measured_on[part] !== usual.get(run.task)).map((run) => run.id));
}

/**
 * What a run has in a column.
 * @param {Object} run
 * @param {string} key A metric, `title`, or the name of one of a run's figures.
 * @returns {?(number|string)}
 */
export function valueOf(run, key) {
  if (key === BEST) return run.best_eval_loss;
  if (key.includes("/")) return run.metrics?.[key];
  return key === "title" ? run.name || run.title : run[key];
}

/**
 * Runs in the order of a column; those without a value are last either way.
 * @param {Object[]} runs
 * @param {string} key
 * @param {boolean} down Whether the largest comes first.
 * @returns {Object[]}
 */
export function sorted(runs, key, down) {
  const sign = down ? -1 : 1;
  return [...runs].sort((a, b) => {
    const [left, right] = [valueOf(a, key), valueOf(b, key)];
    if (left == null || right == null) return (left == null) - (right == null);
    if (left === right) return 0;
    return left < right ? -sign : sign;
  });
}
