// Memory as bars: what a run would take or has taken, by what takes it.

import { el } from "./dom.js";
import { bytes } from "./format.js";

/** @typedef {Object<string, number>} Ledger Bytes by part, as in PARTS. */

/** @type {[string, string][]} */
const PARTS = [
  ["runtime", "Libraries"], ["weights", "Weights"], ["gradients", "Gradients"], ["optimizer", "Optimizer"],
  ["activations", "Activations"], ["evaluation", "Evaluation"],
];

/**
 * @param {Ledger} ledger
 * @returns {number} Bytes.
 */
export const totalOf = (ledger) => PARTS.reduce((total, [part]) => total + (ledger[part] || 0), 0);

/**
 * A ledger without what the libraries take, which no method changes.
 * @param {Ledger} ledger
 * @returns {Ledger}
 */
export const withoutLibraries = ({ runtime: _libraries, ...ledger }) => ledger;

/**
 * What model, optimizer, activations and evaluations take.
 * @param {Ledger} ledger
 * @returns {number} Bytes.
 */
export const ownMemory = (ledger) => totalOf(withoutLibraries(ledger));

const slice = (kind, title, size, most) =>
  el("i", { class: kind, title: `${title}: ${bytes(size)}`, style: `width:${(100 * size) / most}%` });

function row(name, slices, told, total) {
  return el("div", { class: "ps-ledger-row" },
    el("span", { class: "name" }, name),
    el("div", { class: "ps-stack", role: "img", "aria-label": `${name}: ${told}` }, ...slices),
    el("span", { class: "sum" }, bytes(total)));
}

/**
 * One bar, with its parts.
 * @param {string} name
 * @param {Ledger} ledger
 * @param {number} most Bytes that are as wide as the bar.
 * @param {number} [total] Bytes, where it is more than what the ledger holds.
 * @returns {HTMLElement}
 */
export function ledgerBar(name, ledger, most, total = totalOf(ledger)) {
  const held = PARTS.filter(([part]) => ledger[part] > 0);
  const told = held.map(([part, title]) => `${title} ${bytes(ledger[part])}`).join(", ");
  return row(name, held.map(([part, title]) => slice(part, title, ledger[part], most)), told, total);
}

/**
 * What the colours of bars mean.
 * @param {...Ledger} ledgers Parts that none of them holds are left away.
 * @returns {HTMLElement}
 */
export function ledgerKeys(...ledgers) {
  const held = PARTS.filter(([part]) => ledgers.some((ledger) => ledger[part] > 0));
  const keys = held.map(([part, title]) => el("span", {}, el("i", { class: part }), title));
  return el("div", { class: "ps-keys" }, ...keys);
}

/**
 * The peak of a run: what was estimated, and below it, on the same scale, what was measured.
 * @param {{ledger: Ledger, predicted: ?number, measured: ?number}} found In bytes.
 * @returns {HTMLElement}
 */
export function memoryBars({ ledger, predicted, measured }) {
  const most = Math.max(predicted || 0, measured || 0);
  const known = Object.keys(ledger).length > 0;
  const parts = known ? ledger : { runtime: predicted };
  return el("div", { class: "ps-memory" },
    predicted > 0 && ledgerBar("Estimated", parts, most, predicted),
    measured > 0 && row("Measured", [slice("measured", "Measured", measured, most)], bytes(measured), measured),
    predicted > 0 && known && ledgerKeys(ledger));
}
