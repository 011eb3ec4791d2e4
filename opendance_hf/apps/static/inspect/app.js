// The inspection page: shows one item after the other and sends what people decide. All it knows is on the server; the
// page can be closed, and the server killed, at any moment.
"use strict";

const $ = (id) => document.getElementById(id);
const FPS = 30; // of previews and clips
const COLOURS = ["orange", "blue", "green", "pink", "yellow", "violet"]; // of the dancers in previews: render/avatar.py
const POLL_MS = 3000;
const TITLES = { round1: "Round 1", round2: "Round 2", adjudicate: "Adjudication", overview: "Overview" };

let me = null; // {name, adjudicates, build, reasons, lease_s}
let desk = "";
let turn = null; // the server's last answer
let marked = new Set();
let busy = false;
let video = null;
let loading = null; // the next video, loaded in advance
let speed = 1;
let sound = localStorage.getItem("sound") === "on";
let timer = 0;
let span = { first: null, last: null }; // frames of the preview that are to be repaired, both included

// ---------------------------------------------------------------- server

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const data = await answer.json();
  if (answer.ok) return data;
  if (answer.status === 401 && path !== "/api/login") showLogin();
  throw new Refused(answer.status, data.error);
}

// Until it is answered: a decision counts once, however often it is sent.
async function callUntilAnswered(path, body) {
  for (;;) {
    try {
      const data = await call(path, body);
      $("banner").hidden = true;
      return data;
    } catch (error) {
      if (error instanceof Refused && error.status < 500) {
        $("banner").hidden = true;
        throw error;
      }
      const what = path === "/api/decide" ? "Your last decision is not saved yet; it will be sent" : "Trying";
      const why = error instanceof Refused ? error.message : "The server does not answer.";
      $("banner").textContent = `${why} ${what} again until it does.`;
      $("banner").hidden = false;
      await new Promise((done) => setTimeout(done, 700));
    }
  }
}

// ---------------------------------------------------------------- screens

function element(tag, text, properties = {}) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  return Object.assign(node, properties);
}

function show(screen) {
  for (const id of ["login", "app"]) $(id).hidden = id !== (screen === "login" ? "login" : "app");
  for (const id of ["bench", "empty", "overview"]) $(id).hidden = id !== screen;
  if (screen !== "bench") stopVideo();
}

function showLogin() {
  clearTimeout(timer);
  me = null;
  document.title = "OpenDance inspection";
  show("login");
  $("token").focus();
}

async function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", "/"); // not to be seen over a shoulder, nor kept in the history
  try {
    if (token) await call("/api/login", { token });
    await enter();
  } catch (error) {
    showLogin();
    if (token) $("login-error").textContent = error.message;
  }
}

async function enter() {
  me = await call("/api/me");
  $("login-error").textContent = "";
  $("token").value = "";
  $("build").textContent = me.build;
  $("name").textContent = me.name;
  document.querySelector("[data-desk=adjudicate]").hidden = !me.adjudicates;
  await open(location.hash.slice(1) in TITLES ? location.hash.slice(1) : "round1");
}

async function open(wanted) {
  if (wanted === "adjudicate" && !me.adjudicates) wanted = "round1";
  clearTimeout(timer);
  desk = wanted;
  hint("");
  marked.clear();
  turn = null;
  if (location.hash.slice(1) !== desk) history.replaceState(null, "", `#${desk}`);
  for (const button of document.querySelectorAll("[data-desk]")) {
    button.toggleAttribute("aria-current", button.dataset.desk === desk);
  }
  document.title = `${TITLES[desk]} · ${me.build}`;
  if (desk === "overview") await showOverview();
  else await ask("/api/next", { desk });
}

// Ask the server something whose answer is a turn, and show that.
async function ask(path, body) {
  if (busy) return null;
  busy = true;
  const before = desk;
  try {
    const answer = await callUntilAnswered(path, body);
    if (before === desk) showTurn(answer);
    return answer;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 409 && path === "/api/decide") {
      // Too late for this item: say so beside the next one.
      busy = false;
      await ask("/api/next", { desk });
    }
    if (error.status !== 401) hint(error.message);
    return null;
  } finally {
    busy = false;
    // Another desk was opened meanwhile, and could not ask then.
    if (me && desk !== before && desk !== "overview") ask("/api/next", { desk });
  }
}

