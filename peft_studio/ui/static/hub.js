// The Hub on the Train tab: lists of models and data sets, a search, and a data set on its way here.
(() => {
  const { el } = studio;
  const SUITS = { generation: "text", classification: "labels" };
  const KINDS = { generation: "write a text", classification: "choose a label" };
  const LOST = "The app does not answer. Is it still running?";

  async function ask(path, options) {
    try {
      const answer = await fetch(new URL(path, document.baseURI), options);
      return await answer.json();
    } catch {
      return { error: LOST };
    }
  }

  const matches = (item, words) => {
    const text = Object.values(item).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };

  /** A closed box with a search; `make(item)` draws a line, `above(query)` what stands above the lines. */
  function finder(root, { title, place, path, make, filters, above }) {
    let groups = null;
    let results = null;
    let only = "";
    let asked = 0;
    const name = `Search ${place}`;
    const input = el("input", { type: "search", placeholder: "Name, or part of it", "aria-label": name, autocomplete: "off", spellcheck: "false" });
    const go = el("button", { class: "ps-button small", type: "submit" }, "Search the Hub");
    const told = el("p", { class: "ps-note", role: "status" });
    const back = el("button", { class: "ps-link", type: "button", hidden: true }, "Back to the list");
    const list = el("div", { class: "ps-hublist", tabindex: "0", role: "group", "aria-label": title });
    const seg = filters && el("div", { class: "ps-seg", role: "group", "aria-label": "Only those that" }, ...filters.map(([label, value]) =>
      el("button", { type: "button", "aria-pressed": String(value === only), onclick: (event) => {
        only = value;
        for (const button of seg.children) button.setAttribute("aria-pressed", String(button === event.target));
        draw();
      } }, label)));
    const head = el("div", { class: "ps-hubtold" }, told, back);
    const extra = el("div", {});
    const box = el("details", { class: "ps-hub" }, el("summary", {}, title),
      el("div", { class: "ps-hubbody" }, el("form", { class: "ps-hubsearch", role: "search", onsubmit: search }, input, go), seg || "", head, extra, list));
    root.append(box);

    function draw() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const fits = (item) => !only || item.suits.includes(only);
      const shown = results ? [{ title: "", items: results.filter(fits) }]
        : (groups || []).map((group) => ({ ...group, items: group.items.filter((item) => fits(item) && matches(item, words)) })).filter((group) => group.items.length);
      list.replaceChildren(...shown.flatMap((group) => [group.title && el("h3", {}, group.title), el("ul", {}, ...group.items.map(make))].filter(Boolean)));
      const count = shown.reduce((sum, group) => sum + group.items.length, 0);
      list.hidden = !count;
      if (results) told.textContent = count ? `On the Hub, most downloaded first: ${count}` : `Nothing on the Hub fits “${input.value.trim()}”.`;
      else told.textContent = !groups || count ? "" : "Not in this list. Search the Hub for it.";
      back.hidden = !results;
      head.hidden = !told.textContent && back.hidden;
      const exact = shown.some((group) => group.items.some((item) => item.id === input.value.trim()));
      if (above) extra.replaceChildren(...(exact ? [] : above(input.value.trim(), !!results || !count)));
    }
    function say(text, wrong) {
      told.textContent = text;
      told.classList.toggle("wrong", !!wrong);
      head.hidden = !text;
    }
    async function search(event) {
      event.preventDefault();
      const mine = ++asked;
      say("Asking the Hub …");
      go.disabled = true;
      const answer = await ask(`studio/hub/${path}/search.json?q=${encodeURIComponent(input.value)}`);
      if (mine !== asked) return;
      go.disabled = false;
      results = answer.items || null;
      draw();
      if (!answer.items) say(answer.hint || answer.error, !!answer.error);
    }
    input.addEventListener("input", () => {
      asked += 1;
      go.disabled = false;
      results = null;
      say("");
      draw();
    });
    back.addEventListener("click", () => {
      input.value = "";
      results = null;
      draw();
      input.focus();
    });
    box.addEventListener("toggle", async () => {
      if (!box.open || groups) return;
      const answer = await ask(`studio/hub/${path}.json`);
      groups = answer.groups || null;
      draw();
      if (answer.error) say(answer.error, true);
    });
    return { box, say, draw };
  }

  const line = (item, facts, about, note, button) => el("li", {},
    el("div", { class: "who" }, el("b", {}, item.title), item.id !== item.title ? el("code", {}, item.id) : ""),
    button,
    el("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    about && about !== item.title ? el("p", {}, about) : "",
    note ? el("p", { class: "over" }, note) : "");

  studio.island("hubmodels", (root, { trigger }) => {
    let used = "";
    const make = (item) => {
      const button = el("button", {
        class: "ps-button small", type: "button", disabled: !!item.too_large, "aria-label": `Use ${item.id}`,
        onclick: () => {
          used = item.id;
          trigger("pick", { id: item.id });
          for (const other of root.querySelectorAll("li[data-used]")) other.removeAttribute("data-used");
          button.closest("li").setAttribute("data-used", "");
          hub.say(`${item.title} is the base model now.`);
        },
      }, "Use");
      const facts = [item.size || item.told, item.architecture, item.licence, `for ${item.suits.map((suit) => SUITS[suit]).join(" and ")}`];
      const about = item.good_for ? `Good for ${item.good_for}.` : item.summary;
      const node = line(item, facts, about, item.too_large, button);
      if (item.id === used) node.setAttribute("data-used", "");
      return node;
    };
    const hub = finder(root, {
      title: "Find on the Hub", place: "models", path: "models", make,
      filters: [["All", ""], ["Write text", "generation"], ["Choose labels", "classification"]],
    });
  });

  studio.island("hubdata", (root, { trigger }) => {
    let ticket = "";
    let known = "";
    const status = el("div", { class: "ps-fetch", role: "status", hidden: true });
    // The same three while a fetch goes on, so that a button that is being pressed stays, and seconds are not read out.
    const words = el("p", {});
    const clock = el("span", { class: "clock", "aria-hidden": "true" });
    const cancel = el("button", { class: "ps-link", type: "button", onclick: () => ask(`studio/hub/fetch/${ticket}/cancel`, { method: "POST" }) }, "Cancel");
    const store = (value) => { try { sessionStorage.studioFetch = value; } catch { /* storage may be forbidden */ } };
    const busy = (on) => { for (const button of root.querySelectorAll("button.get")) button.disabled = on; };
    const tell = (...parts) => { status.replaceChildren(...parts); status.hidden = !parts.length; };
    const seen = () => root.getClientRects().length > 0;

    async function follow(mine) {
      const state = await ask(`studio/hub/fetch/${mine}`);
      if (mine !== ticket) return;
      if (state.state === "running") {
        words.textContent = `${state.data}: ${state.said} …`;
        clock.textContent = `${state.seconds} s`;
        if (status.firstChild !== words) tell(words, clock, cancel);
        setTimeout(follow, 1000, mine);
        return;
      }
      if (state.error === LOST) { setTimeout(follow, 5000, mine); tell(el("p", {}, LOST)); return; }
      ticket = "";
      store("");
      busy(false);
      if (state.state === "done") ready(state);
      else if (state.state === "cancelled") tell(el("p", {}, `${state.data} was cancelled; nothing has changed.`));
      else if (state.offline) tell(el("p", {}, "The Hub cannot be reached from here; your own files and data sets fetched before still work."));
      else if (state.state) tell(el("div", { class: "ps-problem" }, state.said));
      else tell();
    }
    function ready(state) {
      const fill = () => {
        trigger("pick", { ticket: state.ticket });
        tell(el("p", {}, el("b", {}, state.data), " is here; files and columns are filled in below."));
      };
      if (seen() && known === state.ticket) fill();
      else tell(el("p", {}, el("b", {}, state.data), " is here."), el("button", { class: "ps-link", type: "button", onclick: fill }, "Use it"));
    }
    async function get(id, config) {
      if (ticket) return;
      busy(true);
      const query = new URLSearchParams({ id, config });
      const state = await ask(`studio/hub/fetch?${query}`, { method: "POST" });
      if (!state.ticket) {
        busy(false);
        tell(el("div", { class: "ps-problem" }, state.error));
        return;
      }
      known = ticket = state.ticket;
      store(ticket);
      follow(ticket);
    }
    const button = (id, config, label = "Get") => el("button", {
      class: "ps-button small get", type: "button", disabled: !!ticket, "aria-label": `${label} ${id}`,
      onclick: () => get(id, typeof config === "function" ? config() : config),
    }, label);
    const make = (item) => line(item,
      [item.kind && KINDS[item.kind], item.metric, item.licence || "licence not stated", item.downloads ? `${studio.fmt.short(item.downloads)} downloads a month` : ""],
      item.summary, "", button(item.id, item.config));
    // Any id: what is written in the search box, word by word.
    const config = el("input", { type: "text", placeholder: "configuration, if it has several", "aria-label": "Configuration", autocomplete: "off" });
    const above = (query, wanted) => (query.includes("/") || (query && wanted) ? [el("div", { class: "ps-anyid" },
      el("p", {}, "Or take ", el("code", {}, query), " as the id:"), config, button(query, () => config.value, "Get"))] : []);

    finder(root, { title: "From the Hub", place: "data sets", path: "data", make, above });
    root.append(status);
    let left = "";
    try { left = sessionStorage.studioFetch || ""; } catch { /* storage may be forbidden */ }
    if (left) { ticket = left; follow(left); }
  });
})();
