// Answers side by side: one column per model, growing as text arrives.
(() => {
  const { el, fmt } = studio;
  let finish = () => {};
  studio.generationStopped = () => finish();

  const factsOf = (facts) => {
    if (!facts) return null;
    const right = facts.filter((fact) => fact.ok).length;
    return el("div", { class: "ps-facts" }, el("b", {}, `${right} of ${facts.length} facts`),
      ...facts.map((fact) => el("span", { class: fact.ok ? "ok" : "miss", title: `${fact.name}: ${fact.value}` }, `${fact.ok ? "✓" : "✗"} ${fact.name}`)));
  };

  /** What a classifier gives to each label; the row's own label is marked. */
  const labelsOf = ({ labels, right }) => el("ul", { class: "ps-labels" }, ...labels.map(([label, share]) =>
    el("li", label === right ? { class: "right", title: "The row's own label" } : {},
      el("span", { class: "name" }, label), el("div", { class: "ps-bar" }, el("i", { style: `width:${100 * share}%` })),
      el("span", { class: "sum" }, fmt.pct(share)))));

  studio.island("columns", (root, { props, watch }) => {
    root.append(el("p", { class: "ps-card ps-empty" }, "Pick adapters, write a prompt or take a row of the test set, and press Generate. The base model always answers too."));
    let stopped = false;
    finish = () => { stopped = true; root.querySelectorAll(".ps-column.busy").forEach((node) => { node.classList.remove("busy"); node.querySelector(".speed").textContent = "stopped"; }); };
    watch("value", () => {
      const data = props.value;
      if (!data) return;
      if (data.error) { root.replaceChildren(el("div", { class: "ps-problem", role: "alert" }, data.error)); return; }
      if (data.columns.every((column) => !column.text && !column.done)) stopped = false;
      const grid = root.querySelector(".ps-columns");
      if (!grid || grid.children.length !== data.columns.length) {
        root.replaceChildren(el("div", { class: "ps-columns" }, ...data.columns.map(() => el("article", { class: "ps-card ps-column" },
          el("h2", {}), el("div", { class: "said" }), el("div", { class: "after" }), el("div", { class: "speed" })))));
      }
      [...root.querySelectorAll(".ps-column")].forEach((node, i) => {
        const column = data.columns[i];
        node.classList.toggle("busy", !column.done && !stopped);
        node.dataset.name = column.name;
        node.querySelector("h2").textContent = column.title;
        const said = node.querySelector(".said");
        said.classList.toggle("aside", !!column.labels && !column.labels.length);
        if (column.labels?.length) said.replaceChildren(labelsOf(column));
        else said.textContent = column.text.trim() || (column.done ? "(said nothing)" : "…");
        node.querySelector(".speed").textContent = column.seconds && column.tokens ? `${column.tokens} tokens · ${fmt.num(column.tokens / column.seconds, 0)}/s` : "";
        const facts = factsOf(column.facts);
        node.querySelector(".after").replaceChildren(...(facts ? [facts] : []));
      });
    });
  });

  studio.island("references", (root, { props, watch }) => {
    const draw = () => {
      const list = props.value?.references || [];
      if (list.length && props.value.label) {
        root.replaceChildren(el("p", { class: "ps-refs" }, `Its label: ${list[0].trim()}`));
        return;
      }
      const title = list.length === 1 ? "1 reference" : `${list.length} references`;
      root.replaceChildren(...(list.length ? [el("details", { class: "ps-refs", open: true }, el("summary", {}, title), el("ul", {}, ...list.map((text) => el("li", {}, text.trim()))))] : []));
    };
    watch("value", draw);
    draw();
  });
})();
