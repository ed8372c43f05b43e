"""The teacher's screen: a page of its own, for a projector; all that students wrote is shown as text."""

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
button { font: inherit; padding: .3rem .8rem; margin-right: .3rem; }</style></head>
<body><main><h1>Room</h1>
<div id="way"><img src="room.svg" alt="QR picture of the address"><div><div id="address"></div>
<div id="code"></div></div></div>
<p><button id="switch" hidden></button> <span id="state" role="status"></span></p>
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
show();
setInterval(() => { if (!document.hidden) show(); }, 2000);
</script></body></html>
"""
