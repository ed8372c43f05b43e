// Which tab is open: in the address, and as Back and Forward have it. Gradio draws the tabs.

import { changed, part } from "./address.js";
import { toast } from "./dom.js";
import { sentenceCase } from "./text.js";
import { t } from "./words.js";

const FIRST = "train"; // goes without saying
const LATE = "room"; // is there once the app has seen that a teacher asks
const PATIENCE = 15_000; // milliseconds that it may take
const PANEL = "tab-"; // before a tab's id, in the id of what it shows

let now = ""; // what the address says
let isReady = false; // whether Gradio has drawn the tabs

/** What opens a tab: its head, or its entry in the menu of those that have no room. */
function buttonOf(id) {
  const head = document.querySelector(`#tabs [data-tab-id="${CSS.escape(id)}"]`);
  const menu = [...document.querySelectorAll("#tabs > .tab-wrapper .overflow-dropdown button")];
  return head || menu.find((button) => button.textContent.trim() === t(sentenceCase(id)));
}

/** @param {string} id Of the tab to open, such as `inside`. */
export function show(id) {
  now = id === FIRST ? "" : id;
  if (!isReady) return;
  const button = buttonOf(id || FIRST);
  if (button) {
    button.click();
    return;
  }
  if (id === LATE && performance.now() < PATIENCE) {
    setTimeout(() => now === id && show(id), 100);
    return;
  }
  toast(`There is no tab called ${id}.`);
  now = "";
  changed({ step: false });
}

/**
 * Opens a tab.
 * @param {string} id
 */
export const openTab = (id) => buttonOf(id)?.click();

/** Takes into the address what somebody has opened. */
function look() {
  const panels = [...document.querySelectorAll(`#tabs [role=tabpanel][id^=${PANEL}]`)];
  const open = panels.find((panel) => panel.offsetParent)?.id.slice(PANEL.length);
  if (!open) return;
  now = open === FIRST ? "" : open;
  changed();
}

function begin() {
  const tabs = document.querySelector("#tabs");
  if (!tabs?.querySelector("[data-tab-id]")) return;
  waiting.disconnect();
  isReady = true;
  if (now) show(now);
  new MutationObserver(() => requestAnimationFrame(look))
    .observe(tabs, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
}

part("tab", show, () => now);
const waiting = new MutationObserver(begin);
waiting.observe(document.body, { childList: true, subtree: true });
begin();
