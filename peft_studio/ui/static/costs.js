// What a run would cost: the memory beside full fine-tuning's, and the map of the model's parameters.

import { cardHead, el, problem } from "./dom.js";
import { emit, on } from "./events.js";
import { bytes } from "./format.js";
import { island, valueIsland } from "./islands.js";
import { drawMap } from "./map.js";
import { ledgerBar, ledgerKeys, totalOf, withoutLibraries } from "./memory.js";

const STARTING = "Starting the engine: the first figures take a few seconds.";

/** What the libraries take is the same for all methods, so it is shown when asked for. */
let withLibraries = false;

function memoryCard(data) {
  const { memory, full, ...ours } = data;
  const shown = withLibraries ? (ledger) => ledger : withoutLibraries;
  const [mine, all] = [shown(memory), shown(full.memory)];
  const most = Math.max(totalOf(mine), totalOf(all));
  const sub = `estimate for ${ours.batch_size} rows of about ${ours.tokens_per_row} tokens, in ${ours.precision.value}`;
  const toggle = el("button", {
    type: "button", class: "ps-link", "aria-pressed": String(withLibraries),
    onclick: () => {
      withLibraries = !withLibraries;
      const card = memoryCard(data);
      toggle.closest(".ps-ledger").replaceWith(card);
      card.querySelector(".ps-link").focus();
    },
  }, withLibraries ? "Without libraries" : `Libraries: ${bytes(memory.runtime)} more`);
  return el("div", { class: "ps-card ps-ledger" },
    cardHead("Memory while training", el("span", { class: "sub", title: ours.precision.why }, sub)),
    ledgerBar(ours.method, mine, most),
    ledgerBar("Full", all, most),
    el("div", { class: "ps-memfoot" }, ledgerKeys(mine, all), toggle));
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
  root.replaceChildren(el("div", { class: "ps-pair" }, drawMap(data), memoryCard(data)));
  return "1";
}

island("estimate", (root, { props, watch }) => {
  root.append(waiting(STARTING));
  const host = root.closest("#estimate");
  const draw = () => {
    const data = props.value;
    if (!data) return;
    emit("warnings", data.warnings || []);
    emit("estimate", data);
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
