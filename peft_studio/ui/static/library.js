// What works where, and what is not offered: fetched and drawn when the Learn tab is first seen.
(() => {
  const { el } = studio;
  const MARKS = { yes: "●", stays: "○", no: "–", unknown: "?" };
  const LEGEND = [["yes", "works, and merges into the base model"], ["stays", "works beside the base model, cannot be merged"], ["no", "cannot be put on it; the reason is below the table"]];
  const mark = (kind) => el("i", { class: `ps-mark ${kind}`, "aria-hidden": "true" }, MARKS[kind]);

  const refusals = (data) => {
    const found = new Map();
    data.tiers.flatMap((tier) => tier.methods).forEach((method) => method.cells.forEach((cell, at) => {
      if (cell.mark !== "no") return;
      const key = `${method.title}: ${cell.says.replace(/^no: /, "")}`;
      found.set(key, [...(found.get(key) || []), data.families[at].title]);
    }));
    return [...found].map(([key, families]) => {
      const [title, ...rest] = key.split(": ");
      return el("li", {}, el("b", {}, `${title} on ${families.join(", ")}`), ` ${rest.join(": ")}`);
    });
  };

  function matrix(data, pick) {
    const columns = data.families.length + 1;
    const kinds = data.families.map((family, at) => [family.kind, at]).filter(([kind, at]) => kind !== data.families[at - 1]?.kind);
    const first = (at) => (kinds.some(([, start]) => start === at) ? "first" : "");
    const spans = kinds.map(([kind, at], index) => el("th", { scope: "colgroup", class: "first", colspan: (kinds[index + 1]?.[1] ?? data.families.length) - at }, `${kind}s`));
    const top = el("thead", {}, el("tr", { class: "kinds" }, el("td", {}), ...spans),
      el("tr", {}, el("th", { scope: "col" }, "Method"), ...data.families.map((family, at) => el("th", { scope: "col", class: first(at) }, family.title))));
    const rows = (tier) => el("tbody", {}, el("tr", { class: "tier" }, el("th", { scope: "rowgroup", colspan: columns }, el("span", {}, tier.title))),
      ...tier.methods.map((method) => el("tr", { "data-method": method.name },
        el("th", { scope: "row" }, el("button", { type: "button", class: "ps-link", onclick: () => pick(method.name) }, method.title)),
        ...method.cells.map((cell, at) => el("td", { title: cell.says, class: first(at) }, mark(cell.mark), el("span", { class: "ps-sr" }, cell.says))))));
    return el("section", { class: "ps-card ps-matrixcard" },
      el("div", { class: "ps-cardhead" }, el("h2", {}, "What works where"),
        el("span", { class: "sub" }, "Tested on a small model of each family: trained, saved, loaded again, switched off, merged.")),
      el("div", { class: "ps-keys" }, ...LEGEND.map(([kind, says]) => el("span", {}, mark(kind), says))),
      el("div", { class: "ps-scroll", tabindex: "0", role: "region", "aria-label": "Methods and architectures" },
        el("table", { class: "ps-matrix" }, top, ...data.tiers.map(rows))),
      el("ul", { class: "ps-refusals" }, ...refusals(data)));
  }

  function leftOut(data, pick) {
    const near = (entry) => entry.instead.flatMap((item, at) => [at ? ", " : "",
      el("button", { type: "button", class: "ps-link", onclick: () => pick(item.name) }, item.title)]);
    const entry = (item) => el("details", {}, el("summary", {}, el("b", {}, item.name), el("span", {}, item.what)),
      el("p", {}, item.why), item.seen && el("p", { class: "seen" }, `When tried: ${item.seen}`),
      item.instead.length > 0 && el("p", { class: "seen" }, "Nearest here: ", ...near(item)));
    return el("section", { class: "ps-card ps-leftout" },
      el("div", { class: "ps-cardhead" }, el("h2", {}, "Not offered, and why"),
        el("span", { class: "sub" }, "What PEFT 0.21 has besides. Open an entry to read the reason.")),
      el("div", { class: "list" }, ...data.notOffered.map(entry)));
  }

  studio.island("library", (root, { trigger }) => {
    const pick = (method) => {
      trigger("pick", { method });
      document.querySelector("#learn-page")?.scrollIntoView({ block: "center" });
    };
    let asked = false;
    const draw = async () => {
      if (asked || !root.offsetParent) return;
      asked = true;
      try {
        const data = await studio.fetchJSON("studio/library.json");
        root.replaceChildren(matrix(data, pick), leftOut(data, pick));
      } catch {
        asked = false;
        root.replaceChildren(el("div", { class: "ps-problem" }, "The table could not be read. Open the tab again to retry."));
      }
    };
    new ResizeObserver(draw).observe(root);
    draw();
  });
})();
