// The page's own scripts share one object, `studio`: events, formats, requests, and islands (places that a script draws).
(() => {
  const listeners = {};
  const makers = {};
  const studio = (window.studio = {
    on(event, fn) { (listeners[event] ||= []).push(fn); },
    emit(event, data) { for (const fn of listeners[event] || []) fn(data); },

    /** Registers how islands of a kind come to life: `make(root, {props, watch, trigger})`. */
    island(kind, make) { makers[kind] = make; studio.launch(); },

    /** Brings the islands to life whose script is there; the others wait. */
    launch() {
      const waiting = (window.studioIslands ||= []);
      for (const item of [...waiting]) {
        const root = item.element.querySelector("[data-island]");
        const make = root && makers[root.dataset.island];
        if (!make) continue;
        waiting.splice(waiting.indexOf(item), 1);
        make(root, item);
      }
    },

    async fetchJSON(path) {
      const answer = await fetch(new URL(path, document.baseURI));
      if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
      return answer.json();
    },

    async post(path) {
      const answer = await fetch(new URL(path, document.baseURI), { method: "POST" });
      const body = await answer.json().catch(() => ({ error: `The app answered ${answer.status}.` }));
      if (!answer.ok) studio.say(body.error || `The app answered ${answer.status}.`);
      return answer.ok;
    },

    /** Shows a sentence for a few seconds. */
    say(text) {
      const note = studio.el("div", { class: "ps-toast", role: "status" }, text);
      document.body.append(note);
      setTimeout(() => note.remove(), 6000);
    },

    /** Makes an element; text always becomes text, never markup. */
    el(tag, attributes = {}, ...children) {
      const node = document.createElement(tag);
      for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else if (name === "style") node.style.cssText = value;
        else if (value === true) node.setAttribute(name, "");
        else if (value !== false && value != null) node.setAttribute(name, value);
      }
      node.append(...children.filter((child) => child != null && child !== false));
      return node;
    },

    css(name) { return getComputedStyle(document.body).getPropertyValue(name).trim(); },

    fmt: {
      int: (n) => (n == null ? "" : Math.round(n).toLocaleString("en-US")),
      short(n) {
        if (n == null) return "";
        const units = [[1e9, "B"], [1e6, "M"], [1e3, "K"]];
        for (const [size, unit] of units) if (n >= size) return `${(n / size).toPrecision(3).replace(/\.?0+$/, "")} ${unit}`;
        return String(Math.round(n));
      },
      bytes(n) {
        if (n == null) return "";
        for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) if (n >= size) return `${(n / size).toFixed(n / size < 10 ? 2 : 1)} ${unit}`;
        return `${Math.round(n)} B`;
      },
      pct(share) {
        if (share == null) return "";
        const value = share * 100;
        return `${value >= 10 ? value.toFixed(1) : value.toPrecision(3)} %`.replace("100.0", "100");
      },
      secs(s) {
        if (s == null) return "";
        if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
        const minutes = Math.floor(s / 60);
        return minutes < 60 ? `${minutes} min ${Math.round(s % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
      },
      num: (n, digits = 3) => (n == null ? "" : Math.abs(n) >= 100 ? n.toFixed(0) : n.toFixed(digits)),
    },
  });

  const logo = () => {
    const draw = (tag, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
      return node;
    };
    const svg = draw("svg", { viewBox: "0 0 24 24", width: 19, height: 19, fill: "none", "stroke-width": 2.3, "stroke-linecap": "round", style: "stroke:var(--ps-bg)" });
    svg.append(draw("path", { d: "M4 4v16h16" }), draw("path", { d: "M8 6c2 7 5 9 12 10" }));
    return studio.el("span", { class: "ps-logo", "aria-hidden": "true" }, svg);
  };

  // Header: what this is, where the data is, light or dark.
  const setDark = (dark) => {
    document.body.classList.toggle("dark", dark);
    try { localStorage.studioTheme = dark ? "dark" : "light"; } catch { /* storage may be forbidden */ }
    studio.emit("theme");
  };
  studio.island("header", (root, { props }) => {
    let stored = null;
    try { stored = localStorage.studioTheme; } catch { /* storage may be forbidden */ }
    const asked = new URLSearchParams(location.search).get("__theme");
    if (stored && !asked) setDark(stored === "dark");
    const { home, cores } = props.value;
    const toggle = studio.el("button", {
      class: "ps-icon", id: "theme-toggle", "aria-label": "Switch between light and dark", type: "button",
      onclick: () => setDark(!document.body.classList.contains("dark")),
    }, "◐");
    root.append(studio.el("header", { class: "ps-head" },
      logo(),
      studio.el("div", { class: "ps-title" },
        studio.el("h1", {}, "PEFT Studio"),
        studio.el("p", {}, "Train small adapters, watch them learn, compare what they say.")),
      studio.el("span", { class: "ps-where", title: `Runs and caches are in ${home}` }, `${cores} cores · data in ${home}`),
      toggle));
  });

  // The bridge lets scripts fill the form: `studio.fill({run: id})`, `studio.fill({method: name})`.
  studio.island("bridge", (_root, { trigger }) => {
    studio.fill = (request) => trigger("fill", request);
  });
  studio.island("submitted", (_root, { props, watch }) => {
    watch("value", () => { if (props.value) studio.emit("submitted", props.value); });
  });
  studio.island("try", (root, { props }) => {
    root.append(studio.el("button", {
      class: "ps-button primary", type: "button", onclick: () => studio.fill({ method: props.value.method }),
    }, "Try it"));
  });
  studio.launch();
})();
