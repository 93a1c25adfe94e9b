"use strict";
// What models and users wrote is put here as text only (textContent), never as markup.
const $ = (id) => document.getElementById(id);
const MOST_PRINTED = 400, MOST_ANSWERS = 8, MOST_LINES = 500, DAY_S = 86400;

const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const visible = (text) => String(text).replace(CONTROLS, (c) => "\\x" + c.codePointAt(0).toString(16).padStart(2, "0"));
const short = (text, most) => { const line = visible(text).replace(/\s+/g, " ").trim(); return line.length > most ? line.slice(0, most - 1) + "…" : line; };
const number = (n) => n.toLocaleString("en");

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.map((one) => (typeof one === "string" ? visible(one) : one)));
  return made;
}

// ---- what is shown -----------------------------------------------------------------------------

let data, lanes = [], byId = new Map(), roots = [], length = 1, answers = new Map();
const SIGNS = { ended: "✓", stopped: "■", cut: "⊣", failed: "✗", skipped: "–", waiting: "…", running: "▶" };
const WORDS = { ended: "ended", stopped: "stopped (hatched)", cut: "cut (dashed)", failed: "lost or failed (dashed)", skipped: "skipped", waiting: "waits", running: "runs" };
const NOTHING = { parent: null, stretches: [], waited: [], size: 0, after: [], answer: null, vote: null, wins: false, critical: false, text: null, facts: [], lists: [] };
const amount = (n) => data.unit === "tokens" ? number(Math.round(n)) : n >= DAY_S ? `${number(Math.round(n))} s` : n >= 1 || n === 0 ? `${+n.toPrecision(4)} s` : `${+(n * 1000).toPrecision(3)} ms`;

function build() {
  lanes = data.lanes.map((lane, index) => ({ ...NOTHING, ...lane, children: [], index }));
  byId = new Map(lanes.map((one) => [one.id, one]));
  roots = [];
  for (const one of lanes) {
    one.above = one.parent === null ? undefined : byId.get(one.parent);
    one.siblings = one.above ? one.above.children : roots;
    one.position = one.siblings.push(one);
    one.begin = one.stretches.length ? one.stretches[0][0] : 0;
    one.finish = one.stretches.length ? one.stretches[one.stretches.length - 1][1] : one.begin;
  }
  length = lanes.reduce((most, one) => Math.max(most, one.finish), data.length || 0) || 1;
  // Answers: by votes, then those of branches that had none, each with a letter.
  answers = new Map(data.answers.map((one) => [one.key, { ...one }]));
  for (const one of lanes) if (one.vote !== null && !answers.has(one.vote)) answers.set(one.vote, { key: one.vote, words: one.answer ?? one.vote, votes: [] });
  [...answers.values()].forEach((one, index) => { one.letter = index < 26 ? String.fromCharCode(65 + index) : `#${index + 1}`; });
  if (chosen) chosen = byId.get(chosen.id) ?? null;
  filters();
  axis();
  refresh();
}

const wins = (answer) => data.outcomes.some((one) => one.winner !== null && one.winner === answer.key);
const chip = (answer) => el("span", { class: wins(answer) ? "chip win" : "chip", title: short(answer.words, 200) }, answer.letter);
const of_ = (index) => data.outcomes.length > 1 ? `${data.outcomes[index].name}: ` : "";

// ---- the top -----------------------------------------------------------------------------------

function top_() {
  document.title = short(data.title, 120);
  $("run").textContent = visible(data.about);
  $("question").textContent = visible(data.heading);
  $("answer").replaceChildren(...data.outcomes.map((one, index) => el("span", {}, of_(index), ...(one.answer === null ? [] : [el("b", { dir: "auto" }, one.answer), " "]), el("small", {}, one.verdict))));
  const voted = [...answers.values()].filter((one) => one.votes.some(Boolean)), totals = data.outcomes.map((_, index) => voted.reduce((sum, one) => sum + (one.votes[index] ?? 0), 0));
  const shown = voted.slice(0, MOST_ANSWERS).map((one) => {
    const counts = one.votes.map((votes, index) => (totals[index] ? `${of_(index)}${number(votes)} of ${number(totals[index])}` : null)).filter((told) => told !== null);
    const button = el("button", { type: "button", "aria-pressed": String(only === one.key), title: "Show the branches that found this" },
      chip(one), el("span", { class: "words", dir: "auto" }, short(one.words, 60)), el("meter", { value: one.votes.reduce((a, b) => a + b, 0), max: totals.reduce((a, b) => a + b, 0), "aria-label": "share of votes" }), counts.join(" · "));
    button.addEventListener("click", () => { only = only === one.key ? null : one.key; for (const other of $("votes").querySelectorAll("button")) other.setAttribute("aria-pressed", String(only !== null && other === button)); refresh(); });
    return el("li", {}, button);
  });
  if (voted.length > MOST_ANSWERS) shown.push(el("li", { class: "soft" }, `and ${number(voted.length - MOST_ANSWERS)} more answers`));
  $("votes").replaceChildren(...shown);
  $("votes").hidden = !shown.length;
  facts();
  $("notes-body").replaceChildren(...data.notes.flatMap(note));
  $("notes").hidden = !data.notes.length;
}

