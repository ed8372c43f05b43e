// The page's address: parts of it that scripts own, such as the tab and the selected runs; Back, Forward, and links.

import { linkButton, toast } from "./dom.js";

/** @typedef {{read: function(string): void, write: function(): string}} Part */

/** @type {Map<string, Part>} By the name of a parameter of the address. */
const parts = new Map();
let due = null; // how the next change is to be written: `push` or `replace`; null when none is due
let isReading = false;

/**
 * @param {string} name
 * @returns {string} What the address says; an empty text for nothing.
 */
const told = (name) => new URLSearchParams(location.search).get(name) || "";

function take(name) {
  const before = isReading;
  isReading = true;
  try {
    parts.get(name).read(told(name));
  } finally {
    isReading = before;
  }
}

/**
 * Registers who owns a part of the address. What the address says now is read at once, if it says something.
 * @param {string} name Of the parameter, such as `runs`.
 * @param {function(string): void} read Takes what the address says: at first, and after Back or Forward; an empty text
 *   where it says nothing any more.
 * @param {function(): string} write What the address is to say now; an empty text leaves the parameter away.
 */
export function part(name, read, write) {
  parts.set(name, { read, write });
  if (told(name)) take(name);
}

/**
 * The address with every part as it is now.
 * @param {Object<string, string>} [more] Parts that are to be otherwise; an empty text leaves one away.
 * @returns {string}
 */
export function link(more = {}) {
  const url = new URL(location.href);
  const values = { ...Object.fromEntries([...parts].map(([name, { write }]) => [name, write()])), ...more };
  for (const [name, value] of Object.entries(values)) {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  }
  return url.href.replaceAll("%2C", ",");
}

/**
 * Writes the address anew after a part has changed; changes of one moment make one step of Back.
 * @param {{step: (boolean|undefined)}} [how] Without `step` Back leads past this change.
 */
export function changed({ step = true } = {}) {
  const how = step && !isReading ? "push" : "replace";
  if (due === null) queueMicrotask(write);
  if (due !== "push") due = how;
}

function write() {
  const href = link();
  const method = due === "push" ? "pushState" : "replaceState";
  due = null;
  if (href !== location.href) history[method](history.state, "", href);
}

addEventListener("popstate", () => {
  for (const [name, { write: now }] of parts) if (told(name) !== now()) take(name);
});

/**
 * Copies a link into the clipboard, or shows it where that is forbidden.
 * @param {string} href
 */
export async function copyLink(href) {
  try {
    await navigator.clipboard.writeText(href);
    toast("The link is copied.");
  } catch {
    window.prompt("The link:", href); // without https, a page may not write into the clipboard
  }
}

/**
 * *Copy link*.
 * @param {string} label What the link shows.
 * @param {function(): string} [href] The page as it is now when left out.
 * @returns {HTMLElement}
 */
export const linkCopier = (label, href = link) => linkButton("Copy link", label, () => copyLink(href()));
