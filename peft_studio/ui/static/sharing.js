// Links by which one shows runs to others, read-only: made, copied and taken back.

import { ask, fetchJSON } from "./api.js";
import { cardHead, el, linkButton, spacer, sureButton, toast } from "./dom.js";
import { on } from "./events.js";
import { integer } from "./format.js";
import { island } from "./islands.js";
import { runOf, store, titleOf } from "./run_store.js";

const WHO = {
  class: "Whoever in this class opens a link sees its runs, and can change nothing.",
  public: "Whoever opens a link sees its runs, and can change nothing.",
};

/** The address of a link, which also selects the runs that it shows. */
function addressOf({ share, runs }) {
  const page = new URL("./", document.baseURI);
  page.searchParams.set("share", share);
  if (runs.length) page.searchParams.set("runs", runs.join());
  return page.href.replaceAll("%2C", ",");
}

/** Puts an address where it can be pasted from; pages of plain HTTP may not, so there the field is selected. */
async function copy(field) {
  field.focus();
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    toast("The link is copied.");
  } catch {
    toast("Copy the selected link.");
  }
}

const namesOf = (runs) => runs.map((id) => (runOf(id) ? titleOf(runOf(id)) : id)).join(", ");

/** Whose runs may be shown here, among those that are selected. */
const chosen = () => [...store.selected].filter((id) => runOf(id)?.rights.includes("share"));

/** Opens the runs for whoever comes by a link. */
function showRuns() {
  if (new URLSearchParams(location.search).has("share")) {
    document.querySelector("#tabs [role=tab][data-tab-id=runs]")?.click();
  }
}

island("sharing", (root) => {
  let links = [];
  const make = linkButton("Share the selected runs", null, () => share(chosen()));
  const note = el("span", { class: "sub" });
  const list = el("div", { class: "ps-storage" });
  const card = el("section", { class: "ps-card", hidden: true }, cardHead("Shared by link", note, spacer(), make), list);
  root.append(card);

  function line(link) {
    const names = namesOf(link.runs);
    const field = el("input", {
      type: "text", readonly: true, value: addressOf(link), "aria-label": `Link that shows ${names}`,
    });
    const back = () => change(`studio/unshare?share=${encodeURIComponent(link.share)}`);
    return el("div", { class: "line", "data-share": link.share },
      el("div", { class: "name" }, el("b", {}, names), el("span", {}, field)),
      el("span", { class: "size" }, integer(link.runs.length)),
      el("span", { class: "acts" },
        linkButton("Copy", `Copy the link that shows ${names}`, () => copy(field)),
        sureButton("Take back", `Take back the link that shows ${names}`, "Really?", back)));
  }

  function draw() {
    const count = chosen().length;
    make.disabled = !count;
    make.textContent = count > 1 ? `Share the ${integer(count)} selected runs` : "Share the selected runs";
    if (!list.querySelector("[data-sure]")) list.replaceChildren(...links.map(line));
    list.hidden = !links.length;
  }

  async function look() {
    try {
      links = await fetchJSON("studio/shares.json");
    } catch {
      // As it was; asked again with the next change.
    }
    draw();
  }

  async function change(path) {
    const answer = await ask(path, { method: "POST" });
    if (answer.error) toast(answer.error);
    list.replaceChildren();
    await look();
    return answer;
  }

  async function share(runs) {
    const { share: made } = await change(`studio/share?runs=${runs.map(encodeURIComponent).join(",")}`);
    const field = links.some((link) => link.share === made) && list.querySelector(`[data-share="${made}"] input`);
    if (field) await copy(field);
  }

  ask("studio/me.json").then(({ access }) => {
    if (!WHO[access]) return;
    note.textContent = WHO[access];
    card.hidden = false;
    look();
    on("share", share);
    on("selection", draw);
    on("runs", () => links.length || draw());
  });
  showRuns();
});