function showTurn(answer) {
  const old = turn && turn.item;
  turn = answer;
  showCounts(answer);
  clearTimeout(timer);
  const item = answer.item;
  if (item === null) {
    showEmpty(answer);
    timer = setTimeout(() => !busy && ask("/api/next", { desk }), POLL_MS);
    return;
  }
  timer = setInterval(() => call("/api/renew", {}).catch(() => {}), (me.lease_s * 1000) / 4);
  const same = old && old.subject === item.subject && old.round === item.round && !answer.undone;
  show("bench");
  if (!same) {
    marked = new Set(answer.undone ? answer.undone.reasons : []);
    $("note").value = answer.undone ? answer.undone.note : "";
    hint("");
    showItem(item);
    span = { first: null, last: null };
    openRepair(false);
  }
  showRepairs(item.repairs);
  showVideo(item);
  preload(answer.ahead);
  paint();
}

function showCounts(answer) {
  const counts = { round1: answer.rounds[1].open, round2: answer.rounds[2].open, adjudicate: answer.disputed };
  for (const [name, count] of Object.entries(counts)) {
    const badge = document.querySelector(`[data-desk=${name}] .badge`);
    badge.textContent = count || "";
    badge.classList.toggle("alert", name === "adjudicate");
  }
  const round = answer.rounds[answer.item ? answer.item.round : desk === "round2" ? 2 : 1];
  for (const part of ["keep", "reject", "disputed"]) {
    $(`track-${part}`).style.width = round.total ? `${(100 * round[part]) / round.total}%` : "0";
  }
}

function showItem(item) {
  const round = turn.rounds[item.round];
  const decided = round.keep + round.reject + round.disputed;
  $("step").textContent = desk === "adjudicate" ? `Adjudication · round ${item.round}` : `Round ${item.round} · ${decided} of ${round.total} decided`;
  $("question").textContent =
    item.round === 1 ? "Is this a dance to learn from?" : "Does the avatar dance what the dancer dances?";
  $("advice").textContent =
    desk === "adjudicate"
      ? "People disagree. Your decision is the last word."
      : item.round === 1
        ? "Judge the video. Reject it if any of these holds."
        : "Judge the result beside its source. Reject it if any of these holds.";
  $("source").textContent = item.source;
  $("source").title = `${item.source}, sequence ${item.sequence}`;
  const dancers = item.num_dancers === 1 ? "1 dancer" : `${item.num_dancers} dancers`;
  $("facts").textContent =
    `${item.start_s.toFixed(1)}–${item.end_s.toFixed(1)} s · ${dancers}` + (item.cut ? " · skeleton drawn over the source" : "");

  $("votes").replaceChildren(
    ...item.decisions.map((decision) => {
      const box = element("div", undefined, { className: decision.verdict });
      const verdict = decision.verdict === "keep" ? "keeps it" : "rejects it";
      box.append(element("strong", decision.annotator), ` ${verdict}`);
      const labels = new Map(me.reasons[item.round]);
      if (decision.reasons.length) box.append(element("p", decision.reasons.map((key) => labels.get(key)).join("; ")));
      if (decision.note) box.append(element("p", `“${decision.note}”`));
      return box;
    }),
  );
  const own = me.reasons[1].length; // the reasons that round 2 adds come last, and judge the result
  $("reasons").replaceChildren();
  me.reasons[item.round].forEach(([key, label], index) => {
    if (item.round === 2 && index === 0) $("reasons").append(element("h2", "The video"));
    if (item.round === 2 && index === own) $("reasons").append(element("h2", "The result"));
    const button = element("button", undefined, { type: "button" });
    button.dataset.reason = key;
    button.append(element("kbd", String(index + 1)), element("span", label));
    button.addEventListener("click", () => mark(key));
    $("reasons").append(button);
  });
  $("last-key").textContent = me.reasons[2].length;
}

