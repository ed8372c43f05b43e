// What the model would read: the first rows token by token, how long rows are, what is cut, and how often labels occur.
(() => {
  const { el, fmt } = studio;
  const SPLITS = [["train", "Training"], ["validation", "Validation"], ["test", "Test"]];
  const TAGS = { prompt: "span", target: "u", cut: "s" };
  const HOW = {
    decoder: "Prompt and answer are one text. Underlined tokens carry the loss.",
    "encoder-decoder": "The encoder reads the prompt, the decoder writes the answer. Underlined tokens carry the loss.",
    classification: "The model reads the text; the loss is taken on its label.",
  };
  const count = (number, word) => `${fmt.int(number)} ${word}${number === 1 ? "" : "s"}`;

  const token = ({ text, part, tokens }) => el(TAGS[part], {
    class: `ps-token ${part}`, title: tokens > 1 ? `${tokens} tokens` : false,
  }, text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t") || "∅");

  function row(data, number, kind) {
    const { prompt, target, cut } = data.tokens;
    const facts = [count(prompt, kind === "classification" ? "token" : "prompt token")];
    if (target) facts.push(`${count(target, "answer token")}`);
    if (cut) facts.push(data.dropped ? `does not fit and is left out` : `${fmt.int(cut)} cut`);
    const shown = data.dropped ? facts.slice(-1) : facts;
    return el("li", { class: "ps-tokenrow" },
      el("p", { class: "head" }, el("b", {}, `Row ${number + 1}`), ` ${shown.join(" · ")}`),
      el("div", { class: "ps-tokens", tabindex: "0", role: "group", "aria-label": `Tokens of row ${number + 1}` },
        ...data.segments.map(token), data.more ? el("span", { class: "more" }, ` … and ${fmt.int(data.more)} more`) : null,
        data.label != null ? el("span", { class: "ps-label" }, "→ ", el("u", { class: "ps-token target" }, data.label)) : null));
  }

  function histogram(data) {
    const most = Math.max(...data.counts);
    const top = data.bins.length * data.width;
    const bars = data.counts.map((rows, place) => {
      const from = data.bins[place];
      const last = place === data.counts.length - 1 && data.longest > top;
      const to = last ? "or more" : `to ${from + data.width - 1}`;
      return el("i", {
        class: from > data.max_length ? "beyond" : "", title: `${from} ${to} tokens: ${count(rows, "row")}`,
        style: `height:${rows ? Math.max(2, (100 * rows) / most) : 0}%`,
      });
    });
    const limit = data.max_length < top
      ? el("b", { class: "limit", style: `left:${(100 * data.max_length) / top}%`, title: `max_length = ${data.max_length}` }) : null;
    const told = `Median ${fmt.int(data.median)}, longest ${fmt.int(data.longest)}; ${data.longest > data.max_length
      ? `the dashed line is the limit of ${fmt.int(data.max_length)}` : `all fit the limit of ${fmt.int(data.max_length)}`}.`;
    return el("section", { class: "ps-lengths" },
      el("h3", {}, "Length of training rows, in tokens"),
      el("div", { class: "ps-bars", role: "img", "aria-label": told }, ...bars, limit),
      el("div", { class: "ps-axis", "aria-hidden": "true" }, el("span", {}, "1"), el("span", {}, fmt.int(Math.round(top / 2))),
        el("span", {}, data.longest > top ? `${fmt.int(top)}+` : fmt.int(top))),
      el("p", { class: "ps-note" }, told));
  }

  function splits(data) {
    const heads = ["", "Rows", "Used", "Cut", "Left out"];
    const line = ([name, title]) => {
      const { rows, used, cut, dropped } = data.splits[name];
      return el("tr", {}, el("th", { scope: "row" }, title), ...[rows, used, cut, dropped].map((n) => el("td", {}, fmt.int(n))));
    };
    const skipped = Object.entries(data.skipped).map(([why, n]) => `${fmt.int(n)} with ${why}`).join(", ");
    return el("section", {},
      el("h3", {}, `Rows at ${fmt.int(data.max_length)} tokens at most`),
      el("table", { class: "ps-table" }, el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, ...SPLITS.map(line))),
      skipped ? el("p", { class: "ps-note" }, `Not in these counts, left out of the files: ${skipped}.`) : null,
      data.notes.length ? el("p", { class: "ps-note" }, data.notes.join(" ")) : null);
  }

  function labels(data) {
    const names = Object.keys(data.labels);
    if (!names.length) return null;
    const total = names.reduce((sum, name) => sum + data.labels[name].train, 0) || 1;
    const most = Math.max(...names.map((name) => data.labels[name].train), 1);
    return el("section", { class: "ps-balance" },
      el("h3", {}, "Labels of the training rows"),
      el("div", { class: "list", tabindex: "0", role: "group", "aria-label": "Rows per label" }, ...names.map((name) => {
        const rows = data.labels[name];
        return el("div", { class: "line", title: SPLITS.map(([split, title]) => `${title}: ${fmt.int(rows[split])}`).join(", ") },
          el("span", { class: "name" }, name), el("div", { class: "ps-bar" }, el("i", { style: `width:${(100 * rows.train) / most}%` })),
          el("span", { class: "sum" }, `${fmt.int(rows.train)} · ${fmt.pct(rows.train / total)}`));
      })));
  }

  const legend = (kind) => el("p", { class: "ps-note ps-tokenkeys" }, HOW[kind], " ",
    el("span", { class: "ps-token prompt" }, "prompt"), " ", el("u", { class: "ps-token target" }, kind === "classification" ? "label" : "answer"),
    " ", el("s", { class: "ps-token cut" }, "cut"));

  studio.island("preview", (root, { props, watch, trigger }) => {
    const body = el("div", { class: "ps-preview" });
    const sub = el("span", { class: "sub grow", role: "status" }, "What the model would read, before anything is trained.");
    const look = el("button", { class: "ps-button small", type: "button", id: "look-button" }, "Look at the tokens");
    const hide = el("button", { class: "ps-link", type: "button", hidden: true }, "Hide");
    const idle = () => { look.disabled = false; look.removeAttribute("aria-busy"); };
    look.addEventListener("click", () => {
      look.disabled = true;
      look.setAttribute("aria-busy", "true");
      sub.textContent = "Reading the rows …";
      trigger("look");
    });
    hide.addEventListener("click", () => {
      body.replaceChildren();
      hide.hidden = true;
      sub.textContent = "What the model would read, before anything is trained.";
      look.focus();
    });
    root.append(el("div", { class: "ps-card ps-previewcard" },
      el("div", { class: "ps-cardhead" }, el("h2", {}, "Tokens"), sub, hide, look), body));
    const draw = () => {
      const data = props.value;
      if (!data) return;
      idle();
      hide.hidden = false;
      if (data.error || data.hint) {
        sub.textContent = "";
        body.replaceChildren(el("div", { class: data.error ? "ps-problem" : "ps-note", role: "alert" }, data.error || data.hint));
        return;
      }
      sub.textContent = `${data.task}, as ${data.model} reads it`;
      const parts = [legend(data.kind), el("ol", { class: "ps-tokenrows" }, ...data.rows.map((item, number) => row(item, number, data.kind))),
        el("div", { class: "ps-figures" }, histogram(data.lengths), splits(data), labels(data) || "")];
      body.replaceChildren(...parts);
    };
    watch("value", draw);
    draw();
  });
})();
