// A question of one's own: what is varied, the rules of fairness, what it would cost, and its start.

import { ask } from "./api.js";
import { cardHead, el, problem } from "./dom.js";
import { on } from "./events.js";
import { compact, percent } from "./format.js";
import { METRICS, sentenceCase } from "./text.js";

/** What may be varied: the words for it, the field of the config, and values to begin with. */
const VARIED = {
  methods: { title: "Methods", field: "method", values: "" },
  setting: { title: "One setting", field: "method.rank", values: "1, 4, 16" },
  grid: { title: "Two settings, as a grid", field: "method.rank", values: "2, 8", second: "training.learning_rate",
    more: "0.003, 0.01" },
  rows: { title: "Number of training rows", field: "task.train_rows", values: "10, 30, 100, 300, 0" },
  tasks: { title: "Tasks", field: "task.id", values: "bistro, headlines" },
  models: { title: "Base models", field: "model.id", values: "nano-lm" },
};
const FIRST_METHODS = ["lora", "houlsby", "ia3"];
const PAUSE = 500; // milliseconds without a change before the cost is asked for

/** A value as it is written in a list: a number, true or false, else a text. */
function valueOf(text) {
  const plain = text.trim();
  if (plain === "true" || plain === "false") return plain === "true";
  return plain !== "" && Number.isFinite(Number(plain)) ? Number(plain) : plain;
}

const valuesOf = (text) => text.split(",").map((part) => part.trim()).filter(Boolean).map(valueOf);

/** The settings of a config that have one value, such as `training.batch_size`. */
function fieldsOf(config) {
  const found = [];
  for (const section of ["method", "training", "model", "task"]) {
    for (const [key, value] of Object.entries(config[section] || {})) {
      const isPlain = value !== null && typeof value !== "object";
      if (isPlain && key !== "name" && key !== "id") found.push(`${section}.${key}`);
    }
  }
  return found;
}

const field = (title, input, note) => el("label", { class: "ps-field" },
  el("span", {}, title), input, note && el("small", {}, note));

const option = (value, title = value) => el("option", { value }, title);

function rule(title, says, input) {
  return el("label", { class: "ps-rule" }, input, el("span", {}, el("b", {}, title), el("small", {}, says)));
}

/** The elements of the form. */
function controls(update) {
  const input = (attributes) => el("input", { oninput: update, ...attributes });
  return {
    question: input({ type: "text", maxlength: 500, placeholder: "Which method does most for this task?" }),
    kind: el("select", { onchange: update }, ...Object.entries(VARIED).map(([key, { title }]) => option(key, title))),
    methods: el("select", { multiple: true, size: 9, onchange: update }),
    field: el("select", { onchange: update }),
    values: input({ type: "text" }),
    second: el("select", { onchange: update }),
    more: input({ type: "text" }),
    steps: input({ type: "number", min: 1, max: 100000, value: 120 }),
    seeds: input({ type: "number", min: 1, max: 20, value: 3 }),
    own: input({ type: "checkbox" }),
    equal: input({ type: "number", min: 0, step: 1000, value: 0 }),
    metric: el("select", { onchange: update }, option("eval/loss", "Validation loss"),
      ...Object.entries(METRICS).map(([key, title]) => option(`test/${key}`, title))),
  };
}

function varied(form) {
  const kind = form.kind.value;
  if (kind === "methods") {
    return [{ field: "method", values: [...form.methods.selectedOptions].map(({ value }) => value) }];
  }
  const first = kind === "setting" || kind === "grid" ? form.field.value : VARIED[kind].field;
  const found = [{ field: first, values: valuesOf(form.values.value) }];
  if (kind === "grid") found.push({ field: form.second.value, values: valuesOf(form.more.value) });
  return found;
}

function planOf(form, config) {
  const { task, model, method, training } = config;
  const steps = Number(form.steps.value) || 120;
  const { learning_rate: rate, ...rest } = training || {};
  const kept = form.kind.value === "methods" || rate == null ? rest : training;
  return {
    question: form.question.value.trim() || form.question.placeholder,
    base: { task, model, method, training: { ...kept, max_steps: steps, epochs: 0 } },
    vary: varied(form),
    seeds: Number(form.seeds.value) || 1,
    own_rates: form.own.checked,
    equal_parameters: Number(form.equal.value) || 0,
    metric: form.metric.value,
  };
}

function cellLine({ name, trainable_params: size, off_by: off, sizable }, equal) {
  const note = equal && (sizable ? `, off by ${percent(Math.abs(off || 0))}` : ", has one size only");
  return el("li", {}, `${name}: ${compact(size)} parameters${note || ""}`);
}

