// The map of a model's parameters: a cell for each matrix, and what happens to it.

import { cardHead, el } from "./dom.js";
import { integer } from "./format.js";

/**
 * @typedef {Object} Part One matrix of the model.
 * @property {string} name
 * @property {string} kind
 * @property {number} params In the base model.
 * @property {number} trainable Of these.
 * @property {number} added By the method.
 * @property {boolean} [tied] Whether it shares the embedding's weights.
 */

const HINT = "Point at a cell, or step through with Tab and the arrow keys.";
/** @type {Object<string, [number, boolean]>} How far an arrow key goes, and whether over rows. */
const ARROWS = { ArrowRight: [1, false], ArrowLeft: [-1, false], ArrowDown: [1, true], ArrowUp: [-1, true] };

function stateOf(part) {
  if (part.added) return "added";
  return part.trainable ? "trains" : "frozen";
}

/** What is said of a cell. */
function describe(part, where) {
  const facts = [];
  if (part.params) facts.push(`${integer(part.params)} in the base model`);
  if (part.tied) facts.push("shares the embedding's weights");
  if (part.trainable) facts.push(`${integer(part.trainable)} train`);
  if (part.added) facts.push(`${integer(part.added)} added`);
  if (!part.trainable && !part.added) facts.push("frozen");
  return `${where}${part.name}: ${facts.join(", ")}`;
}

/** A matrix's name, short enough for a cell. */
export function shortName(name) {
  const short = { layernorm: "norm", post_attention_norm: "n2", input_norm: "n1" };
  const last = name.replace(/^.*\./, "").replace(/_proj$/, "");
  return Object.entries(short).reduce((text, [long, word]) => text.replace(long, word), last);
}

function cellOf(part, where, tell) {
  const text = describe(part, where);
  const size = Math.max(1, Math.log10(Math.max(10, part.params + part.added)) - 1);
  const partly = part.trainable > 0 && part.trainable < part.params;
  const show = () => tell(text);
  return el("button", {
    type: "button",
    tabindex: "-1",
    class: `ps-cell ${stateOf(part)} ${part.kind}${partly ? " part" : ""}`,
    "aria-label": text,
    style: `flex-grow:${size.toFixed(2)}`,
    onmouseenter: show,
    onfocus: show,
  }, el("span", {}, shortName(part.name)));
}

/** A layer is a row of its own; so is each part outside of the layers. */
function rowOf(entry, tell) {
  const title = entry.name.replace("layers.", "Layer ").replace("embed_tokens", "Embedding").replace("lm_head", "Head")
    .replace(/^norm$/, "Final norm");
  const where = entry.parts ? `${entry.name.replace("layers.", "layer ")}, ` : "";
  const cells = (entry.parts || [entry]).map((part) => cellOf(part, where, tell));
  return el("div", { class: "ps-maprow" },
    el("span", { class: "name" }, title), el("div", { class: "cells" }, ...cells));
}

/** Arrow keys go from cell to cell, and only one cell is a stop of the Tab key. */
export function stepByArrows(grid, rows) {
  const cells = [...grid.querySelectorAll("button")];
  if (cells.length) cells[0].tabIndex = 0;
  grid.addEventListener("keydown", (event) => {
    const at = cells.indexOf(document.activeElement);
    const arrow = ARROWS[event.key];
    if (!arrow || at < 0) return;
    event.preventDefault();
    const [step, overRows] = arrow;
    const line = rows.findIndex((row) => row.contains(cells[at]));
    const next = overRows ? rows[line + step]?.querySelector("button") : cells[at + step];
    if (!next) return;
    cells[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

/**
 * Draws the map.
 * @param {{map: Object[]}} data Entries are parts, or layers with `parts`.
 * @returns {HTMLElement}
 */
export function drawMap(data) {
  const told = el("p", { class: "ps-told", "aria-live": "polite" }, HINT);
  const tell = (text) => {
    told.textContent = text;
  };
  const rows = data.map.map((entry) => rowOf(entry, tell));
  const grid = el("div", { class: "ps-map", role: "group", "aria-label": "Parameter map" }, ...rows);
  stepByArrows(grid, rows);
  const key = (state) => el("span", {}, el("i", { class: state }), state);
  const keys = el("span", { class: "ps-keys" }, key("frozen"), key("trains"), key("added"));
  return el("div", { class: "ps-card ps-mapcard" }, cardHead("Parameter map", keys), grid, told);
}
