// What adapters bring that is no change of a matrix: vectors, soft prompts, attention, scales, small networks.

import { bar, cardHead, el, scrollBox, tableHead } from "./dom.js";
import { decimal, integer, percent } from "./format.js";

const MOST_ROWS = 40; // of a table

const number = (value) => (value == null ? "" : Number(value.toPrecision(3)).toString());
const cells = (...values) => values.map((value) => el("td", {}, value));

/** A card with a sentence on what is shown, and a table. */
function card(title, words, heads, rows) {
  const table = el("table", { class: "ps-table" }, tableHead(heads, true), el("tbody", {}, ...rows));
  return el("section", { class: "ps-card" }, cardHead(title),
    el("p", { class: "ps-note ps-insidetext" }, ...[words].flat()), scrollBox(title, table));
}

const nameCell = (text) => el("th", { scope: "row" }, el("code", {}, text));
const listed = (entries) => entries.join(", ");

function vectors(view) {
  const moved = view.filter((one) => one.change).sort((a, b) => (b.relative ?? 0) - (a.relative ?? 0));
  if (!moved.length) return null;
  const rows = moved.slice(0, MOST_ROWS).map((one) => el("tr", {},
    nameCell(`${one.name}.${one.parameter}`),
    ...cells(percent(one.relative), number(one.change),
      listed(one.moved.map(({ entry, before, after }) => `${entry}: ${number(before)} → ${number(after)}`)))));
  const rest = moved.length > MOST_ROWS ? [` The ${MOST_ROWS} that moved most of ${integer(moved.length)}.`] : [];
  return card("Biases and norms that moved most", ["Relative change, and the entries that moved most.", ...rest],
    ["Vector", "Relative change", "Norm of the change", "Entries"], rows);
}

function prompt(view) {
  const rows = view.map((one, at) => el("tr", {},
    el("th", { scope: "row" }, String(at + 1)),
    el("td", {}, decimal(one.norm, 2)),
    el("td", { class: "ps-verbatim" }, ...one.tokens.map(({ text, cosine }) =>
      el("span", { class: "ps-near" }, el("code", {}, JSON.stringify(text)), ` ${decimal(cosine, 2)}`)))));
  return card("Nearest tokens of the soft prompt",
    "Each vector with the tokens that point the same way most, by cosine. Small cosines: like no word.",
    ["Vector", "Norm over a token's", "Nearest tokens"], rows);
}

/** A heat map as a table: layers in rows, heads in columns. */
function heads(title, words, view, key) {
  const most = Math.max(...view.flat().map((one) => one[key]), 1e-9);
  const rows = view.map((layer, at) => el("tr", {},
    el("th", { scope: "row" }, `Layer ${at}`),
    ...layer.map((one) => el("td", { class: "ps-heat", style: `--heat:${(one[key] / most).toFixed(3)}` },
      decimal(one[key], 2)))));
  const names = view[0].map((_, at) => `Head ${at}`);
  const table = el("table", { class: "ps-confusion ps-heads" }, tableHead(["", ...names]), el("tbody", {}, ...rows));
  return el("section", { class: "ps-card" }, cardHead(title), el("p", { class: "ps-note ps-insidetext" }, words),
    scrollBox(title, table));
}

function attention(view) {
  return el("div", { class: "ps-insidepair" },
    heads("Attention to the virtual tokens",
      "Share of attention that goes to them, as a mean over the text's tokens of a few validation rows.",
      view, "to_virtual"),
    heads("Attention among the text's own tokens",
      "How far it moved from the base model's, from 0 to 1, once the virtual tokens' share is left out. By itself "
        + "a prefix cannot change it (arXiv 2310.19698): the first layer has 0, later ones what reaches them.",
      view, "moved"));
}

function scales(view) {
  const rows = view.map((one) => el("tr", {},
    nameCell(one.name),
    ...cells(decimal(one.least, 3), decimal(one.mean, 3), decimal(one.most, 3),
      `${integer(one.moved)} of ${integer(one.size)}`,
      listed(one.farthest.map(({ entry, factor }) => `${entry}: ${decimal(factor, 2)}`)))));
  return card("Scales", "What (IA)3 multiplies each unit by: 1 leaves it as it was.",
    ["Layer", "Least", "Mean", "Most", "Off by more than 0.1", "Farthest from 1"], rows);
}

function biases(view) {
  const rows = view.map((one) => el("tr", {},
    nameCell(one.name),
    ...cells(number(one.added), number(one.own),
      listed(one.largest.map(({ entry, value }) => `${entry}: ${number(value)}`)))));
  return card("Added biases", "Norm of the added bias beside the norm of the layer's own.",
    ["Layer", "Added", "Own", "Largest entries"], rows);
}

function bottlenecks(view) {
  const most = Math.max(...view.map((one) => one.ratio), 1e-9);
  const rows = view.map((one) => el("tr", {},
    nameCell(one.name),
    el("td", {}, percent(one.ratio), bar(one.ratio / most)),
    ...cells(number(one.added), number(one.stream))));
  return card("What the small networks add",
    "Norm of what each adds over the norm of the hidden state that enters its block, on a few validation rows.",
    ["Network behind", "Ratio", "Added", "Stream"], rows);
}

const DRAW = { prompt, attention, scales, biases, bottlenecks, vectors };

/**
 * Cards for all views but the change map.
 * @param {Object<string, ?Object>} views
 * @returns {HTMLElement[]}
 */
export function otherViews(views) {
  return Object.entries(DRAW).map(([name, draw]) => views[name] && draw(views[name])).filter(Boolean);
}