function showEmpty(answer) {
  const round = answer.rounds[desk === "round2" ? 2 : 1];
  const sum = `${round.keep} kept, ${round.reject} rejected` + (round.disputed ? `, ${round.disputed} disputed` : "");
  let [mark, title, text, go] = ["✓", "", "", ""];
  if (desk === "adjudicate") {
    title = "Nobody disagrees";
    text = "Items on which people disagree appear here.";
    go = "overview";
  } else if (round.total === 0) {
    mark = "…";
    title = desk === "round2" ? "Nothing has passed round 1 yet" : "There is nothing to inspect yet";
    text = desk === "round2" ? "Items appear here as soon as they are kept in round 1." : "Sequences appear here as soon as the build has made them.";
    go = desk === "round2" ? "round1" : "overview";
  } else if (round.open > 0) {
    mark = "…";
    title = "Nothing for you right now";
    text = `${round.open} ${round.open === 1 ? "item waits" : "items wait"} for somebody else or, repaired, for the next build. ${sum} so far.`;
    go = desk === "round1" ? "round2" : "overview";
  } else {
    title = `${TITLES[desk]} is done`;
    text = `${sum}.`;
    go = desk === "round1" ? "round2" : "overview";
    const earlier = answer.rounds[1];
    if (desk === "round2" && earlier.open + earlier.disputed > 0) text += " More may come from round 1.";
  }
  if (answer.disputed && me.adjudicates && desk !== "adjudicate") go = "adjudicate";
  $("empty-mark").textContent = mark;
  $("empty-mark").className = mark === "✓" ? "done" : "wait";
  $("empty-title").textContent = title;
  $("empty-text").textContent = text;
  const labels = { round1: "To round 1", round2: "On to round 2", adjudicate: "Adjudicate", overview: "See the overview" };
  $("empty-go").replaceChildren(`${labels[go]} `, element("kbd", "Enter"));
  $("empty-go").dataset.go = go;
  $("empty-undo").hidden = answer.last === null;
  show("empty");
}

// ---------------------------------------------------------------- video

function makeVideo(item) {
  const node = document.createElement("video");
  Object.assign(node, { src: item.video, loop: true, muted: true, playsInline: true, preload: "auto" });
  node.dataset.src = item.video;
  return node;
}

function preload(item) {
  const source = item && item.video;
  if (!source) loading = null;
  else if (!loading || loading.dataset.src !== source) loading = makeVideo(item);
}

function showVideo(item) {
  $("no-video").hidden = Boolean(item.video);
  if (!item.video) {
    stopVideo();
    return;
  }
  if (video && video.dataset.src === item.video && video.isConnected) return;
  stopVideo();
  const ready = loading && loading.dataset.src === item.video && !loading.error;
  video = ready ? loading : makeVideo(item);
  const own = video;
  const frame = element("div", undefined, { className: "frame" });
  frame.append(own);
  $("stage").prepend(frame);
  const layout = () => place(own, frame, item.cut);
  own.addEventListener("loadedmetadata", layout);
  own.resize = new ResizeObserver(layout);
  own.resize.observe($("stage"));
  own.addEventListener("error", () => {
    // The server may be gone for a moment, or the build is writing the file anew.
    setTimeout(() => {
      if (own !== video) return;
      hint("The video does not load; trying again.");
      own.load();
      play();
    }, 1000);
  });
  own.addEventListener("playing", () => $("hint").textContent.startsWith("The video") && hint(""));
  for (const name of ["play", "pause", "timeupdate", "seeked", "loadedmetadata", "volumechange"]) own.addEventListener(name, paintControls);
  own.playbackRate = speed;
  own.muted = !sound;
  layout();
  play();
}

// Fit the picture into the stage; of a preview that stands in for the source, its left part alone. A preview is the
// source, beside it an avatar as wide as the source or as high, whichever is more, and a strip of 28 pixels below.
function place(own, frame, cut) {
  const [width, height] = [own.videoWidth, own.videoHeight];
  if (!width) return;
  let [w, h] = [width, height];
  if (cut) {
    h = height - 28;
    w = width <= 2 * h ? width - h : width / 2;
  }
  const stage = $("stage");
  const scale = Math.min(stage.clientWidth / w, stage.clientHeight / h);
  frame.style.width = `${w * scale}px`;
  frame.style.height = `${h * scale}px`;
  own.style.width = `${width * scale}px`;
  own.style.height = `${height * scale}px`;
}

