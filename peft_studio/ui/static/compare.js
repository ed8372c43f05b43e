// The comparison: runs of one task and one base model, what they reach against what they cost, and a table of them.

import { changed, part } from "./address.js";
import { oneAtATime } from "./api.js";
import { inkOf, symbolOf } from "./colours.js";
import { baseOf, COSTS, groupsOf, lowerIsBetter, metricsOf, titleOfMetric, valueOf } from "./comparison.js";
import { tableCard } from "./compare_table.js";
import { cardHead, el, spacer, toast, whenShown } from "./dom.js";
import { on } from "./events.js";
import { integer } from "./format.js";
import { island } from "./islands.js";
import { drawPareto, paretoTable, paretoWords } from "./pareto.js";
import { behind, fitWhenShown } from "./plot.js";
import { store, titleOf } from "./run_store.js";
import { readSettings } from "./settings.js";
import { word } from "./terms.js";
import { t } from "./words.js";

const NOTHING = "Nothing to compare yet. Finish a run or two with different methods, and they meet here.";
const NONE_CHOSEN = "None of the chosen runs is here. Choose some in the table of all runs, or on the Runs tab.";

/** What is shown; the empty texts stand for what suits the runs best. */
const view = { group: "", sort: "", down: true, only: false, cost: "trainable_params", metric: "", log: true };

/** The points of a plot: the runs that have both figures, and the base model. */
function pointsOf(runs, { metric, cost }) {
  const base = baseOf(runs, [metric, cost]);
  const points = runs.map((run) => ({
    name: titleOf(run), cost: valueOf(run, cost), quality: valueOf(run, metric), colour: inkOf(run.id),
    symbol: symbolOf(run.id),
  }));
  const drawn = points.filter((point) => Number.isFinite(point.cost) && Number.isFinite(point.quality));
  if (base[metric] != null) {
    drawn.push({ name: "Base model", cost: base[cost] ?? null, quality: base[metric], base: true });
  }
  return drawn;
}

function paretoCard(set) {
  const choice = (key, label) =>
    el("select", { "aria-label": label, onchange: (event) => set({ [key]: event.target.value }) });
  const x = choice("cost", "Cost on the horizontal axis");
  x.append(...Object.entries(COSTS).map(([value, { title }]) => el("option", { value }, title)));
  const y = choice("metric", "Metric on the vertical axis");
  const log = el("button", { type: "button", onclick: () => set({ log: !view.log }) }, "Log scale");
  const plot = el("div", { class: "ps-plot", role: "img" });
  const none = el("p", { class: "ps-empty", hidden: true }, "No run of this group has both figures.");
  let now = null;
  const table = behind(() => now && paretoTable(...now));
  fitWhenShown(plot);
  const head = cardHead("What it reaches, what it costs",
    el("span", { class: "sub" }, word("frontier", "the line joins what nothing beats"), "; the rest is dimmed"),
    spacer(),
    y, el("span", { class: "sub" }, "against"), x, el("span", { class: "ps-seg" }, log));

  function update(runs, metrics) {
    const metric = metrics.includes(view.metric) ? view.metric : metrics[0] || "";
    if (y.dataset.state !== metrics.join()) {
      y.dataset.state = metrics.join();
      y.replaceChildren(...metrics.map((name) => el("option", { value: name }, titleOfMetric(name))));
    }
    y.value = metric;
    x.value = view.cost;
    log.setAttribute("aria-pressed", String(view.log));
    const lower = lowerIsBetter(metric);
    const axes = {
      cost: COSTS[view.cost].title,
      quality: `${t(titleOfMetric(metric))} ${t(lower ? "(lower is better)" : "(higher is better)")}`,
      lower, log: view.log, format: COSTS[view.cost].format, digits: metric.startsWith("test") ? 1 : 3,
    };
    const points = metric ? pointsOf(runs, { metric, cost: view.cost }) : [];
    const drawable = points.some((point) => !point.base);
    now = drawable ? [points, axes] : null;
    plot.hidden = table.node.hidden = !drawable;
    none.hidden = drawable;
    if (!drawable) return;
    plot.setAttribute("aria-label", paretoWords(points, axes));
    table.update();
    if (plot.offsetParent) drawPareto(plot, points, axes);
  }
  return { card: el("section", { class: "ps-card ps-chart" }, head, none, plot, table.node), update };
}

