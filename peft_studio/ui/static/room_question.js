// The teacher's question: put, watched, frozen into a report, taken back.

import { post } from "./api.js";
import { cardHead, el, spacer, sureButton } from "./dom.js";
import { on } from "./events.js";
import { answersPart } from "./room_plot.js";
import { languageNow } from "./words.js";

const option = (value, title, verbatim = false) =>
  el("option", { value, class: verbatim ? "ps-verbatim" : null }, title);
const field = (title, control, hint) => el("label", { class: "ps-field" }, title, control, hint);

/** The form by which a question is put; `offer` is given the presets with their settings. */
function askForm(look) {
  let presets = [];
  const preset = el("select", { onchange: choosePreset });
  const setting = el("select", { onchange: chooseSetting });
  const values = el("input", { type: "text", required: true });
  const hint = el("small");
  const words = el("input", { type: "text", maxlength: 300, placeholder: "optional" });
  const settings = () => presets.find((one) => one.preset === preset.value)?.settings || [];

  function choosePreset() {
    const before = setting.value;
    setting.replaceChildren(...settings().map(({ name, title }) => option(name, title)));
    if (settings().some(({ name }) => name === before)) setting.value = before;
    chooseSetting();
  }

  function chooseSetting() {
    const found = settings().find(({ name }) => name === setting.value);
    values.value = found?.values.join(", ") || "";
    hint.textContent = found?.hint || "";
  }

  const form = el("form", { class: "ps-askform", onsubmit: async (event) => {
    event.preventDefault();
    const given = { preset: preset.value, setting: setting.value, values: values.value, words: words.value };
    await post(`studio/room/ask?${new URLSearchParams(given)}`);
    look();
  } },
  field("Preset", preset),
  field("Setting that differs", setting, hint),
  field("Values, dealt out in turn", values),
  field("The question in your words", words),
  el("button", { class: "ps-button primary" }, "Ask the room"));
  function offer(found) {
    presets = found;
    preset.replaceChildren(...found.map((one) => option(one.preset, one.preset, true)));
    if (found.some((one) => one.preset === "bistro-lora")) preset.value = "bistro-lora";
    choosePreset();
  }
  return { form, offer };
}

/** What is asked, its answers, and how they are taken along. */
function askedPart(look) {
  const words = el("p", { class: "ps-asked ps-verbatim" });
  const what = el("p", { class: "ps-asked ps-verbatim" });
  const names = el("input", { type: "checkbox", checked: true, onchange: links });
  const html = el("a", { class: "ps-link", download: "answers.html" }, "Freeze into a report (HTML)");
  const csv = el("a", { class: "ps-link", download: "answers.csv" }, "CSV");
  const answers = answersPart(links);
  const close = sureButton("Take the question back", "Take the question back", "Really?", async () => {
    await post("studio/room/close");
    look();
  });
  function links() {
    const given = { names: names.checked ? "1" : "0", metric: answers.metric(), language: languageNow() };
    html.href = `studio/room/answers.html?${new URLSearchParams(given)}`;
    csv.href = `studio/room/answers.csv?names=${given.names}`;
  }
  on("language", links);
  const foot = el("div", { class: "ps-listfoot ps-roomfoot" }, html, csv,
    el("label", { class: "ps-check" }, names, "with names"), spacer(), close);
  const node = el("div", {}, words, what, answers.node, foot);
  function update(question) {
    words.hidden = !question.words;
    words.textContent = question.words;
    what.textContent = `${question.preset} · ${question.setting} = ${question.values.join(", ")}`;
    answers.update(question);
    links();
  }
  return { node, update };
}

/**
 * The card of the question.
 * @param {function(): void} look Asks the app how things are.
 * @returns {{card: HTMLElement, update: function(Object): void, offer: function(Object[]): void}}
 */
export function questionCard(look) {
  const { form, offer } = askForm(look);
  const asked = askedPart(look);
  const hint = el("p", { class: "ps-asked" },
    "Everybody trains the same preset; each gets another value of one setting, so that the room tries them all.");
  const put = el("div", {}, hint, form);
  function update({ question }) {
    put.hidden = Boolean(question);
    asked.node.hidden = !question;
    if (question) asked.update(question);
  }
  asked.node.hidden = true;
  const card = el("section", { class: "ps-card" }, cardHead("One question put to all"), put, asked.node);
  return { card, update, offer };
}
