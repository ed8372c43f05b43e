// What the run doctor says: marks on the chart, a line below it, and a section in a run's details.

import { fetchJSON, oneAtATime } from "./api.js";
import { fill } from "./bridge.js";
import { placeOf } from "./curves.js";
import { el, linkButton, token } from "./dom.js";
import { emit, on } from "./events.js";
import { integer } from "./format.js";
import { hasEnded, runOf, store, titleOf } from "./run_store.js";
import { plotLines } from "./text.js";

/**
 * @typedef {Object} Finding See `Finding` in Python.
 * @property {string} id
 * @property {"problem"|"warning"|"note"} severity
 * @property {string} title
 * @property {string} cause
 * @property {string} fix
 * @property {?number} step Where it begins to show.
 * @property {string} change What "Try again" would change, in words.
 * @property {Object} settings The same, as settings.
 */

const PAUSE = 5000; // milliseconds between two looks at a run that is training
const SEVERITIES = {
  problem: { word: "Problem", colour: "--ps-bad" },
  warning: { word: "Warning", colour: "--ps-add" },
  note: { word: "Note", colour: "--ps-ink3" },
};

/** @type {Map<string, {list: Finding[], status: string, at: number}>} By run id; `at` in milliseconds. */
const found = new Map();
const alone = oneAtATime();
const findingsOf = (id) => found.get(id)?.list || [];

function isDue(run, now) {
  if (!store.selected.has(run.id) || run.status === "queued") return false;
  const have = found.get(run.id);
  return !have || have.status !== run.status || (!hasEnded(run.status) && now - have.at > PAUSE);
}

async function look() {
  const now = Date.now();
  for (const id of [...found.keys()]) if (!store.selected.has(id)) found.delete(id);
  const due = store.runs.filter((run) => isDue(run, now));
  if (!due.length) return;
  const ids = encodeURIComponent(due.map((run) => run.id).join(","));
  const answer = await fetchJSON(`studio/findings.json?runs=${ids}`);
  const state = () => JSON.stringify([...found].map(([id, { list }]) => [id, list]));
  const before = state();
  for (const run of due) {
    if (answer[run.id]) found.set(run.id, { list: answer[run.id], status: run.status, at: now });
  }
  if (state() !== before) emit("findings");
}

on("runs", () => alone(look));
on("selection", () => alone(look));

/**
 * Markers for one run's curve, at the point where each finding begins to show.
 * @param {string} id
 * @param {import("./series.js").Series} data
 * @param {string} key The column on the horizontal axis.
 * @returns {Object[]} No trace, or one.
 */
export function findingMarks(id, data, key) {
  const points = [];
  for (const item of findingsOf(id)) {
    const curve = item.id === "overfitted" && data.eval.step?.length ? data.eval : data.train;
    if (item.step == null || !curve.step?.length) continue;
    const { at, valueAt } = placeOf(curve, item.step);
    points.push({ x: curve[key][at], y: curve.loss[valueAt], item });
  }
  if (!points.length) return [];
  return [{
    x: points.map(({ x }) => x),
    y: points.map(({ y }) => y),
    name: "finding",
    mode: "markers",
    marker: {
      symbol: "triangle-down",
      size: 14,
      color: points.map(({ item }) => token(SEVERITIES[item.severity].colour)),
      line: { width: 1.5, color: token("--ps-card") },
    },
    text: points.map(({ item }) => `<b>${plotLines(item.title)}</b><br>${plotLines(item.cause)}`),
    hovertemplate: "%{text}<extra></extra>",
  }];
}

function entry(run, item, open, named) {
  const again = item.change
    && linkButton(`Try again with ${item.change}`, null, () => fill({ run: run.id, set: item.settings }));
  const where = [named && titleOf(run), item.step != null && `step ${integer(item.step)}`].filter(Boolean).join(" · ");
  return el("details", { class: `ps-finding ${item.severity}`, open, "data-finding": item.id },
    el("summary", {},
      el("span", { class: "ps-pill" }, SEVERITIES[item.severity].word),
      el("b", {}, item.title),
      where && el("span", { class: "sub" }, where)),
    el("p", {}, item.cause),
    el("p", {}, item.fix, again && " ", again));
}

/**
 * Draws the findings on the runs of a chart, one line each, to be opened.
 * @param {HTMLElement} host
 * @param {string[]} ids
 */
export function drawFindings(host, ids) {
  const shown = ids.filter(runOf).flatMap((id) => findingsOf(id).map((item) => [runOf(id), item]));
  const named = ids.length > 1;
  const state = JSON.stringify(shown.map(([run, item]) => [titleOf(run), item, named]));
  if (host.dataset.state === state) return;
  host.dataset.state = state;
  host.hidden = !shown.length;
  host.replaceChildren(...shown.map(([run, item]) => entry(run, item, false, named)));
}

/**
 * The section of a run's details.
 * @param {import("./run_store.js").Run} run
 * @param {Finding[]} list
 * @returns {HTMLElement}
 */
export function findingSection(run, list) {
  const entries = list.map((item) => entry(run, item, true, false));
  const parts = entries.length ? entries : [el("p", { class: "ps-note" }, "Nothing looks wrong.")];
  return el("section", { class: "ps-findings" }, el("h3", {}, "Findings"), ...parts);
}
