// Matrices of a run's details, as tables whose cells are coloured by their value.

import { el, tableHead } from "./dom.js";
import { integer, percent } from "./format.js";

const MANY = 6; // labels, above which a table is set closer

const shade = (colour, share) =>
  `background:color-mix(in srgb, var(${colour}) ${Math.round(8 + 50 * share)}%, var(--ps-line2))`;

/**
 * How often each label was answered for each label.
 * @param {{labels: string[], counts: number[][], other: number[]}} data `counts[truth][answer]`; `other[truth]` counts
 *   answers that are none of the labels.
 * @returns {HTMLElement}
 */
export function confusionTable({ labels, counts, other }) {
  const many = labels.length > MANY;
  const hasOther = other.some((count) => count > 0);
  const cell = (count, total, label, answer, right) => el("td", {
    class: right ? "right" : "",
    style: count ? shade(right ? "--ps-acc" : "--ps-add", count / total) : "",
    title: `${count} of ${total} rows that are ${label} were answered ${answer}`,
  }, count ? integer(count) : "·", count > 0 && !many && el("small", {}, percent(count / total)));
  const row = (label, truth) => {
    const total = counts[truth].reduce((sum, count) => sum + count, other[truth]);
    const cells = counts[truth].map((count, answer) => cell(count, total, label, labels[answer], answer === truth));
    return el("tr", {},
      el("th", { scope: "row", title: label }, label),
      ...cells,
      hasOther && cell(other[truth], total, label, "something else", false),
      el("td", { class: "sum" }, integer(total)));
  };
  const heads = ["Truth ↓  Answer →", ...labels, ...(hasOther ? ["Other"] : []), "Rows"];
  return el("table", { class: many ? "ps-confusion many" : "ps-confusion" },
    tableHead(heads, true), el("tbody", {}, ...labels.map(row)));
}

/**
 * The ranks that matrices have kept.
 * @param {{parts: string[], layers: {name: string, cells: (?[number, number])[]}[]}} data Each cell is the rank kept
 *   and the rank at the start, or null where there is no adapter.
 * @returns {HTMLElement}
 */
export function ranksTable({ parts, layers }) {
  const cell = (value) => {
    if (value == null) return el("td");
    const [kept, of] = value;
    const style = kept ? shade("--ps-acc", kept / of) : "";
    return el("td", { style, title: `${kept} of ${of} kept` }, String(kept));
  };
  const rows = layers.map(({ name, cells }) => el("tr", {},
    el("th", { scope: "row" }, name.replace(/^(layers?|h|block)\.(\d+)$/, "Layer $2")), ...cells.map(cell)));
  return el("table", { class: "ps-confusion ps-ranks" }, tableHead(["", ...parts], true), el("tbody", {}, ...rows));
}
