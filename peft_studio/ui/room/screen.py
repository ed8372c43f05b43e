"""The teacher's screen: a page of its own, for a projector; all that students wrote is shown as text."""

from starlette.requests import Request

from peft_studio.access.entrance import Entrance
from peft_studio.access.room import Room
from peft_studio.errors import NotAllowedError


def room_of(request: Request) -> Room:
    """The class of the app that a request was made to; raises NotAllowedError where it is none."""
    entrance: Entrance | None = request.scope.get("state", {}).get("entrance")
    room = entrance.room if entrance is not None else None
    if not isinstance(room, Room):
        raise NotAllowedError("This app is not run as a class: it has no room.")
    return room


SCREEN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Room – PEFT Studio</title>
<style>:root { color-scheme: light dark; }
body { font: 18px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
#way { display: flex; flex-wrap: wrap; gap: 2rem; align-items: center; }
#code { font: 700 clamp(2.5rem, 12vw, 6rem)/1.1 ui-monospace, monospace; letter-spacing: .1em; }
#way img { width: min(14rem, 60vw); background: #fff; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8886; vertical-align: top; }
#plot { width: 100%; max-height: 60vh; } #plot[hidden] { display: none; }
#ask label { margin-right: 1rem; display: inline-block; }
input, select { font: inherit; max-width: 90vw; }
button { font: inherit; padding: .3rem .8rem; margin-right: .3rem; }</style></head>
<body><main><h1>Room</h1>
<div id="way"><img src="room.svg" alt="QR picture of the address"><div><div id="address"></div>
<div id="code"></div></div></div>
<p><button id="switch" hidden></button> <span id="state" role="status"></span></p>
<h2>One question put to all</h2>
<form id="ask"><label>Preset <select id="preset"></select></label>
<label>Setting <input id="setting" value="method.rank" required></label>
<label>Values <input id="values" value="1, 2, 4, 8, 16" required></label>
<button>Ask</button><button type="button" id="close">Take back</button>
<a href="room/answers.csv">CSV</a> <a href="room/answers.csv?names=0">CSV without names</a></form>
<div id="asked"></div><svg id="plot" viewBox="0 0 800 340" role="img" aria-label="Answers" hidden></svg>
<h2>Who is here <span id="count"></span></h2>
<div class="wide" tabindex="0" role="region" aria-label="Who is here"><table><thead><tr>
<th>Name</th><th>Last seen</th><th>Latest run</th><th>Status</th><th>Step</th><th>Loss</th><th>Change</th>
</tr></thead><tbody id="students"></tbody></table></div></main>
<script type="module">
const at = (id) => document.getElementById(id);
const cell = (row, text) => { row.insertCell().textContent = text; };
const say = (text) => { at("state").textContent = text; };
async function post(path) {
  const answer = await fetch(path, { method: "POST" });
  if (!answer.ok) say((await answer.json()).error);
  else await show();
}
function button(row, text, does) {
  const made = document.createElement("button");
  made.textContent = text;
  made.onclick = does;
  (row.cells[6] || row.insertCell()).append(made);
}
function ago(seen) {
  const seconds = Math.round(Date.now() / 1000 - seen);
  return !seen ? "not since the start" : seconds < 60 ? "now" : `${Math.round(seconds / 60)} min ago`;
}
function line(one) {
  const row = document.createElement("tr");
  const run = one.runs[0];
  cell(row, one.name);
  cell(row, ago(one.seen));
  cell(row, run ? run.title : "–");
  cell(row, run ? run.status : "–");
  cell(row, run ? `${run.step}${run.max_steps ? ` of ${run.max_steps}` : ""}` : "–");
  cell(row, run && run.loss != null ? run.loss.toFixed(3) : "–");
  const path = `room/students/${encodeURIComponent(one.id)}`;
  button(row, "Rename", () => {
    const name = prompt("New name", one.name);
    if (name) post(`${path}/rename?name=${encodeURIComponent(name)}`);
  });
  button(row, "Remove", () => confirm(`Remove ${one.name} from the room?`) && post(`${path}/remove`));
  return row;
}
async function show() {
  const answer = await fetch("room.json");
  const told = await answer.json();
  if (!answer.ok) return say(told.error);
  at("code").textContent = told.code;
  at("address").textContent = new URL("../", location.href).href;
  at("count").textContent = `(${told.students.length})`;
  at("switch").hidden = false;
  at("switch").textContent = told.paused ? "Let the room go on" : "Pause the room";
  at("switch").onclick = () => post(told.paused ? "queue/start" : "queue/pause");
  say(told.paused ? "The room is paused: no run is started." : "");
  at("students").replaceChildren(...told.students.map(line));
}
const NS = "http://www.w3.org/2000/svg";
function draw(kind, place, text = "") {
  const made = document.createElementNS(NS, kind);
  for (const [name, value] of Object.entries(place)) made.setAttribute(name, value);
  made.textContent = text;
  at("plot").append(made);
  return made;
}
function plot(asked) {
  const dots = asked.answers.filter((one) => one.best_eval_loss != null);
  at("plot").replaceChildren();
  at("plot").toggleAttribute("hidden", !dots.length);
  const losses = dots.map((one) => one.best_eval_loss);
  const low = Math.min(...losses), span = Math.max(...losses) - low || 1;
  const x = (value) => 120 + (asked.values.indexOf(value) + 0.5) * 660 / asked.values.length;
  const y = (loss) => 270 - 240 * (loss - low) / span;
  const ink = { fill: "currentColor", "font-size": 20 };
  for (const value of asked.values) {
    draw("text", { x: x(value), y: 305, "text-anchor": "middle", ...ink }, value);
    const here = dots.filter((one) => one.value === value).map((one) => one.best_eval_loss).sort((a, b) => a - b);
    if (!here.length) continue;
    const half = here.length >> 1;
    const middle = y(here.length % 2 ? here[half] : (here[half - 1] + here[half]) / 2);
    draw("line", { x1: x(value) - 30, x2: x(value) + 30, y1: middle, y2: middle, stroke: "currentColor" });
  }
  for (const loss of new Set([low, low + span])) draw("text", { x: 5, y: y(loss) + 6, ...ink }, loss.toPrecision(6));
  draw("text", { x: 450, y: 333, "text-anchor": "middle", ...ink }, `${asked.setting}: best validation loss`);
  for (const one of dots) {
    const dot = draw("circle", { cx: x(one.value), cy: y(one.best_eval_loss), r: 8, fill: "#c2410c" });
    const title = document.createElementNS(NS, "title");
    title.textContent = `${one.name}: ${one.best_eval_loss.toFixed(4)}`;
    dot.append(title);
  }
}
async function ask() {
  const answer = await fetch("room/answers.json");
  if (!answer.ok) return;
  const { presets, question } = await answer.json();
  if (!at("preset").options.length) at("preset").replaceChildren(...presets.map((name) => new Option(name, name)));
  const where = new URL("question", location.href).href;
  at("asked").textContent = question ? `${question.preset}, ${question.setting}: students answer at ${where}` : "";
  if (question) plot(question);
  else at("plot").toggleAttribute("hidden", true);
}
at("ask").onsubmit = async (event) => {
  event.preventDefault();
  const given = { preset: at("preset").value, setting: at("setting").value, values: at("values").value };
  await post(`room/ask?${new URLSearchParams(given)}`);
  ask();
};
at("close").onclick = async () => { await post("room/close"); ask(); };
ask();
setInterval(() => { if (!document.hidden) ask(); }, 3000);
show();
setInterval(() => { if (!document.hidden) show(); }, 2000);
</script></body></html>
"""

QUESTION = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The room's question – PEFT Studio</title>
<style>:root { color-scheme: light dark; }
body { font: 18px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 10vh auto; padding: 0 1rem; }
button { font: inherit; padding: .5rem 1.2rem; }</style></head>
<body><main><h1>The room's question</h1><p id="asked" role="status"></p><p id="paused"></p>
<p><button id="start" hidden>Start my run</button></p><p><a href="./../">To the app</a></p></main>
<script type="module">
const at = (id) => document.getElementById(id);
async function show() {
  const answer = await fetch("question.json");
  const { question, paused, error } = await answer.json();
  at("paused").textContent = paused ? "Your teacher has paused the room: runs wait." : "";
  at("start").hidden = !question || Boolean(question.run);
  at("asked").textContent = error || (!question ? "No question is put to the room now."
    : `${question.preset}: yours is ${question.setting} = ${question.value}.`
      + (question.run ? " Your run was started; it is in Runs." : ""));
}
at("start").onclick = async () => {
  const answer = await fetch("question/start", { method: "POST" });
  if (answer.ok) await show();
  else at("asked").textContent = (await answer.json()).error;
};
show();
setInterval(() => { if (!document.hidden) show(); }, 3000);
</script></body></html>
"""
