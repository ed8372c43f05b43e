// What a visitor has here and may still have of each limit; taking all of it along, and deleting it.

import { ask, fetchJSON } from "./api.js";
import { bar, cardHead, el, linkButton, spacer, sureButton, tableHead, toast, whenShown } from "./dom.js";
import { on } from "./events.js";
import { bytes, decimal, integer } from "./format.js";
import { island } from "./islands.js";
import { pollSoon, store } from "./run_store.js";

// What each limit is called, and the unit of its numbers.
const LIMITS = {
  most_running: ["Runs at work at a time", ""],
  most_queued: ["Runs in the queue", ""],
  most_mb: ["Runs, uploads and fetched data", "MB"],
  most_requests: ["Requests in the last minute", ""],
  most_generated: ["Generated tokens in the last minute", ""],
  most_tokens: ["Tokens that one run may read", ""],
  most_minutes: ["Minutes that one run may take", ""],
};

const amount = (value, unit) => [value < 10 && value % 1 ? decimal(value, 1) : integer(Math.round(value)), unit]
  .filter(Boolean).join(" ");

function line({ name, used, limit }) {
  const [title, unit] = LIMITS[name];
  const left = used == null ? "" : amount(Math.max(0, limit - used), unit);
  return el("tr", {},
    el("th", { scope: "row" }, title),
    el("td", {}, used == null ? "" : amount(used, unit), used != null && bar(Math.min(1, used / limit))),
    el("td", {}, amount(limit, unit)),
    el("td", {}, left));
}

island("mine", (root) => {
  let use = null;
  let open = false;
  let known = "";
  const sum = el("span", { class: "sub" });
  const expiry = el("p", { class: "ps-note" });
  const table = el("div", { class: "ps-mine", hidden: true });
  const toggle = linkButton("Show", "Show my limits", () => {
    open = !open;
    draw();
    look(true);
  }, { "aria-expanded": "false" });
  const along = el("a", {
    class: "ps-link", href: "studio/mine.zip", download: "peft-studio-mine.zip",
    title: "All my runs that are over and all my files, as one zip; each run can be imported elsewhere",
  }, "Take along");
  const remove = sureButton("Delete my things", "Delete all my runs, uploads, fetched data and links",
    "Delete everything?", clear);
  const head = cardHead("My things", sum, spacer(), along, remove, toggle);
  const card = el("section", { class: "ps-card", hidden: true }, head, expiry, table);
  root.append(card);

  async function clear() {
    const { error, busy } = await ask("studio/mine/delete", { method: "POST" });
    const waits = busy?.length && "Runs that are at work were asked to stop; delete again when they have.";
    toast(error || waits || "Your things are deleted.");
    pollSoon();
    await look(true);
  }

  async function look(now = false) {
    const state = `${store.version}`;
    if (card.hidden || !root.offsetParent || (!now && state === known)) return;
    known = state;
    try {
      use = await fetchJSON("studio/mine.json");
      draw();
    } catch {
      known = ""; // asked again with the next poll
    }
  }

  function draw() {
    toggle.textContent = open ? "Hide" : "Show";
    toggle.setAttribute("aria-expanded", String(open));
    table.hidden = !open;
    if (!use) return;
    sum.textContent = `runs: ${integer(use.runs)}, files: ${integer(use.files)}, ${bytes(use.bytes)}`;
    expiry.textContent = `Without a visit for ${integer(use.idle_days)} days all of this is deleted, kept runs too.`;
    expiry.hidden = !use.idle_days;
    if (!open) return;
    table.replaceChildren(el("table", { class: "ps-table" },
      tableHead(["What", "Used", "Limit", "Left"]), el("tbody", {}, ...use.limits.map(line))));
  }

  ask("studio/me.json").then(({ access, role }) => {
    if (role !== "visitor" || !["class", "public"].includes(access)) return;
    card.hidden = false;
    on("runs", () => look());
    whenShown(root, () => look(true));
    look(true);
  });
});
