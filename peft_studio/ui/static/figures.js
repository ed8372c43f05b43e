// The figures of a run that stay in sight while its settings change: parameters, file, memory and time.

import { bar, el } from "./dom.js";
import { on } from "./events.js";
import { bytes, count, duration, integer, percent } from "./format.js";
import { island } from "./islands.js";
import { ownMemory } from "./memory.js";

const NOT_KNOWN = "–";
const TITLES = ["Trainable", "Share that trains", "Adapter file", "Memory", "Expected time"];

function figure(title, value = NOT_KNOWN, note = "", share = 0, more = note) {
  return el("div", { class: "ps-stat" },
    el("div", { class: "k" }, title),
    el("div", { class: "v" }, value),
    el("div", { class: "s", title: more }, note),
    bar(share && Math.min(1, Math.max(0.01, share))));
}

/** A figure beside the same of full fine-tuning. */
const besideFull = (title, format, ours, full) =>
  figure(title, format(ours), `full: ${format(full)}`, ours / full, `full fine-tuning: ${format(full)}`);

/** When a run would start, else what its time is known from. */
function timeNote({ runs, wait, paused }) {
  if (paused) return "the queue stands still";
  if (wait > 0) return `starts in about ${duration(Math.round(wait))}`;
  return runs ? `by ${count(runs, "run")} made here` : "a rough estimate";
}

const WHOLE_RUN = "The whole run: loading, steps, evaluations and answers.";

function timeFigure(time) {
  if (!time) return figure(TITLES[4]);
  return figure(TITLES[4], duration(Math.max(10, time.seconds)), timeNote(time), 0, WHOLE_RUN);
}

/** @param {?Object} data An estimate; without one the places are there, and empty. */
function tiles(data) {
  if (!data) return TITLES.map((title) => figure(title));
  const { full, memory, time, ...ours } = data;
  return [
    besideFull(TITLES[0], integer, ours.trainable_params, full.trainable_params),
    figure(TITLES[1], percent(ours.trainable_share), `of ${integer(ours.total_params)} in use`, ours.trainable_share),
    besideFull(TITLES[2], bytes, ours.adapter_bytes, full.adapter_bytes),
    besideFull(TITLES[3], bytes, ownMemory(memory), ownMemory(full.memory)),
    timeFigure(time),
  ];
}

island("figures", (root) => {
  const row = el("div", { class: "ps-stats", role: "group", "aria-label": "Figures of this run" });
  root.append(row);
  on("estimate", (data) => {
    root.classList.toggle("stale", Boolean(data?.error));
    if (!data?.error) row.replaceChildren(...tiles(data && !data.hint ? data : null));
  });
});