function stopVideo() {
  if (!video) return;
  video.pause();
  video.resize.disconnect();
  video.parentElement.remove();
  video.removeAttribute("src");
  video = null;
}

async function play() {
  const own = video;
  try {
    await own.play();
  } catch {
    if (own === video && !own.muted) {
      own.muted = true; // browsers allow sound only after a click or a key
      own.play().catch(() => {});
    }
  }
}

function toggle() {
  if (video) video.paused ? play() : video.pause();
}

function step(seconds) {
  if (!video) return;
  video.pause();
  video.currentTime = Math.min(Math.max(video.currentTime + seconds, 0), Math.max(video.duration - 0.5 / FPS, 0));
}

function setSpeed(value) {
  speed = value;
  if (video) video.playbackRate = value;
  paintControls();
}

function toggleSound() {
  sound = video ? video.muted : !sound;
  localStorage.setItem("sound", sound ? "on" : "off");
  if (video) video.muted = !sound;
  paintControls();
}

function paintControls() {
  $("play").textContent = video && !video.paused ? "❚❚" : "▶";
  $("sound").textContent = video && !video.muted ? "Sound on" : "Sound off";
  for (const button of document.querySelectorAll("[data-speed]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.speed) === speed));
  }
  if (!video || !video.duration) return;
  $("clock").textContent = `${video.currentTime.toFixed(2)} / ${video.duration.toFixed(1)} s`;
  if (document.activeElement !== $("seek") || video.paused === false) $("seek").value = (1000 * video.currentTime) / video.duration;
}

// ---------------------------------------------------------------- stage

// Round 2 only: the result in 3D, in a tab of its own, so that its keys are not those of this page.
function paintStageLink() {
  const item = turn && turn.item;
  $("stage-link").hidden = !item || item.round !== 2;
  if (item) $("stage-link").href = `/stage/${encodeURIComponent(item.sequence)}`;
}

function openStage() {
  if ($("stage-link").hidden) return;
  if (video) video.pause();
  $("stage-link").click();
}

// ---------------------------------------------------------------- decisions

// In the status line of the screen that is shown.
function hint(text) {
  $(desk === "overview" ? "overview-hint" : "hint").textContent = text;
}

function mark(key) {
  marked.has(key) ? marked.delete(key) : marked.add(key);
  hint("");
  paint();
}

function paint() {
  for (const button of $("reasons").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(marked.has(button.dataset.reason)));
  }
  $("reject").disabled = marked.size === 0;
  $("keep").disabled = marked.size > 0;
  $("undo").disabled = !turn || turn.last === null;
  paintControls();
  paintStageLink();
}

async function decide(verdict) {
  const item = turn && turn.item;
  if (busy || !item || $("bench").hidden) return;
  if (isRepaired(item)) return void (await ask("/api/next", { desk }));
  if (verdict === "keep" && marked.size) return hint("Reasons are marked: Enter rejects, Esc clears them.");
  if (verdict === "reject" && !marked.size) return hint("Mark at least one reason first.");
  const body = { desk, round: item.round, subject: item.subject, verdict, reasons: [...marked], note: $("note").value };
  const answer = await ask("/api/decide", body);
  if (answer) flash(verdict);
}

async function undo() {
  if (busy || !turn) return;
  if (turn.last === null) return hint("There is nothing to undo.");
  // The number says which: a request that is sent again, because its answer was lost, takes back one and not two.
  const answer = await ask("/api/undo", { desk, number: turn.last });
  if (answer) flash("undo");
}

function flash(kind) {
  $("flash").className = "";
  void $("flash").offsetWidth; // starts the animation anew
  $("flash").className = kind;
}

// ---------------------------------------------------------------- repairs

const canRepair = () => turn && turn.item && turn.item.round === 2 && turn.item.video;

function openRepair(wanted) {
  const open = Boolean(wanted && canRepair());
  $("repair").hidden = !open;
  $("repair-open").hidden = !canRepair();
  $("repair-open").setAttribute("aria-expanded", String(open));
  if (!open) return;
  if (video) video.pause();
  const numbers = Array.from({ length: turn.item.num_dancers }, (_, index) => index + 1);
  const options = (values) => values.map(([value, label]) => element("option", label, { value }));
  $("repair-kind").replaceChildren(...options(Object.entries(me.repairs).map(([name, kind]) => [name, kind.label])));
  for (const id of ["repair-dancer", "repair-other"]) $(id).replaceChildren(...options(numbers.map((number) => [number, `${number}, ${COLOURS[(number - 1) % COLOURS.length]}`])));
  if (numbers.length > 1) $("repair-other").value = "2";
  paintRepair();
  $("repair").scrollIntoView({ block: "nearest" });
}

