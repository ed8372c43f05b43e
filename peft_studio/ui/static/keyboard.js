// What belongs together is one stop of the Tab key: radio buttons, tabs, rows of buttons. Arrow keys go on inside.

import { el } from "./dom.js";

/** @type {[string, string, string][]} A group, its parts, and which of them is the stop until another has been. */
const GROUPS = [
  ["[role=tablist]", "[role=tab]", "[aria-selected=true]"],
  [".ps-readyrow", "button", "button"],
];
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
const STOPS = "input:not([type=hidden]), button, select, textarea, summary, a[href], [tabindex='0']";
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
  document.querySelectorAll("ul.options, .ps-form .slider_input_container input").forEach((one) => {
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

document.addEventListener("keydown", (event) => {
  if (event.key === "Tab" || event.key in STEPS) prepare();
  if (event.key in STEPS && event.target instanceof Element) goOn(event);
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
