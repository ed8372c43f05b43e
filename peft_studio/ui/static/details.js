// A run's details: test figures, the check after saving, the confusion matrix, ranks kept, and memory as foretold and measured.
(() => {
  const { el, fmt } = studio;
  const NAMES = { bleu: "BLEU", chrf: "chrF", rouge1: "ROUGE-1", rouge2: "ROUGE-2", rougeL: "ROUGE-L", macro_f1: "Macro F1" };
  const words = (name) => NAMES[name] || (name.charAt(0).toUpperCase() + name.slice(1)).replace(/_/g, " ");
  const shade = (colour, share) => `background:color-mix(in srgb, var(${colour}) ${Math.round(8 + 50 * share)}%, var(--ps-line2))`;
  const head = (...texts) => el("thead", {}, el("tr", {}, ...texts.map((text) => el("th", { scope: "col", title: text }, text))));
  const box = (label, table) => el("div", { class: "ps-scroll", tabindex: "0", role: "region", "aria-label": label }, table);
  const section = (title, note, ...parts) => el("section", {}, el("h3", {}, title), note && el("p", { class: "ps-note" }, note), ...parts);

  function figures(data) {
    if (!data.metrics.length) return section("Test", "This run has not answered the test rows.");
    const rows = data.metrics.map((item) => el("tr", {},
      el("th", { scope: "row" }, words(item.name)), el("td", {}, fmt.num(item.value, 1)), el("td", {}, fmt.num(item.base, 1))));
    return section("Test", `From 0 to 100, beside ${data.base}.`,
      box("Test figures", el("table", { class: "ps-table" }, head("Metric", "This run", "Base"), el("tbody", {}, ...rows))));
  }

  // Rounded up, so that what is said holds.
  const bound = (value) => {
    const size = 10 ** Math.floor(Math.log10(value));
    return `${Math.ceil(value / size)}e${Math.round(Math.log10(size))}`.replace(/^10e(-?\d+)$/, (_, power) => `1e${Number(power) + 1}`);
  };
  function checked({ rows, max_difference: difference }) {
    if (difference == null) return "The saved adapter was reloaded, but how far its answers are off is not a number.";
    const size = `equal within ${difference === 0 ? "0" : bound(difference)}`;
    return `Reloaded and compared: ${size}. The saved adapter was put on a fresh base model; on ${fmt.int(rows)} rows no logit differed by more.`;
  }

  function confusion({ labels, counts, other, classes, rows }) {
    const some = other.some((count) => count > 0);
    const line = (label, at) => {
      const total = counts[at].reduce((sum, count) => sum + count, 0) + other[at];
      const cell = (count, answer, right) => {
        const share = total ? count / total : 0;
        return el("td", { class: right ? "right" : "", style: count ? shade(right ? "--ps-acc" : "--ps-add", share) : "", title: `${count} of ${total} rows that are ${label} were answered ${answer}` },
          count ? fmt.int(count) : "·", count > 0 && labels.length <= 6 && el("small", {}, fmt.pct(share)));
      };
      return el("tr", {}, el("th", { scope: "row", title: label }, label),
        ...counts[at].map((count, column) => cell(count, labels[column], column === at)),
        some && cell(other[at], "something else", false), el("td", { class: "sum" }, fmt.int(total)));
    };
    const table = el("table", { class: `ps-confusion${labels.length > 6 ? " many" : ""}` },
      head("Truth ↓  Answer →", ...labels, ...(some ? ["Other"] : []), "Rows"), el("tbody", {}, ...labels.map(line)));
    const note = `${fmt.int(rows)} test rows. ${classes > labels.length ? `The ${labels.length} most frequent of ${classes} classes. ` : ""}The stronger the colour, the larger the share of a row; blue is right, orange is wrong.`;
    return section("Confusion matrix", note, box("Confusion matrix", table));
  }

  function ranks({ parts, layers, kept, of }) {
    const cell = (value) => (value == null ? el("td", {}) : el("td", {
      style: value[0] ? shade("--ps-acc", value[0] / value[1]) : "", title: `${value[0]} of ${value[1]} kept`,
    }, String(value[0])));
    const rows = layers.map(({ name, cells }) => el("tr", {}, el("th", { scope: "row" }, name.replace(/^(layers?|h|block)\.(\d+)$/, "Layer $2")), ...cells.map(cell)));
    const table = el("table", { class: "ps-confusion ps-ranks" }, head("", ...parts), el("tbody", {}, ...rows));
    return section("Ranks kept", `${fmt.int(kept)} of ${fmt.int(of)} ranks are left. Each number is the rank that a matrix has kept.`, box("Ranks kept in each layer", table));
  }

  function memory(found) {
    const { predicted, measured } = found;
    const ratio = predicted && measured ? ` Measured over estimated: ${fmt.num(measured / predicted, 2)}.` : "";
    return section("Memory", `The most that its process held, libraries included.${ratio}`, studio.memoryBars(found));
  }

  studio.openDetails = async (run, host) => {
    host.querySelector(".ps-details")?.remove();
    const body = el("div", { class: "ps-detailbody" }, el("p", { class: "ps-note" }, "Reading the run's files."));
    const close = el("button", { type: "button", class: "ps-link", "aria-label": "Close the details", onclick: () => card.remove() }, "Close");
    const card = el("div", { class: "ps-card ps-details", "data-run": run.id },
      el("div", { class: "ps-cardhead" }, el("h2", {}, `Details of ${studio.titleOf(run)}`), el("span", { class: "grow" }), close), body);
    host.append(card);
    try {
      const data = await studio.fetchJSON(`studio/runs/${run.id}/details`);
      const maps = [data.confusion && confusion(data.confusion), data.ranks && ranks(data.ranks)].filter(Boolean);
      body.replaceChildren(studio.findingSection(run, data.findings), el("div", {}, figures(data), data.memory && memory(data.memory), data.check && section("Saved adapter", checked(data.check))), el("div", {}, ...maps));
    } catch {
      body.replaceChildren(el("div", { class: "ps-problem" }, "The details cannot be read. The run may have been deleted, or the app has stopped."));
    }
    card.scrollIntoView({ block: "nearest" });
  };
})();