// One run has its figures in a line; several are compared in a table.
function facts() {
  const known = data.facts.filter(([, values]) => values.some((value) => value !== null)), compares = data.outcomes.length > 1;
  $("facts").hidden = compares;
  $("compared").hidden = !compares;
  $("facts").replaceChildren(...known.map(([name, [value], explained]) => el("div", { title: explained || false }, el("dt", { class: explained ? "told" : "" }, name), el("dd", {}, value))));
  if (!compares) return;
  const head = el("tr", {}, el("td"), ...data.outcomes.map((one) => el("th", { scope: "col" }, one.name)));
  $("compared").replaceChildren(el("table", {}, el("thead", {}, head), el("tbody", {}, ...known.map(([name, values, explained]) => {
    const differs = new Set(values).size > 1;
    return el("tr", { class: differs ? "differs" : "", title: explained || false }, el("th", { scope: "row" }, name, ...(differs ? [el("span", { class: "unseen" }, " differs")] : [])), ...values.map((value) => el("td", { dir: "auto" }, value ?? "–")));
  }))));
}

function note({ heading, pairs: given, lines }) {
  const parts = [el("h2", {}, heading)];
  if (given) parts.push(pairs(given));
  if (lines) {
    parts.push(el("ol", { tabindex: "0", "aria-label": heading }, ...lines.slice(0, MOST_LINES).map((line) => el("li", {}, line))));
    if (lines.length > MOST_LINES) parts.push(el("p", { class: "soft" }, `and ${number(lines.length - MOST_LINES)} more`));
  }
  return parts;
}

function pairs(values) {
  const list = el("dl");
  for (const [name, value] of values) if (value !== null && value !== undefined) list.append(el("dt", {}, String(name)), el("dd", { dir: "auto" }, typeof value === "object" ? JSON.stringify(value) : String(value)));
  return list;
}

// ---- which rows --------------------------------------------------------------------------------

const folded = new Set();
let rows = [], places = new Map(), only = null, chosen = null;

const FILTERS = [
  ["", "all", () => true],
  ["answer", "with an answer", (one) => one.answer !== null], ["winner", "with the winning answer", (one) => one.wins], ["none", "without an answer", (one) => one.answer === null],
  ["running", "running", (one) => one.kind === "running"], ["waiting", "waiting", (one) => one.kind === "waiting"], ["stopped", "stopped", (one) => one.kind === "stopped"],
  ["cut", "cut, lost or failed", (one) => one.kind === "cut" || one.kind === "failed"], ["skipped", "skipped", (one) => one.kind === "skipped"],
  ["critical", "on the chain that decided the time", (one) => one.critical],
];

// Only filters that would leave something, and not everything.
function filters() {
  const before = $("ends").value, useful = FILTERS.filter(([name, , test]) => { const count = lanes.reduce((sum, one) => sum + test(one), 0); return !name || name === before || (count && count < lanes.length); });
  $("ends").hidden = useful.length < 2;
  if (useful.map(([name]) => name).join() === [...$("ends").options].map((one) => one.value).join()) return;
  $("ends").replaceChildren(...useful.map(([name, words]) => el("option", { value: name }, name ? words : `all ${data.called}`)));
  $("ends").value = before;
}

function passes(one, words, ends) {
  if (only !== null && one.vote !== only) return false;
  if (ends && !FILTERS.find(([name]) => name === ends)[2](one)) return false;
  if (!words) return true;
  one.haystack ??= `${one.id}\n${one.name}\n${one.answer ?? ""}\n${one.why}\n${one.text ?? ""}`.toLowerCase();
  return one.haystack.includes(words);
}

