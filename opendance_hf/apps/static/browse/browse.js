// The table of `opendance view DATASET`. The server sends one page of rows at a time; the address of the page has the rest.
"use strict";

const $ = (id) => document.getElementById(id);
const TYPING_MS = 150; // from the last letter to the search
const WIDE = new Set(["group", "config", "bpm"]); // columns that narrow screens leave out

let dataset = null; // {name, total, fields, facets, most}
let state = {}; // q, facets, sort, down, page: as in the address
let answer = null; // {count, page, pages, rows}
let asked = 0; // the number of the last request
const marked = new Map(); // rows to compare, by id; they stay when the page of the table changes

function element(name, text, parent, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

// ---------------------------------------------------------------- server

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await fetch(path, options);
  const data = await reply.json();
  if (reply.ok) return data;
  if (reply.status === 401) showLogin();
  throw new Error(data.error);
}

function showLogin() {
  $("app").hidden = true;
  $("login").hidden = false;
  $("token").focus();
}

async function login(token) {
  await call("/api/login", { token });
  await enter();
}

async function enter() {
  dataset = await call("/api/dataset");
  $("login").hidden = true;
  $("app").hidden = false;
  document.title = `${dataset.name}: ${dataset.total.toLocaleString("en")} rows`;
  $("name").textContent = dataset.name;
  showFilters();
  showHead();
  const given = new URLSearchParams(location.search);
  const at = given.get("at");
  given.delete("at");
  state = Object.fromEntries(given);
  $("words").value = state.q ?? "";
  await refresh(at);
}

// ---------------------------------------------------------------- table

const address = (path, extra = []) => {
  const pairs = Object.entries(state).filter(([, value]) => value && value !== "0");
  const text = new URLSearchParams([...pairs, ...extra]).toString();
  return text ? `${path}?${text}` : path;
};

// Ask for the rows of the state, and put the keyboard on one of them: an id, "first", "last" or null.
async function refresh(at = null) {
  const number = ++asked;
  const found = await call(address("/api/rows"));
  if (number !== asked) return; // a later request is on its way
  answer = found;
  state.page = String(found.page);
  history.replaceState(null, "", address("/"));
  showRows();
  const links = [...document.querySelectorAll("#rows a")];
  const target = at === "first" ? links[0] : at === "last" ? links.at(-1) : links.find((link) => link.dataset.id === at);
  if (target) target.focus();
}

function change(values, at = null) {
  Object.assign(state, { page: "0" }, values);
  return refresh(at);
}

function showFilters() {
  const parts = [];
  for (const [name, values] of Object.entries(dataset.facets)) {
    const select = element("select", "", $("facets"));
    const label = dataset.fields[name].label;
    select.setAttribute("aria-label", label);
    select.dataset.facet = name;
    element("option", `${label}: all`, select, { value: "" });
    for (const value of values) element("option", value, select, { value });
    select.onchange = () => change({ [name]: select.value });
    parts.push(select);
  }
  element("option", "dataset order", $("sort"), { value: "" });
  for (const [name, field] of Object.entries(dataset.fields)) {
    element("option", field.label, $("sort"), { value: name });
    if (field.digits !== null) element("option", `${field.label}, largest first`, $("sort"), { value: `${name} down` });
  }
  $("sort").onchange = () => {
    const [sort, down] = $("sort").value.split(" ");
    change({ sort, down: down ? "1" : "" });
  };
  $("facets").replaceChildren(...parts);
}

function showHead() {
  $("head").replaceChildren();
  element("td", "", $("head"), { className: "mark" });
  for (const [name, field] of Object.entries(dataset.fields)) {
    const cell = element("th", "", $("head"), { scope: "col", className: classOf(name, field) });
    cell.dataset.field = name;
    const button = element("button", field.unit ? `${field.label}, ${field.unit}` : field.label, cell);
    if (field.meaning) button.title = field.meaning;
    button.onclick = () => sortBy(name);
  }
}

// Up, down, the order of the dataset, and up again; numbers start with the largest.
function sortBy(name) {
  const first = dataset.fields[name].digits === null ? "" : "1";
  if (state.sort !== name) change({ sort: name, down: first });
  else if ((state.down ?? "") === first) change({ sort: name, down: first ? "" : "1" });
  else change({ sort: "", down: "" });
}

function classOf(name, field) {
  return [name === "id" ? "main" : "", field.digits === null ? "" : "number", WIDE.has(name) ? "wide" : "", name === "group" || name === "licence" ? "long" : ""].join(" ").trim();
}

function valueText(value, field) {
  if (value === null) return "–";
  return field.digits === null ? value : value.toFixed(field.digits);
}

