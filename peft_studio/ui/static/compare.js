// The comparison: a sortable table of runs, and a scatter of what they reach against what they cost.
(() => {
  const { el, fmt } = studio;
  const COSTS = [
    ["trainable_params", "Trainable parameters", fmt.int], ["trainable_share", "Share that trains", fmt.pct],
    ["seconds", "Time", fmt.secs], ["peak_memory_bytes", "Peak memory", fmt.bytes], ["adapter_bytes", "Adapter file", fmt.bytes],
  ];
  const NAMES = { "eval/loss": "Val. loss", "eval/perplexity": "Val. perplexity", "test/bleu": "BLEU", "test/chrf": "chrF", "test/slot_accuracy": "Slots %", "test/slots_exact": "All slots %", "test/name_accuracy": "Names %" };
  const title = (metric) => NAMES[metric] || metric;
  const state = { sort: "created", down: true, only: false, x: "trainable_params", y: "", log: true };

  const metricsOf = (runs) => {
    const found = [...new Set(runs.flatMap((run) => Object.keys(run.metrics || {})))].filter((name) => /^(eval|test)\//.test(name));
    const order = Object.keys(NAMES);
    return found.sort((a, b) => (order.indexOf(a) + 1 || 99) - (order.indexOf(b) + 1 || 99));
  };
  const valueOf = (run, key) => (key.includes("/") ? run.metrics?.[key] : key === "title" ? studio.titleOf(run) : run[key]);

  studio.island("compare", (root) => {
    const table = el("table", { class: "ps-table" });
    let limit = 100; // rows; more when asked for
    const more = el("button", { type: "button", class: "ps-link", hidden: true, onclick: () => { limit += 200; draw(); } });
    const plot = el("div", { class: "ps-plot", role: "img", "aria-label": "Scatter of a metric against a cost" });
    const empty = el("p", { class: "ps-empty" }, "Nothing to compare yet. Finish a run or two with different methods, and they meet here.");
    const csv = el("a", { class: "ps-link", href: "studio/compare.csv", download: "peft-studio-runs.csv" }, "Download CSV");
    const only = el("input", { type: "checkbox", onchange: (event) => { state.only = event.target.checked; draw(); } });
    const pick = (label, change) => el("select", { "aria-label": label, onchange: (event) => { change(event.target.value); draw(); } });
    const x = pick("Cost on the horizontal axis", (value) => { state.x = value; });
    const y = pick("Metric on the vertical axis", (value) => { state.y = value; });
    x.append(...COSTS.map(([key, name]) => el("option", { value: key }, name)));
    const log = el("button", { type: "button", "aria-pressed": "true", onclick: () => { state.log = !state.log; draw(); } }, "Log scale");
    const body = el("div", {},
      el("section", { class: "ps-card ps-chart" }, el("div", { class: "ps-cardhead" }, el("h2", {}, "What it reaches, what it costs"), el("span", { class: "grow" }),
        y, el("span", { class: "sub" }, "against"), x, el("span", { class: "ps-seg" }, log)), plot),
      el("section", { class: "ps-card" }, el("div", { class: "ps-cardhead" }, el("h2", {}, "Runs"),
        el("label", { class: "ps-check" }, only, "only the selected ones"), el("span", { class: "grow" }), csv),
        el("div", { class: "ps-scroll", tabindex: "0", role: "region", "aria-label": "Table of runs" }, table), el("div", { class: "ps-listfoot" }, more)));
    root.append(empty, body);

    function shown() {
      const over = studio.runs.filter((run) => run.step > 0 && (!state.only || studio.selected.has(run.id)));
      const sign = state.down ? -1 : 1;
      return over.sort((a, b) => {
        const [left, right] = [valueOf(a, state.sort), valueOf(b, state.sort)];
        if (left == null || right == null) return (left == null) - (right == null); // what is not known goes last
        return sign * (left < right ? -1 : left > right ? 1 : 0);
      });
    }

    function drawTable(runs, metrics) {
      const columns = [["title", "Run"], ["status", "Status"], ...metrics.map((name) => [name, title(name)]), ...COSTS.map(([key, name]) => [key, name])];
      const heads = columns.map(([key, name]) => el("th", { scope: "col", "aria-sort": state.sort === key ? (state.down ? "descending" : "ascending") : "none" },
        el("button", { type: "button", onclick: () => { state.down = state.sort === key ? !state.down : key !== "title"; state.sort = key; draw(); } }, name)));
      const rows = runs.map((run) => el("tr", { "data-run": run.id }, ...columns.map(([key]) => {
        if (key === "title") return el("th", { scope: "row" }, el("i", { class: "ps-dot", style: `background:${studio.colour(run.id)}` }), studio.titleOf(run), el("small", {}, run.id));
        if (key === "status") return el("td", {}, el("span", { class: `ps-pill ${run.status}` }, run.status));
        const cost = COSTS.find(([name]) => name === key);
        if (cost) return el("td", {}, cost[2](run[key]));
        const base = run.metrics?.[`base/${key}`];
        return el("td", {}, fmt.num(run.metrics?.[key], key.startsWith("test") ? 1 : 3), base == null ? null : el("small", {}, `base ${fmt.num(base, key.startsWith("test") ? 1 : 3)}`));
      })));
      table.replaceChildren(el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
    }

    async function drawScatter(runs, metrics) {
      if (!metrics.includes(state.y)) state.y = metrics.find((name) => name.startsWith("test/")) || metrics[0] || "";
      if (y.dataset.now !== metrics.join()) {
        y.dataset.now = metrics.join();
        y.replaceChildren(...metrics.map((name) => el("option", { value: name }, title(name))));
      }
      y.value = state.y;
      x.value = state.x;
      log.setAttribute("aria-pressed", String(state.log));
      const points = runs.filter((run) => valueOf(run, state.x) != null && valueOf(run, state.y) != null);
      plot.hidden = !points.length;
      if (!points.length || !root.offsetParent) return;
      const Plotly = await studio.loadPlotly();
      const layout = studio.plotLayout(COSTS.find(([key]) => key === state.x)[1], title(state.y));
      layout.xaxis.type = state.log ? "log" : "linear";
      layout.uirevision = `${state.x} ${state.y} ${state.log}`;
      await Plotly.react(plot, [{
        x: points.map((run) => valueOf(run, state.x)), y: points.map((run) => valueOf(run, state.y)), text: points.map(studio.titleOf),
        mode: points.length > 60 ? "markers" : "markers+text", textposition: "top center", textfont: { size: 11, color: studio.css("--ps-ink2") },
        marker: { size: 11, color: points.map((run) => studio.colour(run.id)), line: { width: 1.5, color: studio.css("--ps-card") } },
        cliponaxis: false, hovertemplate: "%{text}<br>%{x}, %{y:.3f}<extra></extra>",
      }], layout, studio.plotConfig);
    }

    let last = "";
    function draw() {
      const runs = shown();
      empty.hidden = Boolean(runs.length) || state.only;
      body.hidden = !empty.hidden;
      csv.href = state.only ? `studio/compare.csv?runs=${[...studio.selected].join(",")}` : "studio/compare.csv";
      const metrics = metricsOf(runs);
      const focus = document.activeElement?.closest(".ps-table th button")?.textContent;
      drawTable(runs.slice(0, limit), metrics);
      more.hidden = runs.length <= limit;
      more.textContent = `Show more (${fmt.int(runs.length - limit)})`;
      if (focus) [...table.querySelectorAll("th button")].find((node) => node.textContent === focus)?.focus();
      drawScatter(runs, metrics);
    }
    const drawIfNew = () => {
      if (!root.offsetParent) return;
      const now = JSON.stringify([studio.runs.map((run) => [run.id, run.status, run.metrics, run.seconds]), [...studio.selected], Boolean(root.offsetParent)]);
      if (now === last) return;
      last = now;
      draw();
    };
    studio.on("runs", drawIfNew);
    studio.on("selection", drawIfNew);
    studio.on("theme", draw);
    new ResizeObserver(() => { if (root.offsetParent) drawIfNew(); }).observe(root);
    draw();
  });
})();
