// One run in the list: what it is, how far it is, and what it may be asked.

import { post, save } from "./api.js";
import { fill } from "./bridge.js";
import { colourOf } from "./colours.js";
import { detailsCard } from "./details.js";
import { bar, dot, el, linkButton, openInPlace, sureButton } from "./dom.js";
import { emit } from "./events.js";
import { compact, decimal, duration, integer } from "./format.js";
import { lookInside } from "./inside.js";
import { logCard } from "./run_log.js";
import { act, isActive, poll, pollSoon, store, titleOf, toggle } from "./run_store.js";

// What a run may be asked, in the order in which it is offered: what it is called, and what that means.
const ACTIONS = {
  pause: ["Pause", "Pause"],
  resume: ["Resume", "Resume"],
  stop: ["Stop", "Stop"],
  front: ["Run next", "Run next:"],
  hold: ["Hold", "Hold back"],
  release: ["Release", "Release"],
};

const CONTENTS = "The adapter, its card, settings, figures and script, an embedded base model; no rows of your data";

/** What stands below a run's bar. */
function factsOf(run) {
  const facts = [];
  const active = isActive(run.status);
  const moving = run.status !== "queued" && run.status !== "paused";
  if (run.status === "queued") facts.push(run.reason || `number ${run.queue_position} in the queue`);
  if (run.status === "queued" && run.priority !== "normal") facts.push(`${run.priority} priority`);
  if (run.status === "paused") facts.push(`resumes at step ${integer(run.checkpoint_step ?? 0)}`);
  if (run.stage) facts.push(run.stage);
  if (active && run.eta_seconds != null) facts.push(`${duration(run.eta_seconds)} left`);
  if (moving && run.steps_per_second) facts.push(`${decimal(run.steps_per_second, 1)} steps/s`);
  if (moving && run.tokens_per_second) facts.push(`${compact(run.tokens_per_second)} tokens/s`);
  if (!active && run.seconds) facts.push(duration(run.seconds));
  return facts.join(" · ");
}

/** Asks how many steps more. */
function askLonger(run, title, button) {
  const steps = el("input", {
    type: "number", min: "1", step: "1", value: String(run.max_steps || run.step), "aria-label": "How many steps more",
  });
  const submit = async (event) => {
    event.preventDefault();
    if (!await post(`studio/runs/${run.id}/extend?steps=${encodeURIComponent(steps.value)}`)) return;
    form.remove();
    pollSoon();
  };
  const form = el("form", { class: "ps-longer", "data-sure": "1", onsubmit: submit },
    steps, "steps more", linkButton("Train", `Train ${title} so much longer`, null, { type: "submit" }));
  openInPlace(button, form);
  steps.select();
  steps.focus();
}

/** Asks which priority a queued run is to have. */
function askPriority(run, title, button) {
  const choose = async (level) => {
    close();
    await act(run.id, `prioritize?to=${level}`);
  };
  const levels = ["high", "normal", "low"].map((level) =>
    linkButton(level, `Give ${title} ${level} priority`, () => choose(level), {
      "aria-pressed": String(level === run.priority),
    }));
  const form = el("span", {
    class: "ps-priority", "data-sure": "1", role: "group", "aria-label": `Priority of ${title}`,
  }, ...levels);
  const close = openInPlace(button, form);
  form.querySelector("[aria-pressed=true]").focus();
}

/** Asks whether the data's rows are to go with an adapter, or base and adapter as one model. */
function askExport(run, title, button) {
  const merge = async () => {
    merged.disabled = true;
    await save(`studio/merged/${run.id}.zip`, `merged-${run.id}.zip`);
    merged.disabled = false;
  };
  const merged = linkButton("Merged model", `Export ${title} merged into its base`, merge, {
    title: "Base and adapter as one model for plain transformers, with its tokenizer and card",
  });
  const rows = el("a", {
    class: "ps-link", href: `studio/export/${run.id}.zip?rows=1`, download: `${run.id}.zip`,
    title: `${CONTENTS.split(";")[0]}; and your data's rows: training, validation, and test rows with answers`,
  }, "With rows");
  openInPlace(button, el("span", {
    class: "ps-priority", "data-sure": "1", role: "group", "aria-label": `What to export of ${title}`,
  }, rows, merged));
  rows.focus();
}

