// The panel beside the stage of `opendance app`: beats are moved, another dance is asked for, files are saved. view.js is the stage.
"use strict";

const job = JSON.parse($("job").textContent);
const NUDGE_S = 0.01;
const LEAST_TAPS = 4;
const PAUSE_S = 3; // a longer pause begins a new series of taps
const LAMP_S = 0.09;
const WATCH_MS = 400;

// ---------------------------------------------------------------- beats: seconds since the start of the dance

const motion = data.motions[0];
let source = job.beats ? "yours" : "tracked";
let moved = false; // from those of this dance
let taps = [];
motion.beats = job.beats ? job.beats.map((time) => time - job.start_s) : motion.beats;
const given = motion.beats;

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
const intervals = (times) => times.slice(1).map((time, i) => time - times[i]);

// Return the steady beat nearest to taps: the period of the line through them, and the median of what is left as its phase.
function steadyBeat(times) {
  const usual = median(intervals(times));
  const counts = [0];
  const kept = [times[0]];
  for (const time of times.slice(1)) {
    const count = Math.round((time - kept[kept.length - 1]) / usual);
    if (count < 1) continue; // one tap that came twice
    counts.push(counts[counts.length - 1] + count);
    kept.push(time);
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const centre = mean(counts), middle = mean(kept);
  const spread = counts.reduce((sum, count) => sum + (count - centre) ** 2, 0);
  const period = counts.reduce((sum, count, i) => sum + (count - centre) * (kept[i] - middle), 0) / spread;
  return { period, phase: median(kept.map((time, i) => time - counts[i] * period)) };
}

// Return the beats of a steady tempo from one before the dance to one after it.
function grid({ period, phase }) {
  const beats = [];
  for (let k = Math.floor(-phase / period); phase + (k - 1) * period < seconds; k++) beats.push(phase + k * period);
  return beats;
}

function midpoints(times) {
  const gaps = intervals(times);
  return times.map((time, i) => time + (gaps[i] ?? gaps[gaps.length - 1]) / 2);
}

function setBeats(beats, from) {
  if (beats.length < LEAST_TAPS) return;
  motion.beats = beats;
  source = from;
  moved = true;
  showBeats();
  drawCurves();
}

function showBeats() {
  const bpm = motion.beats.length > 1 ? `${(60 / median(intervals(motion.beats))).toFixed(1)} bpm` : "no beats";
  $("beats-are").textContent = moved && source === "tracked"
    ? "The next dance has the tracked beats" : `${bpm}, ${source}${moved ? ": not danced to yet" : ""}`;
  $("again").disabled = !changes();
}

function tap() {
  if (!playing) return setPlaying(true);
  const time = now();
  if (taps.length && (time < taps[taps.length - 1] || time - taps[taps.length - 1] > PAUSE_S)) taps = [];
  taps.push(time);
  if (taps.length >= LEAST_TAPS) setBeats(grid(steadyBeat(taps)), `${taps.length} taps`);
  else $("beats-are").textContent = `${taps.length} of at least ${LEAST_TAPS} taps`;
}

let lit = false;

// Light the lamp on every beat.
function light() {
  requestAnimationFrame(light);
  if (!playing && !lit) return;
  const time = now();
  let low = 0, high = motion.beats.length; // the first beat after now
  while (low < high) {
    const at = (low + high) >> 1;
    if (motion.beats[at] <= time) low = at + 1;
    else high = at;
  }
  const on = playing && low > 0 && time - motion.beats[low - 1] < LAMP_S;
  if (on !== lit) $("lamp").classList.toggle("on", (lit = on));
}

// ---------------------------------------------------------------- another dance

// Return what differs from this dance, or null.
function changes() {
  const found = {};
  if (Number($("dancers").value) !== job.dancers) found.dancers = Number($("dancers").value);
  if ($("energy").value !== job.energy) found.energy = $("energy").value;
  if ($("seed").valueAsNumber !== job.seed) found.seed = $("seed").valueAsNumber;
  if ($("start").valueAsNumber !== job.start_s) found.start_s = $("start").valueAsNumber;
  if ($("end").valueAsNumber !== endOf(job)) found.end_s = $("end").valueAsNumber;
  if (moved) found.beats = source === "tracked" ? null : motion.beats.map((time) => Number((time + job.start_s).toFixed(4)));
  return Object.keys(found).length ? found : null;
}

const endOf = (request) => Number((request.end_s ?? request.seconds).toFixed(2));

async function dance(asked) {
  for (const id of ["again", "another"]) $(id).disabled = true;
  try {
    const { id } = await ask(`/api/jobs/${job.id}/again`, asked);
    for (;;) {
      const other = await ask(`/api/jobs/${id}`);
      $("waiting").textContent = progressOf(other);
      $("share").hidden = other.status !== "working";
      $("share").value = other.share;
      if (other.status === "failed") break;
      if (other.status === "done") return location.assign(`/dance/${id}`);
      await sleep(WATCH_MS);
    }
  } catch (error) {
    $("waiting").textContent = error.message;
  }
  $("share").hidden = true;
  $("another").disabled = false;
  showBeats();
}

async function showTakes() {
  const { jobs } = await ask("/api/jobs");
  const takes = jobs.filter((other) => other.status === "done" && other.name === job.name && other.seconds === job.seconds).reverse();
  if (takes.length < 2) return;
  takes.forEach((take, i) => {
    const link = element("a", String(i + 1), $("takes"));
    link.href = `/dance/${take.id}`;
    link.title = kindOf(take);
    link.setAttribute("aria-label", `Dance ${i + 1}: ${kindOf(take)}`);
    if (take.id === job.id) link.setAttribute("aria-current", "page");
  });
}

// ---------------------------------------------------------------- files

async function showFiles() {
  const { files } = await ask(`/api/jobs/${job.id}`);
  for (const { kind, suffix, missing } of files) {
    const button = element("button", kind, $("files"));
    button.id = `save-${kind}`;
    button.setAttribute("aria-label", `Save as ${kind}, ${suffix}`);
    element("small", suffix, button);
    if (missing) {
      button.disabled = true;
      button.title = `This server lacks ${missing}`;
    }
    button.onclick = () => saveFile(kind, button);
  }
}

async function saveFile(kind, button) {
  button.disabled = true;
  try {
    await ask(`/api/jobs/${job.id}/files/${kind}`, {});
    for (;;) {
      const { files } = await ask(`/api/jobs/${job.id}`);
      const { state } = files.find((file) => file.kind === kind);
      if (state === "ready") break;
      if (state !== "working") throw new Error(state);
      $("saved").textContent = `Writing ${kind} …`;
      await sleep(WATCH_MS);
    }
    const link = document.createElement("a");
    link.href = `/files/${job.id}/${kind}`;
    link.download = "";
    link.click();
    $("saved").textContent = `Saved ${kind}.`;
  } catch (error) {
    $("saved").textContent = error.message;
  }
  button.disabled = false;
}

// ---------------------------------------------------------------- start

$("dancers").value = job.dancers;
$("energy").value = job.energy;
$("seed").value = job.seed;
$("start").value = job.start_s;
$("end").value = endOf(job);
for (const id of ["dancers", "energy", "seed", "start", "end"]) $(id).oninput = showBeats;
$("start-here").onclick = () => { $("start").value = (job.start_s + now()).toFixed(2); showBeats(); };
$("end-here").onclick = () => { $("end").value = (job.start_s + now()).toFixed(2); showBeats(); };
$("again").onclick = () => dance(changes());
$("another").onclick = () => dance({ ...changes(), seed: job.seed + 1 });
// At the press, not at the release; a click without one is the keyboard's.
$("tap").onpointerdown = tap;
$("tap").onclick = (event) => { if (event.detail === 0) tap(); };
$("half").onclick = () => setBeats(motion.beats.filter((_, i) => i % 2 === 0), "half of them");
$("double").onclick = () => setBeats(midpoints(motion.beats).flatMap((time, i) => [motion.beats[i], time]), "doubled");
$("offbeat").onclick = () => setBeats(midpoints(motion.beats), "off-beat");
$("earlier").onclick = () => setBeats(motion.beats.map((time) => time - NUDGE_S), "moved");
$("later").onclick = () => setBeats(motion.beats.map((time) => time + NUDGE_S), "moved");
$("tracked").onclick = () => {
  moved = Boolean(job.beats);
  source = "tracked";
  if (!moved) motion.beats = given;
  taps = [];
  showBeats();
  drawCurves();
};
KEYS.t = tap;
showBeats();
showTakes();
showFiles();
requestAnimationFrame(light);
