// What comes of the user's own files: rows, labels and one example, or what is wrong with them.

import { el, problem } from "./dom.js";
import { integer } from "./format.js";
import { valueIsland } from "./islands.js";
import { skippedText, SPLITS } from "./splits.js";

function placeholders(columns) {
  const names = columns.flatMap((name) => [el("code", {}, `{${name}}`), " "]);
  return el("p", { class: "ps-holes" }, "Placeholders: ", ...names);
}

function found(data) {
  const rows = SPLITS.map(([split, title]) => `${integer(data.rows[split])} ${title.toLowerCase()}`).join(", ");
  const skipped = skippedText(data.skipped);
  const hasLabels = data.labels.length > 0;
  const example = {
    class: "ps-example", tabindex: "0", role: "group", "aria-label": "The first training row: prompt and answer",
  };
  return [
    el("p", {}, el("b", {}, "Rows: "), `${rows}.`, skipped && ` Left out: ${skipped}.`,
      ...data.notes.map((note) => ` ${note}`)),
    data.reason && el("p", {}, el("b", {}, "Guessed: "), data.reason),
    hasLabels && el("p", {}, el("b", {}, "Labels: "), data.labels.join(", ")),
    el("div", example, data.prompt, el("u", {}, hasLabels ? ` → ${data.answer}` : data.answer)),
  ];
}

function partsOf(data) {
  if (data.hint) return [el("p", {}, data.hint)];
  return data.error ? [problem(data.error, { role: "alert" })] : found(data);
}

valueIsland("data", (root, data) => {
  const holes = data.columns && placeholders(data.columns);
  root.replaceChildren(el("div", { class: "ps-found", "aria-live": "polite" }, ...partsOf(data), holes));
});
