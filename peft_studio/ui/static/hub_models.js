// Models of the Hub, any of which can become the base model.

import { el } from "./dom.js";
import { addFinder, hubLine } from "./hub_finder.js";
import { island } from "./islands.js";

const SUITS = { generation: "text", classification: "labels" };
const FILTERS = [["All", ""], ["Write text", "generation"], ["Choose labels", "classification"]];

island("hubmodels", (root, { trigger }) => {
  let used = "";

  function use(item, button) {
    used = item.id;
    trigger("pick", { id: item.id });
    for (const other of root.querySelectorAll("li[data-used]")) other.removeAttribute("data-used");
    button.closest("li").setAttribute("data-used", "");
    say(`${item.title} is the base model now.`);
  }

  function line(item) {
    const button = el("button", {
      class: "ps-button small",
      type: "button",
      disabled: Boolean(item.too_large),
      "aria-label": `Use ${item.id}`,
      onclick: () => use(item, button),
    }, "Use");
    const suits = `for ${item.suits.map((suit) => SUITS[suit]).join(" and ")}`;
    const facts = [item.size || item.told, item.architecture, item.licence, suits];
    const about = item.good_for ? `Good for ${item.good_for}.` : item.summary;
    const node = hubLine(item, facts, about, item.too_large, button);
    if (item.id === used) node.setAttribute("data-used", "");
    return node;
  }

  const say = addFinder(root, {
    title: "Find on the Hub", place: "models", path: "models", line, filters: FILTERS,
  });
});
