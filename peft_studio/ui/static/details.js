// A run's details: test figures, the check after saving, the confusion matrix, ranks kept, and memory.

import { link, linkCopier } from "./address.js";
import { fetchJSON } from "./api.js";
import { cardHead, el, linkButton, problem, scrollBox, spacer, tableHead } from "./dom.js";
import { findingSection } from "./findings.js";
import { decimal, integer, upperBound } from "./format.js";
import { confusionTable, ranksTable } from "./matrices.js";
import { memoryBars } from "./memory.js";
import { runOf, store, titleOf } from "./run_store.js";
import { readSettings, settingsList, settingsTable } from "./settings.js";
import { word } from "./terms.js";
import { METRICS, sentenceCase } from "./text.js";

const UNREADABLE = "The details cannot be read. The run may have been deleted, or the app has stopped.";

function section(title, note, ...parts) {
  return el("section", {}, el("h3", {}, title), note && el("p", { class: "ps-note" }, note), ...parts);
}

/** The lowest validation loss, and what the saved weights have if they are others. */
function validationSection({ best, best_step: step, base, saved, saved_step: savedStep }) {
  const kept = savedStep != null && savedStep !== step && saved != null
    && ` The adapter has the weights of step ${integer(savedStep)}: ${decimal(saved)}.`;
  return section("Validation loss", null, el("p", { class: "ps-note" },
    el("b", {}, decimal(best)), ` at step ${integer(step)}, the best.`,
    base != null && ` Before training: ${decimal(base)}.`,
    kept));
}

const notesSection = (notes) =>
  section("Notes", null, ...notes.map((text) => el("p", { class: "ps-note" }, text)));

function testSection(data) {
  if (!data.metrics.length) return section("Test", "This run has not answered the test rows.");
  const rows = data.metrics.map(({ name, value, base, tokenizer }) => el("tr", {},
    el("th", { scope: "row" },
      word(name, METRICS[name] || sentenceCase(name)), tokenizer && el("small", {}, `tok: ${tokenizer}`)),
    el("td", {}, decimal(value, 1)),
    el("td", {}, decimal(base, 1))));
  const table = el("table", { class: "ps-table" },
    tableHead(["Metric", "This run", "Base"], true), el("tbody", {}, ...rows));
  return section("Test", `From 0 to 100, beside ${data.base}.`, scrollBox("Test figures", table));
}

function checkSection({ rows, max_difference: difference }) {
  if (difference == null) {
    return section("Saved adapter",
      "The saved adapter was reloaded, but how far its answers are off is not a number.");
  }
  return section("Saved adapter", `Reloaded and compared: equal within ${upperBound(difference)}. `
    + `The saved adapter was put on a fresh base model; on ${integer(rows)} rows no logit differed by more.`);
}

function confusionSection(data) {
  const few = data.labels.length;
  const most = data.classes > few ? `The ${few} most frequent of ${data.classes} classes. ` : "";
  const note = `${integer(data.rows)} test rows. ${most}The stronger the colour, the larger the share of a row; `
    + "blue is right, orange is wrong.";
  return section("Confusion matrix", note, scrollBox("Confusion matrix", confusionTable(data)));
}

function ranksSection(data) {
  const note = `${integer(data.kept)} of ${integer(data.of)} ranks are left. `
    + "Each number is the rank that a matrix has kept.";
  return section("Ranks kept", note, scrollBox("Ranks kept in each layer", ranksTable(data)));
}

function memorySection(data) {
  const { predicted, measured } = data;
  const ratio = predicted && measured ? ` Measured over estimated: ${decimal(measured / predicted, 2)}.` : "";
  return section("Memory", `The most that its process held, libraries included.${ratio}`, memoryBars(data));
}

/** A run and those that are chosen beside it. */
const sideBySide = (run) => [run.id, ...[...store.selected].filter((id) => id !== run.id && runOf(id))].slice(0, 8);

function settingsSection(run) {
  const runs = sideBySide(run).map((id) => ({ id, title: titleOf(runOf(id) || run) }));
  const note = runs.length > 1 ? "Beside those of the runs that are chosen; what differs comes first."
    : "Choose other runs, and theirs stand beside these.";
  const made = section("Settings", note, runs.length > 1 ? settingsTable(runs) : settingsList(run.id));
  made.classList.add("ps-setsection");
  return made;
}

function sections(run, data) {
  return [
    findingSection(run, data.findings),
    el("div", {},
      data.validation && validationSection(data.validation),
      testSection(data),
      data.memory && memorySection(data.memory),
      data.check && checkSection(data.check),
      data.notes.length > 0 && notesSection(data.notes)),
    el("div", {},
      data.confusion && confusionSection(data.confusion),
      data.ranks && ranksSection(data.ranks)),
    settingsSection(run),
  ];
}

async function read(run, body) {
  try {
    const [data] = await Promise.all([fetchJSON(`studio/runs/${run.id}/details`), readSettings(sideBySide(run))]);
    body.replaceChildren(...sections(run, data));
  } catch {
    body.replaceChildren(problem(UNREADABLE));
  }
}

/**
 * A run's details, which are read from its files.
 * @param {import("./run_store.js").Run} run
 * @param {function(): void} close Takes them away.
 * @returns {HTMLElement}
 */
export function detailsCard(run, close) {
  const body = el("div", { class: "ps-detailbody" }, el("p", { class: "ps-note" }, "Reading the run's files."));
  const head = cardHead(`Details of ${titleOf(run)}`, spacer(),
    linkCopier(`Copy a link to ${titleOf(run)}`, () => link({ tab: "runs", runs: run.id })),
    linkButton("Close", "Close the details", close));
  read(run, body);
  return el("div", { class: "ps-card ps-details", "data-run": run.id }, head, body);
}
