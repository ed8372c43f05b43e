// The whole glossary, on the Learn tab.

import { cardHead, el, spacer } from "./dom.js";
import { GLOSSARY } from "./glossary.js";
import { island } from "./islands.js";
import { hasWords, wordsOf } from "./text.js";
import { t } from "./words.js";

const entry = ([key, [title, says]]) =>
  el("div", { "data-entry": key }, el("dt", {}, title), el("dd", {}, says));

island("glossary", (root) => {
  const sections = Object.entries(GLOSSARY).map(([title, terms]) =>
    el("section", {}, el("h3", {}, title), el("dl", {}, ...Object.entries(terms).map(entry))));
  const none = el("p", { class: "ps-note", hidden: true }, "No word matches.");
  const search = el("input", {
    type: "search", placeholder: "Search words", "aria-label": "Search the glossary",
    oninput: () => {
      const words = wordsOf(search.value);
      for (const section of sections) {
        for (const item of section.querySelectorAll("[data-entry]")) {
          item.hidden = !hasWords(`${item.textContent} ${item.dataset.entry}`, words);
        }
        section.hidden = !section.querySelector("[data-entry]:not([hidden])");
      }
      none.hidden = sections.some((section) => !section.hidden);
    },
  });
  const note = el("span", { class: "sub" }, "Every measure and word of this page.");
  const head = cardHead("Glossary", note, spacer(), search);
  root.append(el("section", { class: "ps-card ps-glossary", "aria-label": t("Glossary") }, head, none, ...sections));
});
