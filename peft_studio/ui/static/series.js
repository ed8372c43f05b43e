// The points of the selected runs' curves. New points arrive as deltas.

import { fetchJSON } from "./api.js";
import { append } from "./curves.js";
import { hasEnded, runOf, store } from "./run_store.js";

/**
 * @typedef {Object} Series
 * @property {import("./curves.js").Columns} train
 * @property {import("./curves.js").Columns} eval
 * @property {number} next Where the next delta begins.
 * @property {boolean} [complete] Whether no more can come, unless the run goes on.
 */

/** @type {Map<string, Series>} By run id. */
export const series = new Map();

/** Whether a run adds no points unless somebody has it go on. */
const rests = (run) => run?.status === "paused" || hasEnded(run?.status);

/** Fetches what is new of the selected runs, and forgets the others. */
export async function pullSelected() {
  for (const id of [...series.keys()]) if (!store.selected.has(id)) series.delete(id);
  const due = [...store.selected].filter((id) => runOf(id) && !(series.get(id)?.complete && rests(runOf(id))));
  if (due.length) await pull(due);
}

/**
 * Fetches what is new of these runs.
 * @param {string[]} ids
 */
export async function pull(ids) {
  const asked = ids.map((id) => `${id}:${series.get(id)?.next ?? 0}`).join(",");
  const deltas = await fetchJSON(`studio/metrics.json?runs=${encodeURIComponent(asked)}`);
  for (const delta of deltas) if (store.selected.has(delta.id)) add(delta); // it may have been deselected meanwhile
}

function add(delta) {
  let have = series.get(delta.id);
  // A run that was begun again starts at its first point.
  if (!have || (delta.since === 0 && have.next)) {
    have = { train: {}, eval: {}, next: 0 };
    series.set(delta.id, have);
  }
  have.complete = have.next === delta.next && rests(runOf(delta.id));
  have.next = delta.next;
  append(have.train, delta.train);
  append(have.eval, delta.eval);
}
