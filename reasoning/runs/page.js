"use strict";
// What models and users wrote is put here as text only (textContent), never as markup.
const run = JSON.parse(document.getElementById("data").textContent);
const report = run.report;
const $ = (id) => document.getElementById(id);
const MOST_PRINTED = 400, MOST_ANSWERS = 8, MOST_DECISIONS = 500;

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

// ---- the branches ----------------------------------------------------------------------------

const branches = report.threads.map((thread, index) => ({ ...thread, ...run.branches[index], children: [], index }));
const byId = new Map(branches.map((one) => [one.id, one]));
const roots = [];
for (const one of branches) {
  const parent = one.parent === null ? undefined : byId.get(one.parent);
  one.above = parent;
  const siblings = parent ? parent.children : roots;
  one.position = siblings.push(one);
  one.siblings = siblings;
  one.begin = one.stretches.length ? one.stretches[0][0] : 0;
  one.finish = one.stretches.length ? one.stretches[one.stretches.length - 1][1] : one.begin;
  one.kind = one.lost || one.state === "failed" ? "failed"
    : one.ending === "stopped" ? "stopped"
    : one.ending === "end" || one.ending === "stop-text" ? "ended" : "cut";
}
const length = branches.reduce((most, one) => Math.max(most, one.finish), 1);
const SIGNS = { ended: "✓", stopped: "■", cut: "⊣", failed: "✗" };

// Answers: by votes, then those of branches that had none, each with a letter.
const answers = new Map();
const addAnswer = (key, words, votes) => { if (!answers.has(key)) answers.set(key, { key, words, votes, found: 0 }); return answers.get(key); };
for (const [key, votes] of Object.entries(report.votes).sort((a, b) => b[1] - a[1])) addAnswer(key, key, votes);
for (const one of branches) {
  if (one.vote === null) continue;
  const answer = addAnswer(one.vote, one.answer ?? one.vote, 0);
  if (!answer.found++) answer.words = one.answer ?? one.vote; // as it was written, where a key is not
}
[...answers.values()].forEach((one, index) => { one.letter = index < 26 ? String.fromCharCode(65 + index) : `#${index + 1}`; });
const given = branches.find((one) => report.answer !== null && one.answer === report.answer && one.vote !== null);
const winner = report.answer === null ? null : given ? given.vote : null;
for (const one of branches) one.wins = winner !== null && one.vote === winner;

const chip = (answer) => el("span", { class: answer.key === winner ? "chip win" : "chip", title: short(answer.words, 200) }, answer.letter);

// ---- the top ---------------------------------------------------------------------------------

const EXPLAINED = {
  work: "All tokens, given and generated, by stopped branches too; what branches share is counted once.",
  span: "The longest chain of tokens that depend on each other: the least latency that any number of processors allows.",
  parallelism: "Tokens generated, over those of the longest chain of branches; 1 is one branch.",
  saved: "An estimate: how many more tokens as many full samples as the policy allows would have written.",
  leaked: "Generated for branches after they were told to stop.",
  confidence: "The winner's share of all top-level branches.",
  cached: "Tokens of prompts that came from the server's prefix cache.",
};

