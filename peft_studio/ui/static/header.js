// The page's head: what this is, where the data is, light or dark.

import { ask } from "./api.js";
import { el, remembered, svg } from "./dom.js";
import { emit, on } from "./events.js";
import { island } from "./islands.js";
import { skipLink } from "./keyboard.js";
import { languageNow, setLanguage } from "./words.js";

const theme = remembered("localStorage", "studioTheme");

/** A falling loss curve on its axes. */
function logo() {
  const frame = { viewBox: "0 0 24 24", width: 19, height: 19, fill: "none", "stroke-width": 2.3 };
  const drawing = svg("svg", { ...frame, "stroke-linecap": "round" },
    svg("path", { d: "M4 4v16h16" }), svg("path", { d: "M8 6c2 7 5 9 12 10" }));
  return el("span", { class: "ps-logo", "aria-hidden": "true" }, drawing);
}

function setDark(dark) {
  document.body.classList.toggle("dark", dark);
  theme.set(dark ? "dark" : "light");
  emit("theme");
}

/** Chinese for who reads English, and the other way round: each by its own name. */
function languageButton() {
  const other = () => (languageNow() === "zh" ? ["en", "EN", "Switch to English"] : ["zh", "中文", "切换到中文"]);
  const button = el("button", { class: "ps-icon ps-language ps-verbatim", id: "language-toggle", type: "button" });
  const draw = () => {
    const [lang, text, label] = other();
    button.textContent = text;
    button.lang = lang;
    button.setAttribute("aria-label", label);
  };
  button.addEventListener("click", () => setLanguage(other()[0]).catch(() => {})); // the page stays as it is
  on("language", draw);
  draw();
  return button;
}

island("header", (root, { props }) => {
  const asked = new URLSearchParams(location.search).get("__theme"); // Gradio's own; it has followed it already
  if (theme.get() && !asked) setDark(theme.get() === "dark");
  const { cores } = props.value;
  const toggle = el("button", {
    class: "ps-icon",
    id: "theme-toggle",
    "aria-label": "Switch between light and dark",
    type: "button",
    onclick: () => setDark(!document.body.classList.contains("dark")),
  }, "◐");
  const title = el("div", { class: "ps-title" },
    el("h1", {}, "PEFT Studio"),
    el("p", {}, "Train small adapters, watch them learn, compare what they say."));
  const where = el("span", { class: "ps-where" }, `${cores} cores`);
  ask("studio/me.json").then(({ home, name }) => {
    if (home) where.title = `Runs and caches are in ${home}`;
    where.textContent = [`${cores} cores`, home && `data in ${home}`, name].filter(Boolean).join(" · ");
  });
  root.append(el("header", { class: "ps-head" }, skipLink(), logo(), title, where, languageButton(), toggle));
});
