// What a run is told by on every plot: colour, dash and marker, all from its id, so the same in every browser.

import { token } from "./dom.js";

// For light and for dark in `tokens.css`.
const COLOURS = [
  "--ps-run-0", "--ps-run-1", "--ps-run-2", "--ps-run-3", "--ps-run-4", "--ps-run-5", "--ps-run-6", "--ps-run-7",
  "--ps-run-8", "--ps-run-9", "--ps-run-10", "--ps-run-11",
];
const DASHES = ["solid", "dash", "dashdot", "longdash"];
const SYMBOLS = ["circle", "square", "triangle-up", "triangle-down", "pentagon", "star", "hexagon"];

/**
 * A number from a text (FNV-1a), its bits mixed once more so that any of them may be used.
 * @param {string} text
 * @returns {number} From 0 to 2^32 - 1.
 */
function hash(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/**
 * What a run is told by.
 * @param {string} id
 * @returns {{colour: string, dash: string, symbol: string}} The colour as a CSS variable.
 */
export function marksOf(id) {
  const value = hash(id);
  return {
    colour: COLOURS[value % COLOURS.length],
    dash: DASHES[(value >>> 8) % DASHES.length],
    symbol: SYMBOLS[(value >>> 16) % SYMBOLS.length],
  };
}

/**
 * What the cells of an experiment are told by: each has a colour of its own as long as there are any.
 * @param {number} index Its place in the table.
 * @returns {{colour: string, dash: string, symbol: string}} The colour as a CSS variable.
 */
export const marksAt = (index) => ({
  colour: COLOURS[index % COLOURS.length],
  dash: DASHES[(index + Math.floor(index / COLOURS.length)) % DASHES.length],
  symbol: SYMBOLS[index % SYMBOLS.length],
});

/** A run's colour for CSS. */
export const colourOf = (id) => `var(${marksOf(id).colour})`;

/** The same for what cannot read CSS variables, in the theme as it is now. */
export const inkOf = (id) => token(marksOf(id).colour);

/** How a run's curve is broken. */
export const dashOf = (id) => marksOf(id).dash;

/** A run's marker in a scatter. */
export const symbolOf = (id) => marksOf(id).symbol;
