// What the run doctor says: marks on the chart, a line below it, and a section in a run's details.
(() => {
  const { el } = studio;
  const LIVE_SECONDS = 5; // between two looks at a run that is training
  const found = new Map(); // run id -> {list, status, at}
  const WORDS = { problem: "Problem", warning: "Warning", note: "Note" };
  const COLOURS = { problem: "--ps-bad", warning: "--ps-add", note: "--ps-ink3" };
  const OVER = new Set(["finished", "stopped", "failed"]);

  let busy = false;
  async function look() {
    const now = Date.now();
    for (const id of [...found.keys()]) if (!studio.selected.has(id)) found.delete(id);
    const due = studio.runs.filter((run) => {
      const have = found.get(run.id);
      return studio.selected.has(run.id) && run.status !== "queued"
        && (!have || have.status !== run.status || (!OVER.has(run.status) && now - have.at > 1000 * LIVE_SECONDS));
    });
    if (busy || !due.length) return;
    busy = true;
    try {
      const answer = await studio.fetchJSON(`studio/findings.json?runs=${encodeURIComponent(due.map((run) => run.id).join(","))}`);
      const before = JSON.stringify([...found].map(([id, have]) => [id, have.list]));
      for (const run of due) if (answer[run.id]) found.set(run.id, { list: answer[run.id], status: run.status, at: now });
      if (JSON.stringify([...found].map(([id, have]) => [id, have.list])) !== before) studio.emit("findings");
    } catch { /* the app is away; the next poll tries again */ } finally { busy = false; }
  }
  studio.on("runs", look);
  studio.on("selection", look);

  const wrapped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/(.{30,54}?) /g, "$1<br>");

  /** Markers for one run's curve, at the point where each finding begins to show. */
  studio.findingMarks = (id, data, key) => {
    const points = [];
    for (const item of found.get(id)?.list || []) {
      const curve = item.id === "overfitted" && data.eval.step?.length ? data.eval : data.train;
      if (item.step == null || !curve.step?.length) continue;
      let at = curve.step.findIndex((step) => step >= item.step);
      if (at < 0) at = curve.step.length - 1;
      const x = curve[key][at];
      while (at > 0 && curve.loss[at] == null) at -= 1; // a loss that is not a number has no place of its own
      points.push({ x, y: curve.loss[at], item });
    }
    if (!points.length) return [];
    return [{
      x: points.map((point) => point.x), y: points.map((point) => point.y), mode: "markers", name: "finding",
      marker: { symbol: "triangle-down", size: 14, color: points.map((point) => studio.css(COLOURS[point.item.severity])), line: { width: 1.5, color: studio.css("--ps-card") } },
      text: points.map((point) => `<b>${wrapped(point.item.title)}</b><br>${wrapped(point.item.cause)}`), hovertemplate: "%{text}<extra></extra>",
    }];
  };

  function entry(run, item, open, named) {
    const again = item.change && el("button", {
      type: "button", class: "ps-link", onclick: () => studio.fill({ run: run.id, set: item.settings }),
    }, `Try again with ${item.change}`);
    const where = [named && studio.titleOf(run), item.step != null && `step ${item.step.toLocaleString("en-US")}`].filter(Boolean).join(" · ");
    return el("details", { class: `ps-finding ${item.severity}`, open, "data-finding": item.id },
      el("summary", {}, el("span", { class: "ps-pill" }, WORDS[item.severity]), el("b", {}, item.title), where && el("span", { class: "sub" }, where)),
      el("p", {}, item.cause), el("p", {}, item.fix, again && " ", again));
  }

  /** The findings on the runs of a chart, one line each, to be opened. */
  studio.drawFindings = (host, ids) => {
    const shown = ids.flatMap((id) => (found.get(id)?.list || []).map((item) => [studio.runs.find((run) => run.id === id), item])).filter(([run]) => run);
    const now = JSON.stringify(shown.map(([run, item]) => [studio.titleOf(run), item, ids.length > 1]));
    if (host.dataset.now === now) return;
    host.dataset.now = now;
    host.hidden = !shown.length;
    host.replaceChildren(...shown.map(([run, item]) => entry(run, item, false, ids.length > 1)));
  };

  studio.findingSection = (run, list) => el("section", { class: "ps-findings" }, el("h3", {}, "Findings"),
    ...(list.length ? list.map((item) => entry(run, item, true, false)) : [el("p", { class: "ps-note" }, "Nothing looks wrong.")]));
})();
