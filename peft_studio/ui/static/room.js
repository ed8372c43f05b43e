// The teacher's tab: the way in, one question put to all, who is here. Drawn for a projector, too.

import { ask, fetchJSON, oneAtATime, post } from "./api.js";
import { cardHead, el, linkButton, openInPlace, problem, scrollBox, spacer, sureButton, tableHead, whenShown }
  from "./dom.js";
import { on } from "./events.js";
import { decimal } from "./format.js";
import { island } from "./islands.js";
import { questionCard } from "./room_question.js";

const PAUSE = 2000; // milliseconds between two looks
const HERE = 60; // seconds since somebody's page last asked

function ago(seen) {
  const seconds = Date.now() / 1000 - seen;
  if (!seen) return "not since the start";
  return seconds < HERE ? "here now" : `${Math.round(seconds / 60)} min ago`;
}

/** The room's code and picture, or why students cannot come in. */
function wayCard(look) {
  const picture = el("img", { alt: "QR picture of the address", width: 168, height: 168 });
  const address = el("p", { class: "ps-address ps-verbatim" });
  const code = el("p", { class: "ps-code ps-verbatim", "aria-label": "Code of the room" });
  const trouble = problem("", { hidden: true, role: "alert" });
  const flip = el("button", { type: "button", class: "ps-button" });
  const full = el("button", { type: "button", class: "ps-button", onclick: () => {
    const place = full.closest(".ps-room");
    if (document.fullscreenElement) document.exitFullscreen();
    else place.requestFullscreen().catch(() => {}); // a browser may not
  } }, "Full screen");
  const card = el("section", { class: "ps-card" }, cardHead("Come in", spacer(), flip, full),
    el("div", { class: "ps-way" }, picture, el("div", {}, address, code,
      el("p", { class: "ps-note" }, "Open the address, write your name and the code.")), trouble));
  function update(told) {
    address.textContent = told.address;
    code.textContent = told.code;
    trouble.hidden = picture.hidden = !told.trouble;
    picture.hidden = Boolean(told.trouble);
    trouble.textContent = told.trouble;
    if (!told.trouble && picture.dataset.of !== told.address) {
      picture.dataset.of = told.address;
      picture.src = new URL("studio/room.svg", document.baseURI).href;
    }
    flip.textContent = told.paused ? "Let the room go on" : "Pause the room";
    flip.setAttribute("aria-pressed", String(told.paused));
    flip.onclick = async () => {
      await post(`studio/queue/${told.paused ? "start" : "pause"}`);
      look();
    };
  }
  return { card, update };
}

function renamed(one, look) {
  const path = `studio/room/students/${encodeURIComponent(one.id)}`;
  const open = linkButton("Rename", `Rename ${one.name}`, () => {
    const name = el("input", { type: "text", value: one.name, maxlength: 40, "aria-label": "New name" });
    const close = openInPlace(open, el("form", { class: "ps-rename", onsubmit: async (event) => {
      event.preventDefault();
      if (!await post(`${path}/rename?name=${encodeURIComponent(name.value)}`)) return;
      close();
      look();
    } }, name, el("button", { class: "ps-link" }, "Save")));
    name.select();
  });
  const remove = sureButton("Remove", `Remove ${one.name} from the room`, "Really?", async () => {
    await post(`${path}/remove`);
    delete remove.dataset.sure;
    look();
  });
  return el("td", { class: "ps-change" }, open, " ", remove);
}

function studentLine(one, look) {
  const run = one.runs[0];
  const steps = run && `${run.step}${run.max_steps ? ` of ${run.max_steps}` : ""}`;
  return el("tr", {},
    el("th", { scope: "row", class: "ps-verbatim" }, one.name),
    el("td", {}, ago(one.seen)),
    el("td", { class: "ps-verbatim" }, run ? run.name || run.title : "–"),
    el("td", {}, run ? el("span", { class: `ps-pill ${run.status}` }, run.status) : "–"),
    el("td", {}, steps || "–"),
    el("td", {}, (run && decimal(run.loss, 3)) || "–"),
    el("td", {}, String(one.runs.length || "–")),
    renamed(one, look));
}

function studentsCard(look) {
  const count = el("span", { class: "sub", role: "status" });
  const body = el("tbody");
  const heads = ["Name", "Last seen", "Latest run", "Status", "Step", "Loss", "Runs", "Change"];
  const table = el("table", { class: "ps-table" }, tableHead(heads), body);
  const empty = el("p", { class: "ps-empty" }, "Nobody is here yet. Show the address and the code above.");
  const box = scrollBox("Who is here", table);
  function update({ students }) {
    const here = students.filter((one) => Date.now() / 1000 - one.seen < HERE).length;
    count.textContent = `${here} of ${students.length} are here`;
    empty.hidden = Boolean(students.length);
    box.hidden = !students.length;
    if (body.querySelector("[data-sure], form")) return; // do not take a question or a name away
    const state = JSON.stringify(students.map((one) => [one.id, one.name, ago(one.seen), one.runs]));
    if (body.dataset.state === state) return;
    body.dataset.state = state;
    const focused = document.activeElement?.getAttribute("aria-label");
    body.replaceChildren(...students.map((one) => studentLine(one, look)));
    if (focused) [...body.querySelectorAll("[aria-label]")].find((n) => n.ariaLabel === focused)?.focus();
  }
  return { card: el("section", { class: "ps-card" }, cardHead("Who is here", count), empty, box), update };
}

island("room", (root) => {
  const alone = oneAtATime();
  let timer = 0;
  const look = async () => {
    clearTimeout(timer);
    if (document.visibilityState === "visible" && root.offsetParent) {
      await alone(async () => {
        const told = await ask("studio/room.json");
        if (!told.error) parts.forEach((part) => part.update(told));
      });
    }
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE);
  };
  const parts = [wayCard(look), questionCard(look), studentsCard(look)];
  root.append(el("div", { class: "ps-room" }, ...parts.map(({ card }) => card)));
  let isShown = false;
  whenShown(root, async () => {
    if (!isShown) parts[1].offer(await fetchJSON("studio/room/presets.json"));
    isShown = true;
    look();
  });
  on("language", look);
});
