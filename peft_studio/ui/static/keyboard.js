// What belongs together is one stop of the Tab key: radio buttons, tabs, rows of buttons. Arrow keys go on inside.

import { el } from "./dom.js";

/** @type {[string, string, string][]} A group, its parts, and which of them is the stop until another has been. */
const GROUPS = [
  ["[role=tablist]", "[role=tab]", "[aria-selected=true]"],
  [".ps-readyrow", "button", "button"],
];
const STEPS = { Tab: 0, ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
const STOPS = "[tabindex='0'], input:not([type=hidden]), button, select, textarea, summary, a[href]";
const names = new WeakMap(); // of radio buttons, by their field
let named = 0;

const isShown = (node) => node.offsetParent !== null;

/** Gradio gives each radio button a name of its own; with one name they are the browser's own group. */
function nameRadios(field) {
  if (!names.has(field)) names.set(field, `field-${(named += 1)}`);
  for (const radio of field.querySelectorAll("input[type=radio]")) radio.name = names.get(field);
}

/** One stop for each group; where the keyboard was last, or what is chosen. */
function oneStop(group, parts, chosen) {
  const all = [...group.querySelectorAll(parts)].filter(isShown);
  const stop = all.find((one) => one === document.activeElement) || all.find((one) => one.matches(chosen)) || all[0];
  for (const one of all) one.tabIndex = one === stop ? 0 : -1;
}

/** Before the browser follows a key: its groups and stops as they should be. */
function prepare() {
  document.querySelectorAll("fieldset").forEach(nameRadios);
  for (const [group, parts, chosen] of GROUPS) {
    document.querySelectorAll(group).forEach((one) => oneStop(one, parts, chosen));
  }
  // A list of options is gone once it is left, and a slider says what the field beside it says.
  document.querySelectorAll(".ps-form .slider_input_container input, ul.options").forEach((one) => {
    one.tabIndex = -1;
  });
}

function goOn(event) {
  for (const [group, parts] of GROUPS) {
    const box = event.target.closest(group);
    if (!box) continue;
    const all = [...box.querySelectorAll(parts)].filter(isShown);
    const next = all[all.indexOf(event.target) + STEPS[event.key]];
    if (!next) return;
    event.preventDefault();
    next.focus();
    return;
  }
}

/** Whether the Tab key stops at a control: not at a radio button beside the chosen one. */
function isStop(node) {
  if (node.tabIndex < 0 || node.disabled || !isShown(node)) return false;
  const chosen = node.type === "radio" && document.querySelector(`input[name="${CSS.escape(node.name)}"]:checked`);
  return !chosen || chosen === node;
}

/** From a menu straight to the next control: its list, as it vanishes, would take the focus with it. */
function leaveMenu(event) {
  if (event.key !== "Tab" || !event.target.matches("input[role=combobox]")) return;
  const stops = [...document.querySelectorAll(STOPS)].filter(isStop);
  const next = stops[stops.indexOf(event.target) + (event.shiftKey ? -1 : 1)];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

document.addEventListener("keydown", (event) => {
  if (!(event.key in STEPS)) return;
  prepare();
  if (!(event.target instanceof Element)) return;
  if (STEPS[event.key]) goOn(event);
  else leaveMenu(event);
}, true);

/** Leads past the page's head to the first control of the tab that is open. */
export function skipLink() {
  const skip = (event) => {
    event.preventDefault();
    const panel = [...document.querySelectorAll("#tabs [role=tabpanel]")].find(isShown);
    const main = panel?.querySelector("#pick") || panel;
    [...(main?.querySelectorAll(STOPS) || [])].find(isShown)?.focus();
  };
  return el("a", { class: "ps-skip", href: "#tabs", onclick: skip }, "Skip to the content");
}
