// The time machine: a scrubber over the snapshots of a run, its loss curve beside it, and answers at each.

import { ask, fetchJSON } from "./api.js";
import { cardHead, el, problem, scrollBox, tableHead } from "./dom.js";
import { decimal, integer } from "./format.js";

const WIDTH = 600; // of the curve, in units of its drawing
const HEIGHT = 90;
const MOST_BYTES = 4e6; // of an adapter of which snapshots are kept: `runs.snapshots` in Python
const NONE = "This run kept no snapshots of its adapter while it trained, so only its end can be looked at.";
const LARGE = "No snapshots are kept of adapters above 4 MB, so only the end can be looked at.";
const SOURCES = {
  "pre-training": "held-out documents of its pre-training",
  documentation: "Python's reference documentation",
};
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A number line of steps over a loss: points become places in the drawing. */
function scales(steps, losses) {
  const [least, most] = [Math.min(...losses), Math.max(...losses)];
  const last = Math.max(...steps, 1);
  return {
    x: (step) => (step / last) * WIDTH,
    y: (loss) => 6 + (HEIGHT - 12) * (1 - (loss - least) / (most - least || 1)),
  };
}

/**
 * A small curve with a mark for the step that is shown.
 * @param {[number, number][]} line Steps and losses.
 * @param {[number, number][]} dots The same, drawn as dots.
 * @param {string} label
 * @returns {{node: Element, mark: function(number): void}}
 */