function refresh() {
  const words = $("search").value.trim().toLowerCase(), ends = $("ends").value, filters = words || only !== null || ends;
  const matched = new Set(lanes.filter((one) => passes(one, words, ends)));
  const shown = new Set(matched);
  for (const one of matched) for (let up = one.above; up && !shown.has(up); up = up.above) shown.add(up);
  rows = [];
  const stack = [...roots].reverse();
  while (stack.length) { // chains may be deep
    const one = stack.pop();
    if (!shown.has(one)) continue;
    one.matched = matched.has(one);
    one.level = one.above ? one.above.level + 1 : 1;
    rows.push(one);
    if (filters || !folded.has(one.id)) for (let at = one.children.length - 1; at >= 0; at--) stack.push(one.children[at]);
  }
  places = new Map(rows.map((one, place) => [one, place]));
  const told = filters ? `${number(matched.size)} of ${number(lanes.length)} ${data.called} match` : `${number(rows.length)} of ${number(lanes.length)} ${data.called} shown`;
  if ($("count").textContent !== told) $("count").textContent = told;
  $("rows").style.height = `${rows.length * rowHeight()}px`;
  overview();
  draw();
}

// ---- drawing ---------------------------------------------------------------------------------

const rowHeight = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
const share = (tokens) => `${(100 * tokens) / length}%`;
let printing = false;

function rowOf(one, place, height) {
  const folds = one.children.length > 0, open = folds && !folded.has(one.id), answer = one.vote === null ? null : answers.get(one.vote), plain = one.kind === "ended";
  const row = el("div", { id: `row-${one.index}`, role: "treeitem", class: `row ${one.kind}${one.wins ? " winner" : ""}${one.critical ? " critical" : ""}${one.matched ? "" : " dim"}`, "aria-level": String(one.level), "aria-setsize": String(one.siblings.length),
    "aria-posinset": String(one.position), "aria-selected": String(one === chosen), "aria-expanded": folds ? String(open) : null });
  const name = el("div", { class: "name" }, el("span", { class: "foldmark", "aria-hidden": "true" }, folds ? (open ? "▾" : "▸") : ""), el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[one.kind]), el("b", {}, one.id));
  name.style.paddingLeft = `${4 + Math.min(one.level - 1, 8) * 14}px`;
  if (answer) name.append(chip(answer));
  const more = [data.unit === "tokens" ? " tokens" : "", plain ? `, ${short(one.why, 160)}` : "", one.wins ? ", the winning answer" : "", one.critical ? ", on the chain that decided the time" : ""].join("");
  name.append(el("span", { class: "words", dir: "auto" }, `${short(one.name, 60)}${one.answer === null ? "" : ` → ${short(one.answer, 80)}`}${plain ? "" : ` – ${short(one.why, 160)}`}`), el("small", {}, one.size ? amount(one.size) : ""), el("span", { class: "unseen" }, more));
  const lane = el("div", { class: "lane", "aria-hidden": "true" });
  const bar = (kind, from, to) => { const made = el("i", { class: kind }); made.style.left = share(from); made.style.width = share(to - from); lane.append(made); };
  if (one.stretches.length > 1) bar("wait", one.begin, one.finish);
  for (const [from, to] of one.waited) bar("wait", from, to);
  for (const [from, to, failed] of one.stretches) bar(failed ? "lost" : "", from, to);
  const end = el("em", {}, `${SIGNS[one.kind]}${answer ? ` ${answer.letter}` : ""}`);
  end.style.left = share(one.finish);
  lane.append(end);
  row.append(name, lane);
  row.title = short(`${one.why}${one.answer === null ? "" : ` → ${one.answer}`}`, 300);
  row.style.top = `${place * height}px`;
  return row;
}

