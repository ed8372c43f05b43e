// A text, token by token: its probability to every model, and how far each adapter is from the base model.

import { ask } from "./api.js";
import { bar, el, problem, scrollBox, tableHead } from "./dom.js";
import { decimal, percent } from "./format.js";

/** A token's text so that spaces and line breaks are seen. */
const seen = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "⏎") || "∅";

/** What every model says of one token. */
function readout(found, titles, place) {
  const line = (column, at) => {
    const share = Math.exp(column.logprob[place]);
    const others = column.likeliest[place].map(([text, p]) => `${seen(text)} ${percent(p)}`).join("  ");
    return el("div", { class: "ps-tokenline" }, el("span", { class: "name" }, titles[at]), bar(share),
      el("span", { class: "sum" }, percent(share)),
      el("span", { class: "more" }, `rank ${column.rank[place]} · KL ${decimal(column.kl[place])} nats · ${others}`));
  };
  const head = el("span", {}, `Token ${place + 1} of ${found.tokens.length}`);
  return [el("p", { class: "ps-note" }, head, ": ", el("code", {}, seen(found.tokens[place].text))),
    ...found.columns.map(line)];
}

function tableOf(found, titles) {
  const heads = ["Token", ...found.columns.flatMap((column, at) => (at ? [titles[at], "KL, nats"] : [titles[at]]))];
  const row = (token, place) => el("tr", {}, el("th", { scope: "row" }, seen(token.text)),
    ...found.columns.flatMap((column, at) => {
      const share = el("td", {}, percent(Math.exp(column.logprob[place])));
      return at ? [share, el("td", {}, decimal(column.kl[place]))] : [share];
    }));
  const losses = el("tr", {}, el("th", { scope: "row" }, "Loss, nats per token"),
    ...found.columns.flatMap((column, at) => [el("td", {}, decimal(column.loss)), ...(at ? [el("td")] : [])]));
  return scrollBox("Probability of every token", el("table", { class: "ps-table" }, tableHead(heads),
    el("tbody", {}, ...found.tokens.map(row), losses)));
}

/** The tokens as a line of text; arrow keys go from one to the next. */
function strip(found, show) {
  const most = Math.max(1e-9, ...found.columns.flatMap((column) => column.kl));
  const buttons = found.tokens.map((token, place) => {
    const far = Math.max(0, ...found.columns.slice(1).map((column) => column.kl[place]));
    const height = Math.round((11 * far) / most);
    const look = () => {
      for (const other of buttons) other.tabIndex = -1;
      buttons[place].tabIndex = 0;
      for (const other of buttons) other.classList.toggle("at", other === buttons[place]);
      show(place);
    };
    return el("button", {
      type: "button", class: "ps-token", tabindex: place ? "-1" : "0", onfocus: look, onmouseenter: look, onclick: look,
      "aria-label": `Token ${place + 1}: ${token.text.trim() || seen(token.text)}`,
    }, token.text.includes("\n") ? "⏎" : token.text, el("i", { style: `height:${height}px` }));
  });
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step && buttons[buttons.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  };
  return el("div", { class: "ps-tokens", role: "group", "aria-label": "Tokens", onkeydown: move }, ...buttons);
}

function draw(body, found, titles) {
  const said = el("div", { class: "ps-tokensaid", "aria-live": "polite" });
  const show = (place) => said.replaceChildren(...readout(found, titles, place));
  const parting = found.columns.slice(1).map((column, at) => {
    const place = column.likeliest.findIndex(([best], n) => best[0] !== found.columns[0].likeliest[n][0][0]);
    const mean = decimal(column.kl.reduce((sum, kl) => sum + kl, 0) / column.kl.length);
    const best = ({ likeliest }) => seen(likeliest[place][0][0]);
    const [own, other] = place < 0 ? [] : [column, found.columns[0]].map(best);
    const words = place < 0 ? `would choose the same tokens as the base model; mean KL ${mean} nats`
      : `parts at token ${place + 1}, would write ${own} instead of ${other}; mean KL ${mean} nats`;
    return el("li", {}, el("b", {}, titles[at + 1]), " ", el("span", {}, words));
  });
  body.replaceChildren(
    el("p", { class: "ps-note" }, "Bars below the tokens: the largest KL(adapter ‖ base) there."),
    strip(found, show), said, el("ul", { class: "ps-partings" }, ...parting),
    el("details", {}, el("summary", {}, "As a table"), tableOf(found, titles)));
  show(0);
}

/**
 * The tool.
 * @param {import("./ask.js").Asked} asked
 * @returns {HTMLElement}
 */
export function askTokens(asked) {
  const titles = ["Base model", ...asked.adapters.map((adapter) => adapter.title)];
  const body = el("div", { class: "ps-tokenbody" });
  const own = el("textarea", { rows: "2", "aria-label": "Text of your own", hidden: true });
  const items = [...asked.texts.map((text, at) => el("option", { value: at }, text.title)),
    el("option", { value: "own" }, "A text of your own")];
  const pick = el("select", { "aria-label": "Text to look at" }, ...items);
  let turn = 0;
  async function look() {
    own.hidden = pick.value !== "own";
    const text = own.hidden ? asked.texts[pick.value].text : own.value;
    if (!text.trim()) {
      body.replaceChildren(el("p", { class: "ps-note" }, own.hidden ? "This text is empty." : "Write the text."));
      return;
    }
    const mine = ++turn;
    body.setAttribute("aria-busy", "true");
    const runs = asked.adapters.map((adapter) => adapter.run);
    const found = await ask("studio/ask/tokens",
      { method: "POST", body: JSON.stringify({ prompt: asked.prompt, text, runs }) });
    if (mine !== turn) return;
    body.removeAttribute("aria-busy");
    if (found.error) body.replaceChildren(problem(found.error, { role: "alert" }));
    else draw(body, found, titles);
  }
  pick.addEventListener("change", look);
  own.addEventListener("change", look);
  look();
  return el("div", {}, el("label", { class: "ps-askpick" }, "Text ", pick), own, body);
}