export function smallCurve(line, dots, label) {
  const all = [...line, ...dots];
  const { x, y } = scales(all.map(([step]) => step), all.map(([, loss]) => loss));
  const path = line.map(([step, loss], at) => `${at ? "L" : "M"}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  const now = svg("line", { class: "now", y1: 0, y2: HEIGHT, x1: 0, x2: 0 });
  const losses = all.map(([, loss]) => loss);
  const bounds = [Math.max(...losses), Math.min(...losses)].map((loss) => el("span", {}, decimal(loss, 2)));
  const drawing = svg("svg", {
    class: "ps-smallcurve", viewBox: `-6 0 ${WIDTH + 12} ${HEIGHT}`, role: "img", "aria-label": label,
    preserveAspectRatio: "none",
  }, svg("path", { d: path }), ...dots.map(([step, loss]) => svg("path", { class: "dot", d: `M${x(step)} ${y(loss)}h0` })), now);
  const mark = (step) => {
    for (const end of ["x1", "x2"]) now.setAttribute(end, x(step));
  };
  const node = el("div", { class: "ps-curverow" }, el("div", { class: "ps-curvescale" }, ...bounds), drawing);
  return { node, mark };
}

async function lossCurve(run) {
  const [{ train, eval: validation }] = await fetchJSON(`studio/metrics.json?runs=${encodeURIComponent(run.id)}:0`);
  const points = ({ step = [], loss = [] }) =>
    step.map((at, number) => [at, loss[number]]).filter(([, value]) => value != null);
  return smallCurve(points(train), points(validation), "Loss over the steps: line training, dots validation");
}

function answersTable(rows, when) {
  const body = rows.map(({ prompt, reference, base, answer }) => el("tr", { class: "ps-verbatim" },
    el("th", { scope: "row" }, prompt), ...[base, answer, reference].map((text) => el("td", {}, text))));
  return el("table", { class: "ps-table ps-answers" },
    tableHead(["Prompt", "Base model", when, "Reference"]), el("tbody", {}, ...body));
}

/**
 * The card with the scrubber.
 * @param {import("./run_store.js").Run} run
 * @param {number[]} snapshots Steps, in order.
 * @param {function(?number): Promise<void>} show Shows another step; null is the saved adapter.
 * @returns {HTMLElement}
 */
export function timeMachine(run, snapshots, show) {
  const card = el("section", { class: "ps-card ps-time" }, cardHead("Time machine"));
  if (!snapshots.length) {
    const why = run.adapter_bytes > MOST_BYTES ? LARGE : NONE;
    card.append(el("p", { class: "ps-note ps-insidetext" }, why));
  }
  const steps = [...snapshots, null];
  const stepOf = (at) => steps[at] ?? run.saved_step ?? run.step;
  const words = (at) => (steps[at] == null ? `the saved adapter, step ${integer(stepOf(at))}`
    : `step ${integer(stepOf(at))} of ${integer(run.max_steps || run.step)}`);
  let at = steps.length - 1;
  let mark = () => {};
  let showsAnswers = false;
  const said = el("output", {}, words(at));
  const place = el("div", { role: "status" });
  const slider = el("input", {
    type: "range", min: 0, max: steps.length - 1, step: 1, value: at, "aria-label": "Snapshot",
    "aria-valuetext": words(at), disabled: !snapshots.length, oninput: () => go(Number(slider.value)),
  });
  const button = el("button", { type: "button", class: "ps-button", onclick: () => {
    showsAnswers = true;
    answer();
  } }, "Answers to three test rows");

  async function answer() {
    const asked = at;
    place.setAttribute("aria-busy", "true");
    if (!place.hasChildNodes()) place.append(el("p", { class: "ps-note" }, "Writing …"));
    const found = await ask(`studio/runs/${encodeURIComponent(run.id)}/inside/answers?step=${steps[asked] ?? ""}`);
    if (asked !== at) return;
    place.removeAttribute("aria-busy");
    place.replaceChildren(found.error ? problem(found.error)
      : scrollBox("Answers to three test rows", answersTable(found.rows, `At ${words(asked)}`)));
  }

  let due = 0;
  function go(next) {
    at = next;
    said.textContent = words(at);
    slider.setAttribute("aria-valuetext", words(at));
    mark(stepOf(at));
    clearTimeout(due);
    due = setTimeout(() => { // while somebody drags, only where they rest is looked at
      show(steps[at]);
      if (showsAnswers) answer();
    }, 200);
  }

  const curve = el("div", { class: "ps-curveplace" });
  lossCurve(run).then((found) => {
    curve.replaceChildren(found.node);
    mark = found.mark;
    mark(stepOf(at));
  }).catch(() => {});
  card.append(el("div", { class: "ps-timebody" }, curve, el("div", { class: "ps-scrub" }, slider, said)),
    el("div", { class: "ps-insidetext" }, button), place);
  return card;
}

/**
 * The card that tells what was forgotten, and what surgery on intruder dimensions does; both are computed when asked.
 * @param {import("./run_store.js").Run} run
 * @param {boolean} hasIntruders Whether there is something to cut.
 * @returns {HTMLElement}
 */
export function forgettingCard(run, hasIntruders) {
  const result = el("div", { role: "status" });
  const cut = el("div", { role: "status" });
  const measure = async (part, place, draw) => {
    place.replaceChildren(el("p", { class: "ps-note ps-insidetext" }, "Measuring …"));
    const found = await ask(`studio/runs/${encodeURIComponent(run.id)}/inside/${part}`);
    place.replaceChildren(...(found.error ? [problem(found.error)] : draw(found)));
  };
  const button = (text, part, place, draw) =>
    el("button", { type: "button", class: "ps-button", onclick: () => measure(part, place, draw) }, text);
  return el("section", { class: "ps-card ps-forgetting" }, cardHead("Forgetting"),
    el("p", { class: "ps-note ps-insidetext" },
      "Loss on general text that neither pre-training nor this run has seen: how much of what the base model knew is "
      + "lost. Lower is better; what lies above the base model was forgotten."),
    el("div", { class: "ps-insidetext" },
      button("Measure forgetting", "forgetting", result, (found) => curveOf(run, found))),
    result,
    hasIntruders && el("p", { class: "ps-note ps-insidetext" },
      "Surgery weakens intruder dimensions: strong directions that the adapter brought and the base weight has nothing "
      + "like (arXiv 2410.21228). It may bring back what was forgotten, at a price for the task."),
    hasIntruders && el("div", { class: "ps-insidetext" }, button("Try surgery", "surgery", cut, surgeryOf)),
    cut);
}

function curveOf(run, { points, tokens, source }) {
  const placed = points.map(({ step, loss }) => [step ?? run.saved_step ?? run.step, loss]);
  const base = points[0].loss;
  const last = points[points.length - 1].loss;
  const words = [`From ${decimal(base)} before to ${decimal(last)} after training, `,
    `on ${integer(tokens)} tokens of `, SOURCES[source], "."];
  const rows = points.map(({ step, loss }) => el("tr", {},
    el("th", { scope: "row" }, step == null ? "saved adapter" : step ? `step ${integer(step)}` : "base model"),
    el("td", {}, decimal(loss)), el("td", {}, step === 0 ? "" : `${loss >= base ? "+" : ""}${decimal(loss - base)}`)));
  const table = el("table", { class: "ps-table" },
    tableHead(["When", "Loss (nats per token)", "Over the base model"]), el("tbody", {}, ...rows));
  const curve = smallCurve(placed, placed, "Loss on general text over the steps");
  curve.mark(placed[placed.length - 1][0]);
  return [
    el("p", { class: "ps-insidetext" }, ...words),
    el("div", { class: "ps-timebody" }, curve.node),
    el("details", { class: "ps-insidetable" }, el("summary", {}, "The same as a table"),
      scrollBox("Loss on general text", table)),
  ];
}

function surgeryOf({ points, metric, rows }) {
  const said = el("p", { class: "ps-insidetext", "aria-live": "polite" });
  const body = points.map((point) => el("tr", {},
    el("th", { scope: "row" }, decimal(point.strength, 2)),
    el("td", {}, decimal(point.score, 1)), el("td", {}, decimal(point.loss)), el("td", {}, decimal(point.forgetting))));
  const tell = (at) => {
    const { strength, score, loss, forgetting } = points[at];
    const general = forgetting == null ? [] : [`, loss on general text ${decimal(forgetting)}`];
    said.replaceChildren(`Intruders at ${decimal(strength, 2)} of their strength: ${metric} ${decimal(score, 1)}, `,
      `validation loss ${decimal(loss)}`, ...general, ".");
    body.forEach((row, number) => row.classList.toggle("now", number === at));
  };
  const slider = el("input", {
    type: "range", min: 0, max: points.length - 1, step: 1, value: 0, "aria-label": "Surgery",
    oninput: () => tell(Number(slider.value)),
  });
  tell(0);
  const heads = ["Intruders left", `${metric}, ${rows} test rows`, "Validation loss", "Loss on general text"];
  const table = el("table", { class: "ps-table" }, tableHead(heads), el("tbody", {}, ...body));
  return [el("div", { class: "ps-timebody" }, el("div", { class: "ps-scrub" }, slider)), said,
    scrollBox("Intruder surgery", table)];
}
