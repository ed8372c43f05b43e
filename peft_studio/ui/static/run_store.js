// The runs as the app has told them, which of them are selected, and the polling that keeps both up to date.

import { changed, part } from "./address.js";
import { fetchJSON, post } from "./api.js";
import { toast } from "./dom.js";
import { emit, on } from "./events.js";

/**
 * @typedef {Object} Run One entry of `studio/runs.json`; see `RunInfo` in Python.
 * @property {string} id
 * @property {string} status
 * @property {number} step
 * @property {string[]} actions What it may be asked.
 */

const ACTIVE = new Set(["queued", "running", "pausing", "stopping"]);
const ENDED = new Set(["finished", "stopped", "failed"]);
// Milliseconds between two polls: right after a click, while something runs, and otherwise.
const HURRIED_PAUSE = 300;
const ACTIVE_PAUSE = 1000;
const IDLE_PAUSE = 4000;
const CLASS_PAUSE = 2000; // a student's page: the teacher's question or pause may come

export const store = {
  /** @type {Run[]} Newest first. */
  runs: [],
  /** @type {?{paused: boolean, starts: Object, takes: Object, left: Object}} Null until it is known; see Python. */
  queue: null,
  /** @type {?Object} A student's part of a question; null when none is asked, undefined for others. */
  question: undefined,
  /** @type {Set<string>} Ids; kept in the page's address. */
  selected: new Set(),
  /** Changes whenever a run has changed. */
  version: 0,
};

const byId = new Map();
const known = new Set(); // ids of all runs that this page has seen
const submitted = new Set(); // by this page, and not yet in the list
let order = [];
let hurryUntil = 0;
let timer = 0;

/** @param {string} status */
export const isActive = (status) => ACTIVE.has(status);

/** @param {string} status */
export const hasEnded = (status) => ENDED.has(status);

/**
 * @param {string} id
 * @returns {Run|undefined}
 */
export const runOf = (id) => byId.get(id);

/** @param {Run} run */
export const titleOf = (run) => run.name || run.title;

/**
 * Selects these runs and no others.
 * @param {Iterable<string>} ids
 * @param {boolean} [step] Whether Back is to lead to what was selected before.
 */
function select(ids, step = false) {
  store.selected = new Set(ids);
  changed({ step });
  emit("selection");
}

part("runs", (ids) => select(ids.split(",").filter(Boolean)), () => [...store.selected].join(","));

/**
 * Selects a run, or takes it out of the selection.
 * @param {string} id
 * @param {boolean} selected
 */
export function toggle(id, selected) {
  const others = [...store.selected].filter((item) => item !== id);
  select(selected ? [...others, id] : others, true);
}

/** Takes runs that are not there any more out of the selection, also those that the address named. */
function dropDeleted(present) {
  const gone = [...store.selected].filter((id) => !present.has(id) && !submitted.has(id));
  if (!gone.length) return;
  const named = gone.filter((id) => !known.has(id));
  if (named.length) toast(`Not here any more: ${named.join(", ")}. Such a run may have been deleted.`);
  select([...store.selected].filter((id) => !gone.includes(id)));
}

/** Asks for what changed since the last time, so that a list of thousands costs little. */
async function fetchRuns() {
  const delta = await fetchJSON(`studio/runs.json?since=${store.version}`);
  store.queue = { ...store.queue, paused: delta.paused };
  store.question = delta.question;
  if (delta.v === store.version) return;
  store.version = delta.v;
  for (const run of delta.runs) {
    byId.set(run.id, run);
    known.add(run.id);
    submitted.delete(run.id);
  }
  order = delta.ids || order;
  const present = new Set(order);
  for (const id of [...byId.keys()]) if (!present.has(id)) byId.delete(id);
  store.runs = order.map((id) => byId.get(id)).filter(Boolean);
  dropDeleted(present);
}

/** Asks what is foretold of the queue, when that matters. */
async function fetchForecast() {
  const matters = store.runs.some((run) =>
    run.status === "queued" || (isActive(run.status) && run.eta_seconds == null));
  if (matters) store.queue = await fetchJSON("studio/queue.json");
}

/** Looks at the runs now, and again after a while; a page that nobody sees does not ask. */
export async function poll() {
  clearTimeout(timer);
  if (document.visibilityState === "visible") {
    try {
      await fetchRuns();
      await fetchForecast();
      emit("runs", store.runs);
      document.body.dataset.offline = "";
    } catch {
      document.body.dataset.offline = "1";
    }
  }
  clearTimeout(timer);
  const active = store.runs.some((run) => isActive(run.status));
  const quiet = store.question === undefined ? IDLE_PAUSE : CLASS_PAUSE;
  timer = setTimeout(poll, Date.now() < hurryUntil ? HURRIED_PAUSE : active ? ACTIVE_PAUSE : quiet);
}

/**
 * Polls now, and often for some seconds.
 * @param {number} [seconds]
 */
export function pollSoon(seconds = 5) {
  hurryUntil = Date.now() + seconds * 1000;
  poll();
}

/**
 * Asks a run for one of its actions.
 * @param {string} id
 * @param {string} action With its own query, if it has one.
 * @returns {Promise<boolean>} Whether it was done.
 */
export async function act(id, action) {
  const done = await post(`studio/runs/${id}/${action}`);
  pollSoon();
  return done;
}

/** Stops every run that runs or waits. */
export function stopAll() {
  for (const run of store.runs) if (isActive(run.status)) act(run.id, "stop");
}

on("submitted", (id) => {
  submitted.add(id);
  select([...store.selected, id]);
  pollSoon();
});
document.addEventListener("visibilitychange", poll);
