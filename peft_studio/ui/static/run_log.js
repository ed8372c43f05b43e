// The end of a run's log, read again every two seconds while it is open.

import { fetchText } from "./api.js";
import { cardHead, el, linkButton } from "./dom.js";
import { titleOf } from "./run_store.js";

const PAUSE = 2000; // milliseconds
const NEAR_END = 40; // pixels from the end, within which the log follows what is added

/**
 * The end of a run's log.
 * @param {import("./run_store.js").Run} run
 * @param {function(): void} close Takes it away.
 * @returns {HTMLElement}
 */
export function logCard(run, close) {
  const text = el("pre", { tabindex: "0" });
  const head = cardHead(`Log of ${titleOf(run)}`, linkButton("Close", "Close the log", close));
  const box = el("div", { class: "ps-card ps-log" }, head, text);
  show(run, text);
  const timer = setInterval(() => {
    if (!box.isConnected) clearInterval(timer);
    else if (document.visibilityState === "visible") show(run, text);
  }, PAUSE);
  return box;
}

async function show(run, text) {
  const log = await fetchText(`studio/log/${run.id}`).catch(() => null);
  if (log === null) return; // the app is away: what was read stays
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < NEAR_END;
  text.textContent = log || "Nothing has been printed.";
  if (atEnd) text.scrollTop = text.scrollHeight;
}
