// The list of runs: polled from the app, selected by check boxes, the selection kept in the page's address.
(() => {
  const { el, fmt } = studio;
  const PALETTE = ["#4a67e0", "#12907f", "#d9822b", "#d64c6c", "#8458e8", "#4f8a10", "#1b8fc4", "#b0568f", "#8a6d3b", "#5f6b7d"];
  const ACTIVE = new Set(["queued", "running", "pausing", "stopping"]);
  // What a run may be asked, in the order in which it is offered: what it is called, and what that means.
  const ACTIONS = {
    pause: ["Pause", "Pause"], resume: ["Resume", "Resume"], stop: ["Stop", "Stop"],
    front: ["Run next", "Run next:"], hold: ["Hold", "Hold back"], release: ["Release", "Release"],
  };
  const colours = new Map();
  studio.runs = [];
  studio.queue = null; // {paused}, once it is known
  studio.selected = new Set((new URLSearchParams(location.search).get("runs") || "").split(",").filter(Boolean));
  studio.colour = (id) => {
    if (!colours.has(id)) colours.set(id, PALETTE[colours.size % PALETTE.length]);
    return colours.get(id);
  };
  studio.titleOf = (run) => run.name || run.title;

  studio.select = (ids) => {
    studio.selected = new Set(ids);
    const url = new URL(location);
    if (studio.selected.size) url.searchParams.set("runs", [...studio.selected].join(","));
    else url.searchParams.delete("runs");
    history.replaceState(history.state, "", decodeURIComponent(url.href));
    studio.emit("selection");
  };
  const toggle = (id, on) => studio.select(on ? [...studio.selected, id] : [...studio.selected].filter((item) => item !== id));

  let hurry = 0;
  let timer = 0;
  let known = "";
  let version = 0;
  let order = [];
  const byId = new Map();
  /** Asks for what changed since the last time, so that a list of thousands costs little. */
  async function fetchRuns() {
    const delta = await studio.fetchJSON(`studio/runs.json?since=${version}`);
    if (delta.v === version) return;
    version = delta.v;
    for (const run of delta.runs) byId.set(run.id, run);
    order = delta.ids || order;
    const present = new Set(order);
    for (const id of [...byId.keys()]) if (!present.has(id)) byId.delete(id);
    studio.runs = order.map((id) => byId.get(id)).filter(Boolean);
    [...studio.runs].reverse().forEach((run) => studio.colour(run.id)); // oldest first: a run keeps its colour
  }
  async function poll() {
    clearTimeout(timer);
    if (document.visibilityState === "visible") {
      try {
        await fetchRuns();
        if (!studio.queue || studio.queue.paused || studio.runs.some((run) => run.status === "queued")) studio.queue = await studio.fetchJSON("studio/queue.json");
        studio.emit("runs", studio.runs);
        document.body.dataset.offline = "";
      } catch {
        document.body.dataset.offline = "1";
      }
    }
    const live = studio.runs.some((run) => ACTIVE.has(run.status)) || Date.now() < hurry;
    // Right after a submission the first loss is waited for, so look more often.
    timer = setTimeout(poll, Date.now() < hurry ? 300 : live ? 1000 : 4000);
  }
  studio.pollSoon = (seconds = 5) => { hurry = Date.now() + seconds * 1000; poll(); };
  studio.on("submitted", (id) => { studio.select([...studio.selected, id]); studio.pollSoon(); });
  document.addEventListener("visibilitychange", poll);
  studio.act = (run, action) => studio.post(`studio/runs/${run.id}/${action}`).then((done) => { studio.pollSoon(); return done; });
  studio.stopAll = () => studio.runs.filter((run) => ACTIVE.has(run.status)).forEach((run) => studio.act(run, "stop"));
  poll();

  const button = (text, label, onclick, extra = {}) => el("button", { type: "button", class: "ps-link", "aria-label": label, onclick, ...extra }, text);

  function line(run, host) {
    const live = ACTIVE.has(run.status);
    const share = run.max_steps ? run.step / run.max_steps : 0;
    const title = studio.titleOf(run);
    const facts = [];
    if (run.status === "queued") facts.push(run.reason || `number ${run.queue_position} in the queue`);
    if (run.status === "queued" && run.priority !== "normal") facts.push(`${run.priority} priority`);
    if (run.status === "paused") facts.push(`resumes at step ${fmt.int(run.checkpoint_step ?? 0)}`);
    if (run.stage) facts.push(run.stage);
    if (live && run.eta_seconds != null) facts.push(`${fmt.secs(run.eta_seconds)} left`);
    const idle = run.status === "queued" || run.status === "paused";
    if (run.steps_per_second && !idle) facts.push(`${fmt.num(run.steps_per_second, 1)} steps/s`);
    if (run.tokens_per_second && !idle) facts.push(`${fmt.short(run.tokens_per_second)} tokens/s`);
    if (!live && run.seconds) facts.push(fmt.secs(run.seconds));
    // Places in the queue by arrows; a click on one keeps the focus on it, so that it can be pressed again.
    const arrow = (sign, action, word, possible) => possible && button(sign, `Move ${title} ${word}`, () => studio.act(run, action), { class: "ps-link ps-arrow", title: `Move ${word}` });
    const offered = Object.entries(ACTIONS).filter(([name]) => run.actions.includes(name) && !(name === "front" && (run.held || run.queue_position === 1)));
    const remove = button("Delete", `Delete ${title}`, () => {
      if (remove.dataset.sure) { studio.post(`studio/runs/${run.id}/delete`).then(() => { toggle(run.id, false); poll(); }); return; }
      remove.dataset.sure = "1";
      remove.textContent = "Really delete?";
      setTimeout(() => { delete remove.dataset.sure; remove.textContent = "Delete"; }, 4000);
    });
    return el("div", { class: `ps-run ${run.status}`, "data-run": run.id },
      el("input", { type: "checkbox", "aria-label": `Show ${title} in the chart`, checked: studio.selected.has(run.id), onchange: (event) => toggle(run.id, event.target.checked) }),
      el("i", { class: "ps-dot", style: `background:${studio.colour(run.id)}` }),
      el("div", { class: "who" }, el("b", {}, title), el("span", {}, `${run.model} · ${run.task} · ${run.id}`)),
      el("div", { class: "how" },
        el("div", { class: "ps-bar" }, el("i", { style: `width:${100 * share}%;background:${studio.colour(run.id)}` })),
        el("span", { title: facts.join(" · ") }, facts.join(" · "))),
      el("div", { class: "num" }, el("b", {}, `${fmt.int(run.step)}${run.max_steps ? ` / ${fmt.int(run.max_steps)}` : ""}`), el("span", {}, "step")),
      el("div", { class: "num" }, el("b", {}, fmt.num(run.loss)), el("span", {}, run.eval_loss == null ? "train loss" : `val ${fmt.num(run.eval_loss)}`)),
      el("span", { class: `ps-pill ${run.status}` }, run.status),
      el("div", { class: "acts" },
        arrow("↑", "up", "up", !run.held && run.actions.includes("up")), arrow("↓", "down", "down", !run.held && run.actions.includes("down")),
        ...offered.map(([name, [text, label]]) => button(text, `${label} ${title}`, () => studio.act(run, name))),
        run.actions.includes("prioritize") && priority(run, title),
        run.actions.includes("extend") && longer(run, title, host),
        button("Clone", `Same again with a change: ${title}`, () => studio.fill({ run: run.id })),
        run.status !== "queued" && button("Details", `Details of ${title}`, () => studio.openDetails(run, host)),
        button("Log", `Log of ${title}`, () => openLog(run, host)),
        run.adapter_bytes && el("a", { class: "ps-link", href: `studio/export/${run.id}.zip`, download: `${run.id}.zip` }, "Export"),
        !live && remove),
      run.reason && run.status !== "queued" && el("p", { class: "why" }, run.reason));
  }

  /** A button that asks how many steps more. */
  function longer(run, title, host) {
    const ask = button("Train longer", `Train ${title} longer`, () => {
      const steps = el("input", { type: "number", min: "1", step: "1", value: String(run.max_steps || run.step), "aria-label": "How many steps more" });
      const form = el("form", { class: "ps-longer", "data-sure": "1", onsubmit: async (event) => {
        event.preventDefault();
        if (await studio.post(`studio/runs/${run.id}/extend?steps=${encodeURIComponent(steps.value)}`)) { form.remove(); studio.pollSoon(); }
      } }, steps, "steps more", button("Train", `Train ${title} so much longer`, null, { type: "submit" }),
      button("Cancel", "Cancel", () => { form.replaceWith(ask); ask.focus(); }));
      form.addEventListener("keydown", (event) => { if (event.key === "Escape") { form.replaceWith(ask); ask.focus(); } });
      ask.replaceWith(form);
      steps.select();
      steps.focus();
    });
    return ask;
  }

  /** A button that asks which priority a queued run is to have. */
  function priority(run, title) {
    const ask = button("Priority", `Priority of ${title}`, () => {
      const choose = (level) => button(level, `Give ${title} ${level} priority`, async () => { form.replaceWith(ask); ask.focus(); await studio.act(run, `prioritize?to=${level}`); }, { "aria-pressed": String(level === run.priority) });
      const form = el("span", { class: "ps-priority", "data-sure": "1", role: "group", "aria-label": `Priority of ${title}` }, ...["high", "normal", "low"].map(choose),
        button("Cancel", "Cancel", () => { form.replaceWith(ask); ask.focus(); }));
      form.addEventListener("keydown", (event) => { if (event.key === "Escape") { form.replaceWith(ask); ask.focus(); } });
      ask.replaceWith(form);
      form.querySelector("[aria-pressed=true]").focus();
    });
    return ask;
  }

  /** Those that run, then the queue in its order, then the others, newest first. */
  const inOrder = (runs) => {
    const rank = (run) => (run.status === "queued" ? 1 + (run.queue_position || 1e6) : ACTIVE.has(run.status) ? 0 : 1e9);
    return [...runs].sort((a, b) => rank(a) - rank(b));
  };

  let logTimer = 0;
  function openLog(run, host) {
    clearInterval(logTimer);
    host.querySelector(".ps-log")?.remove();
    const text = el("pre", { tabindex: "0" });
    const close = button("Close", "Close the log", () => { clearInterval(logTimer); box.remove(); });
    const box = el("div", { class: "ps-card ps-log" }, el("div", { class: "ps-cardhead" }, el("h2", {}, `Log of ${studio.titleOf(run)}`), close), text);
    host.append(box);
    const read = async () => {
      if (!box.isConnected || document.visibilityState !== "visible") return;
      const answer = await fetch(new URL(`studio/log/${run.id}`, document.baseURI));
      const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
      text.textContent = (await answer.text()) || "Nothing has been printed.";
      if (atEnd) text.scrollTop = text.scrollHeight;
    };
    read();
    logTimer = setInterval(read, 2000);
    box.scrollIntoView({ block: "nearest" });
  }

  studio.island("runs", (root) => {
    const queue = el("div", { class: "ps-queue" });
    const drawQueue = () => {
      const waiting = studio.runs.filter((run) => run.status === "queued").length;
      const paused = Boolean(studio.queue?.paused);
      queue.hidden = !waiting && !paused;
      const now = `${waiting} ${paused}`;
      if (queue.dataset.now === now) return;
      queue.dataset.now = now;
      const had = queue.contains(document.activeElement);
      const flip = button(paused ? "Start the queue" : "Pause the queue", paused ? "Start the queue" : "Pause the queue",
        () => studio.post(`studio/queue/${paused ? "start" : "pause"}`).then(() => studio.pollSoon()));
      queue.replaceChildren(el("span", {}, `${waiting === 1 ? "1 run waits" : `${fmt.int(waiting)} runs wait`}${paused ? "; the queue is paused" : ""}`), flip);
      if (had) flip.focus();
    };
    const PAGE = 50; // rows at first, and more of them when asked for
    const FEW = 10; // of which nobody needs to search
    let limit = PAGE;
    let words = [];
    const search = el("input", { type: "search", placeholder: "Search runs", "aria-label": "Search runs by name, method, model, task, status or id", oninput: () => { words = search.value.toLowerCase().split(/\s+/).filter(Boolean); limit = PAGE; draw(); } });
    const count = el("span", { class: "sub", role: "status" });
    const headline = el("div", { class: "ps-listhead", hidden: true }, search, count);
    const list = el("div", { class: "ps-runs" });
    const more = el("button", { type: "button", class: "ps-link", onclick: () => { limit += PAGE; draw(); } }, "Show more");
    const foot = el("div", { class: "ps-listfoot", hidden: true }, more);
    root.append(queue, el("div", { class: "ps-card" }, headline, list, foot));
    const found = () => studio.runs.filter((run) => {
      const text = `${studio.titleOf(run)} ${run.method} ${run.model} ${run.task} ${run.status} ${run.id}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const draw = () => {
      drawQueue();
      if (list.querySelector("[data-sure]")) return; // do not take the question away
      const now = JSON.stringify([version, [...studio.selected], words, limit]);
      if (now === known) return;
      known = now;
      const matching = inOrder(words.length ? found() : studio.runs);
      const shown = matching.slice(0, limit);
      headline.hidden = studio.runs.length <= FEW;
      count.textContent = words.length ? `${fmt.int(matching.length)} of ${fmt.int(studio.runs.length)} runs` : `${fmt.int(studio.runs.length)} runs`;
      foot.hidden = shown.length === matching.length;
      more.textContent = `Show more (${fmt.int(matching.length - shown.length)})`;
      const focus = document.activeElement?.getAttribute("aria-label");
      list.replaceChildren(...(studio.runs.length
        ? shown.map((run) => line(run, root))
        : [el("p", { class: "ps-empty" }, "No runs yet. Choose a method on the Train tab and press Train.")]));
      if (focus) [...list.querySelectorAll("[aria-label]")].find((node) => node.getAttribute("aria-label") === focus)?.focus();
    };
    studio.on("runs", draw);
    studio.on("selection", draw);
    draw();
  });
})();
