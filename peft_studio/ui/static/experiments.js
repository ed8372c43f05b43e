// The Experiments tab: questions that are ready, one's own, the list of all, and the answer of the one that is open.

import { changed as addressChanged, part } from "./address.js";
import { ask, fetchJSON, oneAtATime } from "./api.js";
import { cardHead, el, linkButton, problem, spacer, toast, whenShown } from "./dom.js";
import { on } from "./events.js";
import { answerView } from "./experiment_answer.js";
import { ownQuestion } from "./experiment_form.js";
import { count } from "./format.js";
import { island } from "./islands.js";
import { pollSoon, store } from "./run_store.js";
import { openTab } from "./tabs.js";

const OFTEN = 2500; // milliseconds between two looks while something changes
const SELDOM = 15_000;
const NOTHING = "No experiment yet. A ready question above takes one click; your own a minute.";

/** Whether an experiment still changes by itself. */
const isActive = ({ state, computing, settled }) =>
  state === "running" || state === "waiting" || computing || settled === false;

/** Who wants to know which experiment is to be opened. */
let opener = null;

/** Opens the tab and an experiment in it. */
function openExperiment(id) {
  openTab("experiments");
  opener?.(id);
}

async function startPlan(plan) {
  const { id, error } = await ask("studio/experiments", { method: "POST", body: JSON.stringify(plan) });
  if (error) {
    toast(error);
    return;
  }
  openExperiment(id);
  pollSoon();
}

function readyCard({ title, says, plan, runs, search_runs: short, time }) {
  const shorter = short ? ` and ${count(short, "short one")}` : "";
  const button = el("button", { type: "button", class: "ps-ready", title: says, onclick: () => startPlan(plan) },
    el("b", {}, title), el("small", {}, `${count(runs, "run")}${shorter}, about ${time}`));
  return button;
}

let readyOnes = null;

/** The ready experiments, asked for once. */
async function readyCards() {
  readyOnes ||= fetchJSON("studio/experiments/ready").catch(() => ({ ready: [] }));
  return (await readyOnes).ready.map(readyCard);
}

function lineOf(experiment, open) {
  const { id, question, state, runs, words, why, methods } = experiment;
  const progress = runs.of ? (runs.over + runs.search_over) / (runs.of + runs.search_of) : 0;
  return el("div", { class: "ps-experiment", "data-experiment": id },
    el("div", { class: "who" }, linkButton(question, `Open: ${question}`, () => open(id)),
      el("span", {}, words[0] || why || methods.join(", "))),
    el("span", { class: `ps-pill ${state}` }, state),
    el("div", { class: "how" }, el("div", { class: "ps-bar" }, el("i", { style: `width:${100 * progress}%` })),
      el("span", {}, `${runs.over} of ${runs.of} runs`)));
}

island("ready", async (root) => {
  const row = el("div", { class: "ps-readyrow", role: "group", "aria-label": "Ready experiments" });
  const box = el("section", { class: "ps-readybox", hidden: true }, el("h2", {}, "Ready experiments"), row);
  root.append(box);
  const show = () => {
    box.hidden = store.runs.length > 0 || !row.children.length;
  };
  on("runs", show);
  row.replaceChildren(...await readyCards());
  show();
});

island("experiments", (root) => {
  const view = { id: "", drawn: "" };
  const turn = oneAtATime();
  const cards = el("div", { class: "ps-readyrow" });
  const own = ownQuestion(startPlan);
  const lines = el("div", {});
  const listCard = el("section", { class: "ps-card" }, cardHead("Experiments", spacer()), lines);
  const home = el("div", { class: "ps-lab" },
    el("section", { class: "ps-card ps-readycard" }, cardHead("Ready questions"), cards), own.card, listCard);
  const answer = answerView(act, () => open(""));
  const gone = el("div", { hidden: true });
  answer.node.hidden = true;
  root.append(gone, home, answer.node);
  let active = true;
  let last = 0;

  async function act(action) {
    const { error } = await ask(`studio/experiments/${view.id}/${action}`, { method: "POST" });
    if (error) toast(error);
    else if (action === "delete") open("");
    pollSoon();
    look();
  }

  function open(id, step = true) {
    view.id = id;
    view.drawn = "";
    gone.hidden = true;
    home.hidden = Boolean(id);
    answer.node.hidden = true; // until its figures are there
    if (step) addressChanged();
    look();
  }

  async function showAnswer() {
    const id = view.id;
    const found = await ask(`studio/experiments/${id}`);
    if (id !== view.id || found.away) return;
    gone.hidden = !found.error;
    if (found.error) {
      gone.replaceChildren(problem(found.error, { role: "alert" }),
        linkButton("All experiments", "Back to the list of experiments", () => open("")));
      active = false;
      return;
    }
    active = isActive(found);
    answer.node.hidden = false;
    const state = JSON.stringify(found);
    if (state !== view.drawn) answer.update(found);
    view.drawn = state;
  }

  async function showList() {
    const { experiments } = await fetchJSON("studio/experiments");
    active = experiments.some(isActive);
    const state = JSON.stringify(experiments);
    if (state === view.drawn) return;
    view.drawn = state;
    const shown = experiments.map((experiment) => lineOf(experiment, open));
    lines.replaceChildren(...(shown.length ? shown : [el("p", { class: "ps-empty" }, NOTHING)]));
  }

  const look = () => turn(async () => {
    last = Date.now();
    await (view.id ? showAnswer() : showList());
  });
  const lookIfDue = () => {
    if (root.offsetParent && !document.hidden && Date.now() - last > (active ? OFTEN : SELDOM)) look();
  };
  const redraw = () => {
    view.drawn = "";
    if (root.offsetParent) look();
  };
  opener = open;
  part("experiment", (id) => open(id, false), () => view.id);
  on("theme", redraw);
  on("language", redraw);
  whenShown(root, lookIfDue);
  setInterval(lookIfDue, OFTEN);
  readyCards().then((found) => cards.replaceChildren(...found));
  fetchJSON("studio/library.json")
    .then(({ tiers }) => own.methods(tiers.flatMap(({ methods }) => methods))).catch(() => {});
});