function draw() {
  const tree = $("tree"), height = rowHeight(), extra = 6;
  const first = printing ? 0 : Math.max(0, Math.floor(tree.scrollTop / height) - extra);
  const last = printing ? Math.min(rows.length, MOST_PRINTED) : Math.min(rows.length, Math.ceil((tree.scrollTop + tree.clientHeight) / height) + extra);
  const parts = [];
  for (let place = first; place < last; place++) parts.push(rowOf(rows[place], place, height));
  $("rows").replaceChildren(...parts);
  links(first, last, height);
  if (chosen && places.has(chosen)) tree.setAttribute("aria-activedescendant", `row-${chosen.index}`); else tree.removeAttribute("aria-activedescendant");
  const whole = Math.max(1, rows.length * height), view = $("overview").querySelector("i");
  view.style.top = `${(100 * tree.scrollTop) / whole}%`;
  view.style.height = `${Math.min(100, (100 * tree.clientHeight) / whole)}%`;
  view.hidden = rows.length * height <= tree.clientHeight;
}

function links(first, last, height) {
  const lane = $("rows").querySelector(".lane");
  if (!lane) return;
  const box = lane.getBoundingClientRect(), base = $("rows").getBoundingClientRect(), left = box.left - base.left, width = box.width;
  $("axis").style.marginLeft = `${left}px`;
  $("axis").style.width = `${width}px`;
  const middle = (box.top + box.height / 2 - base.top) - first * height;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "links"); svg.setAttribute("aria-hidden", "true"); svg.setAttribute("width", "1"); svg.setAttribute("height", "1");
  const x = (tokens) => left + (width * tokens) / length;
  const y = (place) => Math.min(Math.max(place, first - 1), last) * height + middle;
  const line = (kind, at, from, to) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", kind); path.setAttribute("d", `M${x(at).toFixed(1)} ${y(from)}V${y(to)}`);
    svg.append(path);
  };
  for (let place = first; place < last; place++) {
    const one = rows[place], parent = one.above && places.get(one.above);
    if (parent !== undefined) {
      line("spawn", one.begin, parent, place);
      const joined = data.unit === "tokens" && one.kind !== "stopped" && one.kind !== "failed" && one.above.stretches.find(([from]) => from >= one.finish && from > one.begin);
      if (joined) line("join", joined[0], place, parent);
    }
    for (const id of one.after) { const source = places.get(byId.get(id)); if (source !== undefined) line("join", one.begin, source, place); }
  }
  $("rows").append(svg);
}

function axis() {
  const parts = [];
  for (let at = 0; at <= 4; at++) { const tick = el("span", {}, `${amount((length * at) / 4)}${at === 4 && data.unit === "tokens" ? " tokens" : ""}`); tick.style.left = `${25 * at}%`; parts.push(tick); }
  $("axis").replaceChildren(...parts);
}

function overview() {
  const canvas = $("overview").querySelector("canvas"), scale = window.devicePixelRatio || 1;
  const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale))), height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale)));
  const colours = getComputedStyle(document.documentElement), pen = canvas.getContext("2d"), each = height / Math.max(1, rows.length);
  const named = Object.fromEntries(["run", "win", "stop", "bad"].map((name) => [name, colours.getPropertyValue(`--${name}`)]));
  rows.forEach((one, place) => {
    pen.fillStyle = one.wins ? named.win : one.kind === "stopped" ? named.stop : one.kind === "ended" || one.kind === "running" ? named.run : named.bad;
    pen.globalAlpha = one.matched ? 1 : 0.35;
    for (const [from, to] of one.stretches) pen.fillRect((from / length) * width, place * each, Math.max(1, ((to - from) / length) * width), Math.max(0.6, Math.min(each * 0.8, 12 * scale)));
  });
}

// ---- one branch --------------------------------------------------------------------------------

