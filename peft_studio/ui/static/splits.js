// The splits of a data set, in words.

import { integer } from "./format.js";

/** @type {[string, string][]} */
export const SPLITS = [["train", "Training"], ["validation", "Validation"], ["test", "Test"]];

/**
 * Rows that files hold but a run does not read: `3 with an empty prompt, 1 with …`.
 * @param {Object<string, number>} skipped Rows by reason.
 * @returns {string}
 */
export function skippedText(skipped) {
  return Object.entries(skipped).map(([reason, rows]) => `${integer(rows)} with ${reason}`).join(", ");
}
