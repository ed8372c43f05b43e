// What goes between this page's scripts and Gradio's form: settings to fill in, and the id of a run just submitted.

import { el } from "./dom.js";
import { emit } from "./events.js";
import { island, valueIsland } from "./islands.js";

let send = null;

/**
 * Fills the form of the Train tab.
 * @param {{run: (string|undefined), set: (Object|undefined), method: (string|undefined)}} request A run whose settings
 *   to take, with changes; or a method to choose.
 */
export function fill(request) {
  send?.(request);
}

island("bridge", (_root, { trigger }) => {
  send = (request) => trigger("fill", request);
});

valueIsland("submitted", (_root, id) => emit("submitted", id));

island("try", (root, { props }) => {
  const onclick = () => fill({ method: props.value.method });
  root.append(el("button", { class: "ps-button primary", type: "button", onclick }, "Try it"));
});
