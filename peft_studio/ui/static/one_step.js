// One training step under the microscope: its tokens before and after, and what moved.

import { ask } from "./api.js";
import { bar, el, problem, scrollBox, tableHead } from "./dom.js";
import { decimal, integer } from "./format.js";

const MOST = 20;

/** A row of the batch: tokens with loss stand on a bar as high as it was, marked by what the step did. */
function rowOf(row, highest) {
  const token = ({ text, before, after }) => {
    const shown = text.replaceAll("\n", "⏎");
    if (before === undefined) return el("span", { class: "ps-token quiet", title: "carries no loss" }, shown);
    const better = after < before;
    const title = `${decimal(before)} → ${decimal(after)} nats`;
    const height = Math.round((11 * before) / highest);
    return el("span", { class: "ps-token", title }, shown, el("sup", {}, better ? "↓" : "↑"),
      el("i", { style: `height:${height}px` }));
  };
  const label = row.label && el("p", { class: "ps-note" },
    `Label ${row.label}: ${decimal(row.before)} → ${decimal(row.after)} nats`);
  return el("li", {}, el("div", { class: "ps-tokens" }, ...row.tokens.map(token)), label || "");
}

/** Every token that carries loss, for those who do not see the bars. */
function tokenTable(rows) {
  const line = (at) => ({ text, before, after }) => el("tr", {}, el("td", {}, at + 1), el("td", {}, text),
    el("td", {}, decimal(before)), el("td", {}, decimal(after)), el("td", {}, decimal(after - before)));
  const lines = rows.flatMap((row, at) => row.tokens.filter((token) => token.before !== undefined).map(line(at)));
  return scrollBox("Loss of every token before and after the step", el("table", { class: "ps-table" },
    tableHead(["Row", "Token", "Before", "After", "Change"]), el("tbody", {}, ...lines)));
}

function moduleTable(modules) {
  const most = Math.max(1e-30, ...modules.map((one) => one.gradient));
  const line = (one) => el("tr", {}, el("th", { scope: "row" }, one.name), el("td", {}, integer(one.parameters)),
    el("td", {}, one.gradient.toExponential(2), bar(one.gradient / most)), el("td", {}, one.update.toExponential(2)),
    el("td", {}, one.weight ? (one.update / one.weight).toExponential(2) : "from zero"));
  return scrollBox("What moved", el("table", { class: "ps-table" },
    tableHead(["Parameter", "Numbers", "Gradient norm", "Update norm", "Update over weight"]),
    el("tbody", {}, ...modules.map(line))));
}

function draw(found) {
  const scored = found.rows.flatMap((row) => row.tokens.map((token) => token.before || 0));
  const change = `Loss of the batch: ${decimal(found.loss.before)} before, ${decimal(found.loss.after)} after.`;
  const norm = `Learning rate ${found.rate.toExponential(2)}, gradient norm ${decimal(found.gradient_norm)}.`;
  const cut = found.clipped ? "The gradient was clipped." : "";
  return [
    el("p", {}, el("span", {}, change), " ", el("span", {}, norm), " ", el("span", {}, cut)),
    el("p", { class: "ps-note" }, "Bars: the loss before. ↓ the step made the token likelier, ↑ less likely. "
      + "Pale tokens carry no loss."),
    el("ol", { class: "ps-steprows" }, ...found.rows.map((row) => rowOf(row, Math.max(1e-9, ...scored)))),
    el("details", {}, el("summary", {}, "Tokens as a table"), tokenTable(found.rows)),
    el("details", { open: true }, el("summary", {}, "What moved"), moduleTable(found.modules)),
  ];
}

/**
 * The tool.
 * @param {import("./ask.js").Asked} asked
 * @returns {HTMLElement}
 */
export function oneStep(asked) {
  const pick = el("select", { "aria-label": "Run whose step is looked at" },
    ...asked.adapters.map(({ run, title }) => el("option", { value: run }, title)));
  const number = el("input", { type: "number", min: "1", max: `${MOST}`, value: "1", "aria-label": "Step" });
  const body = el("div", { "aria-live": "polite" });
  async function look() {
    go.disabled = true;
    body.replaceChildren(el("p", { class: "ps-note" }, "Taking the step …"));
    const request = { run: pick.value, step: Number(number.value) };
    const found = await ask("studio/ask/step", { method: "POST", body: JSON.stringify(request) });
    go.disabled = false;
    body.replaceChildren(...(found.error ? [problem(found.error, { role: "alert" })] : draw(found)));
  }
  const go = el("button", { type: "button", class: "ps-button primary", onclick: look }, "Take the step");
  return el("div", {}, el("div", { class: "ps-askpick" }, el("label", {}, "Run ", pick),
    el("label", {}, "Step ", number), go), body);
}
