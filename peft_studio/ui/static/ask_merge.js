// An adapter folded into its base: what that changes, and the merged model as a file.

import { ask, save } from "./api.js";
import { el, problem, scrollBox, tableHead } from "./dom.js";
import { bytes, decimal } from "./format.js";

const ROWS = [["Base model", "base"], ["Base and adapter side by side", "adapter"], ["Merged model", "merged"]];

/** What was found, as a table. */
function tableOf(found) {
  const row = ([title, kind]) => el("tr", {}, el("th", { scope: "row" }, title),
    el("td", {}, `${decimal(1000 * found.seconds[kind], 2)} ms`),
    el("td", {}, found.bytes[kind] ? bytes(found.bytes[kind]) : "—"));
  const head = tableHead(["Model", "Time per token", "File of weights"]);
  return scrollBox("Before and after merging", el("table", { class: "ps-table" }, head,
    el("tbody", {}, ...ROWS.map(row))));
}

/**
 * The tool.
 * @param {import("./ask.js").Asked} asked
 * @returns {HTMLElement}
 */
export function askMerge(asked) {
  const pick = el("select", { "aria-label": "Adapter to merge" },
    ...asked.adapters.map(({ run, title }) => el("option", { value: run }, title)));
  const body = el("div", { "aria-live": "polite" });
  async function check() {
    const run = pick.value;
    go.disabled = true;
    body.replaceChildren(el("p", { class: "ps-note" }, "Merging, reading it again and comparing …"));
    const found = await ask("studio/ask/merge", { method: "POST", body: JSON.stringify({ run }) });
    go.disabled = false;
    if (found.error) {
      body.replaceChildren(problem(found.error, { role: "alert" }));
      return;
    }
    const path = `studio/merged/${encodeURIComponent(run)}.zip`;
    const take = el("button", { type: "button", class: "ps-button", onclick: () => save(path, `merged-${run}.zip`) },
      "Download the merged model");
    const off = found.max_difference.toExponential(1);
    const same = `Read again by plain transformers, its largest difference of a logit is ${off}, which is rounding.`;
    body.replaceChildren(el("p", {}, same), tableOf(found), take);
  }
  const go = el("button", { type: "button", class: "ps-button primary", onclick: check }, "Merge and check");
  pick.addEventListener("change", () => body.replaceChildren());
  return el("div", {}, el("div", { class: "ps-askpick" }, el("label", {}, "Adapter ", pick), go), body);
}