/** A place in the queue, by arrows; a click on one keeps the focus on it, so that it can be pressed again. */
function arrow(run, title, sign, action) {
  if (run.held || !run.actions.includes(action)) return null;
  const more = { class: "ps-link ps-arrow", title: `Move ${action}` };
  return linkButton(sign, `Move ${title} ${action}`, () => act(run.id, action), more);
}

async function remove(run) {
  await post(`studio/runs/${run.id}/delete`);
  toggle(run.id, false);
  poll();
}

function buttons(run, title, opened) {
  const may = (name) => run.actions.includes(name);
  const has = (right) => run.rights.includes(right);
  const isNext = run.held || run.queue_position === 1;
  const offered = Object.entries(ACTIONS).filter(([name]) => may(name) && !(name === "front" && isNext));
  const asking = (text, label, ask) => {
    const button = linkButton(text, label, () => ask(run, title, button));
    return button;
  };
  const opener = (text, kind, make) =>
    linkButton(text, `${text} of ${title}`, () => opened.toggle(run.id, kind, (close) => make(run, close)), {
      "aria-expanded": String(opened.isOpen(run.id, kind)),
    });
  return el("div", { class: "acts" },
    arrow(run, title, "↑", "up"),
    arrow(run, title, "↓", "down"),
    ...offered.map(([name, [text, label]]) => linkButton(text, `${label} ${title}`, () => act(run.id, name))),
    may("prioritize") && asking("Priority", `Priority of ${title}`, askPriority),
    may("extend") && asking("Train longer", `Train ${title} longer`, askLonger),
    linkButton("Clone", `Same again with a change: ${title}`, () => fill({ run: run.id })),
    run.status !== "queued" && opener("Details", "details", detailsCard),
    run.adapter_bytes > 0 && linkButton("Inside", `Inside ${title}`, () => lookInside(run.id)),
    has("share") && linkButton("Share", `Share ${title} by a link`, () => emit("share", [run.id])),
    has("take") && opener("Log", "log", logCard),
    has("take") && run.adapter_bytes > 0
      && el("a", {
        class: "ps-link", href: `studio/export/${run.id}.zip`, download: `${run.id}.zip`, title: CONTENTS,
      }, "Export"),
    has("take") && run.adapter_bytes > 0 && asking("Export more", `More ways to export ${title}`, askExport),
    has("change") && !isActive(run.status) && sureButton("Delete", `Delete ${title}`, "Really delete?", () => remove(run)));
}

/**
 * A run's line.
 * @param {import("./run_store.js").Run} run
 * @param {ReturnType<typeof import("./panels.js").panels>} opened Details and logs that are open.
 * @returns {HTMLElement}
 */
export function runLine(run, opened) {
  const title = titleOf(run);
  const colour = colourOf(run.id);
  const facts = factsOf(run);
  const steps = run.max_steps ? `${integer(run.step)} / ${integer(run.max_steps)}` : integer(run.step);
  const best = run.best_eval_loss;
  const last = decimal(run.loss);
  const loss = best == null ? [last, "train loss"] : [decimal(best), `best val · train ${last}`];
  const number = (value, note, title) => el("div", { class: "num", title }, el("b", {}, value), el("span", {}, note));
  return el("div", { class: `ps-run ${run.status}`, "data-run": run.id },
    el("input", {
      type: "checkbox", "aria-label": `Show ${title} in the chart`, checked: store.selected.has(run.id),
      onchange: (event) => toggle(run.id, event.target.checked),
    }),
    dot(colour),
    el("div", { class: "who" }, el("b", {}, title), el("span", {}, `${run.model} · ${run.task} · ${run.id}`),
      !run.rights.includes("change") && el("span", {}, "Somebody else's, read-only")),
    el("div", { class: "how" },
      bar(run.max_steps ? run.step / run.max_steps : 0, colour),
      el("span", { title: facts }, facts)),
    number(steps, "step"),
    number(...loss, best == null ? null : `Best validation loss, at step ${integer(run.best_step)}`),
    el("span", { class: `ps-pill ${run.status}` }, run.status),
    buttons(run, title, opened),
    run.status !== "queued" && run.reason && el("p", { class: "why" }, run.reason));
}
