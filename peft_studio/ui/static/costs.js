// What a run would cost: figures beside full fine-tuning's, the memory, and the map of the model's parameters.

import { bar, cardHead, el, problem } from "./dom.js";
import { emit, on } from "./events.js";
import { bytes, integer, percent } from "./format.js";
import { island, valueIsland } from "./islands.js";
import { drawMap } from "./map.js";
import { ledgerBar, ledgerKeys, totalOf } from "./memory.js";

const STARTING = "Starting the engine: the first figures take a few seconds.";

function figure(title, value, note, share) {
  return el("div", { class: "ps-card ps-stat" },
    el("div", { class: "k" }, title),
    el("div", { class: "v" }, value),
    el("div", { class: "s", title: note }, note),
    bar(Math.min(1, Math.max(0.01, share))));
}

/** A figure beside the same of full fine-tuning. */
const besideFull = (title, format, ours, full) =>
  figure(title, format(ours), `full fine-tuning: ${format(full)}`, ours / full);

function figures({ full, memory, ...data }) {
  return el("div", { class: "ps-stats" },
    besideFull("Trainable parameters", integer, data.trainable_params, full.trainable_params),
    figure("Share that trains", percent(data.trainable_share), `of ${integer(data.total_params)} in use`,
      data.trainable_share),
    besideFull("Adapter file", bytes, data.adapter_bytes, full.adapter_bytes),
    besideFull("Memory, estimated", bytes, totalOf(memory), totalOf(full.memory)));
}

function memoryCard({ memory, full, ...data }) {
  const most = Math.max(totalOf(memory), totalOf(full.memory));
  const sub = `estimate for ${data.batch_size} rows of about ${data.tokens_per_row} tokens, in ${data.precision.value}`;
  return el("div", { class: "ps-card ps-ledger" },
    cardHead("Memory while training", el("span", { class: "sub", title: data.precision.why }, sub)),
    ledgerBar(data.method, memory, most),
    ledgerBar("Full", full.memory, most),
    ledgerKeys(memory, full.memory));
}

const waiting = (text) => el("div", { class: "ps-card ps-wait" }, text);

/** The last figures stay, pale, below what is wrong with the present settings. */
function showProblem(root, text) {
  root.querySelector(".ps-problem")?.remove();
  root.querySelector(".ps-wait")?.remove();
  root.prepend(problem(text, { role: "alert" }));
  root.classList.add("stale");
}

/** Draws an estimate; returns what the host's `data-ready` is to say. */
function drawEstimate(root, data) {
  if (data.error) {
    showProblem(root, data.error);
    return "error";
  }
  root.classList.remove("stale");
  if (data.hint) {
    root.replaceChildren(waiting(data.hint));
    return "hint";
  }
  root.replaceChildren(figures(data), el("div", { class: "ps-pair" }, drawMap(data), memoryCard(data)));
  return "1";
}

island("estimate", (root, { props, watch }) => {
  root.append(waiting(STARTING));
  const host = root.closest("#estimate");
  const draw = () => {
    const data = props.value;
    if (!data) return;
    emit("warnings", data.warnings || []);
    if (data.config) emit("form", data.config);
    host.dataset.ready = drawEstimate(root, data);
    if (host.dataset.ready === "1") host.dataset.trainable = data.trainable_params;
  };
  watch("value", draw);
  draw();
});

// What will hardly work, told where the run is started.
island("warnings", (root) => {
  on("warnings", (texts) =>
    root.replaceChildren(...texts.map((text) => problem(text, { class: "ps-problem mild", role: "status" }))));
});

valueIsland("figure", (root, data) => root.replaceChildren(data.error ? problem(data.error) : drawMap(data)));
