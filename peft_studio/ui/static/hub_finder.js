// A box that lists models or data sets of the Hub and searches it.

import { ask } from "./api.js";
import { el, linkButton } from "./dom.js";
import { hasWords, wordsOf } from "./text.js";

/**
 * @typedef {Object} Options
 * @property {string} title Of the box.
 * @property {string} place What is searched: "models" or "data sets".
 * @property {string} path Below `studio/hub/`.
 * @property {function(Object): HTMLElement} line Draws an item.
 * @property {[string, string][]} [filters] Titles and values of `item.suits`.
 * @property {function(string, boolean): HTMLElement[]} [above] What stands above the lines, by what is searched and
 *   whether the list has nothing for it.
 */

/** Groups with the items that a filter and the words of a search leave. */
function filtered(groups, only, words) {
  const fits = (item) => (!only || item.suits.includes(only)) && hasWords(Object.values(item).join(" "), words);
  return groups.map((group) => ({ ...group, items: group.items.filter(fits) })).filter(({ items }) => items.length);
}

function filterButtons(filters, choose) {
  const buttons = filters.map(([title, value]) => el("button", {
    type: "button",
    "aria-pressed": String(value === ""),
    onclick: (event) => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.target));
      choose(value);
    },
  }, title));
  return el("div", { class: "ps-seg", role: "group", "aria-label": "Only those that" }, ...buttons);
}

/** The line that tells what was found, with a way back from a search. */
function notice(goBack) {
  const text = el("p", { class: "ps-note", role: "status" });
  const back = linkButton("Back to the list", null, goBack, { hidden: true });
  const node = el("div", { class: "ps-hubtold" }, text, back);
  const say = (words, wrong = false, canGoBack = !back.hidden) => {
    text.textContent = words;
    text.classList.toggle("wrong", wrong);
    back.hidden = !canGoBack;
    node.hidden = !words && back.hidden;
  };
  return { node, say };
}

/**
 * One model or data set in the list.
 * @param {{id: string, title: string}} item
 * @param {(string|false)[]} facts Empty ones are left away.
 * @param {string} about
 * @param {string} warning
 * @param {HTMLElement} button
 * @returns {HTMLElement}
 */
export function hubLine(item, facts, about, warning, button) {
  return el("li", {},
    el("div", { class: "who" }, el("b", {}, item.title), item.id !== item.title && el("code", {}, item.id)),
    button,
    el("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    about && about !== item.title && el("p", {}, about),
    warning && el("p", { class: "over" }, warning));
}

/**
 * Adds a closed box to a place.
 * @param {HTMLElement} root
 * @param {Options} options
 * @returns {function(string): void} Says a sentence in the box.
 */
export function addFinder(root, { title, place, path, line, filters, above }) {
  let groups = null; // the app's own list, once it is fetched
  let results = null; // what the Hub has found, while a search is shown
  let only = "";
  let searches = 0;
  const input = el("input", {
    type: "search",
    placeholder: "Name, or part of it",
    "aria-label": `Search ${place}`,
    autocomplete: "off",
    spellcheck: "false",
    oninput: forget,
  });
  const go = el("button", { class: "ps-button small", type: "submit" }, "Search the Hub");
  const told = notice(() => {
    input.value = "";
    results = null;
    draw();
    input.focus();
  });
  const seg = filters && filterButtons(filters, (value) => {
    only = value;
    draw();
  });
  const extra = el("div");
  const list = el("div", { class: "ps-hublist", tabindex: "0", role: "group", "aria-label": title });
  const form = el("form", { class: "ps-hubsearch", role: "search", onsubmit: search }, input, go);
  const body = el("div", { class: "ps-hubbody" }, form, seg, told.node, extra, list);
  const box = el("details", { class: "ps-hub", ontoggle: fetchList }, el("summary", {}, title), body);
  root.append(box);

  function draw() {
    const query = input.value.trim();
    const words = results ? [] : wordsOf(query); // what the Hub has found need not hold the words
    const shown = filtered(results ? [{ title: "", items: results }] : groups || [], only, words);
    const number = shown.reduce((sum, group) => sum + group.items.length, 0);
    list.replaceChildren(...shown.flatMap((group) =>
      [group.title && el("h3", {}, group.title), el("ul", {}, ...group.items.map(line))].filter(Boolean)));
    list.hidden = !number;
    told.say(summary(query, number), false, Boolean(results));
    const exact = shown.some((group) => group.items.some((item) => item.id === query));
    if (above) extra.replaceChildren(...(exact ? [] : above(query, Boolean(results) || !number)));
  }

  function summary(query, number) {
    if (results && number) return `On the Hub, most downloaded first: ${number}`;
    if (results) return `Nothing on the Hub fits “${query}”.`;
    return !groups || number ? "" : "Not in this list. Search the Hub for it.";
  }

  async function search(event) {
    event.preventDefault();
    searches += 1;
    const mine = searches;
    told.say("Asking the Hub …");
    go.disabled = true;
    const answer = await ask(`studio/hub/${path}/search.json?q=${encodeURIComponent(input.value)}`);
    if (mine !== searches) return; // something else was typed since
    go.disabled = false;
    results = answer.items || null;
    draw();
    if (!answer.items) told.say(answer.hint || answer.error, Boolean(answer.error));
  }

  function forget() {
    searches += 1;
    go.disabled = false;
    results = null;
    draw();
  }

  async function fetchList() {
    if (!box.open || groups) return;
    const answer = await ask(`studio/hub/${path}.json`);
    groups = answer.groups || null;
    draw();
    if (answer.error) told.say(answer.error, true);
  }

  return (words) => told.say(words);
}