function drawGroups(host, groups, key, set) {
  host.hidden = groups.length < 2;
  const state = JSON.stringify([groups.map((group) => [group.key, group.runs.length]), key]);
  if (host.dataset.state === state) return;
  host.dataset.state = state;
  const focused = host.contains(document.activeElement);
  host.replaceChildren(...groups.map((group) => el("button", {
    type: "button", class: "ps-chip", "aria-pressed": String(group.key === key),
    onclick: () => set({ group: group.key }),
  }, el("b", {}, group.task), el("span", { class: "who" }, group.model), el("small", {}, integer(group.runs.length)))));
  if (focused) host.querySelector("[aria-pressed=true]")?.focus();
}

island("compare", (root) => {
  const set = (more) => {
    Object.assign(view, more);
    changed();
    draw();
  };
  const groups = el("div", { class: "ps-groups", role: "group", "aria-label": "Runs that may be compared" });
  const pareto = paretoCard(set);
  const table = tableCard(view, set);
  const empty = el("p", { class: "ps-empty" });
  const body = el("div", {}, pareto.card, table.card);
  root.append(groups, empty, body);
  const alone = oneAtATime();

  function draw() {
    const begun = store.runs.filter((run) => run.step > 0);
    const found = groupsOf(begun);
    const chosen = found.find(({ runs }) => runs.some((run) => store.selected.has(run.id)));
    const group = found.find(({ key }) => key === view.group) || chosen || found[0];
    if (view.group && group?.key !== view.group && store.version) {
      toast(`No run of ${view.group.replace("~", ", ")} is here any more.`);
      view.group = "";
      changed({ step: false });
    }
    drawGroups(groups, found, group?.key, set);
    const runs = group?.runs.filter((run) => !view.only || store.selected.has(run.id)) || [];
    const metrics = metricsOf(runs);
    const sorts = metrics.includes(view.sort) || view.sort in COSTS || /^(title$|setting:)/.test(view.sort);
    if (!sorts && metrics.length) Object.assign(view, { sort: metrics[0], down: !lowerIsBetter(metrics[0]) });
    empty.hidden = runs.length > 0;
    empty.textContent = begun.length ? NONE_CHOSEN : NOTHING;
    body.hidden = !begun.length;
    pareto.card.hidden = !runs.length;
    if (!group) return;
    table.update(group, runs, metrics);
    pareto.update(runs, metrics);
    alone(async () => {
      if (root.offsetParent && await readSettings(runs.slice(0, 100).map((run) => run.id))) draw();
    });
  }

  let drawn = "";
  const drawIfNew = () => {
    if (!root.offsetParent) return;
    const figures = store.runs.map((run) => [run.id, run.status, run.metrics, run.seconds]);
    const state = JSON.stringify([figures, [...store.selected]]);
    if (state === drawn) return;
    drawn = state;
    draw();
  };
  on("runs", drawIfNew);
  on("selection", drawIfNew);
  on("theme", draw);
  on("language", draw);
  whenShown(root, drawIfNew);

  const taken = (key, take) => (value) => {
    Object.assign(view, take(value));
    draw();
  };
  part("group", taken("group", (group) => ({ group })), () => view.group);
  part("metric", taken("metric", (metric) => ({ metric })), () => view.metric);
  part("cost", taken("cost", (cost) => ({ cost: cost in COSTS ? cost : "trainable_params" })),
    () => (view.cost === "trainable_params" ? "" : view.cost));
  part("only", taken("only", (only) => ({ only: only === "1" })), () => (view.only ? "1" : ""));
  draw();
});
