// What runs are set to: fetched once, as a run keeps its settings, and laid side by side.

import { fetchJSON } from "./api.js";
import { differing } from "./comparison.js";
import { el, linkButton, scrollBox, tableHead } from "./dom.js";
import { word } from "./terms.js";
import { sentenceCase } from "./text.js";

const AT_ONCE = 100; // runs asked for in one request
const NOT_SET = "–";

/** @type {Map<string, Object<string, *>>} By run id: values by path. */
const known = new Map();
/** @type {Map<string, string>} What settings are called, by path, in the form's order. */
const labels = new Map();
/** @type {Map<string, string>} What they are, by path. */
const says = new Map();

/**
 * Sees to it that the settings of runs are known.
 * @param {string[]} ids
 * @returns {Promise<boolean>} Whether any were not known before.
 */
export async function readSettings(ids) {
  const due = ids.filter((id) => !known.has(id));
  for (let at = 0; at < due.length; at += AT_ONCE) {
    const asked = due.slice(at, at + AT_ONCE);
    const found = await fetchJSON(`studio/settings.json?runs=${encodeURIComponent(asked.join(","))}`);
    for (const [path, label] of Object.entries(found.labels)) if (!labels.has(path)) labels.set(path, label);
    for (const [path, text] of Object.entries(found.says)) says.set(path, text);
    for (const id of asked) known.set(id, found.runs[id] || {});
  }
  return due.length > 0;
}

/** What a run is set to, as far as it is known. */
export const settingOf = (id, path) => known.get(id)?.[path];

/** What a setting is, in a sentence. */
export const saysOf = (path) => says.get(path) || "";

/** @param {string} path */
export const titleOfSetting = (path) => labels.get(path) || sentenceCase(path.split(".").at(-1));

/**
 * The settings in which runs differ, the method's first.
 * @param {string[]} ids
 * @returns {string[]} Paths.
 */
export function differingSettings(ids) {
  const settings = ids.filter((id) => known.has(id)).map((id) => known.get(id));
  return differing(settings, labels.keys());
}

/**
 * A value as people read it.
 * @param {*} value
 * @returns {string}
 */
export function shownSetting(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (value == null || value === "" || (Array.isArray(value) && !value.length)) return NOT_SET;
  if (Array.isArray(value)) return value.map(shownSetting).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Settings that a run has; without those that are empty or, with full attention, do nothing. */
function pathsOf(ids) {
  const isSet = (id, path) => shownSetting(settingOf(id, path)) !== NOT_SET
    && !(path.startsWith("model.lsg_") && settingOf(id, "model.attention") === "full");
  return [...labels.keys()].filter((path) => ids.some((id) => isSet(id, path)));
}

const explainedName = (path) => word(path, titleOfSetting(path), saysOf(path));

/**
 * The settings of one run.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function settingsList(id) {
  return el("dl", { class: "ps-setlist" }, ...pathsOf([id]).map((path) => el("div", {},
    el("dt", {}, explainedName(path)), el("dd", {}, shownSetting(settingOf(id, path))))));
}

/**
 * Settings of several runs, one row for each: those in which they differ, and the others when asked for.
 * @param {{id: string, title: string}[]} runs Whose settings are known.
 * @returns {HTMLElement}
 */
export function settingsTable(runs) {
  const ids = runs.map(({ id }) => id);
  const apart = differingSettings(ids);
  const same = pathsOf(ids).filter((path) => !apart.includes(path));
  const row = (path) => el("tr", { class: apart.includes(path) ? "differs" : null },
    el("th", { scope: "row" }, explainedName(path)),
    ...ids.map((id) => el("td", {}, shownSetting(settingOf(id, path)))));
  const equal = el("tbody", { hidden: true }, ...same.map(row));
  const table = el("table", { class: "ps-table ps-settings" },
    tableHead(["Setting", ...runs.map(({ title }) => title)], true), el("tbody", {}, ...apart.map(row)), equal);
  const flip = linkButton(`Show equal settings (${same.length})`, null, () => {
    equal.hidden = !equal.hidden;
    flip.setAttribute("aria-expanded", String(!equal.hidden));
  }, { "aria-expanded": "false" });
  return el("div", {}, scrollBox("Settings", table), same.length > 0 && flip);
}