function costParts(found, equal) {
  if (found.error) return [problem(found.error, { role: "alert" })];
  return [el("p", { class: "ps-cost" }, found.words),
    ...found.problems.map((text) => problem(text, { class: "ps-problem mild" })),
    el("details", { class: "ps-figures" }, el("summary", {}, "What each of them trains"),
      el("ul", {}, ...found.cells.map((cell) => cellLine(cell, equal))))];
}

/** Shows the fields that this kind of question needs. */
function showFields(form, rows) {
  const kind = form.kind.value;
  rows.methods.hidden = kind !== "methods";
  rows.field.hidden = kind !== "setting" && kind !== "grid";
  rows.values.hidden = kind === "methods";
  rows.second.hidden = rows.more.hidden = kind !== "grid";
}

function chooseKind(form) {
  const { field: first, values, second, more } = VARIED[form.kind.value];
  form.values.value = values;
  form.more.value = more || "";
  if ([...form.field.options].some(({ value }) => value === first)) form.field.value = first;
  if (second) form.second.value = second;
}

function fillFields(form, config) {
  const names = fieldsOf(config);
  for (const select of [form.field, form.second]) {
    const before = select.value;
    select.replaceChildren(...names.map((name) => option(name, sentenceCase(name.split(".").at(-1)))));
    if (names.includes(before)) select.value = before;
  }
}

/**
 * The form of an own question.
 * @param {function(Object): Promise<void>} start Starts a plan.
 * @returns {{card: HTMLElement, methods: function({name: string, title: string}[]): void}}
 */
export function ownQuestion(start) {
  let config = { task: { id: "bistro" }, method: { name: "lora" }, training: {} };
  let timer = 0;
  let asked = 0;
  const form = controls(() => changed());
  const base = el("p", { class: "ps-note" });
  const cost = el("div", { class: "ps-costs", "aria-live": "polite" });
  const go = el("button", { type: "button", class: "ps-button primary", onclick: () => start(planOf(form, config)) },
    "Start the experiment");
  const rows = {
    methods: field("Which methods", form.methods, "Ctrl or Shift chooses several."),
    field: field("Which setting", form.field), values: field("Its values", form.values, "Divided by commas."),
    second: field("Against which setting", form.second), more: field("Its values", form.more, "Divided by commas."),
  };
  const body = el("div", { class: "ps-own" },
    base,
    el("div", { class: "ps-ownfields" }, field("Question", form.question), field("What is varied", form.kind),
      ...Object.values(rows), field("Steps of a run", form.steps), field("Decided by", form.metric)),
    el("div", { class: "ps-rules", role: "group", "aria-label": "Rules of fairness" },
      rule("Same rows in the same order", "Always: every run reads the same rows, and is measured on the same ones.",
        el("input", { type: "checkbox", checked: true, disabled: true })),
      rule("Own learning rate for each",
        "Short runs find it on validation rows first; test rows play no part.", form.own),
      rule("Equal number of trainable parameters", "Rank, width or prefix length are chosen to come near it; 0 is off.",
        form.equal),
      rule("Runs of each", "With other seeds; their spread says what is a tie.", form.seeds)),
    cost, go);
  const fold = el("details", { class: "ps-card ps-ownfold" },
    el("summary", {}, cardHead("Ask your own question")), body);

  function changed() {
    showFields(form, rows);
    clearTimeout(timer);
    if (fold.open) timer = setTimeout(tell, PAUSE);
  }

  async function tell() {
    asked += 1;
    const mine = asked;
    const plan = planOf(form, config);
    go.disabled = plan.vary.some(({ values }) => values.length < 1);
    if (go.disabled) return;
    cost.classList.add("stale");
    const found = await ask("studio/experiments/cost", { method: "POST", body: JSON.stringify(plan) });
    if (mine !== asked) return;
    cost.classList.remove("stale");
    go.disabled = Boolean(found.error);
    cost.replaceChildren(...costParts(found, plan.equal_parameters > 0));
  }

  function take(told) {
    config = told;
    fillFields(form, config);
    const model = config.model?.id || "as the task has it";
    base.textContent = `Settings as on the Train tab: task ${config.task.id}, model ${model}, `
      + `method ${config.method.name}. What is varied takes their place.`;
    changed();
  }

  form.kind.addEventListener("change", () => chooseKind(form));
  fold.addEventListener("toggle", changed);
  on("form", take);
  chooseKind(form);
  take(config);
  return {
    card: fold,
    methods(all) {
      form.methods.replaceChildren(...all.map(({ name, title }) =>
        el("option", { value: name, selected: FIRST_METHODS.includes(name) }, title)));
      changed();
    },
  };
}
