// What can be asked about answers that stand side by side: each tool opens below them.

import { askMerge } from "./ask_merge.js";
import { askMix } from "./ask_mix.js";
import { askStrength } from "./ask_strength.js";
import { askTokens } from "./ask_tokens.js";
import { el } from "./dom.js";
import { oneStep } from "./one_step.js";

/**
 * @typedef {Object} Asked What the answers belong to.
 * @property {string} prompt
 * @property {{run: string, title: string}[]} adapters
 * @property {{title: string, text: string}[]} texts Answers and references; none where the models choose labels.
 */

const TOOLS = [
  ["Token by token", askTokens, "How likely each token of a text is to every model, and how far they are apart."],
  ["Strength", askStrength, "The same adapter weaker or stronger: its answer and its loss follow."],
  ["Merge", askMerge, "The adapter in the weights themselves: does it say the same, how fast, how large?"],
  ["Mix", askMix, "Two or more of these adapters as a new one."],
  ["One step", oneStep, "A training step of such a run, token by token: what carries loss, what moves, what it did."],
];

/**
 * The tools for some answers.
 * @param {Asked} asked
 * @returns {HTMLElement}
 */
export function askTools(asked) {
  const tool = ([title, make, about]) => {
    const body = el("div", { class: "ps-askbody" });
    const node = el("details", { class: "ps-asktool" },
      el("summary", {}, el("b", {}, title), " ", el("span", { class: "about" }, about)), body);
    node.addEventListener("toggle", () => {
      if (node.open && !body.children.length) body.append(make(asked));
    });
    return node;
  };
  const [tokens, ...others] = TOOLS;
  const usable = [...(asked.texts.length ? [tokens] : []), ...(asked.adapters.length ? others : [])]
    .filter(([, make]) => make !== askMix || asked.adapters.length > 1);
  return el("section", { class: "ps-card ps-ask", "aria-label": "Ask more about these answers" },
    el("h2", {}, "Ask more"), ...usable.map(tool));
}

/**
 * Marks where a text parts from another one: at the beginning of the first word that differs.
 * @param {HTMLElement} node Where the text goes.
 * @param {string} text
 * @param {string} other
 */
export function showParting(node, text, other) {
  let same = 0;
  while (same < text.length && text[same] === other[same]) same += 1;
  if (same === text.length && same === other.length) {
    node.textContent = text;
    return;
  }
  while (same > 0 && !/\s/.test(text[same - 1])) same -= 1;
  const [word] = /^\s*\S*/.exec(text.slice(same));
  const mark = el("mark", { class: "ps-parting", title: "Here it parts from the base model" }, word);
  node.replaceChildren(text.slice(0, same), ...(word ? [mark] : []), text.slice(same + word.length));
}
