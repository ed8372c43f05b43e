// The change map: a cell for each weight of the model, coloured by how much an adapter changed it.

import { cardHead, el, linkButton, scrollBox, spacer, tableHead } from "./dom.js";
import { decimal, integer, percent } from "./format.js";
import { shortName, stepByArrows } from "./map.js";

/**
 * @typedef {Object} Matrix What became of one weight; see `matrix_change.describe_change` in Python.
 * @property {string} name Of its module.
 * @property {?number} block Number of its layer; null outside of layers.
 * @property {number} relative Norm of the change over that of the weight.
 */

const share = (value) => (value == null ? "" : percent(value));
const number = (value) => decimal(value, Math.abs(value) >= 10 ? 1 : 2);

/**
 * What the map may show.
 * @type {Object<string, {title: string, words: string, of: function(Matrix): ?number, show: function(number): string}>}
 */
export const MEASURES = {
  relative: {
    title: "Relative change",
    words: "Norm of the change over the norm of the weight.",
    of: (one) => one.relative,
    show: share,
  },
  effective_rank: {
    title: "Effective rank",
    words: "How many directions the change uses: the exponential of the entropy of its singular values "
      + "(Roy and Vetterli, 2007). 1 is a single direction.",
    of: (one) => one.effective_rank,
    show: number,
  },
  amplification: {
    title: "Amplification",
    words: "Size of the change over what the weight itself does in the same directions (LoRA, table 7). "
      + "Large: the adapter amplifies what the weight does not stress.",
    of: (one) => one.amplification?.factor,
    show: number,
  },
  intruders: {
    title: "Intruder dimensions",
    words: "Of the ten strongest directions of the changed weight, those that resemble no direction of the base "
      + "weight: every cosine below 0.5 (arXiv 2410.21228).",
    of: (one) => one.intruders?.count,
    show: (value) => String(value),
  },
  overlap: {
    title: "Overlap with the other run",
    words: "From 0 (at right angles) to 1 (one within the other): how much both changes read the same directions "
      + "(LoRA, section 7.2).",
    of: (one) => one.overlap?.similarity,
    show: number,
  },
};

const HINT = "Point at a cell, or step through with Tab and the arrow keys; Enter shows all of it.";

/** @param {{stack: ?number, block: ?number, part: string}} one */
function rowName({ stack, block, part }, stacks) {
  if (block == null) return /embed|wte|shared/.test(part) ? "Embedding" : part.replace(/^.*\./, "");
  if (stacks < 2) return `Layer ${block}`;
  return `${stack ? "Decoder" : "Encoder"} ${block}`;
}

/** Weights in rows: a layer is one; so is everything outside of layers. */
function rowsOf(matrices) {
  const stacks = new Set(matrices.map(({ stack }) => stack).filter((stack) => stack != null)).size;
  const rows = new Map();
  for (const one of matrices) {
    const name = rowName(one, stacks);
    rows.set(name, [...(rows.get(name) || []), one]);
  }
  return rows;
}

function cellOf(one, row, measure, most, tell, open) {
  const value = one.change ? measure.of(one) : null;
  const text = value == null ? "not changed" : `${measure.title} ${measure.show(value)}`;
  const label = one.block == null ? `${row}: ${text}` : `${row}, ${one.part}: ${text}`;
  const show = () => tell(label);
  const heat = value == null ? 0 : Math.min(1, value / (most || 1));
  return el("button", {
    type: "button", tabindex: "-1", class: value == null ? "ps-cell ps-heat none" : "ps-cell ps-heat",
    "aria-label": label, style: `--heat:${heat.toFixed(3)}`, onmouseenter: show, onfocus: show,
    onclick: value == null ? null : () => open(one, row),
  }, el("span", {}, shortName(one.part), value != null && el("b", {}, ` ${measure.show(value)}`)));
}

function table(matrices, stacks) {
  const shown = Object.values(MEASURES).filter((measure) => matrices.some((one) => measure.of(one) != null));
  const heads = ["Weight", "Shape", "Rank", ...shown.map(({ title }) => title)];
  const rows = matrices.filter((one) => one.change).map((one) => el("tr", {},
    el("th", { scope: "row" }, el("code", {}, `${one.name}.${one.parameter}`)),
    el("td", {}, one.shape.join(" × ")),
    el("td", {}, integer(one.rank)),
    ...shown.map((measure) => el("td", {}, measure.of(one) == null ? "" : measure.show(measure.of(one))))));
  return el("table", { class: "ps-table", "data-stacks": stacks }, tableHead(heads, true), el("tbody", {}, ...rows));
}