function top_() {
  const when = new Date(run.began * 1000).toISOString().replace("T", " ").slice(0, 19);
  $("run").textContent = `run ${run.id} · ${when} UTC · reason ${visible(run.command)} · ${visible(report.strategy)} of ${visible(report.model)}${report.status === "finished" ? "" : ` · ${report.status}`}`;
  $("question").textContent = visible(report.problem);
  const verdict = report.verified === true ? "✓ verified" : report.verified === false ? "✗ rejected by the verifier" : "not verifiable";
  if (report.answer === null) $("answer").append("No answer", report.abstained ? `: ${visible(report.abstained)}` : "");
  else $("answer").append(el("b", { dir: "auto" }, report.answer), ` `, el("small", {}, `${verdict}${report.tied ? ", tied" : ""}${report.selected_by ? `, by ${report.selected_by}` : ""}`));
  const total = Object.values(report.votes).reduce((sum, one) => sum + one, 0);
  const voted = [...answers.values()].filter((one) => one.votes);
  for (const one of voted.slice(0, MOST_ANSWERS)) {
    const button = el("button", { type: "button", "aria-pressed": "false", title: "Show the branches that found this" },
      chip(one), el("span", { class: "words", dir: "auto" }, short(one.words, 60)), el("meter", { value: one.votes, max: total, "aria-label": "share of votes" }), `${number(one.votes)} of ${number(total)}`);
    button.addEventListener("click", () => { only = only === one.key ? null : one.key; for (const other of $("votes").querySelectorAll("button")) other.setAttribute("aria-pressed", String(only !== null && other === button)); refresh(); });
    $("votes").append(el("li", {}, button));
  }
  if (voted.length > MOST_ANSWERS) $("votes").append(el("li", { class: "soft" }, `and ${number(voted.length - MOST_ANSWERS)} more answers`));
  const usage = report.usage, facts = [
    ["work", `${number(usage.work_tokens)} tokens`], ["span", `${number(usage.span_tokens)} tokens`], ["parallelism", report.parallelism.toFixed(2)],
    ["saved", report.saved_tokens === null ? null : `about ${number(report.saved_tokens)} tokens`], ["leaked", usage.leaked_tokens ? number(usage.leaked_tokens) : null],
    ["cached", usage.cached_tokens === null ? null : number(usage.cached_tokens)],
    ["confidence", total > 1 ? `${Math.round(report.confidence * 100)} %` : null], ["branches", number(branches.length)], ["time", `${report.wall_s.toFixed(2)} s`],
    ["emulated", report.emulated.join(", ") || null], ["fork refused", report.fork_refused], ["join skipped", report.join_skipped], ["ignored", report.ignored.join(", ") || null], ["errors", report.errors.join("; ") || null]];
  for (const [name, value] of facts) if (value !== null) $("facts").append(el("div", { title: EXPLAINED[name] ?? false }, el("dt", {}, name), el("dd", {}, value)));
  notes();
  $("legend").textContent = "✓ ended  ■ stopped (hatched)  ⊣ cut (dashed)  ✗ lost or failed · outlined: the winning answer · dots: waits for others · lines: spawned (solid), joined (dashed) · letters: answers";
}

function pairs(values) {
  const list = el("dl");
  for (const [name, value] of values) if (value !== null && value !== undefined) list.append(el("dt", {}, String(name)), el("dd", { dir: "auto" }, typeof value === "object" ? JSON.stringify(value) : String(value)));
  return list;
}

function decisionText(one) {
  const more = Object.entries(one).filter(([name, value]) => value !== null && !["told", "do", "reason", "trace"].includes(name)).map(([name, value]) => `${name} ${value}`);
  return `${one.do}${more.length ? ` (${more.join(", ")})` : ""}: ${one.reason}`;
}

function notes() {
  const body = $("notes-body"), settings = Object.entries(run.settings);
  body.append(pairs(Object.entries(EXPLAINED)), el("h2", {}, "Settings"), settings.length ? pairs(settings) : el("p", { class: "soft" }, "all at their defaults"), el("h2", {}, "Versions"), pairs(Object.entries(run.versions)));
  const steering = report.steering;
  if (!steering) return;
  body.append(el("h2", {}, `Policy ${steering.policy}`), el("p", {}, `At token ${number(steering.clock)}: ${steering.reason}`));
  const list = el("ol", { tabindex: "0", "aria-label": "Decisions of the policy" });
  for (const one of steering.decisions.slice(0, MOST_DECISIONS)) list.append(el("li", {}, (one.trace === null ? "" : `branch ${idOfTrace(one.trace)}: `) + decisionText(one)));
  body.append(list);
  if (steering.decisions.length > MOST_DECISIONS) body.append(el("p", { class: "soft" }, `and ${number(steering.decisions.length - MOST_DECISIONS)} more decisions`));
}

