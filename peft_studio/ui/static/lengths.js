// How long training rows are: a histogram in tokens, with the limit.

import { el } from "./dom.js";
import { count, integer } from "./format.js";

/**
 * @typedef {Object} Lengths
 * @property {number[]} bins Where each bin begins, in tokens.
 * @property {number[]} counts Rows of each bin.
 * @property {number} width Tokens of a bin.
 * @property {number} median
 * @property {number} longest
 * @property {number} max_length
 */

/** @param {Lengths} data */
const topOf = (data) => data.bins.length * data.width;

/** The last bin also holds what is longer than the axis. */
function barOf(data, index, most) {
  const rows = data.counts[index];
  const from = data.bins[index];
  const isOpen = index === data.counts.length - 1 && data.longest > topOf(data);
  const range = isOpen ? `${from} or more` : `${from} to ${from + data.width - 1}`;
  return el("i", {
    class: from > data.max_length ? "beyond" : "",
    title: `${range} tokens: ${count(rows, "row")}`,
    style: `height:${rows ? Math.max(2, (100 * rows) / most) : 0}%`,
  });
}

function limitOf(data) {
  if (data.max_length >= topOf(data)) return null;
  const left = `left:${(100 * data.max_length) / topOf(data)}%`;
  return el("b", { class: "limit", style: left, title: `max_length = ${data.max_length}` });
}

function axisOf(data) {
  const top = topOf(data);
  const marks = ["1", integer(Math.round(top / 2)), data.longest > top ? `${integer(top)}+` : integer(top)];
  return el("div", { class: "ps-axis", "aria-hidden": "true" }, ...marks.map((mark) => el("span", {}, mark)));
}

/**
 * @param {Lengths} data
 * @returns {HTMLElement}
 */
export function lengthSection(data) {
  const most = Math.max(...data.counts);
  const limit = integer(data.max_length);
  const fits = data.longest > data.max_length ? "the dashed line is the limit of" : "all fit the limit of";
  const told = `Median ${integer(data.median)}, longest ${integer(data.longest)}; ${fits} ${limit}.`;
  return el("section", { class: "ps-lengths" },
    el("h3", {}, "Length of training rows, in tokens"),
    el("div", { class: "ps-bars", role: "img", "aria-label": told },
      ...data.counts.map((_rows, index) => barOf(data, index, most)), limitOf(data)),
    axisOf(data),
    el("p", { class: "ps-note" }, told));
}
