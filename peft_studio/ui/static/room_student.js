// What a class shows on everybody's page: that the room is paused, and the teacher's question with one's own value.

import { ask } from "./api.js";
import { cardHead, el, problem } from "./dom.js";
import { emit, on } from "./events.js";
import { island } from "./islands.js";
import { runOf, store } from "./run_store.js";
import { openTab } from "./tabs.js";

const PAUSED = "The room is paused: nothing new trains until your teacher lets it go on.";

island("roomstate", (root) => {
  const told = problem(PAUSED, { class: "ps-problem mild ps-roompaused", hidden: true });
  root.append(el("div", { role: "status" }, told));
  on("runs", () => {
    told.hidden = !store.queue?.paused;
  });
});

/** What has become of one's run, and the way to it. */
function runPart(id) {
  const run = runOf(id);
  const status = run && el("span", { class: `ps-pill ${run.status}` }, run.status);
  const show = el("button", { type: "button", class: "ps-link", onclick: () => openTab("runs") }, "Show it in Runs");
  return el("p", { class: "ps-asked" }, "Your run:", status, show);
}

function startPart(told) {
  const why = el("div", { role: "alert" });
  const button = el("button", {
    type: "button",
    class: "ps-button primary",
    onclick: async () => {
      button.disabled = true;
      const { run, error } = await ask("studio/question/start", { method: "POST" });
      button.disabled = false;
      why.replaceChildren(...(error ? [problem(error)] : []));
      if (run) emit("submitted", run);
    },
  }, `Train with ${told.setting} = ${told.value}`);
  return el("div", {}, why, button);
}

island("roomquestion", (root) => {
  let drawn = "";
  on("runs", () => {
    const told = store.question;
    const state = JSON.stringify([told, told && runOf(told.run)?.status]);
    if (state === drawn) return;
    drawn = state;
    if (!told) {
      root.replaceChildren();
      return;
    }
    const { preset, setting, value, words, run } = told;
    root.replaceChildren(el("section", { class: "ps-card ps-question", "aria-label": "Your teacher asks" },
      cardHead("Your teacher asks"),
      words && el("p", { class: "ps-asked ps-verbatim" }, words),
      el("p", { class: "ps-asked" }, "Everybody trains", el("b", { class: "ps-verbatim" }, preset),
        "with another value of one setting. Yours:", el("code", {}, `${setting} = ${value}`)),
      run ? runPart(run) : startPart(told)));
  });
});
