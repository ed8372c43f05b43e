// What runs take on the disk: the largest first, with what can be freed; whole runs as files to take away or bring.

import { ask, fetchJSON, post } from "./api.js";
import { cardHead, el, linkButton, problem, spacer, sureButton, toast, whenShown } from "./dom.js";
import { on } from "./events.js";
import { bytes, integer } from "./format.js";
import { island } from "./islands.js";
import { hasEnded, pollSoon, runOf, store, titleOf } from "./run_store.js";

const ROWS = 10; // at first
const MORE_ROWS = 50; // when asked for

/** Changes when a run comes, goes or ends. */
const stateOfRuns = () => `${store.runs.length} ${store.runs.filter((run) => hasEnded(run.status)).length}`;

/** The buttons of one run; `act` does what a route below the run's own is for. */
function buttons(item, title, ended, starred, act) {
  const star = () => act(`star?on=${starred ? 0 : 1}`);
  const keep = linkButton(starred ? "★ Kept" : "☆ Keep", `Keep ${title} for good`, star, {
    "aria-pressed": String(starred), title: "A kept run is never deleted by itself",
  });
  const sure = (text, label, path) => sureButton(text, label, "Really?", () => act(path), { title: label });
  const free = `Free the checkpoint of ${title}: keeps adapter and metrics, but it cannot be resumed`;
  const download = {
    class: "ps-link",
    href: `studio/archive/${item.id}.zip`,
    download: `run-${item.id}.zip`,
    "aria-label": `Download all of ${title}`,
  };
  return el("span", { class: "acts" },
    keep,
    ended && item.checkpoint > 0 && sure(`Free ${bytes(item.checkpoint)}`, free, "free"),
    ended && el("a", download, "Download"),
    ended && sure("Delete", `Delete all of ${title}`, "delete"));
}

function line(item, use, act) {
  const run = runOf(item.id);
  const title = run ? titleOf(run) : item.id;
  const ended = Boolean(run) && hasEnded(run.status);
  return el("div", { class: "line", "data-run": item.id },
    el("div", { class: "name" }, el("b", {}, title), el("span", {}, item.id)),
    el("span", { class: "size" }, bytes(item.total)),
    buttons(item, title, ended, use.starred.includes(item.id), (path) => act(`studio/runs/${item.id}/${path}`)));
}

/** A button that sends a file of an exported run to the app. */
function importButton(done) {
  const take = linkButton("Import a run", null, () => file.click());
  const file = el("input", {
    type: "file", accept: ".zip", class: "ps-sr", tabindex: "-1", "aria-label": "File of an exported run",
    onchange: () => send(file.files[0]),
  });
  async function send(chosen) {
    if (!chosen) return;
    take.disabled = true;
    take.textContent = "Importing …";
    const { error, away } = await ask("studio/import", { method: "POST", body: chosen });
    toast(error ? (away ? "The file could not be sent." : error) : "The run is in the list now.");
    take.disabled = false;
    take.textContent = "Import a run";
    file.value = "";
    done(!error);
  }
  return [file, take];
}

island("storage", (root) => {
  let use = null; // what `studio/storage.json` has answered
  let shown = ROWS;
  let open = false;
  let known = "";
  const sum = el("span", { class: "sub" });
  const warning = problem("", { hidden: true });
  const table = el("div", { class: "ps-storage", hidden: true });
  const toggle = linkButton("Show", null, () => {
    open = !open;
    draw();
    look(true);
  }, { "aria-expanded": "false" });
  const bring = importButton((done) => {
    if (done) pollSoon();
    look(true);
  });
  const head = cardHead("Storage", sum, spacer(), ...bring, toggle);
  root.append(el("section", { class: "ps-card" }, head, warning, table));

  async function look(now = false) {
    const state = stateOfRuns();
    if (!root.offsetParent || (!now && state === known)) return;
    known = state;
    try {
      use = await fetchJSON("studio/storage.json");
      draw();
    } catch {
      known = ""; // asked again with the next poll
    }
  }

  async function act(path) {
    await post(path);
    pollSoon(1);
    await look(true);
  }

  function rows() {
    const largest = [...use.runs].sort((a, b) => b.total - a.total);
    if (!largest.length) return [el("p", { class: "ps-note" }, "No runs yet.")];
    const lines = largest.slice(0, shown).map((item) => line(item, use, act));
    if (largest.length <= shown) return lines;
    const showMore = () => {
      shown += MORE_ROWS;
      draw();
    };
    return [...lines, linkButton(`Show more (${integer(largest.length - shown)})`, null, showMore)];
  }

  function draw() {
    toggle.textContent = open ? "Hide" : "Show";
    toggle.setAttribute("aria-expanded", String(open));
    table.hidden = !open;
    if (!use) return;
    const runs = `${integer(use.runs.length)} ${use.runs.length === 1 ? "run" : "runs"}`;
    sum.textContent = `${bytes(use.total)} in ${runs} · ${bytes(use.free)} free on the disk`;
    warning.hidden = !use.warning;
    warning.textContent = use.warning;
    table.replaceChildren(...(open ? rows() : []));
  }

  on("runs", () => look());
  whenShown(root, () => look());
});
