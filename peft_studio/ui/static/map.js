// What a run would cost: figures beside full fine-tuning's, the memory ledger, and the map of the model's parameters.
(() => {
  const { el, fmt } = studio;
  const LEDGER = [["runtime", "Libraries"], ["weights", "Weights"], ["gradients", "Gradients"], ["optimizer", "Optimizer"], ["activations", "Activations"], ["evaluation", "Evaluation"]];
  const sum = (memory) => LEDGER.reduce((total, [key]) => total + (memory[key] || 0), 0);
  const ledgerBar = (name, memory, most, total, ...more) => el("div", { class: "ps-ledger-row" },
    el("span", { class: "name" }, name),
    el("div", { class: "ps-stack", role: "img", "aria-label": `${name}: ` + LEDGER.filter(([key]) => memory[key]).map(([key, title]) => `${title} ${fmt.bytes(memory[key])}`).join(", ") },
      ...LEDGER.map(([key, title]) => memory[key] > 0 && el("i", {
        class: key, title: `${title}: ${fmt.bytes(memory[key])}`, style: `width:${(100 * memory[key]) / most}%`,
      })), ...more),
    el("span", { class: "sum" }, fmt.bytes(total)));
  const ledgerKeys = (...memories) => el("div", { class: "ps-keys" }, ...LEDGER.filter(([key]) => memories.some((memory) => memory[key] > 0))
    .map(([key, title]) => el("span", {}, el("i", { class: key }), title)));

  // The peak of a run that trains or has trained: what was foretold, and below it, on the same scale, what was measured.
  studio.memoryBars = ({ ledger, predicted, measured }) => {
    const most = Math.max(predicted || 0, measured || 0);
    const lines = Object.keys(ledger).length ? ledger : { runtime: predicted };
    const single = (size) => el("i", { class: "measured", title: `Measured: ${fmt.bytes(size)}`, style: `width:${(100 * size) / most}%` });
    return el("div", { class: "ps-memory" },
      predicted && ledgerBar("Estimated", lines, most, predicted),
      measured && ledgerBar("Measured", {}, most, measured, single(measured)),
      predicted && Object.keys(ledger).length > 0 && ledgerKeys(ledger));
  };

  const card = (title, value, note, share) => el("div", { class: "ps-card ps-stat" },
    el("div", { class: "k" }, title), el("div", { class: "v" }, value), el("div", { class: "s", title: note }, note),
    el("div", { class: "ps-bar" }, el("i", { style: `width:${Math.min(100, Math.max(1, share * 100))}%` })));

  function cards(data) {
    const full = data.full;
    return el("div", { class: "ps-stats" },
      card("Trainable parameters", fmt.int(data.trainable_params), `full fine-tuning: ${fmt.int(full.trainable_params)}`,
        data.trainable_params / full.trainable_params),
      card("Share that trains", fmt.pct(data.trainable_share), `of ${fmt.int(data.total_params)} in use`, data.trainable_share),
      card("Adapter file", fmt.bytes(data.adapter_bytes), `full fine-tuning: ${fmt.bytes(full.adapter_bytes)}`,
        data.adapter_bytes / full.adapter_bytes),
      card("Memory, estimated", fmt.bytes(sum(data.memory)), `full fine-tuning: ${fmt.bytes(sum(full.memory))}`,
        sum(data.memory) / sum(full.memory)));
  }

  function ledger(data) {
    const most = Math.max(sum(data.memory), sum(data.full.memory));
    const bar = (name, memory) => ledgerBar(name, memory, most, sum(memory));
    return el("div", { class: "ps-card ps-ledger" },
      el("div", { class: "ps-cardhead" }, el("h2", {}, "Memory while training"),
        el("span", { class: "sub" }, `estimate for ${data.batch_size} rows of about ${data.tokens_per_row} tokens`)),
      bar(data.method, data.memory), bar("Full", data.full.memory),
      ledgerKeys(data.memory, data.full.memory));
  }

  const state = (part) => (part.added ? "added" : part.trainable ? "trains" : "frozen");
  const describe = (part, where) => {
    const facts = [];
    if (part.params) facts.push(`${fmt.int(part.params)} in the base model`);
    if (part.tied) facts.push("shares the embedding's weights");
    if (part.trainable) facts.push(`${fmt.int(part.trainable)} train`);
    if (part.added) facts.push(`${fmt.int(part.added)} added`);
    if (!part.trainable && !part.added) facts.push("frozen");
    return `${where}${part.name}: ${facts.join(", ")}`;
  };

  function drawMap(data) {
    const told = el("p", { class: "ps-told", "aria-live": "polite" }, "Point at a cell, or step through with Tab and the arrow keys.");
    const cell = (part, where) => {
      const share = part.params ? part.trainable / part.params : 0;
      const text = describe(part, where);
      const node = el("button", {
        type: "button", tabindex: "-1", class: `ps-cell ${state(part)} ${part.kind}`, "aria-label": text,
        style: `flex-grow:${Math.max(1, Math.log10(Math.max(10, part.params + part.added)) - 1).toFixed(2)}`,
      }, el("span", {}, part.name.replace(/^.*\./, "").replace(/_proj$/, "").replace("layernorm", "norm").replace("post_attention_norm", "n2").replace("input_norm", "n1")));
      if (part.trainable && share < 1) node.classList.add("part");
      const tell = () => { told.textContent = text; };
      node.addEventListener("mouseenter", tell);
      node.addEventListener("focus", tell);
      return node;
    };
    const row = (title, parts, where) => el("div", { class: "ps-maprow" },
      el("span", { class: "name" }, title), el("div", { class: "cells" }, ...parts.map((part) => cell(part, where))));
    const rows = data.map.map((entry) => entry.parts
      ? row(entry.name.replace("layers.", "Layer "), entry.parts, `${entry.name.replace("layers.", "layer ")}, `)
      : row(entry.name.replace("embed_tokens", "Embedding").replace("lm_head", "Head").replace(/^norm$/, "Final norm"), [entry], ""));
    const grid = el("div", { class: "ps-map", role: "group", "aria-label": "Parameter map" }, ...rows);
    const cells = [...grid.querySelectorAll("button")];
    if (cells.length) cells[0].tabIndex = 0;
    grid.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      const at = cells.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      let next = at + step;
      if (event.key.endsWith("Down") || event.key.endsWith("Up")) {
        const line = rows.findIndex((item) => item.contains(cells[at]));
        const target = rows[line + step]?.querySelector("button");
        if (!target) return;
        next = cells.indexOf(target);
      }
      if (!cells[next]) return;
      cells[at].tabIndex = -1;
      cells[next].tabIndex = 0;
      cells[next].focus();
    });
    return el("div", { class: "ps-card ps-mapcard" },
      el("div", { class: "ps-cardhead" }, el("h2", {}, "Parameter map"),
        el("span", { class: "ps-keys" }, el("span", {}, el("i", { class: "frozen" }), "frozen"),
          el("span", {}, el("i", { class: "trains" }), "trains"), el("span", {}, el("i", { class: "added" }), "added"))),
      grid, told);
  }

  studio.drawMap = drawMap;

  studio.island("estimate", (root, { props, watch }) => {
    root.append(el("div", { class: "ps-card ps-wait" }, "Starting the engine: the first figures take a few seconds."));
    const draw = () => {
      const data = props.value;
      if (!data) return;
      const host = root.closest("#estimate");
      if (data.hint) {
        root.classList.remove("stale");
        root.replaceChildren(el("div", { class: "ps-card ps-wait" }, data.hint));
        host.dataset.ready = "hint";
        return;
      }
      if (data.error) {
        const old = root.querySelector(".ps-problem");
        old?.remove();
        root.prepend(el("div", { class: "ps-problem", role: "alert" }, data.error));
        root.querySelector(".ps-wait")?.remove();
        root.classList.add("stale");
        host.dataset.ready = "error";
        return;
      }
      root.classList.remove("stale");
      root.replaceChildren(cards(data), el("div", { class: "ps-pair" }, drawMap(data), ledger(data)));
      host.dataset.ready = "1";
      host.dataset.trainable = data.trainable_params;
    };
    watch("value", draw);
    draw();
  });

  studio.island("figure", (root, { props, watch }) => {
    const draw = () => {
      const data = props.value;
      if (!data) return;
      root.replaceChildren(data.error ? el("div", { class: "ps-problem" }, data.error) : drawMap(data));
    };
    watch("value", draw);
    draw();
  });
})();