// Where an answer stands last in a text, whatever the spaces in it; -1 where it does not.
function lastPlace(text, answer) {
  const exact = text.lastIndexOf(answer);
  if (exact >= 0 || answer.length > 400) return [exact, exact + answer.length];
  const letters = [...answer.replace(/\s+/g, "")].map((one) => one.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
  let found = [-1, -1];
  if (letters.length) for (const match of text.matchAll(new RegExp(letters.join("\\s*"), "g"))) found = [match.index, match.index + match[0].length];
  return found;
}

function marked(text, answer, words) {
  const pre = el("pre", { dir: "auto", role: "region", tabindex: "0", "aria-label": "Its text" });
  const [at, stop] = answer ? lastPlace(text, answer) : [-1, -1];
  const plain = (part) => {
    const low = part.toLowerCase();
    let from = 0, found = words && low.length === part.length ? low.indexOf(words) : -1, count = 0;
    for (; found >= 0 && count < 1000; count++, found = low.indexOf(words, from)) { pre.append(visible(part.slice(from, found)), el("mark", { class: "found" }, part.slice(found, found + words.length))); from = found + words.length; }
    pre.append(visible(part.slice(from)));
  };
  if (at < 0) plain(text);
  else { plain(text.slice(0, at)); pre.append(el("mark", { title: "the answer" }, text.slice(at, stop))); plain(text.slice(stop)); }
  return { pre, stands: at >= 0 };
}

function detail(one) {
  const panel = $("detail"), answer = one.vote === null ? null : answers.get(one.vote), place = panel.scrollTop, focused = panel.contains(document.activeElement);
  panel.replaceChildren(el("button", { class: "close", type: "button", "aria-label": "Close", onclick: () => { choose(null); $("tree").focus(); } }, "✕"),
    el("h2", { dir: "auto" }, `${one.id} ${short(one.name, 200)}`),
    pairs([["end", `${SIGNS[one.kind]} ${one.why}`], ["answer", data.unit !== "tokens" ? null : one.answer === null ? "none" : `${answer ? `${answer.letter}: ` : ""}${one.answer}`], ["wins", one.wins ? "yes, with the winning answer" : null],
      [data.unit, `${one.size ? amount(one.size) : "none"}${one.stretches.length ? `, at ${one.stretches.map(([from, to]) => `${amount(from)}–${amount(to)}`).join(", ")}` : ""}`],
      ["spawned by", one.above ? one.above.id : null], ["children", one.children.length ? number(one.children.length) : null], ["waited for", one.after.length ? one.after.join(", ") : null],
      ["decided the time", one.critical ? "yes: it is on the chain that took longest" : null], ...one.facts]));
  for (const [heading, lines] of one.lists) panel.append(el("h3", {}, heading), el("ol", {}, ...lines.map((line) => el("li", {}, line))));
  if (one.text !== null) {
    const { pre, stands } = marked(one.text, one.answer, $("search").value.trim().toLowerCase());
    panel.append(el("h3", {}, stands ? "What it wrote, its answer marked" : "What it wrote"), pre);
  }
  panel.scrollTop = place;
  if (focused) panel.querySelector("button").focus();
}

function choose(one, { focus = false, scroll = true } = {}) {
  chosen = one;
  const panel = $("detail");
  panel.hidden = one === null;
  if (one === null) { history.replaceState(null, "", location.pathname + location.search); draw(); return; }
  history.replaceState(null, "", `#${encodeURIComponent(one.id)}`);
  detail(one);
  if (scroll) reveal(one);
  draw();
  if (focus) panel.querySelector("button").focus();
}

function reveal(one) {
  let hidden = false;
  for (let up = one.above; up; up = up.above) hidden = folded.delete(up.id) || hidden;
  if (!places.has(one) && !hidden) { $("search").value = ""; $("ends").value = ""; only = null; hidden = true; for (const other of $("votes").querySelectorAll("button")) other.setAttribute("aria-pressed", "false"); }
  if (hidden) refresh();
  const tree = $("tree"), height = rowHeight(), top = places.get(one) * height;
  if (top < tree.scrollTop) tree.scrollTop = top;
  else if (top + height > tree.scrollTop + tree.clientHeight) tree.scrollTop = top + height - tree.clientHeight;
}

function fold(one, closes) {
  if (!one.children.length) return;
  if (closes) folded.add(one.id); else folded.delete(one.id);
  refresh();
}

// ---- what people do ----------------------------------------------------------------------------

function linked() {
  let id = "";
  try { id = decodeURIComponent(location.hash.slice(1)); } catch { /* no link of ours */ }
  const one = byId.get(id);
  if (one && one !== chosen) choose(one);
}

const KEYS = {
  ArrowDown: (place) => place + 1, ArrowUp: (place) => place - 1, Home: () => 0, End: () => rows.length - 1,
  PageDown: (place) => place + 15, PageUp: (place) => place - 15,
};

$("tree").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !rows.length) return;
  const place = chosen && places.has(chosen) ? places.get(chosen) : -1, one = rows[place];
  if (KEYS[event.key]) choose(rows[Math.min(rows.length - 1, Math.max(0, KEYS[event.key](place)))]);
  else if (event.key === "ArrowRight" && one) { if (folded.has(one.id)) fold(one, false); else if (one.children.length) choose(one.children.find((child) => places.has(child)) ?? one); }
  else if (event.key === "ArrowLeft" && one) { if (one.children.length && !folded.has(one.id)) fold(one, true); else if (one.above) choose(one.above); }
  else if (event.key === "Enter" && one) choose(one, { focus: true });
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) { event.preventDefault(); $("search").focus(); }
  if (event.key === "Escape" && chosen) { choose(null); $("tree").focus(); }
});
$("rows").addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (!row) return;
  const one = lanes[Number(row.id.slice(4))];
  if (event.target.closest(".foldmark") && one.children.length) fold(one, !folded.has(one.id)); else choose(one);
});
let waiting = 0;
$("search").addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => { $("tree").scrollTop = 0; refresh(); }); });
$("ends").addEventListener("change", refresh);
$("fold").addEventListener("click", () => { for (const one of lanes) if (one.children.length) folded.add(one.id); refresh(); });
$("unfold").addEventListener("click", () => { folded.clear(); refresh(); });
let asked = false;
const soon = () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; draw(); }); } };
$("tree").addEventListener("scroll", soon, { passive: true });
$("overview").addEventListener("pointerdown", (event) => {
  const strip = $("overview").getBoundingClientRect(), go = (at) => { $("tree").scrollTop = ((at - strip.top) / strip.height) * rows.length * rowHeight() - $("tree").clientHeight / 2; };
  go(event.clientY);
  const move = (moved) => go(moved.clientY);
  window.addEventListener("pointermove", move);
  window.addEventListener("pointerup", () => window.removeEventListener("pointermove", move), { once: true });
});
window.addEventListener("resize", refresh);
window.addEventListener("hashchange", linked);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", overview);
window.addEventListener("beforeprint", () => {
  printing = true;
  $("notes").open = true;
  $("rows").style.height = `${Math.min(rows.length, MOST_PRINTED) * rowHeight()}px`;
  if (rows.length > MOST_PRINTED) $("count").textContent += `; the first ${MOST_PRINTED} are printed`;
  draw();
});
window.addEventListener("afterprint", () => { printing = false; refresh(); });

