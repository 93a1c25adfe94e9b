"use strict";
// What models and users wrote is put here as text only (textContent), never as markup.
const places = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const short = (text, most) => { const line = String(text).replace(/\s+/g, " ").trim().replace(CONTROLS, (c) => "\\x" + c.codePointAt(0).toString(16).padStart(2, "0")); return line.length > most ? line.slice(0, most - 1) + "…" : line; };
let runs = [];

function part(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function item(run) {
  const link = part("a", short(run.question, 300), { href: places.runs + encodeURIComponent(run.id), dir: "auto" });
  const answer = run.answer === null ? run.verdict : `→ ${short(run.answer, 200)} ${run.verdict}`;
  const when = run.began ? `${new Date(run.began * 1000).toLocaleString()} · ` : "";
  const made = part("li", "");
  made.append(link, part("span", run.running ? "● running" : answer, { class: run.running ? "now" : "", dir: "auto" }), part("small", `${run.id} · ${when}${short(run.about, 200)}`));
  return made;
}

function draw() {
  const words = $("search").value.trim().toLowerCase(), shown = runs.filter((run) => `${run.id} ${run.question} ${run.answer ?? ""} ${run.about}`.toLowerCase().includes(words));
  const at = document.activeElement && document.activeElement.getAttribute("href");
  $("runs").replaceChildren(...shown.map(item));
  if (at) for (const link of $("runs").querySelectorAll("a")) if (link.getAttribute("href") === at) link.focus();
  $("count").textContent = runs.length ? `${shown.length} of ${runs.length} runs` : "no run yet";
}

$("search").addEventListener("input", draw);
const source = new EventSource(location.origin + places.events);
source.addEventListener("list", (event) => { runs = JSON.parse(event.data); draw(); $("live").textContent = "● live"; });
source.addEventListener("error", () => { $("live").textContent = source.readyState === EventSource.CLOSED ? "the connection was refused; load the page again" : "the connection was lost; trying again …"; });
