// The comparison: a sortable table of runs, and a scatter of what they reach against what they cost.

import { colourOf } from "./colours.js";
import { BEST, COSTS, measuredElsewhere, metricsOf, sorted, titleOfMetric, valueOf } from "./comparison.js";
import { cardHead, dot, el, linkButton, scrollBox, spacer, token, whenShown } from "./dom.js";
import { on } from "./events.js";
import { decimal, integer } from "./format.js";
import { island } from "./islands.js";
import { fitWhenShown, loadPlotly, PLOT_CONFIG, plotLayout } from "./plot.js";
import { store, titleOf } from "./run_store.js";
import { plotText } from "./text.js";

const ROWS = 100; // at first
const MORE_ROWS = 200; // when asked for
const NAMED_POINTS = 60; // of a scatter; more names would cover each other
const NOTHING = "Nothing to compare yet. Finish a run or two with different methods, and they meet here.";
const PLAIN = new Set([undefined, "13a", "default"]); // tokenizers that go without saying
const LONGEST_NAME = 32; // of a point of a scatter, in letters
const view = { sort: "created", down: true, only: false, x: "trainable_params", y: "", log: true };

const OTHER_ROWS = "Measured on other rows than most runs of this task, so it does not compare with theirs: "
  + "another file, model or max_length.";

function cellOf(run, key, elsewhere) {
  if (key === "title") {
    return el("th", { scope: "row", title: titleOf(run) },
      dot(colourOf(run.id)), titleOf(run), el("small", {}, run.id));
  }
  if (key === "status") return el("td", {}, el("span", { class: `ps-pill ${run.status}` }, run.status));
  if (COSTS[key]) return el("td", {}, COSTS[key].format(run[key]));
  const digits = key.startsWith("test") ? 1 : 3;
  const base = run.metrics?.[key === BEST ? "base/eval/loss" : `base/${key}`];
  const value = decimal(valueOf(run, key), digits);
  const tokenizer = run.tokenizers?.[key.replace("test/", "")];
  const other = valueOf(run, key) != null && elsewhere[key.split("/")[0]]?.has(run.id);
  return el("td", { title: tokenizer ? `Tokenizer: ${tokenizer}` : null },
    key === BEST ? el("b", {}, value) : value,
    !PLAIN.has(tokenizer) && el("small", {}, `tok: ${tokenizer}`),
    other && el("small", { class: "ps-otherrows", title: OTHER_ROWS }, "other rows"),
    base != null && el("small", {}, `base ${decimal(base, digits)}`));
}

/** The head of a column, which sorts by it, and the other way round when clicked again. */
function sortHead(key, title, draw) {
  const sort = () => {
    view.down = view.sort === key ? !view.down : key !== "title";
    view.sort = key;
    draw();
  };
  const direction = view.sort === key ? (view.down ? "descending" : "ascending") : "none";
  return el("th", { scope: "col", "aria-sort": direction }, el("button", { type: "button", onclick: sort }, title));
}

function drawTable(table, runs, metrics, draw) {
  const costs = Object.entries(COSTS).map(([key, { title }]) => [key, title]);
  const columns = [
    ["title", "Run"], ["status", "Status"], ...metrics.map((name) => [name, titleOfMetric(name)]), ...costs,
  ];
  const focus = table.contains(document.activeElement) && document.activeElement.textContent;
  const heads = columns.map(([key, title]) => sortHead(key, title, draw));
  const elsewhere = { eval: measuredElsewhere(runs, "eval"), test: measuredElsewhere(runs, "test") };
  const cells = (run) => columns.map(([key]) => cellOf(run, key, elsewhere));
  const rows = runs.map((run) => el("tr", { "data-run": run.id }, ...cells(run)));
  table.replaceChildren(el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
  if (focus) [...table.querySelectorAll("th button")].find((node) => node.textContent === focus)?.focus();
}

const short = (name) => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name);

