// The page in another language: each text is shown as the dictionary has it, by its English source.
// Forms, islands, messages and errors stay English where they are made; what has no translation stays so on the page.

import { remembered } from "./dom.js";
import { emit } from "./events.js";
import { template } from "./templates.js";

const LETTERS = /[A-Za-z]{2}/;
// What people or models wrote, and what is the same in every language.
const AS_WRITTEN = "script, style, code, pre, svg, .katex, .said, .ps-tokens, .ps-example, .ps-refs li, .who, "
  + ".ps-plot, .ps-balance .name, .ps-storage .name, .ps-verbatim, [contenteditable]";
const ATTRIBUTES = ["aria-label", "title", "placeholder", "alt"];
const MOST_KEPT = 5000; // texts whose translation is kept
const KNOWN = ["en", "zh"];

const stored = remembered("localStorage", "studioLanguage");
const texts = new WeakMap(); // by text node or element: what was there in English, and what is shown
const fields = new WeakSet();
let language = "en";
let translate = null;
let kept = new Map();

/** @returns {string} `en` or `zh`. */
export const languageNow = () => language;

/**
 * A text in the language of the page.
 * @param {string} text In English, complete.
 * @returns {string}
 */
export function t(text) {
  if (language === "en" || !translate || !LETTERS.test(text)) return text;
  if (!kept.has(text)) {
    if (kept.size > MOST_KEPT) kept = new Map();
    const [, before, words, after] = /^(\s*)([\s\S]*?)(\s*)$/.exec(text);
    kept.set(text, before + translate(words.replace(/\s+/g, " ")) + after);
  }
  return kept.get(text);
}

/** What a place says in English, whatever is shown; `key` tells an element's attributes apart. */
function shownAs(owner, key, now) {
  const known = texts.get(owner)?.[key];
  const source = known && known.shown === now ? known.source : now;
  const shown = t(source);
  if (shown !== source || known) texts.set(owner, { ...texts.get(owner), [key]: { source, shown } });
  return shown;
}

function showText(node) {
  const shown = shownAs(node, "text", node.data);
  if (shown !== node.data) node.data = shown;
}

function showAttributes(element) {
  for (const name of ATTRIBUTES) {
    const now = element.getAttribute(name);
    if (!now) continue;
    const shown = shownAs(element, name, now);
    if (shown !== now) element.setAttribute(name, shown);
  }
  if (element.matches("input[readonly]")) watchField(element);
}

/** A closed list shows its choice in a field: scripts go on reading the English, people see the translation. */
function watchField(field) {
  const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
  const english = fields.has(field) ? field.value : get.call(field);
  if (!fields.has(field)) {
    fields.add(field);
    let source = english;
    Object.defineProperty(field, "value", {
      get: () => source,
      set(value) {
        source = String(value);
        set.call(field, t(source));
      },
    });
  }
  field.value = english;
}

const isAside = (element) => Boolean(element?.closest(AS_WRITTEN));

function show(node) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (!isAside(node.parentElement) && !node.parentElement?.closest("textarea")) showText(node);
    return;
  }
  if (node.nodeType !== Node.ELEMENT_NODE || isAside(node)) return;
  showAttributes(node);
  for (const child of node.childNodes) show(child);
}

const observer = new MutationObserver((records) => {
  for (const { type, target, addedNodes } of records) {
    if (type === "childList") addedNodes.forEach(show);
    else if (type === "characterData") show(target);
    else if (!isAside(target)) showAttributes(target);
  }
});

async function read(name) {
  const answer = await fetch(new URL(`words/${name}.json`, import.meta.url));
  return template(await answer.json());
}

function remember() {
  stored.set(language);
  const apart = location.protocol === "https:" ? "None; Secure" : "Lax"; // a Space's page stands in a frame
  document.cookie = `studio_language=${language}; path=/; max-age=31536000; SameSite=${apart}`;
}

/**
 * Shows the whole page in a language, at once; forms keep what is in them.
 * @param {string} name `en` or `zh`.
 * @returns {Promise<void>}
 */
export async function setLanguage(name) {
  const table = name === "en" ? null : await read(name);
  language = name;
  translate = table;
  kept = new Map();
  remember();
  document.documentElement.lang = name === "zh" ? "zh-CN" : name;
  observer.disconnect();
  show(document.body);
  if (name !== "en") {
    const attributeFilter = [...ATTRIBUTES, "readonly"];
    const what = { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter };
    observer.observe(document.body, what);
  }
  emit("language", name);
}

/** The language that somebody chose before, or else the browser's first one that is known here. */
export function preferred() {
  if (KNOWN.includes(stored.get())) return stored.get();
  const wanted = (navigator.languages || [navigator.language]).map((name) => name.slice(0, 2).toLowerCase());
  return wanted.find((name) => KNOWN.includes(name)) || "en";
}

if (preferred() !== "en") setLanguage(preferred()).catch(() => {}); // in English, then
