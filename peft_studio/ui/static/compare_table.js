// The table of the comparison: figures, settings that differ, costs; the base model on top, the best marked.

import { link, linkCopier } from "./address.js";
import { colourOf } from "./colours.js";
import {
  BEST, baseOf, bestOf, COSTS, lowerIsBetter, measuredElsewhere, sorted, titleOfMetric, valueOf,
} from "./comparison.js";
import { detailsCard } from "./details.js";
import { cardHead, dot, el, linkButton, scrollBox, spacer } from "./dom.js";
import { decimal, integer } from "./format.js";
import { panels, replaceAround } from "./panels.js";
import { store, titleOf, toggle } from "./run_store.js";
import { differingSettings, saysOf, settingOf, settingsTable, shownSetting, titleOfSetting } from "./settings.js";
import { term, word } from "./terms.js";

const ROWS = 100; // at first
const MORE_ROWS = 200; // when asked for
const COLUMNS = 5; // settings that have a column; the others are in the table of settings
const SIDE_BY_SIDE = 12; // runs whose settings are laid side by side
const PLAIN = new Set([undefined, "13a", "default"]); // tokenizers that go without saying
const SETTING = "setting:"; // before the path of a setting, in the name of its column

const digitsOf = (key) => (key.startsWith("test") ? 1 : 3);
const format = (key, value) => (COSTS[key] ? COSTS[key].format(value) : decimal(value, digitsOf(key)));

/** What a run has in any column, that of a setting too. */
const inColumn = (run, key) =>
  (key.startsWith(SETTING) ? settingOf(run.id, key.slice(SETTING.length)) : valueOf(run, key));

/**
 * @typedef {Object} Table What all cells of one drawing need to know.
 * @property {string[]} metrics
 * @property {string[]} settings Paths that have a column.
 * @property {string[]} costs
 * @property {Object<string, number>} best
 * @property {Object<string, number>} base
 * @property {Object<string, Set<string>>} elsewhere
 */

/** The columns of a group's runs. */
function tableOf(group, shown, metrics) {
  const costs = Object.keys(COSTS).filter((key) => group.runs.some((run) => valueOf(run, key) != null));
  const elsewhere = { eval: measuredElsewhere(group.runs, "eval"), test: measuredElsewhere(group.runs, "test") };
  const base = baseOf(group.runs, [...metrics, ...costs]);
  const best = {};
  for (const key of [...metrics, ...costs]) {
    const part = key.split("/")[0];
    const fair = group.runs.filter((run) => !elsewhere[part]?.has(run.id));
    const untrained = { metrics: { [key]: base[key] }, best_eval_loss: base[BEST] };
    Object.assign(best, bestOf(key in COSTS ? fair : [...fair, untrained], [key]));
  }
  return { metrics, settings: differingSettings(shown.map((run) => run.id)), costs, best, base, elsewhere };
}

function marked(text, isBest) {
  return isBest ? el("b", { class: "ps-best" }, text, el("span", { class: "ps-sr" }, " best")) : text;
}

function figure(run, key, table) {
  const value = valueOf(run, key);
  const tokenizer = run.tokenizers?.[key.replace("test/", "")];
  const other = value != null && table.elsewhere[key.split("/")[0]]?.has(run.id);
  return el("td", { title: tokenizer ? `Tokenizer: ${tokenizer}` : null },
    marked(format(key, value), value != null && !other && value === table.best[key]),
    !PLAIN.has(tokenizer) && el("small", {}, `tok: ${tokenizer}`),
    other && el("small", { class: "ps-otherrows" }, word("other", "other rows")));
}

function nameCell(run, opened) {
  const title = titleOf(run);
  const details = linkButton("Details", `Details of ${title}`, () =>
    opened.toggle(run.id, "details", (close) =>
      el("tr", { class: "ps-under" }, el("td", {}, detailsCard(run, close)))), {
    "aria-expanded": String(opened.isOpen(run.id, "details")),
  });
  const pick = el("input", {
    type: "checkbox", "aria-label": `Choose ${title}`, checked: store.selected.has(run.id),
    onchange: (event) => toggle(run.id, event.target.checked),
  });
  return el("th", { scope: "row", title: run.id },
    el("div", { class: "ps-named" }, pick, dot(colourOf(run.id)), el("span", {}, title),
      run.status !== "finished" && el("span", { class: `ps-pill ${run.status}` }, run.status), details));
}

function row(run, table, opened) {
  const settings = table.settings.slice(0, COLUMNS);
  return el("tr", { "data-run": run.id },
    nameCell(run, opened),
    ...table.metrics.map((key) => figure(run, key, table)),
    ...settings.map((path) => el("td", { class: "setting" }, shownSetting(settingOf(run.id, path)))),
    ...table.costs.map((key) => figure(run, key, table)));
}

