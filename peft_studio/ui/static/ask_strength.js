// An adapter weaker or stronger: its answer and its loss follow the slider.

import { ask } from "./api.js";
import { el, problem } from "./dom.js";
import { decimal } from "./format.js";

const MOST = 1.5;
const PAUSE = 180; // milliseconds without a move, after which the model is asked

/** One of the three answers: the base model's, the adapter's, and between or beyond. */
function answer(title, kind) {
  const said = el("div", { class: "said" }, "…");
  const loss = el("div", { class: "speed" });
  const node = el("article", { class: `ps-column ${kind}` }, el("h3", {}, title), said, loss);
  return {
    node,
    show(found) {
      said.textContent = found.text.trim() || "(said nothing)";
      loss.textContent = found.loss === null ? "loss is not finite" : `test loss ${decimal(found.loss)}`;
    },
    rename: (text) => node.querySelector("h3").replaceChildren(text),
  };
}

/**
 * The tool.
 * @param {import("./ask.js").Asked} asked
 * @returns {HTMLElement}
 */
export function askStrength(asked) {
  const pick = el("select", { "aria-label": "Adapter whose strength is changed" },
    ...asked.adapters.map(({ run, title }) => el("option", { value: run }, title)));
  const slider = el("input", {
    type: "range", min: "0", max: `${MOST}`, step: "0.05", value: "1", "aria-label": "Strength",
  });
  const told = el("output", { class: "ps-strength" }, "1.00");
  const says = el("p", { class: "ps-note" });
  const wrong = el("div");
  const [low, high] = [answer("0 · base model", "end"), answer("1 · adapter", "end")];
  const at = answer("Strength 1.00", "at");
  let ends = "";
  let due = 0;
  let busy = false;
  let again = false;

  async function look() {
    if (busy) { // the answer to an older place is still being written
      again = true;
      return;
    }
    busy = true;
    at.node.classList.add("busy");
    const [run, strength] = [pick.value, Number(slider.value)];
    const request = { run, prompt: asked.prompt, strength, ends: ends !== run };
    const found = await ask("studio/ask/strength", { method: "POST", body: JSON.stringify(request) });
    busy = false;
    at.node.classList.remove("busy");
    wrong.replaceChildren(...(found.error ? [problem(found.error, { role: "alert" })] : []));
    if (!found.error && run === pick.value) {
      at.show(found.at);
      at.rename(`Strength ${strength.toFixed(2)}`);
      says.textContent = `${found.scaled} The loss is that of ${found.rows} test rows, in nats per token.`;
      if (found.base) {
        ends = run;
        low.show(found.base);
        high.show(found.adapter);
      }
    }
    if (again) {
      again = false;
      look();
    }
  }
  slider.addEventListener("input", () => {
    told.textContent = Number(slider.value).toFixed(2);
    clearTimeout(due);
    due = setTimeout(look, PAUSE);
  });
  pick.addEventListener("change", look);
  look();
  return el("div", {}, el("div", { class: "ps-askpick" }, el("label", {}, "Adapter ", pick),
    el("label", { class: "ps-slider" }, "Strength ", slider), told),
  wrong, el("div", { class: "ps-columns", "aria-live": "polite" }, low.node, at.node, high.node), says);
}