function paintRepair() {
  const needs = me.repairs[$("repair-kind").value].needs;
  for (const label of $("repair").querySelectorAll("[data-need]")) label.hidden = !needs.includes(label.dataset.need);
  for (const end of ["first", "last"]) {
    $(`${end}-s`).textContent = span[end] === null ? "–" : `${(span[end] / FPS).toFixed(2)} s`;
  }
}

function markFrame(end) {
  if ($("repair").hidden || !video) return;
  // At the very end the last frame is shown.
  span[end] = Math.min(Math.floor(video.currentTime * FPS + 1e-3), Math.max(Math.round(video.duration * FPS) - 1, 0));
  hint("");
  paintRepair();
}

async function saveRepair() {
  const item = turn && turn.item;
  if (busy || !item || $("repair").hidden) return;
  if (span.first === null || span.last === null) return hint("Mark the first (I) and the last frame (O) first.");
  const kind = $("repair-kind").value;
  const needs = me.repairs[kind].needs;
  const number = (name) => (needs.includes(name) ? Number($(`repair-${name}`).value) : null);
  const body = {
    subject: item.subject,
    sequence: item.sequence,
    kind,
    first: span.first,
    last: span.last,
    dancer: number("dancer"),
    other: number("other"),
    foot: needs.includes("foot") ? $("repair-foot").value : null,
  };
  if (!(await changeRepairs("/api/repair", body))) return;
  hint("Saved for the next build.");
  $("next").focus();
}

// Send a repair, or withdraw one, and show the repairs of the sequence.
async function changeRepairs(path, body) {
  if (busy) return false;
  busy = true;
  hint("");
  const item = turn && turn.item;
  try {
    const answer = await callUntilAnswered(path, body);
    if (turn && turn.item === item && item) showRepairs((item.repairs = answer.repairs));
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status !== 401) hint(error.message);
    return false;
  } finally {
    busy = false;
  }
}

function withdrawButton(repair, sequence, done) {
  const button = element("button", "Withdraw", { type: "button", className: "plain" });
  button.setAttribute("aria-label", `Withdraw: ${repair.text}, ${repair.start_s.toFixed(2)} s`);
  button.addEventListener("click", async () => {
    if (await changeRepairs("/api/withdraw", { number: repair.number, sequence })) done();
  });
  return button;
}

const mayWithdraw = (repair) => repair.state !== "withdrawn" && (repair.annotator === me.name || me.adjudicates);

function showRepairs(repairs) {
  const item = turn.item;
  const states = { waiting: "for the next build", applied: "applied" };
  $("repairs").replaceChildren(
    ...(item.round === 2 ? repairs : []).map((repair) => {
      const row = element("li");
      const from = Math.max(repair.start_s - item.start_s, 0).toFixed(2);
      const times = `${from} to ${(repair.end_s - item.start_s).toFixed(2)} s`;
      const shown = repair.state === "applied" ? "" : `, ${times}`;
      row.append(element("span", `${repair.text}${shown}`), element("small", `${repair.annotator}, ${states[repair.state]}`));
      if (mayWithdraw(repair)) row.append(withdrawButton(repair, item.sequence, () => hint("Withdrawn.")));
      return row;
    }),
  );
  const waits = isRepaired(item);
  $("keep").hidden = $("reject").hidden = waits;
  $("next").hidden = !waits;
}

const isRepaired = (item) => item.round === 2 && item.repairs.some((repair) => repair.state === "waiting");

