// What runs are compared by: their groups, costs, metrics, settings, and which way of each is the better one.

import { bytes, duration, integer, percent } from "./format.js";
import { METRICS, sentenceCase } from "./text.js";

/** What a run takes; less is better. By the name of a run's figure; `base` is what the untrained model takes. */
export const COSTS = {
  trainable_params: { title: "Trainable parameters", format: integer, base: 0 },
  trainable_share: { title: "Trainable share", format: percent, base: 0 },
  adapter_bytes: { title: "Adapter file", format: bytes, base: 0 },
  peak_memory_bytes: { title: "Peak memory", format: bytes, base: null },
  seconds: { title: "Training time", format: duration, base: 0 },
  answer_seconds: { title: "Time per answer", format: duration, base: null },
};

/** What stands in a row beside a run's metrics: its lowest validation loss. */
export const BEST = "eval/best";

const VALIDATION = {
  [BEST]: "Lowest validation loss",
  "eval/loss": "Validation loss of the saved weights",
  "eval/perplexity": "Validation perplexity",
};
// In the order in which they are shown; other metrics come after them.
const ORDER = [...Object.keys(METRICS).map((name) => `test/${name}`), ...Object.keys(VALIDATION)];

/** @param {string} metric */
export function titleOfMetric(metric) {
  const name = metric.slice(metric.indexOf("/") + 1);
  return VALIDATION[metric] || METRICS[name] || sentenceCase(name);
}

/**
 * Whether less of a column is better.
 * @param {string} key A metric or a cost.
 */
export const lowerIsBetter = (key) => key in COSTS || key === BEST || /(loss|perplexity)$/.test(key);

/**
 * The metrics of validation and test that any of the runs has, those of the test first.
 * @param {{metrics: (Object<string, number>|undefined)}[]} runs
 * @returns {string[]}
 */
export function metricsOf(runs) {
  const names = new Set(runs.flatMap((run) => Object.keys(run.metrics || {})));
  if (names.has("eval/loss")) names.add(BEST);
  // Where every run has kept the weights of its lowest loss, one column says it all.
  const saved = (run) => run.metrics?.["eval/loss"];
  if (runs.every((run) => saved(run) == null || saved(run) === run.best_eval_loss)) names.delete("eval/loss");
  const rank = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return [...names].filter((name) => /^(eval|test)\//.test(name)).sort((a, b) => rank(a) - rank(b));
}

/**
 * @typedef {Object} Group Runs that may be compared: of one task and one base model.
 * @property {string} key
 * @property {string} task
 * @property {string} model
 * @property {Object[]} runs
 */

/**
 * @param {Object[]} runs
 * @returns {Group[]} In the order of their first runs.
 */
export function groupsOf(runs) {
  const groups = new Map();
  for (const run of runs) {
    const key = `${run.task}~${run.model}`;
    if (!groups.has(key)) groups.set(key, { key, task: run.task, model: run.model, runs: [] });
    groups.get(key).runs.push(run);
  }
  return [...groups.values()];
}

/** The value that most of a list have; undefined of none. */
function usual(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
}

/**
 * Of runs of one task, those whose figures were measured on other rows than most runs' figures.
 * @param {Object[]} runs
 * @param {string} part `eval` or `test`.
 * @returns {Set<string>} Their ids.
 */
export function measuredElsewhere(runs, part) {
  const measured = runs.filter((run) => run.measured_on?.[part]);
  const tasks = new Set(measured.map((run) => run.task));
  const marks = new Map([...tasks].map((task) =>
    [task, usual(measured.filter((run) => run.task === task).map((run) => run.measured_on[part]))]));
  return new Set(measured.filter((run) => run.measured_on[part] !== marks.get(run.task)).map((run) => run.id));
}

/**
 * What the untrained model has in each column, as most of the runs have found it.
 * @param {Object[]} runs Of one group.
 * @param {string[]} keys
 * @returns {Object<string, number>} Without what is not known.
 */
export function baseOf(runs, keys) {
  const found = {};
  for (const key of keys) {
    const asked = key === BEST ? "base/eval/loss" : `base/${key}`;
    const known = key === "answer_seconds" ? runs.map((run) => run.answer_seconds?.["base/test"])
      : runs.map((run) => run.metrics?.[asked]);
    const value = COSTS[key]?.base ?? usual(known.filter((one) => one != null));
    if (value != null) found[key] = value;
  }
  return found;
}

/**
 * What a run has in a column.
 * @param {Object} run
 * @param {string} key A metric, `title`, or the name of one of a run's figures.
 * @returns {?(number|string)}
 */
export function valueOf(run, key) {
  if (key === BEST) return run.best_eval_loss;
  if (key === "answer_seconds") return run.answer_seconds?.test;
  if (key.includes("/")) return run.metrics?.[key];
  return key === "title" ? run.name || run.title : run[key];
}

/**
 * The best value of each column in which runs differ.
 * @param {Object[]} runs Only such as may be compared.
 * @param {string[]} keys Metrics and costs.
 * @returns {Object<string, number>}
 */
export function bestOf(runs, keys) {
  const found = {};
  for (const key of keys) {
    const values = runs.map((run) => valueOf(run, key)).filter(Number.isFinite);
    if (new Set(values).size > 1) found[key] = lowerIsBetter(key) ? Math.min(...values) : Math.max(...values);
  }
  return found;
}

/**
 * Runs in the order of a column; those without a value are last either way.
 * @param {Object[]} runs
 * @param {string} key
 * @param {boolean} down Whether the largest comes first.
 * @param {function(Object, string): *} [read] What a run has in the column.
 * @returns {Object[]}
 */
export function sorted(runs, key, down, read = valueOf) {
  const sign = down ? -1 : 1;
  return [...runs].sort((a, b) => {
    const [left, right] = [read(a, key), read(b, key)];
    if (left == null || right == null) return (left == null) - (right == null);
    if (left === right) return 0;
    return left < right ? -sign : sign;
  });
}

/**
 * The settings in which runs differ; one that only some of them have is such a one.
 * @param {Object<string, *>[]} settings Of each run, values by path.
 * @param {Iterable<string>} paths All paths, in the order in which they are to be shown.
 * @returns {string[]}
 */
export function differing(settings, paths) {
  const differs = (path) => new Set(settings.map((one) => JSON.stringify(one[path] ?? null))).size > 1;
  const rank = (path) => (path.startsWith("method.") ? 0 : path === "training.learning_rate" ? 1 : 2);
  return [...paths].filter(differs).sort((a, b) => rank(a) - rank(b));
}