/** The base model's row; of models with a head for labels, what guessing the most frequent label would have. */
function baseRow(table) {
  const guesses = "test/macro_f1" in table.base;
  const cell = (key) => el("td", {},
    table.base[key] == null ? "" : marked(format(key, table.base[key]), table.base[key] === table.best[key]));
  const what = el("small", {}, guesses ? "the most frequent label" : "untrained");
  return el("tr", { class: "ps-baserow" },
    el("th", { scope: "row" }, word("base", "Base model"), what),
    ...table.metrics.map(cell),
    ...table.settings.slice(0, COLUMNS).map(() => el("td")),
    ...table.costs.map(cell));
}

function heads(table, view, sort) {
  const head = (key, title, explained = {}) => {
    const direction = view.sort === key ? (view.down ? "descending" : "ascending") : "none";
    return el("th", { scope: "col", "aria-sort": direction },
      el("button", { type: "button", ...explained, onclick: () => sort(key) }, title));
  };
  const settings = table.settings.slice(0, COLUMNS);
  const over = [["", 1], ["What it reaches", table.metrics.length], ["Settings that differ", settings.length],
    ["What it costs", table.costs.length]].filter(([, span]) => span);
  return el("thead", {},
    el("tr", { class: "ps-over" }, ...over.map(([title, colspan]) =>
      (title ? el("th", { scope: "colgroup", colspan }, title) : el("td")))),
    el("tr", {},
      head("title", "Run"),
      ...table.metrics.map((key) => head(key, titleOfMetric(key), term(key))),
      ...settings.map((path) =>
        head(SETTING + path, titleOfSetting(path), term(path, saysOf(path)))),
      ...table.costs.map((key) => head(key, COSTS[key].title, term(key)))));
}

/**
 * The card with the table.
 * @param {Object} view What is shown; see `compare.js`.
 * @param {function(Object): void} set Changes the view.
 * @returns {{card: HTMLElement, update: function(import("./comparison.js").Group, Object[], string[]): void}}
 */
export function tableCard(view, set) {
  let limit = ROWS;
  let drawn = () => {};
  const opened = panels(() => drawn());
  const body = el("tbody");
  const table = el("table", { class: "ps-table ps-compared" }, el("thead"), body);
  const only = el("input", { type: "checkbox", onchange: (event) => set({ only: event.target.checked }) });
  const csv = el("a", { class: "ps-link", download: "peft-studio-runs.csv" }, "Download CSV");
  const more = linkButton("", null, () => {
    limit += MORE_ROWS;
    drawn();
  });
  const settings = el("details", { class: "ps-behind" }, el("summary", {}, "Their settings, side by side"));
  const card = el("section", { class: "ps-card" },
    cardHead("Runs", el("label", { class: "ps-check" }, only, "only the chosen ones"), spacer(),
      linkCopier("Copy a link to this comparison", () => link({ tab: "compare" })), csv),
    scrollBox("Table of runs", table),
    settings,
    el("div", { class: "ps-listfoot" }, more));

  /** A click sorts the better way first, and the other way when clicked again. */
  const sort = (key) => set({
    sort: key, down: view.sort === key ? !view.down : key.includes("/") && !lowerIsBetter(key),
  });

  function drawSettings(runs) {
    settings.querySelector(":scope > div")?.remove();
    settings.hidden = runs.length < 2;
    if (settings.open) {
      const few = runs.slice(0, SIDE_BY_SIDE).map((run) => ({ id: run.id, title: titleOf(run) }));
      settings.append(settingsTable(few));
    }
  }

  function update(group, runs, metrics) {
    drawn = () => update(group, runs, metrics);
    const focus = table.contains(document.activeElement) && document.activeElement;
    const label = focus && (focus.getAttribute("aria-label") || focus.textContent);
    only.checked = view.only;
    csv.href = `studio/compare.csv${view.only ? `?runs=${[...store.selected].join(",")}` : ""}`;
    const ordered = sorted(runs, view.sort, view.down, inColumn);
    const shown = ordered.slice(0, limit);
    const made = tableOf(group, shown, metrics);
    table.querySelector("thead").replaceWith(heads(made, view, sort));
    const columns = 1 + made.metrics.length + Math.min(COLUMNS, made.settings.length) + made.costs.length;
    const lines = shown.flatMap((run) => [row(run, made, opened), ...opened.under(run.id)]);
    for (const under of body.querySelectorAll(".ps-under")) under.firstChild.colSpan = columns;
    replaceAround(body, [baseRow(made), ...lines]);
    for (const under of body.querySelectorAll(".ps-under")) under.firstChild.colSpan = columns;
    drawSettings(shown);
    more.hidden = runs.length <= limit;
    more.textContent = `Show more (${integer(runs.length - limit)})`;
    if (label && !document.contains(focus)) {
      const named = (node) => (node.getAttribute("aria-label") || node.textContent) === label;
      [...table.querySelectorAll("button, input")].find(named)?.focus();
    }
  }
  settings.addEventListener("toggle", () => drawn());
  return { card, update };
}
