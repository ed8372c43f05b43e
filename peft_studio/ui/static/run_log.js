// The end of a run's log, read again every two seconds while it is open.

import { fetchText } from "./api.js";
import { cardHead, el, linkButton } from "./dom.js";
import { titleOf } from "./run_store.js";

const PAUSE = 2000; // milliseconds
const NEAR_END = 40; // pixels from the end, within which the log follows what is added

let timer = 0;

/**
 * Opens a run's log; another that is open is closed.
 * @param {import("./run_store.js").Run} run
 * @param {HTMLElement} host
 */
export function openLog(run, host) {
  clearInterval(timer);
  host.querySelector(".ps-log")?.remove();
  const text = el("pre", { tabindex: "0" });
  const close = linkButton("Close", "Close the log", () => {
    clearInterval(timer);
    box.remove();
  });
  const box = el("div", { class: "ps-card ps-log" }, cardHead(`Log of ${titleOf(run)}`, close), text);
  host.append(box);
  const read = () => {
    if (box.isConnected && document.visibilityState === "visible") show(run, text);
  };
  read();
  timer = setInterval(read, PAUSE);
  box.scrollIntoView({ block: "nearest" });
}

async function show(run, text) {
  const log = await fetchText(`studio/log/${run.id}`).catch(() => null);
  if (log === null) return; // the app is away: what was read stays
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < NEAR_END;
  text.textContent = log || "Nothing has been printed.";
  if (atEnd) text.scrollTop = text.scrollHeight;
}
