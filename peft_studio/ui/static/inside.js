// The Inside tab: what the adapter of a run did to its model.

import { changed, linkCopier, part } from "./address.js";
import { ask } from "./api.js";
import { cardHead, el, problem, spacer, whenShown } from "./dom.js";
import { emit, on } from "./events.js";
import { changeMap } from "./inside_map.js";
import { forgettingCard, timeMachine } from "./inside_time.js";
import { otherViews } from "./inside_views.js";
import { island } from "./islands.js";
import { runOf, store, titleOf } from "./run_store.js";
import { show } from "./tabs.js";

const NOTHING = "No run has saved an adapter yet. Train one, and see here what it did to its model.";
const LOOKING = "Looking into the weights …";
const view = { run: "", other: "" };
let place = null; // the tab's island, once the tab has been opened

part("inside", (told) => {
  [view.run, view.other = ""] = told.split(",");
  if (told && !new URLSearchParams(location.search).has("tab")) show("inside");
  emit("inside");
}, () => (place?.offsetParent ? [view.run, view.other].filter(Boolean).join() : ""));

/** Runs that can be looked into. */
const finished = () => store.runs.filter((run) => run.adapter_bytes > 0);

function options(select, runs, chosen, none) {
  const state = JSON.stringify([runs.map((run) => [run.id, titleOf(run)]), none]);
  if (select.dataset.state !== state) {
    select.dataset.state = state;
    const items = runs.map((run) => el("option", { value: run.id }, `${titleOf(run)} · ${run.model} · ${run.task}`));
    select.replaceChildren(...(none ? [el("option", { value: "" }, none)] : []), ...items);
  }
  select.value = chosen;
}

/**
 * Shows what a run's adapter did.
 * @param {string} id
 */
export function lookInside(id) {
  view.run = id;
  view.other = "";
  show("inside");
  emit("inside");
  changed();
}

island("inside", (root) => {
  place = root;
  let drawn = ""; // what is shown, or being looked for
  const pick = (key) => (event) => {
    view[key] = event.target.value;
    if (key === "run") view.other = "";
    changed();
    update();
  };
  const run = el("select", { "aria-label": "Run to look into", onchange: pick("run") });
  const other = el("select", { "aria-label": "Run to compare with", onchange: pick("other") });
  const status = el("p", { class: "ps-note ps-insidetext", role: "status" });
  const body = el("div", { class: "ps-insidebody" });
  const empty = el("p", { class: "ps-empty" }, NOTHING);
  const head = el("section", { class: "ps-card ps-insidehead" },
    cardHead("Inside", el("label", {}, "Run ", run), el("label", {}, "compared with ", other), spacer(),
      linkCopier("Copy a link to this view")), status);
  root.append(empty, head, body);

  const addressOf = (step) => {
    const query = new URLSearchParams({ step: step ?? "", other: view.other });
    return `studio/runs/${encodeURIComponent(view.run)}/inside/inspect?${query}`;
  };

  async function look(state) {
    status.textContent = LOOKING;
    body.setAttribute("aria-busy", "true");
    const found = await ask(addressOf(null));
    if (state !== drawn) return; // another one was chosen meanwhile
    status.textContent = "";
    body.removeAttribute("aria-busy");
    body.replaceChildren(...(found.error ? [problem(found.error)] : cards(found)));
    if (found.away) drawn = "";
  }

  /** What is shown of one step: the map stays where it is, with what is open in it. */
  function stepViews({ views, notes }) {
    const changes = (views.matrices || []).some((one) => one.change);
    const map = changes && changeMap(views.matrices);
    const others = el("div", { class: "ps-insidebody" });
    const update = (next) => {
      map?.update?.(next.views.matrices);
      others.replaceChildren(...otherViews(next.views));
    };
    others.append(...otherViews(views));
    const nothing = !changes && !others.hasChildNodes();
    return {
      update,
      parts: [
        ...notes.map((text) => problem(text, { class: "ps-problem mild" })),
        nothing && problem("This adapter changed nothing: it may not have been trained for a single step."),
        map && map.card,
        others,
      ],
    };
  }

  function cards(found) {
    const shown = stepViews(found);
    const state = drawn;
    const go = async (step) => {
      status.textContent = LOOKING;
      const next = await ask(addressOf(step));
      if (state !== drawn) return;
      status.textContent = next.error || "";
      if (!next.error) shown.update(next);
    };
    const run = runOf(view.run);
    const intruders = (found.views.matrices || []).some((one) => one.intruders?.count);
    return [timeMachine(run, found.snapshots, go), ...shown.parts, forgettingCard(run, intruders)].filter(Boolean);
  }

  function update() {
    const runs = finished();
    if (!view.run || !runs.some((each) => each.id === view.run)) {
      view.run = runs[0]?.id || view.run;
    }
    empty.hidden = runs.length > 0;
    head.hidden = body.hidden = !runs.length;
    if (!runs.length) return;
    const ours = runOf(view.run);
    const others = runs.filter((each) => each.id !== view.run && each.model === ours.model && each.task === ours.task);
    if (!others.some((each) => each.id === view.other)) view.other = "";
    options(run, runs, view.run);
    options(other, others, view.other, "no other run");
    const state = JSON.stringify([view.run, view.other, ours.saved_step, ours.adapter_bytes]);
    if (state === drawn || !root.offsetParent) return;
    drawn = state;
    look(state);
  }

  on("runs", update);
  on("inside", update);
  whenShown(root, () => {
    update();
    changed({ step: false });
  });
  update();
});
