// Live loss curves of the selected runs. New points arrive as deltas; zoom and hidden curves outlive every update.
(() => {
  const { el, fmt } = studio;
  const MAX_DRAWN = 1200; // points of a curve on screen; more cannot be told apart
  const FIRST_SECONDS = 20; // how long the first loss of a submitted run is looked for often
  const FIRST_PAUSE = 80; // milliseconds between two such looks
  const AXES = { step: ["step", "Steps"], tokens: ["tokens", "Tokens"], elapsed: ["elapsed", "Time"] };
  const series = new Map(); // run id -> {next, train: columns, eval: columns}
  const charts = [];
  const hidden = new Set();
  const view = { axis: "step", log: false, smooth: 0.6 };
  let plotly;

  const loadPlotly = () => (plotly ||= new Promise((resolve, reject) => {
    const script = el("script", { src: new URL("studio/static/plotly.min.js", document.baseURI).href });
    const earlier = window.Plotly; // Gradio may bring a copy of its own
    script.onload = () => { resolve(window.Plotly); if (earlier) window.Plotly = earlier; };
    script.onerror = () => { plotly = undefined; reject(new Error("plotly.js could not be loaded")); };
    document.head.append(script);
  }));

  const append = (curve, more) => { for (const key of Object.keys(more)) (curve[key] ||= []).push(...more[key]); };

  async function pull() {
    const ids = [...studio.selected].filter((id) => studio.runs.some((run) => run.id === id));
    for (const id of [...series.keys()]) if (!studio.selected.has(id)) series.delete(id);
    const wanted = ids.filter((id) => {
      const run = studio.runs.find((item) => item.id === id);
      const have = series.get(id);
      return !have || !have.complete || !["finished", "stopped", "failed", "paused"].includes(run.status);
    });
    if (wanted.length) await take(wanted);
    charts.forEach((chart) => chart.draw());
  }

  /** Fetches the points of some runs that are new. */
  async function take(ids) {
    const asked = ids.map((id) => `${id}:${series.get(id)?.next ?? 0}`).join(",");
    for (const delta of await studio.fetchJSON(`studio/metrics.json?runs=${encodeURIComponent(asked)}`)) {
      let have = series.get(delta.id);
      if (!have || (delta.since === 0 && have.next)) series.set(delta.id, (have = { train: {}, eval: {}, next: 0 }));
      const run = studio.runs.find((item) => item.id === delta.id);
      have.complete = have.next === delta.next && ["finished", "stopped", "failed", "paused"].includes(run?.status);
      have.next = delta.next;
      append(have.train, delta.train);
      append(have.eval, delta.eval);
    }
  }

  /** Exponential mean with the start corrected; gaps (losses that were not finite) stay gaps. */
  studio.smoothed = (values, weight) => {
    let mean = 0;
    let total = 0;
    return values.map((value) => {
      if (value == null) return null;
      mean = weight * mean + (1 - weight) * value;
      total = weight * total + (1 - weight);
      return mean / total;
    });
  };

  /** Keeps of every bucket the lowest and the highest point, and the last one. */
  studio.thinned = (xs, ys, limit = MAX_DRAWN) => {
    if (xs.length <= limit) return [xs, ys];
    const keep = new Set([0, xs.length - 1]);
    const width = xs.length / (limit / 2);
    for (let bucket = 0; bucket * width < xs.length; bucket += 1) {
      let low = -1;
      let high = -1;
      for (let i = Math.floor(bucket * width); i < Math.min(xs.length, (bucket + 1) * width); i += 1) {
        if (ys[i] == null) continue;
        if (low < 0 || ys[i] < ys[low]) low = i;
        if (high < 0 || ys[i] > ys[high]) high = i;
      }
      if (low >= 0) keep.add(low).add(high);
    }
    const order = [...keep].sort((a, b) => a - b);
    return [order.map((i) => xs[i]), order.map((i) => ys[i])];
  };

  studio.plotLayout = (xTitle, yTitle) => {
    const axis = (title) => ({
      title: { text: title, standoff: 8, font: { size: 12 } }, gridcolor: studio.css("--ps-line2"), linecolor: studio.css("--ps-line"),
      zeroline: false, automargin: true, ticks: "",
    });
    return {
      uirevision: "keep", margin: { l: 48, r: 14, t: 8, b: 42 }, showlegend: false, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "IBM Plex Sans, system-ui, sans-serif", size: 12, color: studio.css("--ps-ink2") },
      hoverlabel: { bgcolor: studio.css("--ps-card"), bordercolor: studio.css("--ps-line"), font: { color: studio.css("--ps-ink"), size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: studio.css("--ps-ink3"), activecolor: studio.css("--ps-acc") },
      xaxis: axis(xTitle), yaxis: axis(yTitle),
    };
  };
  studio.plotConfig = {
    responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };
  studio.loadPlotly = loadPlotly;

  function traces() {
    const [key] = AXES[view.axis];
    const drawn = [];
    for (const [id, data] of series) {
      if (hidden.has(id)) continue;
      const run = studio.runs.find((item) => item.id === id);
      const name = run ? studio.titleOf(run) : id;
      const colour = studio.colour(id);
      const xs = data.train[key] || [];
      const ys = data.train.loss || [];
      const [rawX, rawY] = studio.thinned(xs, ys);
      const plain = view.smooth === 0;
      drawn.push({ x: rawX, y: rawY, name, mode: xs.length === 1 ? "markers" : "lines", opacity: plain ? 1 : 0.22, line: { width: plain ? 1.6 : 1, color: colour }, marker: { color: colour, size: 5 }, hoverinfo: plain ? "all" : "skip", hovertemplate: plain ? `%{y:.4f}<extra>${"train"}</extra>` : undefined });
      if (!plain && xs.length > 1) {
        const [x, y] = studio.thinned(xs, studio.smoothed(ys, view.smooth));
        drawn.push({ x, y, text: name, mode: "lines", line: { width: 2.2, color: colour }, hovertemplate: "%{y:.4f}<extra>train</extra>" });
      }
      drawn.push(...(studio.findingMarks?.(id, data, key) || []));
      if (data.eval[key]?.length) {
        drawn.push({ x: data.eval[key], y: data.eval.loss, mode: "lines+markers", line: { width: 1.4, color: colour, dash: "dot" }, marker: { size: 6, color: studio.css("--ps-card"), line: { width: 1.8, color: colour } }, hovertemplate: "%{y:.4f}<extra>validation</extra>" });
      }
    }
    return drawn;
  }

  studio.pointsDrawn = () => charts.filter((chart) => chart.root.offsetParent).reduce((total, chart) => total + chart.points, 0);

  studio.island("chart", (root) => {
    const plot = el("div", { class: "ps-plot", hidden: true, role: "img", "aria-label": "Loss curves of the selected runs" });
    const empty = el("p", { class: "ps-empty" });
    const legend = el("div", { class: "ps-legend" });
    const notes = el("div", { class: "ps-findings", hidden: true });
    const smooth = el("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: view.smooth, "aria-label": "Smoothing", oninput: (event) => { view.smooth = Number(event.target.value); all(); } });
    const log = el("button", { type: "button", "aria-pressed": String(view.log), onclick: () => { view.log = !view.log; all(); } }, "Log scale");
    const axes = Object.entries(AXES).map(([name, [, title]]) => el("button", { type: "button", "data-axis": name, "aria-pressed": String(view.axis === name), onclick: () => { view.axis = name; all(true); } }, title));
    root.append(el("section", { class: "ps-card ps-chart" },
      el("div", { class: "ps-cardhead" }, el("h2", {}, "Loss"), el("span", { class: "sub" }, "line: training, dots: validation"),
        el("span", { class: "grow" }), el("label", { class: "ps-smooth" }, "Smoothing", smooth),
        el("span", { class: "ps-seg", role: "group", "aria-label": "Horizontal axis" }, ...axes), el("span", { class: "ps-seg" }, log)),
      legend, empty, plot, notes));

    const chart = { root, points: 0, draw, fresh: true };
    charts.push(chart);
    const all = (reset) => charts.forEach((item) => { item.fresh ||= Boolean(reset); item.draw(); });

    function drawLegend() {
      const shown = studio.runs.filter((run) => series.has(run.id));
      const now = JSON.stringify([shown.map((run) => [run.id, studio.titleOf(run)]), [...hidden]]);
      if (legend.dataset.now === now) return;
      legend.dataset.now = now;
      legend.replaceChildren(...shown.map((run) => el("button", {
        type: "button", class: "ps-chip", "aria-pressed": String(!hidden.has(run.id)), title: run.id,
        onclick: () => { if (!hidden.delete(run.id)) hidden.add(run.id); all(); },
      }, el("i", { style: `background:${studio.colour(run.id)}` }), studio.titleOf(run))));
    }

    async function draw() {
      drawLegend();
      studio.drawFindings?.(notes, [...series.keys()].filter((id) => !hidden.has(id)));
      smooth.value = view.smooth;
      log.setAttribute("aria-pressed", String(view.log));
      axes.forEach((item) => item.setAttribute("aria-pressed", String(item.dataset.axis === view.axis)));
      const points = [...series.values()].reduce((total, data) => total + (data.train.loss?.length || 0), 0);
      plot.hidden = !points;
      empty.hidden = Boolean(points);
      empty.textContent = studio.selected.size ? "Waiting for the first loss …"
        : studio.runs.length ? "Select runs in the list on the Runs tab to see their curves." : "The loss will be drawn here while a run trains. Press Train to start one.";
      root.dataset.points = points;
      if (!points || !root.offsetParent) return;
      const Plotly = await loadPlotly();
      const [key, title] = AXES[view.axis];
      const layout = studio.plotLayout(key === "elapsed" ? "seconds of training" : title.toLowerCase(), "loss (nats per token)");
      layout.uirevision = `${view.axis}`;
      layout.yaxis.type = view.log ? "log" : "linear";
      layout.datarevision = `${points}-${Date.now()}`;
      await Plotly.react(plot, traces(), layout, studio.plotConfig);
      chart.points = points;
    }

    new ResizeObserver(() => { if (root.offsetParent && chart.wide !== root.clientWidth) { chart.wide = root.clientWidth; draw(); } }).observe(root);
    draw();
  });

  setTimeout(() => loadPlotly().catch(() => {}), 2500); // the page is up by then, and the first chart need not wait

  let busy = false;
  const alone = async (work) => {
    if (busy) return;
    busy = true;
    try { await work(); } catch { /* the app is away; the next poll tries again */ } finally { busy = false; }
  };
  const update = () => alone(pull);

  /** Looks for the first loss of a run that was just submitted more often than the list is polled; draws it at once. */
  async function awaitFirst(id) {
    const end = Date.now() + 1000 * FIRST_SECONDS;
    const drawn = () => series.get(id)?.train.loss?.length;
    let status = "";
    do {
      await new Promise((resolve) => setTimeout(resolve, status === "queued" ? 200 : FIRST_PAUSE));
      status = studio.runs.find((run) => run.id === id)?.status;
      if (status && !["queued", "running"].includes(status)) return;
      if (document.visibilityState !== "visible") continue;
      await alone(async () => {
        await take([id]);
        if (drawn()) await Promise.all(charts.map((chart) => chart.draw()));
      });
    } while (Date.now() < end && !drawn() && studio.selected.has(id));
  }
  studio.on("submitted", awaitFirst);
  studio.on("submitted", () => charts.find((chart) => chart.root.offsetParent)?.root.scrollIntoView({ block: "nearest", behavior: "smooth" }));
  studio.on("runs", update);
  studio.on("selection", update);
  studio.on("findings", () => charts.forEach((chart) => chart.draw()));
  studio.on("theme", () => charts.forEach((chart) => chart.draw()));
})();