const traces = new Map(branches.filter((one) => one.number !== null && one.number !== undefined).map((one) => [one.number, one.id]));
function idOfTrace(trace) { return traces.get(trace) ?? `of trace ${trace}, which never wrote`; }

// ---- which rows --------------------------------------------------------------------------------

const folded = new Set();
let rows = [], places = new Map(), only = null, chosen = null;

function passes(one, words) {
  const ends = $("ends").value;
  if (only !== null && one.vote !== only) return false;
  if (ends === "answer" && one.answer === null || ends === "none" && one.answer !== null || ends === "winner" && !one.wins) return false;
  if (ends === "stopped" && one.kind !== "stopped" || ends === "cut" && one.kind !== "cut" && one.kind !== "failed") return false;
  if (!words) return true;
  one.haystack ??= `${one.id}\n${one.name}\n${one.answer ?? ""}\n${one.why}\n${one.text}`.toLowerCase();
  return one.haystack.includes(words);
}

function refresh() {
  const words = $("search").value.trim().toLowerCase(), filters = words || only !== null || $("ends").value;
  const matched = new Set(branches.filter((one) => passes(one, words)));
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
  $("count").textContent = filters ? `${number(matched.size)} of ${number(branches.length)} branches match` : `${number(rows.length)} of ${number(branches.length)} branches shown`;
  $("rows").style.height = `${rows.length * rowHeight()}px`;
  overview();
  draw();
}

// ---- drawing ---------------------------------------------------------------------------------

const rowHeight = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
const share = (tokens) => `${(100 * tokens) / length}%`;
let drawn = new Map(), printing = false;

function rowOf(one, place, height) {
  const folds = one.children.length > 0, open = folds && !folded.has(one.id), answer = one.vote === null ? null : answers.get(one.vote);
  const row = el("div", { id: `row-${one.index}`, role: "treeitem", class: `row ${one.kind}${one.wins ? " winner" : ""}${one.matched ? "" : " dim"}`, "aria-level": String(one.level), "aria-setsize": String(one.siblings.length),
    "aria-posinset": String(one.position), "aria-selected": String(one === chosen), "aria-expanded": folds ? String(open) : null });
  const name = el("div", { class: "name" }, el("span", { class: "foldmark", "aria-hidden": "true" }, folds ? (open ? "▾" : "▸") : ""), el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[one.kind]), el("b", {}, one.id));
  name.style.paddingLeft = `${4 + Math.min(one.level - 1, 8) * 14}px`;
  if (answer) name.append(chip(answer));
  name.append(el("span", { class: "words", dir: "auto" }, `${short(one.name, 60)}${one.answer === null ? "" : ` → ${short(one.answer, 80)}`}${one.kind === "ended" ? "" : ` – ${short(one.why, 160)}`}`), el("small", {}, number(one.tokens)), el("span", { class: "unseen" }, ` tokens${one.kind === "ended" ? `, ${short(one.why, 160)}` : ""}${one.wins ? ", the winning answer" : ""}`));
  const lane = el("div", { class: "lane", "aria-hidden": "true" });
  if (one.stretches.length > 1) { const wait = el("i", { class: "wait" }); wait.style.left = share(one.begin); wait.style.width = share(one.finish - one.begin); lane.append(wait); }
  for (const [from, to] of one.stretches) { const bar = el("i"); bar.style.left = share(from); bar.style.width = share(to - from); lane.append(bar); }
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
      const joined = one.kind !== "stopped" && one.above.stretches.find(([from]) => from >= one.finish && from > one.begin);
      if (joined) line("join", joined[0], place, parent);
    }
    for (const id of one.after) { const source = places.get(byId.get(id)); if (source !== undefined) line("join", one.begin, source, place); }
  }
  $("rows").append(svg);
}

