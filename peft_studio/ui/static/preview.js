// What the model would read: the first rows token by token, how long rows are, what is cut, and how often labels occur.

import { bar, cardHead, el, linkButton, problem, tableHead } from "./dom.js";
import { count, integer, percent } from "./format.js";
import { island } from "./islands.js";
import { lengthSection } from "./lengths.js";
import { skippedText, SPLITS } from "./splits.js";

const TAGS = { prompt: "span", target: "u", cut: "s" };
const READS = {
  decoder: "Prompt and answer are one text. Underlined tokens carry the loss.",
  "encoder-decoder": "The encoder reads the prompt, the decoder writes the answer. Underlined tokens carry the loss.",
  classification: "The model reads the text; the loss is taken on its label.",
};
const INTRODUCTION = "What the model would read, before anything is trained.";

/** A token's text; line ends and tabs are marked, and a token without text can still be seen. */
const shownText = (text) => text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t") || "∅";

const tokenOf = ({ text, part, tokens }) =>
  el(TAGS[part], { class: `ps-token ${part}`, title: tokens > 1 ? `${tokens} tokens` : false }, shownText(text));

function factsOf({ tokens, dropped }, kind) {
  const facts = [count(tokens.prompt, kind === "classification" ? "token" : "prompt token")];
  if (tokens.target) facts.push(count(tokens.target, "answer token"));
  if (tokens.cut && dropped) return "does not fit and is left out";
  if (tokens.cut) facts.push(`${integer(tokens.cut)} cut`);
  return (dropped ? facts.slice(-1) : facts).join(" · ");
}

function rowItem(row, number, kind) {
  const title = `Row ${number + 1}`;
  const label = row.label != null
    && el("span", { class: "ps-label" }, "→ ", el("u", { class: "ps-token target" }, row.label));
  const tokens = { class: "ps-tokens", tabindex: "0", role: "group", "aria-label": `Tokens of row ${number + 1}` };
  return el("li", { class: "ps-tokenrow" },
    el("p", { class: "head" }, el("b", {}, title), ` ${factsOf(row, kind)}`),
    el("div", tokens,
      ...row.segments.map(tokenOf),
      row.more > 0 && el("span", { class: "more" }, ` … and ${integer(row.more)} more`),
      label));
}

/** How many rows of each split there are, and what becomes of them. */
function splitSection(data) {
  const row = ([split, title]) => {
    const { rows, used, cut, dropped } = data.splits[split];
    const cells = [rows, used, cut, dropped].map((number) => el("td", {}, integer(number)));
    return el("tr", {}, el("th", { scope: "row" }, title), ...cells);
  };
  const skipped = skippedText(data.skipped);
  return el("section", {},
    el("h3", {}, `Rows at ${integer(data.max_length)} tokens at most`),
    el("table", { class: "ps-table" },
      tableHead(["", "Rows", "Used", "Cut", "Left out"]),
      el("tbody", {}, ...SPLITS.map(row))),
    skipped && el("p", { class: "ps-note" }, `Not in these counts, left out of the files: ${skipped}.`),
    data.notes.length > 0 && el("p", { class: "ps-note" }, data.notes.join(" ")));
}

function labelSection(data) {
  const labels = Object.entries(data.labels);
  if (!labels.length) return null;
  const total = labels.reduce((sum, [, rows]) => sum + rows.train, 0) || 1;
  const most = Math.max(...labels.map(([, rows]) => rows.train), 1);
  const line = ([name, rows]) => {
    const told = SPLITS.map(([split, title]) => `${title}: ${integer(rows[split])}`).join(", ");
    return el("div", { class: "line", title: told },
      el("span", { class: "name" }, name),
      bar(rows.train / most),
      el("span", { class: "sum" }, `${integer(rows.train)} · ${percent(rows.train / total)}`));
  };
  return el("section", { class: "ps-balance" },
    el("h3", {}, "Labels of the training rows"),
    el("div", { class: "list", tabindex: "0", role: "group", "aria-label": "Rows per label" }, ...labels.map(line)));
}

function keys(kind) {
  const key = (part, text) => el(TAGS[part], { class: `ps-token ${part}` }, text);
  const target = key("target", kind === "classification" ? "label" : "answer");
  const parts = [READS[kind], " ", key("prompt", "prompt"), " ", target, " ", key("cut", "cut")];
  return el("p", { class: "ps-note ps-tokenkeys" }, ...parts);
}

/** Whether models learn where an answer ends; else they write on. */
function endNote({ end }) {
  if (!end) return null;
  const token = el("u", { class: "ps-token target" }, end.token);
  const said = end.trained === end.rows
    ? " ends every answer and carries loss: the model learns where to stop."
    : ` ends ${integer(end.trained)} of ${integer(end.rows)} answers: the model hardly learns where to stop.`;
  return el("p", { class: "ps-note ps-endnote" }, token, said);
}

function parts(data) {
  const rows = data.rows.map((row, number) => rowItem(row, number, data.kind));
  const figures = [lengthSection(data.lengths), splitSection(data), labelSection(data)].filter(Boolean);
  return [
    keys(data.kind),
    endNote(data),
    el("ol", { class: "ps-tokenrows" }, ...rows),
    el("div", { class: "ps-figures" }, ...figures),
  ].filter(Boolean);
}

island("preview", (root, { props, watch, trigger }) => {
  const body = el("div", { class: "ps-preview" });
  const sub = el("span", { class: "sub grow", role: "status" }, INTRODUCTION);
  const look = el("button", {
    class: "ps-button small",
    type: "button",
    id: "look-button",
    onclick: () => {
      look.disabled = true;
      look.setAttribute("aria-busy", "true");
      sub.textContent = "Reading the rows …";
      trigger("look");
    },
  }, "Look at the tokens");
  const clear = () => {
    body.replaceChildren();
    hide.hidden = true;
    sub.textContent = INTRODUCTION;
  };
  const hide = linkButton("Hide", null, () => {
    clear();
    look.focus();
  }, { hidden: true });
  root.append(el("div", { class: "ps-card ps-previewcard" }, cardHead("Tokens", sub, hide, look), body));

  const draw = () => {
    const data = props.value;
    if (!data) return;
    if (data.cleared) { // the form asks for something else by now
      if (!look.disabled) clear();
      return;
    }
    look.disabled = false;
    look.removeAttribute("aria-busy");
    hide.hidden = false;
    if (data.error || data.hint) {
      sub.textContent = "";
      const note = data.error ? problem(data.error) : el("div", { class: "ps-note" }, data.hint);
      note.setAttribute("role", "alert");
      body.replaceChildren(note);
      return;
    }
    sub.textContent = `${data.task}, as ${data.model} reads it`;
    body.replaceChildren(...parts(data));
  };
  watch("value", draw);
  draw();
});
