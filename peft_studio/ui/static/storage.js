// What runs take on the disk: the largest first, with what can be freed; and whole runs as files to take away or bring.
(() => {
  const { el, fmt } = studio;
  const ROWS = 10; // more are shown when asked for
  const ENDED = new Set(["finished", "stopped", "failed"]);

  studio.island("storage", (root) => {
    let use = null;
    let shown = ROWS;
    let open = false;
    let known = "";
    const sum = el("span", { class: "sub" });
    const warning = el("div", { class: "ps-problem", hidden: true });
    const table = el("div", { class: "ps-storage", hidden: true });
    const toggle = el("button", { type: "button", class: "ps-link", "aria-expanded": "false", onclick: () => { open = !open; draw(); look(true); } }, "Show");
    const file = el("input", { type: "file", accept: ".zip", class: "ps-sr", tabindex: "-1", "aria-label": "File of an exported run", onchange: () => bring(file.files[0]) });
    const take = el("button", { type: "button", class: "ps-link", onclick: () => file.click() }, "Import a run");
    const card = el("section", { class: "ps-card" },
      el("div", { class: "ps-cardhead" }, el("h2", {}, "Storage"), sum, el("span", { class: "grow" }), file, take, toggle), warning, table);
    root.append(card);

    async function bring(chosen) {
      if (!chosen) return;
      take.disabled = true;
      take.textContent = "Importing …";
      try {
        const answer = await fetch(new URL("studio/import", document.baseURI), { method: "POST", body: chosen });
        const said = await answer.json().catch(() => ({ error: `The app answered ${answer.status}.` }));
        studio.say(answer.ok ? "The run is in the list now." : said.error);
        if (answer.ok) studio.pollSoon();
      } catch { studio.say("The file could not be sent."); }
      take.disabled = false;
      take.textContent = "Import a run";
      file.value = "";
      look(true);
    }

    async function look(now = false) {
      const state = `${studio.runs.length} ${studio.runs.filter((run) => ENDED.has(run.status)).length}`;
      if (!root.offsetParent || (!now && state === known)) return;
      known = state;
      try { use = await studio.fetchJSON("studio/storage.json"); draw(); } catch { known = ""; }
    }

    const act = (path) => studio.post(path).then(() => { studio.pollSoon(1); return look(true); });
    function sure(text, label, work) {
      const made = el("button", { type: "button", class: "ps-link", "aria-label": label, title: label, onclick: () => {
        if (made.dataset.sure) { work(); return; }
        made.dataset.sure = "1";
        made.textContent = "Really?";
        setTimeout(() => { delete made.dataset.sure; made.textContent = text; }, 4000);
      } }, text);
      return made;
    }

    function line(item) {
      const run = studio.runs.find((other) => other.id === item.id);
      const title = run ? studio.titleOf(run) : item.id;
      const over = run && ENDED.has(run.status);
      const starred = use.starred.includes(item.id);
      return el("div", { class: "line", "data-run": item.id },
        el("div", { class: "name" }, el("b", {}, title), el("span", {}, item.id)),
        el("span", { class: "size" }, fmt.bytes(item.total)),
        el("span", { class: "acts" },
          el("button", { type: "button", class: "ps-link", "aria-pressed": String(starred), "aria-label": `Keep ${title} for good`, title: "A kept run is never deleted by itself", onclick: () => act(`studio/runs/${item.id}/star?on=${starred ? 0 : 1}`) }, starred ? "★ Kept" : "☆ Keep"),
          over && item.checkpoint > 0 && sure(`Free ${fmt.bytes(item.checkpoint)}`, `Free the checkpoint of ${title}: keeps adapter and metrics, but it cannot be resumed`, () => act(`studio/runs/${item.id}/free`)),
          over && el("a", { class: "ps-link", href: `studio/archive/${item.id}.zip`, download: `run-${item.id}.zip`, "aria-label": `Download all of ${title}` }, "Download"),
          over && sure("Delete", `Delete all of ${title}`, () => act(`studio/runs/${item.id}/delete`))));
    }

    function draw() {
      toggle.textContent = open ? "Hide" : "Show";
      toggle.setAttribute("aria-expanded", String(open));
      table.hidden = !open;
      if (!use) return;
      sum.textContent = `${fmt.bytes(use.total)} in ${fmt.int(use.runs.length)} ${use.runs.length === 1 ? "run" : "runs"} · ${fmt.bytes(use.free)} free on the disk`;
      warning.hidden = !use.warning;
      warning.textContent = use.warning;
      if (!open) { table.replaceChildren(); return; }
      const largest = [...use.runs].sort((a, b) => b.total - a.total);
      const more = largest.length > shown && el("button", { type: "button", class: "ps-link", onclick: () => { shown += 50; draw(); } }, `Show more (${fmt.int(largest.length - shown)})`);
      table.replaceChildren(...(largest.length ? largest.slice(0, shown).map(line) : [el("p", { class: "ps-note" }, "No runs yet.")]), more || "");
    }

    studio.on("runs", () => look());
    new ResizeObserver(() => look()).observe(root);
  });
})();