function axis() {
  const parts = [];
  for (let at = 0; at <= 4; at++) { const tick = el("span", {}, at === 4 ? `${number(length)} tokens` : number(Math.round((length * at) / 4))); tick.style.left = `${25 * at}%`; parts.push(tick); }
  $("axis").replaceChildren(...parts);
}

function overview() {
  const canvas = $("overview").querySelector("canvas"), scale = window.devicePixelRatio || 1;
  const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale))), height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale)));
  const colours = getComputedStyle(document.documentElement), pen = canvas.getContext("2d"), each = height / Math.max(1, rows.length);
  const named = Object.fromEntries(["run", "win", "stop", "bad"].map((name) => [name, colours.getPropertyValue(`--${name}`)]));
  rows.forEach((one, place) => {
    pen.fillStyle = one.wins ? named.win : one.kind === "stopped" ? named.stop : one.kind === "ended" ? named.run : named.bad;
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
  const pre = el("pre", { dir: "auto", role: "region", tabindex: "0", "aria-label": "What the branch wrote" });
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

function choose(one, { focus = false, scroll = true } = {}) {
  chosen = one;
  const panel = $("detail");
  panel.hidden = one === null;
  if (one === null) { history.replaceState(null, "", location.pathname + location.search); draw(); return; }
  history.replaceState(null, "", `#${encodeURIComponent(one.id)}`);
  const { pre, stands } = marked(one.text, one.answer, $("search").value.trim().toLowerCase());
  const answer = one.vote === null ? null : answers.get(one.vote), trace = one.trace;
  const decisions = !trace || !report.steering ? [] : report.steering.decisions.filter((other) => other.trace !== null && traces.get(other.trace) === one.id);
  panel.replaceChildren(el("button", { class: "close", type: "button", "aria-label": "Close", onclick: () => { choose(null); $("tree").focus(); } }, "✕"),
    el("h2", { dir: "auto" }, `${one.id} ${short(one.name, 200)}`),
    pairs([["end", `${SIGNS[one.kind]} ${one.why}`], ["answer", one.answer === null ? "none" : `${answer ? `${answer.letter}: ` : ""}${one.answer}`], ["wins", one.wins ? "yes, with the winning answer" : null],
      ["tokens", `${number(one.tokens)}${one.stretches.length ? `, at ${one.stretches.map(([from, to]) => `${number(from)}–${number(to)}`).join(", ")}` : ""}`],
      ["spawned by", one.above ? one.above.id : null], ["children", one.children.length ? number(one.children.length) : null], ["waited for", one.after.length ? one.after.join(", ") : null],
      ["seconds", one.started === null ? null : `${one.started.toFixed(2)}–${one.ended === null ? "…" : one.ended.toFixed(2)}`], ["attempts", one.attempts > 1 ? one.attempts : null], ["error", one.error],
      ["mean logprob", one.logprob === null ? null : one.logprob.toFixed(3)], ["score", trace ? trace.score : null], ["cached", one.cached]]));
  if (decisions.length) panel.append(el("h3", {}, "The policy decided"), el("ol", {}, ...decisions.map((other) => el("li", {}, decisionText(other)))));
  if (trace && trace.probes.length) panel.append(el("h3", {}, "Answers when asked on the way"), el("ol", {}, ...trace.probes.map(([at, key]) => el("li", {}, `after ${number(at)} tokens: ${key ?? "none"}`))));
  panel.append(el("h3", {}, stands ? "What it wrote, its answer marked" : "What it wrote"), pre);
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
  if (one) { choose(one); }
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
  const one = branches[Number(row.id.slice(4))];
  if (event.target.closest(".foldmark") && one.children.length) fold(one, !folded.has(one.id)); else choose(one);
});
let waiting = 0;
$("search").addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => { $("tree").scrollTop = 0; refresh(); }); });
$("ends").addEventListener("change", refresh);
$("fold").addEventListener("click", () => { for (const one of branches) if (one.children.length) folded.add(one.id); refresh(); });
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

top_();
axis();
refresh();
linked();
new ResizeObserver(soon).observe($("tree"));
