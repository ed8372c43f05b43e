// Beside the curves: how far each chosen run is that trains or waits, how long it takes, and what it may be asked.

import { colourOf } from "./colours.js";
import { dot, el, linkButton } from "./dom.js";
import { duration, integer } from "./format.js";
import { act, isActive, runOf, store, titleOf } from "./run_store.js";

const ASKED = { pause: "Pause", resume: "Resume", stop: "Stop" };

/**
 * How long a run still takes, evaluations and answers to the test rows included.
 * @param {import("./run_store.js").Run} run
 * @param {?Object} queue What is foretold; see `studio/queue.json`.
 * @returns {string} Empty where nobody knows.
 */
export function timeOf(run, queue) {
  if (run.status !== "queued") {
    const left = run.eta_seconds ?? queue?.left?.[run.id];
    return left == null ? "" : `about ${duration(left)} left in all`;
  }
  if (run.held) return "on hold";
  if (queue?.paused) return "the queue is paused";
  const starts = queue?.starts?.[run.id];
  const takes = queue?.takes?.[run.id];
  const when = starts == null ? "" : starts < 1 ? "starts now" : `starts in about ${duration(starts)}`;
  return [when, takes != null && `takes about ${duration(takes)}`].filter(Boolean).join(", ");
}

/** Where a run is. */
function placeOf(run) {
  const number = run.queue_position;
  if (run.status === "queued") return number ? `number ${integer(number)} in the queue` : "queued";
  const steps = run.max_steps ? `step ${integer(run.step)} of ${integer(run.max_steps)}` : `step ${integer(run.step)}`;
  const isDoing = run.stage && run.stage !== "training" ? run.stage : run.status === "running" ? "" : run.status;
  return [steps, isDoing].filter(Boolean).join(", ");
}

function lineOf(run) {
  const title = titleOf(run);
  const share = run.max_steps ? run.step / run.max_steps : 0;
  const colour = colourOf(run.id);
  const offered = Object.entries(ASKED).filter(([name]) => run.actions.includes(name));
  return el("div", { class: "ps-atwork", "data-run": run.id },
    dot(colour), el("b", {}, title),
    el("div", {
      class: "ps-bar", role: "progressbar", "aria-label": `Steps of ${title}`,
      "aria-valuenow": Math.round(100 * share), "aria-valuemin": 0, "aria-valuemax": 100,
    }, el("i", { style: `width:${100 * share}%;background:${colour}` })),
    el("span", { class: "place" }, placeOf(run)),
    el("span", { class: "time" }, timeOf(run, store.queue)),
    el("span", { class: "acts" }, ...offered.map(([name, text]) =>
      linkButton(text, `${text} ${title}`, () => act(run.id, name)))));
}

/**
 * Draws the lines of the chosen runs that are not over.
 * @param {HTMLElement} host
 */
export function drawAtWork(host) {
  const runs = [...store.selected].map(runOf)
    .filter((run) => run && (isActive(run.status) || run.status === "paused"));
  const state = JSON.stringify([runs, runs.map((run) => timeOf(run, store.queue))]);
  if (host.dataset.state === state) return;
  host.dataset.state = state;
  host.hidden = !runs.length;
  const label = host.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  host.replaceChildren(...runs.map(lineOf));
  if (label) [...host.querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === label)?.focus();
}
