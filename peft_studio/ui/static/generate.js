// Answers side by side: one column per model, growing as text arrives.

import { askTools, showParting } from "./ask.js";
import { bar, el, linkButton, problem } from "./dom.js";
import { decimal, percent } from "./format.js";
import { island, valueIsland } from "./islands.js";

/**
 * @typedef {Object} Column What one model has answered so far.
 * @property {string} name
 * @property {string} title
 * @property {string} text
 * @property {boolean} done
 * @property {?number} tokens
 * @property {?number} seconds
 * @property {?{name: string, value: string, ok: boolean}[]} facts Of the row, and whether the answer has them.
 * @property {?[string, number][]} labels What a classifier gives to each label.
 * @property {?string} right The row's own label.
 * @property {?string} reply The prompt that goes on with this answer, in a conversation.
 */

const HINT = "Pick adapters, write a prompt or take a row of the test set, and press Generate. "
  + "The base model always answers too.";
let stop = () => {};

/** Says of columns that still wait that they were stopped. */
export const generationStopped = () => stop();

function factsOf(facts) {
  const right = facts.filter((fact) => fact.ok).length;
  const fact = ({ ok, name, value }) =>
    el("span", { class: ok ? "ok" : "miss", title: `${name}: ${value}` }, `${ok ? "✓" : "✗"} ${name}`);
  return el("div", { class: "ps-facts" }, el("b", {}, `${right} of ${facts.length} facts`), ...facts.map(fact));
}

/** What a classifier gives to each label; the row's own label is marked. */
function labelsOf({ labels, right }) {
  const item = ([label, share]) => el("li", label === right ? { class: "right", title: "The row's own label" } : {},
    el("span", { class: "name" }, label), bar(share), el("span", { class: "sum" }, percent(share)));
  return el("ul", { class: "ps-labels" }, ...labels.map(item));
}

function emptyColumn() {
  return el("article", { class: "ps-card ps-column" },
    el("h2"), el("div", { class: "said" }), el("div", { class: "after" }), el("div", { class: "speed" }));
}

/** Draws a model's column anew. */
function drawColumn(node, column, stopped, base) {
  node.classList.toggle("busy", !column.done && !stopped);
  node.dataset.name = column.name;
  node.querySelector("h2").textContent = column.title;
  const said = node.querySelector(".said");
  said.classList.toggle("aside", Boolean(column.labels) && !column.labels.length);
  if (column.labels?.length) said.replaceChildren(labelsOf(column));
  else if (column !== base && column.done && base.done && column.text.trim()) {
    showParting(said, column.text.trim(), base.text.trim());
  } else said.textContent = column.text.trim() || (column.done ? "(said nothing)" : "…");
  const { tokens, seconds } = column;
  const speed = seconds && tokens ? `${tokens} tokens · ${decimal(tokens / seconds, 0)}/s` : "";
  node.querySelector(".speed").textContent = speed;
  const after = [column.facts && factsOf(column.facts), column.reply && replyLink(column.reply)];
  node.querySelector(".after").replaceChildren(...after.filter(Boolean));
}

/** Puts the conversation with this answer into the prompt, where the next turn is written. */
function replyLink(text) {
  return linkButton("Reply", "Go on with this answer", () => {
    const box = document.querySelector("#prompt textarea");
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.focus();
    box.setSelectionRange(text.length, text.length);
  });
}

/** The columns that are there, or new ones when their number has changed. */
function columnsIn(root, number) {
  if (root.querySelector(".ps-columns")?.children.length !== number) {
    root.replaceChildren(el("div", { class: "ps-columns" }, ...Array.from({ length: number }, emptyColumn)));
  }
  return [...root.querySelectorAll(".ps-column")];
}

/** What the tools below the answers are given. */
function askedOf({ columns, asked }) {
  const answers = columns.filter((column) => column.text.trim() && !column.labels);
  return {
    prompt: asked.prompt,
    adapters: columns.slice(1).map(({ name, title }) => ({ run: name, title })),
    texts: [
      ...answers.map(({ title, text }) => ({ title: `Answer: ${title}`, text })),
      ...asked.references.map((text, n) => ({ title: `Reference ${n + 1}`, text })),
    ],
  };
}

island("columns", (root, { props, watch }) => {
  root.append(el("p", { class: "ps-card ps-empty" }, HINT));
  let stopped = false;
  stop = () => {
    stopped = true;
    for (const node of root.querySelectorAll(".ps-column.busy")) {
      node.classList.remove("busy");
      node.querySelector(".speed").textContent = "stopped";
    }
  };
  watch("value", () => {
    const data = props.value;
    if (!data) return;
    if (data.error) {
      root.replaceChildren(problem(data.error, { role: "alert" }));
      return;
    }
    if (data.columns.every((column) => !column.text && !column.done)) stopped = false; // a new question
    const [base] = data.columns;
    columnsIn(root, data.columns.length).forEach((node, i) => drawColumn(node, data.columns[i], stopped, base));
    root.querySelector(".ps-ask")?.remove();
    if (data.asked && data.columns.every((column) => column.done)) root.append(askTools(askedOf(data)));
  });
});

function drawReferences(root, { references, label }) {
  const texts = (references || []).map((text) => text.trim());
  if (!texts.length) {
    root.replaceChildren();
    return;
  }
  if (label) {
    root.replaceChildren(el("p", { class: "ps-refs" }, `Its label: ${texts[0]}`));
    return;
  }
  const title = texts.length === 1 ? "1 reference" : `${texts.length} references`;
  const list = el("ul", {}, ...texts.map((text) => el("li", {}, text)));
  root.replaceChildren(el("details", { class: "ps-refs", open: true }, el("summary", {}, title), list));
}

valueIsland("references", drawReferences);
valueIsland("note", (root, { text }) => root.replaceChildren(...(text ? [el("p", { class: "ps-hint" }, text)] : [])));
