// The list of runs, with its search and the state of the queue.

import { post } from "./api.js";
import { el, linkButton } from "./dom.js";
import { on } from "./events.js";
import { integer } from "./format.js";
import { island } from "./islands.js";
import { panels, replaceAround } from "./panels.js";
import { runLine } from "./run_line.js";
import { isActive, pollSoon, store, titleOf } from "./run_store.js";
import { hasWords, wordsOf } from "./text.js";

const PAGE = 50; // rows at first, and how many more when asked for
const FEW = 10; // of which nobody needs to search
const NO_RUNS = "No runs yet. Choose a method on the Train tab and press Train.";

/** Those that run, then the queue in its order, then the others, newest first. */
function inOrder(runs) {
  const rank = (run) => {
    if (run.status === "queued") return 1 + (run.queue_position || 1e6);
    return isActive(run.status) ? 0 : 1e9;
  };
  return [...runs].sort((a, b) => rank(a) - rank(b));
}

function drawQueue(host) {
  const waiting = store.runs.filter((run) => run.status === "queued").length;
  const paused = Boolean(store.queue?.paused);
  host.hidden = !waiting && !paused;
  const state = `${waiting} ${paused}`;
  if (host.dataset.state === state) return;
  host.dataset.state = state;
  const focused = host.contains(document.activeElement);
  const title = paused ? "Start the queue" : "Pause the queue";
  const flip = linkButton(title, title, async () => {
    await post(`studio/queue/${paused ? "start" : "pause"}`);
    pollSoon();
  });
  const waits = waiting === 1 ? "1 run waits" : `${integer(waiting)} runs wait`;
  host.replaceChildren(el("span", {}, paused ? `${waits}; the queue is paused` : waits), flip);
  if (focused) flip.focus();
}

/** Replaces the rows of a list; what had the focus has it again. */
function replaceRows(list, rows) {
  const focused = document.activeElement;
  const focus = list.contains(focused) && focused.getAttribute("aria-label");
  replaceAround(list, rows);
  if (!focus || focused.isConnected) return;
  const labelled = [...list.querySelectorAll("[aria-label]")];
  labelled.find((node) => node.getAttribute("aria-label") === focus)?.focus();
}

const matches = (run, words) =>
  hasWords([titleOf(run), run.method, run.model, run.task, run.status, run.id].join(" "), words);

island("runs", (root) => {
  let limit = PAGE;
  let words = [];
  let drawn = "";
  const opened = panels(() => draw());
  const queue = el("div", { class: "ps-queue" });
  const search = el("input", {
    type: "search",
    placeholder: "Search runs",
    "aria-label": "Search runs by name, method, model, task, status or id",
    oninput: () => {
      words = wordsOf(search.value);
      limit = PAGE;
      draw();
    },
  });
  const count = el("span", { class: "sub", role: "status" });
  const head = el("div", { class: "ps-listhead", hidden: true }, search, count);
  const list = el("div", { class: "ps-runs" });
  const more = linkButton("Show more", null, () => {
    limit += PAGE;
    draw();
  });
  const foot = el("div", { class: "ps-listfoot", hidden: true }, more);
  root.append(queue, el("div", { class: "ps-card" }, head, list, foot));

  function draw() {
    drawQueue(queue);
    if (list.querySelector("[data-sure]")) return; // do not take the question away
    const state = JSON.stringify([store.version, [...store.selected], words, limit, opened.state()]);
    if (state === drawn) return;
    drawn = state;
    const matching = inOrder(store.runs.filter((run) => matches(run, words)));
    const shown = matching.slice(0, limit);
    const total = `${integer(store.runs.length)} runs`;
    head.hidden = store.runs.length <= FEW;
    count.textContent = words.length ? `${integer(matching.length)} of ${total}` : total;
    foot.hidden = shown.length === matching.length;
    more.textContent = `Show more (${integer(matching.length - shown.length)})`;
    const empty = el("p", { class: "ps-empty" }, NO_RUNS);
    const lines = shown.flatMap((run) => [runLine(run, opened), ...opened.under(run.id)]);
    replaceRows(list, store.runs.length ? lines : [empty]);
  }
  on("runs", draw);
  on("selection", draw);
  draw();
});
