// Words that explain themselves: a tip on hover, on focus and on touch, closed by Escape, read out by screen readers.

import { el } from "./dom.js";
import { on } from "./events.js";
import { entryOf, termOf } from "./glossary.js";

const DELAY = 250; // milliseconds over a word before its tip opens
const GRACE = 200; // after leaving it, so that the tip can be reached
const GAP = 8; // pixels between a word and its tip
const FILTERS = ["mergeable", "mixed_batch", "no_added_latency"]; // as `ui/methods.py` has them

const told = new Map(); // by key: what a word explained outside of the glossary says
const descriptions = el("div", { hidden: true });
const tip = el("div", { class: "ps-tip", role: "tooltip", hidden: true });
let shownFor = null;
let timer = 0;

const textOf = (key) => entryOf(key)?.says || told.get(key);

/**
 * Attributes of an element that explains a word; none where nothing explains it.
 * @param {string} name A metric, a cost, the path of a setting, or the key of an entry.
 * @param {string} [says] What explains it where the glossary does not.
 * @returns {Object<string, string>}
 */
export function term(name, says = "") {
  const key = termOf(name) || (says && name);
  if (!key) return {};
  if (says && !termOf(name)) told.set(name, says);
  const id = `term-${key.replace(/\W/g, "-")}`;
  if (!descriptions.isConnected) document.body.append(descriptions, tip);
  if (!document.getElementById(id)) descriptions.append(el("span", { id }, textOf(key)));
  return { "data-term": key, "aria-describedby": id };
}

/**
 * A word that explains itself.
 * @param {string} name As in `term`.
 * @param {string} text
 * @param {string} [says]
 * @returns {HTMLElement|string} The text alone where nothing explains it.
 */
export function word(name, text, says = "") {
  const attributes = term(name, says);
  return attributes["data-term"] ? el("button", { type: "button", class: "ps-term", ...attributes }, text) : text;
}

/** The filters of methods, which Gradio draws. */
function explainFilters() {
  for (const filters of document.querySelectorAll(".ps-filters:not([data-explained])")) {
    const boxes = [...filters.querySelectorAll("label:has(input)")];
    filters.toggleAttribute("data-explained", boxes.length > 0);
    boxes.forEach((label, at) => {
      const { "data-term": key, "aria-describedby": id } = term(FILTERS[at] || "");
      if (!key) return;
      label.dataset.term = key;
      label.querySelector("input").setAttribute("aria-describedby", id);
    });
  }
}

function show(target) {
  clearTimeout(timer);
  const text = textOf(target.dataset.term);
  if (!text || (shownFor === target && !tip.hidden)) return;
  shownFor = target;
  tip.textContent = text;
  tip.hidden = false;
  const at = target.getBoundingClientRect();
  const left = Math.min(Math.max(GAP, at.left), innerWidth - tip.offsetWidth - GAP);
  const above = at.bottom + GAP + tip.offsetHeight > innerHeight && at.top > tip.offsetHeight + GAP;
  tip.style.left = `${left}px`;
  tip.style.top = `${above ? at.top - tip.offsetHeight - GAP : at.bottom + GAP}px`;
}

function hide() {
  clearTimeout(timer);
  shownFor = null;
  tip.hidden = true;
}

function later(work, delay) {
  clearTimeout(timer);
  timer = setTimeout(work, delay);
}

const wordAt = (event) => event.target.closest?.("[data-term]");

document.addEventListener("pointerover", (event) => {
  const target = wordAt(event);
  if (target) later(() => show(target), shownFor ? 0 : DELAY);
  else if (tip.contains(event.target)) clearTimeout(timer);
  else if (shownFor && shownFor !== document.activeElement) later(hide, GRACE);
});
document.addEventListener("focusin", (event) => {
  const target = wordAt(event);
  if (target && event.target.matches(":focus-visible")) show(target);
});
document.addEventListener("focusout", (event) => {
  if (wordAt(event) === shownFor) hide();
});
document.addEventListener("click", (event) => {
  const target = wordAt(event);
  if (target?.classList.contains("ps-term")) show(target); // as on touch
  else if (!tip.contains(event.target)) hide();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !tip.hidden) hide();
});
on("runs", explainFilters);
addEventListener("scroll", () => !tip.hidden && hide(), { capture: true, passive: true });