// ---- as it happens -----------------------------------------------------------------------------

function take(fresh) {
  data = fresh;
  $("legend").textContent = [...new Set(data.lanes.map((one) => one.kind))].map((kind) => `${SIGNS[kind]} ${WORDS[kind]}`).join("  ") + (data.unit === "tokens" ? " · outlined: the winning answer · dots: waits for others · lines: spawned (solid), joined (dashed) · letters: answers" : " · outlined: the chain that decided the time · dots: in the queue, or until the next attempt · lines: spawned (solid), waited for (dashed)");
  $("tree").setAttribute("aria-label", `${data.called}: arrows move and fold, Enter shows the text`);
  build();
  top_();
  if (chosen) detail(chosen);
}

// What has changed of lanes: their new fields, and what they wrote more.
function merge(changes) {
  const known = new Map(data.lanes.map((one) => [one.id, one]));
  for (const { more, ...fields } of changes) {
    const lane = known.get(fields.id);
    if (!lane) { const made = { ...fields, text: more }; known.set(made.id, made); data.lanes.push(made); }
    else Object.assign(lane, fields, { text: lane.text + more });
  }
  build();
  if (chosen && changes.some((one) => one.id === chosen.id)) detail(chosen);
}

function follow(address) {
  const source = new EventSource(location.origin + address), told = $("live");
  let late = [], waits = false;
  const say = (words) => { told.textContent = words; };
  say("connecting …");
  source.addEventListener("page", (event) => { late = []; take(JSON.parse(event.data)); linked(); say(data.over ? "" : "● live"); if (data.over) source.close(); });
  source.addEventListener("lanes", (event) => {
    late.push(...JSON.parse(event.data));
    if (!waits) { waits = true; requestAnimationFrame(() => { waits = false; if (late.length) merge(late); late = []; }); }
  });
  source.addEventListener("gone", () => { source.close(); say("its program has left without an end"); });
  source.addEventListener("error", () => say(source.readyState === EventSource.CLOSED ? "the connection was refused; load the page again" : "the connection was lost; trying again …"));
}

take(JSON.parse($("data").textContent));
linked();
if (data.live) follow(data.live);
new ResizeObserver(soon).observe($("tree"));
