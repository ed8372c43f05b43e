// What works where, and what is not offered: fetched and drawn when the Learn tab is first seen.

import { fetchJSON } from "./api.js";
import { cardHead, el, linkButton, problem, scrollBox, whenShown } from "./dom.js";
import { island } from "./islands.js";

const MARKS = { yes: "●", stays: "○", no: "–", unknown: "?" };
const LEGEND = {
  yes: "works, and merges into the base model",
  stays: "works beside the base model, cannot be merged",
  no: "cannot be put on it; the reason is below the table",
};
const TESTED = "Tested on a small model of each family: trained, saved, loaded again, switched off, merged.";
const UNREADABLE = "The table could not be read. Open the tab again to retry.";

const markOf = (kind) => el("i", { class: `ps-mark ${kind}`, "aria-hidden": "true" }, MARKS[kind]);

/** Why a method cannot be put on some families, once for each reason. */
function refusals(data) {
  const found = new Map();
  for (const method of data.tiers.flatMap((tier) => tier.methods)) {
    method.cells.forEach(({ mark, says }, at) => {
      if (mark !== "no") return;
      const reason = says.replace(/^no: /, "");
      const key = JSON.stringify([method.title, reason]);
      const families = [...(found.get(key)?.families || []), data.families[at].title];
      found.set(key, { title: method.title, reason, families });
    });
  }
  return [...found.values()].map(({ title, reason, families }) =>
    el("li", {}, el("b", {}, `${title} on ${families.join(", ")}`), ` ${reason}`));
}

/** Where each kind of family begins: `[kind, column]`. */
const kindsOf = (families) =>
  families.map(({ kind }, at) => [kind, at]).filter(([kind, at]) => kind !== families[at - 1]?.kind);

function matrixHead(families, edge) {
  const kinds = kindsOf(families);
  const spans = kinds.map(([kind, at], index) => {
    const colspan = (kinds[index + 1]?.[1] ?? families.length) - at;
    return el("th", { scope: "colgroup", class: "first", colspan }, `${kind}s`);
  });
  const heads = families.map(({ title }, at) => el("th", { scope: "col", class: edge(at) }, title));
  return el("thead", {},
    el("tr", { class: "kinds" }, el("td"), ...spans),
    el("tr", {}, el("th", { scope: "col" }, "Method"), ...heads));
}

function matrixRow(method, edge, pick) {
  const cells = method.cells.map(({ mark, says }, at) =>
    el("td", { title: says, class: edge(at) }, markOf(mark), el("span", { class: "ps-sr" }, says)));
  const name = linkButton(method.title, null, () => pick(method.name));
  return el("tr", { "data-method": method.name }, el("th", { scope: "row" }, name), ...cells);
}

function matrixCard(data, pick) {
  const starts = new Set(kindsOf(data.families).map(([, at]) => at));
  const edge = (at) => (starts.has(at) ? "first" : "");
  const tierHead = (tier) =>
    el("th", { scope: "rowgroup", colspan: data.families.length + 1 }, el("span", {}, tier.title));
  const tiers = data.tiers.map((tier) => el("tbody", {},
    el("tr", { class: "tier" }, tierHead(tier)), ...tier.methods.map((method) => matrixRow(method, edge, pick))));
  const keys = Object.entries(LEGEND).map(([kind, says]) => el("span", {}, markOf(kind), says));
  return el("section", { class: "ps-card ps-matrixcard" },
    cardHead("What works where", el("span", { class: "sub" }, TESTED)),
    el("div", { class: "ps-keys" }, ...keys),
    scrollBox("Methods and architectures",
      el("table", { class: "ps-matrix" }, matrixHead(data.families, edge), ...tiers)),
    el("ul", { class: "ps-refusals" }, ...refusals(data)));
}

function leftOutCard(data, pick) {
  const nearest = (item) => item.instead.flatMap(({ name, title }, at) =>
    [at > 0 && ", ", linkButton(title, null, () => pick(name))]);
  const entry = (item) => el("details", {},
    el("summary", {}, el("b", {}, item.name), el("span", {}, item.what)),
    el("p", {}, item.why),
    item.seen && el("p", { class: "seen" }, `When tried: ${item.seen}`),
    item.instead.length > 0 && el("p", { class: "seen" }, "Nearest here: ", ...nearest(item)));
  const sub = "What PEFT 0.21 has besides. Open an entry to read the reason.";
  return el("section", { class: "ps-card ps-leftout" },
    cardHead("Not offered, and why", el("span", { class: "sub" }, sub)),
    el("div", { class: "list" }, ...data.notOffered.map(entry)));
}

island("library", (root, { trigger }) => {
  const pick = (method) => {
    trigger("pick", { method });
    document.querySelector("#learn-page")?.scrollIntoView({ block: "center" });
  };
  let asked = false;
  const draw = async () => {
    if (asked) return;
    asked = true;
    try {
      const data = await fetchJSON("studio/library.json");
      root.replaceChildren(matrixCard(data, pick), leftOutCard(data, pick));
    } catch {
      asked = false;
      root.replaceChildren(problem(UNREADABLE));
    }
  };
  whenShown(root, draw);
});
