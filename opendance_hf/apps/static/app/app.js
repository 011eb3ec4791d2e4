// The front page of `opendance app`: songs are dropped, wait, and are danced to.
"use strict";

const $ = (id) => document.getElementById(id);
const POLL_MS = 700;
const IDLE_MS = 5000; // between two looks while nothing of ours happens
let limits = null;
const sending = new Map(); // songs on their way, by number: name and share
let sent = 0;
let line = Promise.resolve(); // of the songs that wait to be sent
let awaited = ""; // the job whose stage opens once it is danced: a song that was dropped alone

function element(name, text, parent, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  parent.append(made);
  return made;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

// ---------------------------------------------------------------- songs

function drop(files) {
  trouble("");
  awaited = "";
  for (const file of files) send(file, files.length === 1);
}

function send(file, alone) {
  if (file.size > limits.max_bytes)
    return trouble(`${file.name}: larger than ${limits.max_bytes / 1e6} MB, the limit of this server: send the sound alone, as MP3`);
  const number = sent++;
  const choice = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  const asked = new URLSearchParams({
    name: file.name, dancers: choice("dancers"), energy: choice("energy"), seed: String($("seed").valueAsNumber || 0),
  });
  sending.set(number, { name: file.name, share: 0 });
  show();
  // One after the other: an open server takes two at once of a visitor.
  line = line.then(() => new Promise((next) => transfer(file, asked, number, alone, next)));
}

function transfer(file, asked, number, alone, next) {
  const request = new XMLHttpRequest(); // fetch does not tell how much was sent
  request.open("POST", `/api/songs?${asked}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.responseType = "json";
  request.upload.onprogress = (event) => { sending.set(number, { name: file.name, share: event.loaded / event.total }); show(); };
  request.onloadend = () => {
    sending.delete(number);
    if (request.status === 201) { if (alone) awaited = request.response.id; }
    else trouble(request.response?.error ?? `${file.name}: the server took no more of it, or does not answer`);
    refresh();
    next();
  };
  request.send(file);
}

// ---------------------------------------------------------------- list

let jobs = [];
let shown = ""; // what the list was made of

function show() {
  const text = JSON.stringify([jobs, [...sending.values()]]);
  if (text === shown) return;
  shown = text;
  $("list").hidden = !jobs.length && !sending.size;
  const focused = document.activeElement?.id;
  $("jobs").replaceChildren();
  for (const { name, share } of sending.values()) {
    const item = element("li", "", $("jobs"));
    element("strong", name, item);
    element("span", share < 1 ? `Sending: ${Math.round(100 * share)} %` : "Checking the song", item, "quiet");
    bar(item, share, `Sending ${name}`);
  }
  for (const job of jobs) showJob(job);
  if (focused && focused !== document.activeElement?.id) $(focused)?.focus();
}

function showJob(job) {
  const item = element("li", "", $("jobs"), job.status);
  element("strong", job.name, item);
  element("span", job.status === "failed" ? job.step : `${kindOf(job)} · ${progressOf(job)}`, item, "quiet");
  if (job.status === "working") bar(item, job.share, `Progress of ${job.name}`);
  const row = element("div", "", item, "row");
  if (job.status === "done") {
    const link = element("a", "Watch", row, "primary");
    link.href = `/dance/${job.id}`;
    link.id = `watch-${job.id}`;
    link.setAttribute("aria-label", `Watch ${job.name}, ${kindOf(job)}`);
  }
  const button = element("button", "Delete", row);
  button.id = `delete-${job.id}`;
  button.setAttribute("aria-label", `Delete ${job.name}, ${kindOf(job)}`);
  button.onclick = () => ask(`/api/jobs/${job.id}/delete`, {}).then(refresh, (error) => trouble(error.message));
}

function bar(parent, share, label) {
  const made = element("progress", "", parent);
  made.max = 1;
  made.value = share;
  made.setAttribute("aria-label", label);
}

async function refresh() {
  try {
    jobs = (await ask("/api/jobs")).jobs;
    show();
  } catch (error) {
    trouble(error.message);
    return;
  }
  const own = jobs.find((job) => job.id === awaited);
  if (own?.status === "failed") awaited = "";
  if (own?.status === "done" && !document.hidden) location.assign(`/dance/${own.id}`);
}

// ---------------------------------------------------------------- start

async function login() {
  const token = /^#token=([\w-]+)$/.exec(location.hash)?.[1];
  if (!token) return;
  await ask("/api/login", { token });
  history.replaceState(null, "", "/");
}

const minutes = (seconds) => (seconds < 120 ? `${seconds} seconds` : `${Math.round(seconds / 6) / 10} minutes`);

async function start() {
  try {
    await login();
    limits = await ask("/api/about");
  } catch (error) {
    if (error.status === 401) $("login").hidden = false;
    else trouble(error.message);
    return;
  }
  $("limits").textContent = `Audio or video, up to ${minutes(limits.max_seconds)} and ${limits.max_bytes / 1e6} MB`;
  $("kept").textContent = `Songs and dances are deleted after ${limits.keep_hours} hours. ` +
    (limits.open ? "Only this browser sees them." : "All who have the link of this page see them.");
  $("ask").hidden = false;
  if (location.hash === "#gone") trouble("That dance does not exist, or was deleted.");
  for (;;) {
    await refresh();
    const busy = sending.size || jobs.some((job) => job.status === "queued" || job.status === "working");
    await sleep(busy && !document.hidden ? POLL_MS : IDLE_MS);
  }
}

$("file").onchange = () => { drop([...$("file").files]); $("file").value = ""; };
for (const name of ["dragenter", "dragover"])
  document.addEventListener(name, (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (limits) drop([...event.dataTransfer.files]);
});
$("ask").onsubmit = (event) => event.preventDefault();
start();
