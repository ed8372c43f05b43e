// Data sets of the Hub, and one that is on its way here.

import { ask } from "./api.js";
import { el, linkButton, problem, remembered } from "./dom.js";
import { compact } from "./format.js";
import { addFinder, hubLine } from "./hub_finder.js";
import { island } from "./islands.js";

const PAUSE = 1000; // milliseconds between two looks at a fetch
const AWAY_PAUSE = 5000; // the same while the app does not answer
const KINDS = { generation: "write a text", classification: "choose a label" };
const OFFLINE = "The Hub cannot be reached from here; your own files and data sets fetched before still work.";

/** What is shown of a fetch. Its three nodes stay the same, so that a button being pressed stays. */
function statusLine(cancel) {
  const node = el("div", { class: "ps-fetch", role: "status", hidden: true });
  const words = el("p");
  const clock = el("span", { class: "clock", "aria-hidden": "true" }); // seconds are not read out
  const button = linkButton("Cancel", null, cancel);
  const tell = (...parts) => {
    node.replaceChildren(...parts);
    node.hidden = !parts.length;
  };
  const progress = (state) => {
    words.textContent = `${state.data}: ${state.said} …`;
    clock.textContent = `${state.seconds} s`;
    if (node.firstChild !== words) tell(words, clock, button);
  };
  return { node, tell, progress };
}

island("hubdata", (root, { trigger }) => {
  let ticket = ""; // of the fetch that goes on
  let begunHere = ""; // the ticket of a fetch that this page has begun, and not one before a reload
  const stored = remembered("sessionStorage", "studioFetch");
  const status = statusLine(() => ask(`studio/hub/fetch/${ticket}/cancel`, { method: "POST" }));
  const setBusy = (busy) => {
    for (const button of root.querySelectorAll("button.get")) button.disabled = busy;
  };

  async function follow(mine) {
    const state = await ask(`studio/hub/fetch/${mine}`);
    if (mine !== ticket) return;
    if (state.state === "running") {
      status.progress(state);
      setTimeout(follow, PAUSE, mine);
    } else if (state.away) {
      status.tell(el("p", {}, state.error));
      setTimeout(follow, AWAY_PAUSE, mine);
    } else {
      ticket = "";
      stored.set("");
      setBusy(false);
      end(state);
    }
  }

  function end(state) {
    if (state.state === "done") offer(state);
    else if (state.state === "cancelled") status.tell(el("p", {}, `${state.data} was cancelled; nothing has changed.`));
    else if (state.offline) status.tell(el("p", {}, OFFLINE));
    else if (state.state) status.tell(problem(state.said));
    else status.tell();
  }

  /** Fills the form, or offers to where that would surprise. */
  function offer(state) {
    const use = () => {
      trigger("pick", { ticket: state.ticket });
      status.tell(el("p", {}, el("b", {}, state.data), " is here; files and columns are filled in below."));
    };
    const isSeen = root.getClientRects().length > 0;
    if (isSeen && begunHere === state.ticket) use();
    else status.tell(el("p", {}, el("b", {}, state.data), " is here."), linkButton("Use it", null, use));
  }

  async function get(id, config) {
    if (ticket) return;
    setBusy(true);
    const state = await ask(`studio/hub/fetch?${new URLSearchParams({ id, config })}`, { method: "POST" });
    if (!state.ticket) {
      setBusy(false);
      status.tell(problem(state.error));
      return;
    }
    begunHere = state.ticket;
    ticket = state.ticket;
    stored.set(ticket);
    follow(ticket);
  }

  /** @param {function(): string} config Which configuration is wanted when the button is pressed. */
  const getButton = (id, config) => el("button", {
    class: "ps-button small get",
    type: "button",
    disabled: Boolean(ticket),
    "aria-label": `Get ${id}`,
    onclick: () => get(id, config()),
  }, "Get");

  function line(item) {
    const downloads = item.downloads > 0 && `${compact(item.downloads)} downloads a month`;
    const facts = [item.kind && KINDS[item.kind], item.metric, item.licence || "licence not stated", downloads];
    return hubLine(item, facts, item.summary, "", getButton(item.id, () => item.config || ""));
  }

  const config = el("input", {
    type: "text", placeholder: "configuration, if it has several", "aria-label": "Configuration", autocomplete: "off",
  });

  /** Any id: what is written in the search box, letter by letter. */
  function above(query, missing) {
    if (!query || !(query.includes("/") || missing)) return [];
    const words = el("p", {}, "Or take ", el("code", {}, query), " as the id:");
    return [el("div", { class: "ps-anyid" }, words, config, getButton(query, () => config.value))];
  }

  addFinder(root, { title: "From the Hub", place: "data sets", path: "data", line, above });
  root.append(status.node);
  ticket = stored.get();
  if (ticket) follow(ticket);
});
