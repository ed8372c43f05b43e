// Several adapters mixed into a new one, which is kept as a run.

import { ask } from "./api.js";
import { el, problem } from "./dom.js";
import { pollSoon } from "./run_store.js";

const WAYS = [
  ["linear", "linear: the matrices are added, by weight"],
  ["cat", "cat: the matrices stand side by side; the ranks add up, and ΔW is exactly the weighted sum"],
  ["svd", "svd: the weighted sum of ΔW, cut to the largest rank"],
  ["ties", "TIES: small numbers go, signs are agreed on"],
  ["dare_linear", "DARE, linear: a random part of the numbers goes, the rest grows"],
  ["dare_ties", "DARE, TIES: both"],
];
const THINNING = new Set(["ties", "dare_linear", "dare_ties"]);

/**
 * The tool.
 * @param {import("./ask.js").Asked} asked
 * @returns {HTMLElement}
 */
export function askMix(asked) {
  const even = (1 / asked.adapters.length).toFixed(2);
  const weight = ({ title }) => el("input", {
    type: "number", min: "-4", max: "4", step: "0.05", value: even, "aria-label": `Weight of ${title}`,
  });
  const weights = asked.adapters.map(weight);
  const ways = WAYS.map(([value, text]) => el("option", { value }, text));
  const way = el("select", { "aria-label": "Way to mix" }, ...ways);
  const density = el("input", { type: "number", min: "0.05", max: "1", step: "0.05", value: "0.5" });
  const thin = el("label", { hidden: true }, "Density ", density);
  const name = el("input", { type: "text", maxlength: "100", placeholder: "named after its parts" });
  const said = el("div", { "aria-live": "polite" });
  way.addEventListener("change", () => {
    thin.hidden = !THINNING.has(way.value);
  });
  async function mix() {
    go.disabled = true;
    said.replaceChildren(el("p", { class: "ps-note" }, "Mixing …"));
    const request = {
      runs: asked.adapters.map(({ run }) => run), weights: weights.map((input) => Number(input.value)),
      way: way.value, density: thin.hidden ? 1 : Number(density.value), name: name.value.trim(),
    };
    const found = await ask("studio/ask/mix", { method: "POST", body: JSON.stringify(request) });
    go.disabled = false;
    if (found.error) {
      said.replaceChildren(problem(found.error, { role: "alert" }));
      return;
    }
    pollSoon();
    const kept = `Kept as the run ${found.run}. Open this tab again to find it among the adapters.`;
    said.replaceChildren(el("p", {}, kept));
  }
  const go = el("button", { type: "button", class: "ps-button primary", onclick: mix }, "Mix");
  const line = ({ title }, at) => el("label", { class: "ps-mixline" }, weights[at], ` × ${title}`);
  const lines = asked.adapters.map(line);
  return el("div", {}, ...lines, el("div", { class: "ps-askpick" }, el("label", {}, "Way ", way), thin,
    el("label", {}, "Name ", name), go), said);
}
