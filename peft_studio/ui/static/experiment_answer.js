// An experiment's answer: in words, in a table, in plots; and what can be done with it.

import { link as addressWith, linkCopier } from "./address.js";
import { titleOfMetric } from "./comparison.js";
import { cardHead, el, linkButton, problem, scrollBox, spacer, sureButton } from "./dom.js";
import {
  curvesOf, figure, gridOf, intervalsOf, learningCurveOf, markOf, matrixOf, plotCard, searchTable,
} from "./experiment_plots.js";
import { bytes, compact, duration, percent } from "./format.js";
import { drawPareto, paretoTable, paretoWords } from "./pareto.js";

/** Files that an answer leaves as. */
const FILES = [
  ["html", "Report (HTML)"], ["ipynb", "Notebook"], ["csv", "CSV"], ["md", "Markdown"], ["yaml", "Plan (YAML)"],
  ["svg", "Figures (SVG)"], ["png", "Figures (PNG)"],
];
const ROWS_FIELD = "task.train_rows";

const range = (answer, { low, high }) =>
  low != null && high != null && `[${figure(answer.metric, low)}, ${figure(answer.metric, high)}]`;

const list = (value) => (value && typeof value === "object" ? JSON.stringify(value) : String(value));

function settingsOf(settings) {
  const told = Object.entries(settings || {}).filter(([key]) => key !== "method.name");
  return told.map(([key, value]) => `${key.split(".").at(-1)} ${list(value)}`).join(", ");
}

function rowOf(answer, row, isBest) {
  const { css } = markOf(row.index);
  const name = el("th", { scope: "row", title: row.name },
    el("i", { class: "ps-dot", style: `background:${css}` }), row.name,
    row.off_by != null && el("small", {}, `size off by ${percent(Math.abs(row.off_by))}`),
    row.off_by == null && answer.plan.equal_parameters > 0 && !row.sizable && el("small", {}, "has one size only"));
  const told = `${row.n} of ${row.of}`;
  const compared = addressWith({ tab: "compare", runs: row.runs.join(","), experiment: "" });
  const runs = el("td", {}, row.runs.length === 0 ? told
    : el("a", { class: "ps-link", href: compared, "aria-label": `Compare the runs of ${row.name}` }, told),
    row.failed > 0 && el("small", { class: "bad" }, `${row.failed} failed`),
    row.missing > 0 && el("small", { class: "bad" }, `${row.missing} deleted`),
    row.n < row.of && row.state !== "over" && el("small", {}, row.state));
  return el("tr", { class: isBest ? "best" : null },
    name,
    el("td", {}, el("b", {}, figure(answer.metric, row.mean)), isBest && el("small", { class: "ps-best" }, "best"),
      el("small", {}, range(answer, row) || "")),
    el("td", {}, figure(answer.metric, row.spread)),
    runs,
    el("td", {}, row.rate == null ? "" : String(row.rate)),
    el("td", {}, compact(row.trainable_params), el("small", {}, percent(row.share))),
    el("td", {}, bytes(row.adapter_bytes)),
    el("td", {}, bytes(row.peak_memory_bytes)),
    el("td", {}, duration(row.train_seconds)),
    el("td", {}, duration(row.answer_seconds)),
    el("td", { class: "ps-settings" }, settingsOf(row.settings)));
}

function tableOf(answer, metric) {
  const known = answer.table.filter(({ mean }) => mean != null);
  const side = answer.lower_is_better ? Math.min : Math.max;
  const best = known.length > 1 ? side(...known.map(({ mean }) => mean)) : null;
  const heads = ["", metric, "Spread", "Runs", "Learning rate", "Trainable", "Adapter file", "Memory", "Time of a run",
    "Per answer", "Settings that differ"];
  const rows = [...answer.table];
  rows.sort((a, b) => (a.mean == null) - (b.mean == null) || (answer.lower_is_better ? 1 : -1) * (a.mean - b.mean));
  const base = answer.base?.mean != null && el("tr", { class: "base" },
    el("th", { scope: "row" }, "Base model, untrained"), el("td", {}, figure(answer.metric, answer.base.mean)),
    ...heads.slice(2).map(() => el("td", {}, "")));
  return el("table", { class: "ps-table ps-answertable" },
    el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...rows.map((row) => rowOf(answer, row, best != null && row.mean === best)), base));
}

/** How far it is and how long it takes, in words. */
function progressOf({ runs, seconds, state, why }) {
  const done = [`${runs.over} of ${runs.of} runs`];
  if (runs.search_of) done.push(`${runs.search_over} of ${runs.search_of} short runs for rates`);
  const active = state === "running" || state === "waiting";
  const time = [seconds.told != null && `told: ${duration(seconds.told)}`, `taken: ${duration(seconds.took)}`,
    active && seconds.left > 0 && `left: about ${duration(seconds.left)}`].filter(Boolean);
  return `${done.join(", ")}. Time ${time.join(", ")}.${why ? ` ${why}` : ""}`;
}

function wordsOf(answer) {
  const [first, ...rest] = answer.words;
  const waiting = answer.computing ? "The intervals are being computed." : "No answer yet: it needs two cells with runs.";
  return el("div", { class: "ps-verdict", "aria-live": "polite" },
    first ? el("p", { class: "first" }, first) : el("p", { class: "ps-note" }, waiting),
    rest.length > 0 && el("ul", {}, ...rest.slice(0, 12).map((text) => el("li", {}, text))),
    answer.interval?.how && el("p", { class: "ps-note" }, answer.interval.how));
}