async function drawScatter(plot, points) {
  const Plotly = await loadPlotly();
  const revision = `${view.x} ${view.y} ${view.log}`;
  const layout = plotLayout(COSTS[view.x].title, titleOfMetric(view.y), revision);
  layout.xaxis.type = view.log ? "log" : "linear";
  const trace = {
    x: points.map((run) => valueOf(run, view.x)),
    y: points.map((run) => valueOf(run, view.y)),
    text: points.map((run) => plotText(short(titleOf(run)))),
    mode: points.length > NAMED_POINTS ? "markers" : "markers+text",
    textposition: "top center",
    textfont: { size: 11, color: token("--ps-ink2") },
    marker: {
      size: 11,
      color: points.map((run) => colourOf(run.id)),
      line: { width: 1.5, color: token("--ps-card") },
    },
    cliponaxis: false,
    hovertemplate: "%{text}<br>%{x}, %{y:.3f}<extra></extra>",
  };
  await Plotly.react(plot, [trace], layout, PLOT_CONFIG);
}

const option = (value, title) => el("option", { value }, title);

/** The card with the scatter; `update` draws it for these runs. */
function scatterCard(draw) {
  const set = (key, value) => {
    view[key] = value;
    draw();
  };
  const choice = (key, label, ...options) =>
    el("select", { "aria-label": label, onchange: (event) => set(key, event.target.value) }, ...options);
  const x = choice("x", "Cost on the horizontal axis",
    ...Object.entries(COSTS).map(([key, { title }]) => option(key, title)));
  const y = choice("y", "Metric on the vertical axis");
  const log = el("button", { type: "button", onclick: () => set("log", !view.log) }, "Log scale");
  const plot = el("div", { class: "ps-plot", role: "img", "aria-label": "Scatter of a metric against a cost" });
  fitWhenShown(plot);
  const axes = [y, el("span", { class: "sub" }, "against"), x, el("span", { class: "ps-seg" }, log)];
  const head = cardHead("What it reaches, what it costs", spacer(), ...axes);

  function update(runs, metrics) {
    if (!metrics.includes(view.y)) view.y = metrics.find((name) => name.startsWith("test/")) || metrics[0] || "";
    if (y.dataset.state !== metrics.join()) {
      y.dataset.state = metrics.join();
      y.replaceChildren(...metrics.map((name) => option(name, titleOfMetric(name))));
    }
    y.value = view.y;
    x.value = view.x;
    log.setAttribute("aria-pressed", String(view.log));
    const points = runs.filter((run) => valueOf(run, view.x) != null && valueOf(run, view.y) != null);
    plot.hidden = !points.length;
    if (points.length && plot.offsetParent) drawScatter(plot, points);
  }
  return { card: el("section", { class: "ps-card ps-chart" }, head, plot), update };
}

/** The card with the table; `update` draws it for these runs. */
function tableCard(draw) {
  let limit = ROWS;
  const table = el("table", { class: "ps-table" });
  const only = el("input", {
    type: "checkbox",
    onchange: (event) => {
      view.only = event.target.checked;
      draw();
    },
  });
  const csv = el("a", { class: "ps-link", download: "peft-studio-runs.csv" }, "Download CSV");
  const more = linkButton("", null, () => {
    limit += MORE_ROWS;
    draw();
  });
  const check = el("label", { class: "ps-check" }, only, "only the selected ones");
  const card = el("section", { class: "ps-card" },
    cardHead("Runs", check, spacer(), csv),
    scrollBox("Table of runs", table),
    el("div", { class: "ps-listfoot" }, more));

  function update(runs, metrics) {
    csv.href = `studio/compare.csv${view.only ? `?runs=${[...store.selected].join(",")}` : ""}`;
    drawTable(table, runs.slice(0, limit), metrics, draw);
    more.hidden = runs.length <= limit;
    more.textContent = `Show more (${integer(runs.length - limit)})`;
  }
  return { card, update };
}

island("compare", (root) => {
  const scatter = scatterCard(draw);
  const table = tableCard(draw);
  const empty = el("p", { class: "ps-empty" }, NOTHING);
  const body = el("div", {}, scatter.card, table.card);
  root.append(empty, body);

  function draw() {
    const begun = store.runs.filter((run) => run.step > 0 && (!view.only || store.selected.has(run.id)));
    const runs = sorted(begun, view.sort, view.down);
    const metrics = metricsOf(runs);
    empty.hidden = Boolean(runs.length) || view.only;
    body.hidden = !empty.hidden;
    table.update(runs, metrics);
    scatter.update(runs, metrics);
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
  draw();
});