/** Singular values as bars; the list says the same. */
function spectrum(values) {
  const bars = values.map((value, at) =>
    el("li", { style: `--share:${(value / values[0]).toFixed(4)}` }, el("span", {}, `σ${at + 1}`), el("i"),
      el("b", {}, value.toPrecision(3))));
  return el("ol", { class: "ps-spectrum", "aria-label": "Singular values of the change" }, ...bars);
}

const fact = (name, ...parts) => el("div", {}, el("dt", {}, name), el("dd", {}, ...parts));

function amplified({ directions, change, projected, factor, own, random }) {
  return fact("Amplification",
    `${number(factor)} in ${integer(directions)} directions: the change has norm ${change.toPrecision(3)} there, `,
    `the weight ${projected.toPrecision(3)}. `,
    `In its own strongest directions the weight has ${own.toPrecision(3)}, in random ones ${random.toPrecision(3)}.`);
}

/** All that is known of one weight. */
function detail(one, row, close) {
  const title = one.block == null ? one.part : `${row}, ${one.part}`;
  const { intruders, overlap } = one;
  return el("section", { class: "ps-insidedetail", tabindex: "-1", "aria-label": title },
    el("h3", {}, title, " ", linkButton("Close", `Close ${title}`, close)),
    el("p", { class: "ps-note" },
      `The change has rank ${integer(one.rank)}, but uses ${number(one.effective_rank)} directions, `,
      `with ${share(one.relative)} of the weight's norm.`),
    spectrum(one.values),
    el("dl", {},
      one.amplification && amplified(one.amplification),
      intruders && fact("Intruder dimensions", `${intruders.count} of ${intruders.of}; largest cosines: `,
        `${intruders.cosines.map((value) => value.toFixed(2)).join(", ")}`),
      overlap && fact("Overlap with the other run",
        `It is ${number(overlap.similarity)} between ${overlap.ours} and ${overlap.theirs} directions, `,
        `and ${number(overlap.random)} between random ones.`)));
}

/**
 * The card with the change map, its choice of measure, the detail of one weight, and the table behind it.
 * @param {Matrix[]} matrices
 * @returns {{card: HTMLElement, update: function(Matrix[]): void}} `update` shows another state of the same run.
 */
export function changeMap(matrices) {
  let measure = "relative";
  let now = matrices;
  let opened = null;
  const told = el("p", { class: "ps-told", "aria-live": "polite" }, HINT);
  const words = el("p", { class: "ps-note" });
  const grid = el("div", { class: "ps-map ps-changemap", role: "group", "aria-label": "Change map" });
  const place = el("div", {});
  const scale = el("span", { class: "ps-heatscale" });
  const behind = el("div", {});
  const choice = el("select", {
    "aria-label": "What the map shows",
    onchange: (event) => {
      measure = event.target.value;
      draw();
    },
  });

  function open(one, row) {
    opened = { name: one.name, row };
    const shown = detail(one, row, () => {
      opened = null;
      place.replaceChildren();
      grid.querySelector("[tabindex='0']")?.focus();
    });
    place.replaceChildren(shown);
    return shown;
  }

  function draw() {
    const offered = Object.entries(MEASURES).filter(([, { of }]) => now.some((one) => of(one) != null));
    if (!offered.some(([name]) => name === measure)) measure = "relative";
    choice.replaceChildren(...offered.map(([name, { title }]) => el("option", { value: name }, title)));
    choice.value = measure;
    const shown = MEASURES[measure];
    words.textContent = shown.words;
    const most = Math.max(...now.map((one) => (one.change ? shown.of(one) ?? 0 : 0)));
    scale.replaceChildren("0", el("i"), shown.show(most));
    const drawn = [...rowsOf(now)].map(([name, entries]) => el("div", { class: "ps-maprow" },
      el("span", { class: "name", title: name }, name),
      el("div", { class: "cells" }, ...entries.map((one) => cellOf(one, name, shown, most, tell, show)))));
    grid.replaceChildren(...drawn);
    stepByArrows(grid, drawn);
    behind.replaceChildren(scrollBox("Changed weights", table(now)));
    const again = opened && now.find((one) => one.name === opened.name && one.change);
    if (again) open(again, opened.row);
    else place.replaceChildren();
  }
  const tell = (text) => {
    told.textContent = text;
  };
  const show = (one, row) => open(one, row).focus();

  draw();
  const card = el("section", { class: "ps-card ps-mapcard" },
    cardHead("Change map", choice, spacer(), scale),
    el("div", { class: "ps-insidetext" }, words), grid, told, place,
    el("details", { class: "ps-insidetable" }, el("summary", {}, "The same as a table"), behind));
  const update = (next) => {
    now = next;
    tell(HINT);
    draw();
  };
  return { card, update };
}