function headOf(answer, act, back) {
  const link = (kind, title) => el("a", {
    class: "ps-link", href: `studio/experiments/${answer.id}/export?as=${kind}`, download: true,
  }, title);
  const button = {
    stop: () => linkButton("Stop", "Stop this experiment and its runs", () => act("stop")),
    resume: () => linkButton("Resume", "Make the runs that are missing", () => act("resume")),
    delete: () => sureButton("Delete", "Delete this experiment; its runs stay", "Really delete? Its runs stay",
      () => act("delete")),
  };
  return [
    cardHead(answer.question, el("span", { class: `ps-pill ${answer.state}` }, answer.state), spacer(),
      linkButton("All experiments", "Back to the list of experiments", back)),
    el("p", { class: "ps-note" }, progressOf(answer)),
    ...answer.holes.map((text) => problem(text, { class: "ps-problem mild" })),
    wordsOf(answer),
    el("div", { class: "ps-acts" }, ...answer.actions.map((name) => button[name]?.()),
      linkCopier("Copy a link to this experiment"), ...FILES.map(([kind, title]) => link(kind, title))),
  ];
}

/** The Pareto plot with the choice of its cost. */
function paretoCard(redraw) {
  const choice = el("select", { "aria-label": "Cost on the horizontal axis", onchange: redraw });
  const { card, show } = plotCard("What it reaches, what it costs", choice);

  function update(answer, metric) {
    const { costs, points } = answer.pareto;
    if (choice.options.length !== costs.length) {
      choice.replaceChildren(...costs.map(({ key, label }) => el("option", { value: key }, label)));
    }
    const { key, label, unit } = costs.find((cost) => cost.key === choice.value) || costs[0];
    const format = { B: bytes, s: duration }[unit] || compact;
    const marks = new Map(answer.table.map(({ name, index, low, high }) => [name, { ...markOf(index), low, high }]));
    const drawn = points.filter(({ cost }) => cost[key] != null).map(({ name, quality, cost, base }) => {
      const { ink, symbol, low, high } = marks.get(name) || {};
      return { name, quality, cost: cost[key], base, colour: ink, symbol, low, high };
    });
    card.hidden = drawn.length < 2;
    const axes = { cost: label, quality: metric, lower: answer.lower_is_better, log: key !== "answer_seconds", format,
      digits: answer.metric.startsWith("test/") ? 1 : 3 };
    show((plot) => drawPareto(plot, drawn, axes), paretoWords(drawn, axes), paretoTable(drawn, axes));
  }
  return { card, update };
}

const section = (title, body) => el("section", { class: "ps-card ps-answerplot" }, el("div", { class: "ps-cardhead" },
  el("h3", {}, title)), scrollBox(title, body));

/**
 * The view of one answer.
 * @param {function(string): void} act Does `stop`, `resume` or `delete`.
 * @param {function(): void} back Closes it.
 * @returns {{node: HTMLElement, update: function(Object): void}}
 */
export function answerView(act, back) {
  let shown = null;
  const head = el("section", { class: "ps-card ps-answerhead" });
  const table = el("section", { class: "ps-card" });
  const intervals = plotCard("Figures with their intervals");
  const rows = plotCard("How many rows it takes");
  const curves = plotCard("Validation loss, mean and range of the seeds");
  const pareto = paretoCard(() => shown && update(shown));
  const more = el("div", { class: "ps-answermore" });
  const node = el("div", { class: "ps-answer" }, head, table,
    el("div", { class: "ps-pair" }, intervals.card, pareto.card), rows.card, curves.card, more);

  function update(answer) {
    shown = answer;
    const metric = titleOfMetric(answer.metric);
    const hasFigures = answer.table.some(({ mean }) => mean != null);
    const focused = head.contains(document.activeElement) && document.activeElement.textContent;
    head.replaceChildren(...headOf(answer, act, back));
    if (focused) [...head.querySelectorAll("button, a")].find((one) => one.textContent === focused)?.focus();
    table.replaceChildren(scrollBox("Table of the answer", tableOf(answer, metric)));
    intervals.card.hidden = !hasFigures;
    if (hasFigures) intervals.show(...intervalsOf(answer, metric));
    const byRows = answer.plan.vary.length === 1 && answer.plan.vary[0].field === ROWS_FIELD;
    rows.card.hidden = !byRows || !hasFigures;
    if (!rows.card.hidden) rows.show(...learningCurveOf(answer, metric));
    curves.card.hidden = !answer.curves.some(({ steps }) => steps.length);
    if (!curves.card.hidden) curves.show(...curvesOf(answer));
    pareto.update(answer, metric);
    const open = Boolean(more.querySelector("details[open]"));
    more.replaceChildren(...[
      answer.grid && section(`${metric} by both fields`, gridOf(answer)),
      answer.duels.length > 1 && section("Who beats whom", matrixOf(answer)),
      answer.search.length > 0 && el("details", { class: "ps-card ps-figures", open },
        el("summary", {}, "The search for learning rates"), scrollBox("Search for rates", searchTable(answer.search))),
    ].filter(Boolean));
  }
  return { node, update };
}