function showRows() {
  const { count, page, pages, rows } = answer;
  const all = dataset.total.toLocaleString("en");
  $("count").textContent = count === dataset.total ? `${all} rows` : `${count.toLocaleString("en")} of ${all} rows`;
  $("page").textContent = `Page ${page + 1} of ${pages}`;
  $("before").disabled = page === 0;
  $("after").disabled = page === pages - 1;
  $("nothing").hidden = count > 0;
  $("table").hidden = count === 0;
  for (const cell of $("head").querySelectorAll("th")) {
    if (state.sort === cell.dataset.field) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  for (const select of $("facets").children) select.value = state[select.dataset.facet] ?? "";
  $("sort").value = state.sort ? state.sort + (state.down ? " down" : "") : "";
  $("rows").replaceChildren(...rows.map(makeRow));
  $("rows").closest("main").scrollTop = 0;
  showMarked();
}

function makeRow(row) {
  const line = document.createElement("tr");
  const box = element("input", "", element("td", "", line, { className: "mark" }), { type: "checkbox", checked: marked.has(row.id) });
  box.setAttribute("aria-label", `Mark ${row.id}`);
  box.dataset.id = row.id;
  box.onchange = () => mark(row, box.checked);
  for (const [name, field] of Object.entries(dataset.fields)) {
    const cell = element("td", "", line, { className: classOf(name, field) });
    const text = valueText(row[name], field);
    if (name === "id") {
      const link = element("a", text, cell, { href: address("/stage", [["row", row.id]]) });
      link.dataset.id = row.id;
      element("span", summaryOf(row), cell, { className: "summary" });
    } else {
      cell.textContent = text;
      if (row[name] === null) cell.classList.add("none");
      if (cell.classList.contains("long")) cell.title = text;
    }
  }
  line.onclick = (event) => {
    if (!event.target.closest("a, input")) line.querySelector("a").click();
  };
  return line;
}

function summaryOf(row) {
  const parts = [`${row.dancers} dancer${row.dancers === 1 ? "" : "s"}`, `${row.seconds.toFixed(1)} s`, row.genre, row.bpm && `${row.bpm.toFixed(0)} bpm`, row.split, row.licence];
  return parts.filter(Boolean).join(" · ");
}

// ---------------------------------------------------------------- compare

function mark(row, value) {
  if (value) marked.set(row.id, row);
  else marked.delete(row.id);
  showMarked();
}

function showMarked() {
  for (const box of $("rows").querySelectorAll("input")) {
    box.checked = marked.has(box.dataset.id);
    box.closest("tr").classList.toggle("marked", box.checked);
  }
  const dancers = [...marked.values()].reduce((sum, row) => sum + row.dancers, 0);
  const link = $("compare");
  link.hidden = marked.size < 2;
  link.href = address("/stage", [...marked.keys()].map((id) => ["row", id]));
  link.textContent = `Compare ${marked.size} rows`;
  if (dancers > dataset.most) {
    link.textContent = `${dancers} dancers: a stage holds ${dataset.most}`;
    link.removeAttribute("href");
  }
}

// ---------------------------------------------------------------- input

function move(step) {
  const links = [...document.querySelectorAll("#rows a")];
  const at = links.indexOf(document.activeElement.closest("tr")?.querySelector("a"));
  if (at + step >= links.length && answer.page < answer.pages - 1) return turnPage(1, "first");
  if (at >= 0 && at + step < 0 && answer.page > 0) return turnPage(-1, "last");
  links[at < 0 ? 0 : Math.min(Math.max(at + step, 0), links.length - 1)]?.focus();
}

function turnPage(step, at = "first") {
  const page = answer.page + step;
  if (page >= 0 && page < answer.pages) change({ page: String(page) }, at);
}

const KEYS = {
  "/": () => $("words").select(),
  c: () => { if (!$("compare").hidden) $("compare").click(); },
  ArrowDown: () => move(1), ArrowUp: () => move(-1),
  PageDown: () => turnPage(1), PageUp: () => turnPage(-1),
  Home: () => move(-1e6), End: () => move(1e6),
  Escape: () => { marked.clear(); showMarked(); },
  " ": () => document.activeElement.closest("tr")?.querySelector("input").click(),
};

document.addEventListener("keydown", (event) => {
  if (!answer || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("select, #login")) return;
  if (event.target === $("words")) {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    clearTimeout(typing);
    change({ q: $("words").value }, "first");
    return;
  }
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (name === " " && !event.target.closest("#rows a")) return; // which presses it
  const act = KEYS[name];
  if (!act) return;
  event.preventDefault();
  act();
});

let typing = 0;

$("words").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ q: $("words").value }), TYPING_MS);
};
$("search").onsubmit = (event) => event.preventDefault();
$("before").onclick = () => turnPage(-1);
$("after").onclick = () => turnPage(1);
$("clear").onclick = () => {
  state = {};
  $("words").value = "";
  refresh("first");
};
$("login").querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  login($("token").value.trim().replace(/^.*#token=/, "")).catch((error) => { $("login-error").textContent = error.message; });
};

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  login(token).catch(() => {});
} else enter().catch(() => {});