async function showAllRepairs() {
  const { repairs } = await callUntilAnswered("/api/repairs");
  if (desk !== "overview") return;
  $("all-repairs").hidden = repairs.length === 0;
  const head = element("tr");
  for (const name of ["Repair", "Source", "Span", "Name", "State", ""]) head.append(element("th", name));
  const rows = repairs.map((repair) => {
    const row = element("tr");
    const times = `${repair.start_s.toFixed(2)}–${repair.end_s.toFixed(2)} s`;
    for (const value of [repair.text, repair.source, times, repair.annotator, repair.state]) row.append(element("td", value));
    const last = element("td");
    if (mayWithdraw(repair)) last.append(withdrawButton(repair, "", showAllRepairs));
    row.append(last);
    return row;
  });
  // A list that has not changed is left alone, so that the focus stays on its button.
  const text = rows.map((row) => row.textContent).join("|");
  if ($("repair-table").dataset.text === text) return;
  $("repair-table").dataset.text = text;
  $("repair-table").replaceChildren(head, ...rows);
}

// ---------------------------------------------------------------- overview

const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`);

async function showOverview() {
  let data;
  try {
    data = await callUntilAnswered("/api/progress");
    await showAllRepairs();
  } catch {
    return;
  }
  if (desk !== "overview") return;
  const tile = (name, value, below = "") => {
    const box = element("div");
    const number = element("dd", value);
    if (below) number.append(element("span", below));
    box.append(element("dt", name), number);
    return box;
  };
  $("tiles").replaceChildren(
    tile("Sequences", String(data.sequences)),
    tile("Kept in both rounds", String(data.kept)),
    tile("Rejected", String(data.rejected)),
    tile("Not decided yet", String(data.open), data.disputed ? `${data.disputed} disputed` : ""),
    tile("Retention", percent(data.retention), "kept of decided; the paper: 2.5 %"),
  );
  $("rounds").replaceChildren(...data.rounds.map((round) => roundCard(round, data.votes_needed)));
  const head = element("tr");
  for (const name of ["Name", "Round 1", "Round 2", "Rulings", "Keeps", "Median time"]) head.append(element("th", name));
  const rows = data.people.map((person) => {
    const row = element("tr");
    const name = person.name + (person.name === me.name ? " (you)" : "") + (person.adjudicates ? " · adjudicates" : "");
    const time = person.median_s === null ? "–" : `${person.median_s.toFixed(1)} s`;
    for (const value of [name, person.round1, person.round2, person.rulings, percent(person.keeps), time]) row.append(element("td", String(value)));
    return row;
  });
  $("people").replaceChildren(head, ...rows);
  showCounts({ rounds: { 1: data.rounds[0], 2: data.rounds[1] }, disputed: data.rounds[0].disputed + data.rounds[1].disputed, item: null });
  show("overview");
  timer = setTimeout(() => desk === "overview" && showOverview(), POLL_MS);
}

function roundCard(round, needed) {
  const card = element("section", undefined, { className: "card" });
  const people = needed === 1 ? "one person looks at each item" : `${needed} people look at each item`;
  card.append(element("h2", `Round ${round.round}`));
  card.append(element("p", round.round === 1 ? `The source video; ${people}` : `Source and avatar, of what passed round 1; ${people}`, { className: "quiet" }));
  const bar = element("div", undefined, { className: "bar" });
  const legend = element("div", undefined, { className: "legend" });
  for (const [kind, name] of [["keep", "kept"], ["reject", "rejected"], ["disputed", "disputed"], ["open", "open"]]) {
    const part = element("i", undefined, { className: kind });
    part.style.width = round.total ? `${(100 * round[kind]) / round.total}%` : "0";
    if (kind !== "open") bar.append(part);
    legend.append(element("span", `${round[kind]} ${name}`, { className: kind }));
  }
  card.append(bar, legend);
  const pairs = element("dl", undefined, { className: "pairs" });
  const { method, items, observed, kappa } = round.agreement;
  const title = method === "cohen" ? "Cohen’s κ" : "Fleiss’ κ";
  const value = items === 0 ? "needs two votes on an item" : kappa === null ? "not defined: one verdict only" : kappa.toFixed(2);
  pairs.append(element("dt", "Retention"), element("dd", percent(round.retention)));
  pairs.append(element("dt", `Agreement, ${title}`), element("dd", value));
  if (items) pairs.append(element("dt", `Equal verdicts, of ${items} items`), element("dd", percent(observed)));
  card.append(pairs);
  const causes = Object.entries(round.reasons);
  if (causes.length) {
    const labels = new Map(me.reasons[round.round]);
    const list = element("div", undefined, { className: "causes" });
    for (const [key, count] of causes) {
      const bar = element("i");
      bar.style.width = `${(100 * count) / causes[0][1]}%`;
      list.append(element("span", labels.get(key)), bar, element("b", String(count)));
    }
    card.append(list);
  }
  return card;
}

// ---------------------------------------------------------------- input

const KEYS = {
  k: () => decide("keep"),
  r: () => decide("reject"),
  Enter: () => decide(marked.size ? "reject" : "keep"),
  Escape: () => {
    marked.clear();
    hint("");
    paint();
  },
  u: undo,
  " ": toggle,
  ArrowLeft: (event) => step(event.shiftKey ? -1 : -1 / FPS),
  ArrowRight: (event) => step(event.shiftKey ? 1 : 1 / FPS),
  z: () => setSpeed(0.5),
  x: () => setSpeed(1),
  c: () => setSpeed(2),
  m: toggleSound,
  n: () => $("note").focus(),
  f: () => openRepair($("repair").hidden),
  i: () => markFrame("first"),
  o: () => markFrame("last"),
  v: openStage,
};

document.addEventListener("keydown", (event) => {
  if (!me || event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target === $("note")) {
    if (event.key === "Escape" || event.key === "Enter") {
      $("note").blur();
      event.preventDefault();
    }
    return;
  }
  if (event.target instanceof HTMLSelectElement) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "?") {
    $("help").showModal();
    event.preventDefault();
    return;
  }
  const onButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  if (onButton && (key === "Enter" || key === " ") && event.target.matches("nav *, .me *, #empty *, #overview *, #repair *, #repairs *, #repair-open")) return;
  if (key === "u" && !$("empty").hidden) return void undo();
  if (key === "Enter" && !event.repeat && !$("empty").hidden) return $("empty-go").click();
  if ($("bench").hidden || !turn || !turn.item) return;
  // On some keyboards (AZERTY) the digits need a shift key; the place of the key counts too.
  const digit = /^[1-9]$/.test(key) ? key : (/^Digit([1-9])$/.exec(event.code) || [])[1];
  const reason = digit && me.reasons[turn.item.round][digit - 1];
  const work = digit ? reason && (() => mark(reason[0])) : KEYS[key];
  if (!work || (event.repeat && !key.startsWith("Arrow"))) return;
  event.preventDefault();
  work(event);
});

$("login").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await call("/api/login", { token: $("token").value.trim().replace(/^.*#token=/, "") });
    await enter();
  } catch (error) {
    $("login-error").textContent = error instanceof Refused ? error.message : "The server does not answer.";
  }
});
$("logout").addEventListener("click", async () => {
  await call("/api/logout", {}).catch(() => {});
  showLogin();
});
for (const button of document.querySelectorAll("[data-desk]")) button.addEventListener("click", () => open(button.dataset.desk));
for (const button of document.querySelectorAll("[data-step]")) button.addEventListener("click", () => step(Number(button.dataset.step) / FPS));
for (const button of document.querySelectorAll("[data-speed]")) button.addEventListener("click", () => setSpeed(Number(button.dataset.speed)));
$("play").addEventListener("click", toggle);
$("sound").addEventListener("click", toggleSound);
$("stage").addEventListener("click", toggle);
$("flash").addEventListener("animationend", () => ($("flash").className = "")); // shown again, it would flash again
$("keep").addEventListener("click", () => decide("keep"));
$("reject").addEventListener("click", () => decide("reject"));
$("next").addEventListener("click", () => decide("keep"));
$("undo").addEventListener("click", undo);
$("repair-open").addEventListener("click", () => openRepair($("repair").hidden));
$("repair-first").addEventListener("click", () => markFrame("first"));
$("repair-last").addEventListener("click", () => markFrame("last"));
$("repair-kind").addEventListener("change", paintRepair);
$("repair-save").addEventListener("click", saveRepair);
$("empty-undo").addEventListener("click", undo);
$("empty-go").addEventListener("click", () => open($("empty-go").dataset.go));
$("help-open").addEventListener("click", () => $("help").showModal());
$("seek").addEventListener("input", () => {
  if (video && video.duration) video.currentTime = ($("seek").value / 1000) * video.duration;
});
start();
