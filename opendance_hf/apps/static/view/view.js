// The page of `opendance view`: a stage in step with a song. All data are in the page; nothing is requested.
"use strict";

const $ = (id) => document.getElementById(id);
const seconds = data.seconds;
const LABEL_MS = 250; // between updates of the text of the clock
const SHORT_TERMS = 32; // letters of a licence that is always shown
const WIDE_LIST = 0.35; // share of the width from which on the numbers of the dances reach the dancers
const SLOW_MS = 45; // frames that take longer are drawn with fewer pixels
const LEAST_PIXELS = 0.5;
const FILM_CLOSE_S = 0.02; // the video beside the dances is in step
const FILM_HURRY = 0.05; // change of its speed until then
const FILM_JUMP_S = 0.3; // it is set where it is further off
const WALL = 0xe9ecf0;

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

function clockText(time) {
  const minutes = Math.floor(time / 60);
  return `${minutes}:${(time - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

// ---------------------------------------------------------------- stage

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = false;
}

function makeRenderer() {
  try {
    return new THREE.WebGLRenderer({ canvas: $("view"), antialias: !software });
  } catch (error) {
    problem(`This browser cannot draw in 3D (${error.message}): turn on WebGL or hardware acceleration, or use another browser.`);
    throw error;
  }
}

const renderer = makeRenderer();
const scene = new THREE.Scene();
const camera = new THREE.PerspectiveCamera(35, 1, 0.1, 80);
const controls = new THREE.OrbitControls(camera, $("view"));

scene.background = new THREE.Color(WALL);
scene.fog = new THREE.Fog(WALL);
scene.add(new THREE.HemisphereLight(0xffffff, 0xaab0bb, 1.9));
const lamp = new THREE.DirectionalLight(0xffffff, 1.7);
lamp.position.set(-2.2, 3.6, 2.6);
const floor = new THREE.Mesh(new THREE.PlaneGeometry(FLOOR_M, FLOOR_M), new THREE.MeshBasicMaterial({ map: tiles(), depthWrite: false }));
floor.rotation.x = -Math.PI / 2;
floor.renderOrder = -1; // first: it does not hide feet that are in it
scene.add(lamp, floor);

const dancers = [];
const groups = data.motions.map((motion) => {
  const group = new THREE.Object3D();
  for (const found of motion.dancers) dancers.push(new Dancer(found, motion, group));
  scene.add(group);
  return group;
});
const labels = data.motions.length > 1 ? data.motions.map((motion) => nameLabel(motion.name)) : [];
scene.add(...labels);

const middle = new THREE.Vector3(); // of all dancers on the floor
const step = new THREE.Vector3();

// Pose everyone; the places of labels and the middle of the dancers follow.
function pose(time) {
  middle.set(0, 0, 0);
  let at = 0;
  for (let g = 0; g < groups.length; g++) {
    const count = data.motions[g].dancers.length;
    let x = 0, z = 0, top = 0;
    for (let k = 0; k < count; k++, at++) {
      dancers[at].pose(time);
      const joints = dancers[at].joints;
      x += (joints[0] + groups[g].position.x) / count;
      z += joints[2] / count;
      top = Math.max(top, joints[3 * HEAD + 1]);
    }
    if (labels.length) labels[g].position.set(x, Math.max(top, 1.4) + 0.42, z);
    middle.x += x / groups.length;
    middle.z += z / groups.length;
  }
}

function place(together) {
  groups.forEach((group, g) => { group.position.x = together ? meetingShift(g) : data.motions[g].shift; });
}

// The shift that brings the first pose of a dance to the middle of the stage.
function meetingShift(g) {
  const own = dancers.filter((dancer) => dancer.motion === data.motions[g]);
  return -own.reduce((sum, dancer) => sum + dancer.low[0] + dancer.step[0] * dancer.pelvis[0], 0) / own.length;
}

// Look at everyone from the front, as close as the shape of the picture allows.
function frameAll() {
  let low = Infinity, high = -Infinity;
  dancers.forEach((dancer) => {
    const x = dancer.joints[0] + groups[data.motions.indexOf(dancer.motion)].position.x;
    low = Math.min(low, x);
    high = Math.max(high, x);
  });
  const half = Math.tan((camera.fov * Math.PI) / 360);
  const distance = Math.max(1.3 / half / (1 - covered / $("stage").clientHeight), (high - low + (camera.aspect < 1 ? 1.4 : 2.2)) / (2 * half * camera.aspect)) + 0.5;
  scene.fog.near = distance + 3;
  scene.fog.far = distance + 24;
  controls.target.set(middle.x, 0.95, middle.z);
  camera.position.set(middle.x, 0.95 + 0.16 * distance, middle.z + distance);
  controls.update();
}

// The height that the numbers of the dances cover where dancers are, pixels: the picture is moved down by half of it.
let covered = 0;

function coveredHeight(width, height) {
  const list = $("dances").getBoundingClientRect();
  const right = Math.max(...[...$("dances").children].map((item) => item.getBoundingClientRect().right)) - list.left;
  return right > WIDE_LIST * width ? Math.min(list.height, 0.4 * height) : 0;
}

let pixels = Math.min(window.devicePixelRatio, 2);

function resize() {
  const { clientWidth: width, clientHeight: height } = $("stage");
  if (!width || !height) return;
  camera.aspect = width / height;
  covered = coveredHeight(width, height);
  camera.setViewOffset(width, height, 0, -covered / 2, width, height);
  renderer.setPixelRatio(pixels);
  renderer.setSize(width, height, false);
  const tall = ((width < 600 ? 17 : 26) / height) * 2 * Math.tan((camera.fov * Math.PI) / 360);
  for (const label of labels) label.scale.set(tall * label.userData.wide, tall, 1);
  changed = true;
}

// ---------------------------------------------------------------- clock

const song = data.song ? new Audio(URL.createObjectURL(new Blob([bytes(data.song)], { type: "audio/mpeg" }))) : null;
let playing = false;
let looping = true;
let rate = 1;
let following = true;
let position = 0; // seconds, of a dance without a song
let before = 0; // time of the last frame, ms
let labelled = 0; // time of the last text of the clock, ms
let changed = true; // the picture is not the latest
let slow = 0; // frames in succession that took too long
// Frames drawn and our time for them, ms: docs/view.md measures with these.
let drawn = 0;
let spent = 0;

const now = () => (song ? Math.min(song.currentTime, seconds) : position);

function setPlaying(value) {
  playing = value;
  changed = true;
  $("play").textContent = value ? "Pause" : "Play";
  if (value && now() >= seconds - 1e-3) seekTo(0);
  if (!song) return;
  if (value) playSong();
  else song.pause();
}

function playSong() {
  song.play().then(() => { $("problem").hidden = true; }, (error) => {
    if (error.name === "AbortError") return; // paused before it began
    setPlaying(false);
    problem(`The song cannot be played: ${error.message}`);
  });
}

// By a key of the keyboard or the system, too.
if (song) song.onpause = () => { if (playing && !song.ended) setPlaying(false); };

// The video beside the dances follows the clock: it is sped up or slowed down a little, and set where it is far off.
const film = data.video ? $("film") : null;

if (film) {
  film.src = URL.createObjectURL(new Blob([bytes(data.video)], { type: "video/mp4" }));
  film.hidden = false;
  film.onseeked = film.onloadeddata = () => { changed = true; }; // the clock may have moved on meanwhile
}

function followFilm(time) {
  const wanted = Math.min(time, film.duration || 0);
  const late = wanted - film.currentTime;
  if (!playing || Math.abs(late) > FILM_JUMP_S) {
    if (!film.seeking && Math.abs(late) > FILM_CLOSE_S) film.currentTime = wanted;
  } else {
    const speed = Math.abs(late) > FILM_CLOSE_S ? rate * (1 + Math.sign(late) * FILM_HURRY) : rate;
    if (film.playbackRate !== speed) film.playbackRate = speed;
  }
  const runs = playing && time < film.duration;
  if (runs === film.paused) runs ? film.play().catch(() => {}) : film.pause();
}

function seekTo(time) {
  position = Math.min(Math.max(time, 0), seconds);
  if (song) song.currentTime = position;
  labelled = 0;
  changed = true;
}

function finish() {
  if (!looping) return setPlaying(false);
  seekTo(0);
  if (song && song.paused) playSong();
}

// ---------------------------------------------------------------- frames

// Allocates nothing but the text of the clock, four times a second.
function frame(at) {
  requestAnimationFrame(frame);
  const elapsed = Math.min(at - before, 250); // a page in the background gets no frames
  before = at;
  if (playing && !song) {
    position += (rate * elapsed) / 1000;
    if (position >= seconds) position = seconds;
  }
  if (playing && (song ? song.ended : position >= seconds)) finish();
  if (!playing && !changed) return;
  const start = performance.now();
  draw(now(), at);
  spent += performance.now() - start;
  drawn += 1;
  if (playing) adapt(elapsed);
}

function draw(time, at) {
  changed = false;
  pose(time);
  if (following) {
    step.set(middle.x - controls.target.x, 0, middle.z - controls.target.z);
    if (playing) step.multiplyScalar(0.06);
    controls.target.add(step);
    camera.position.add(step);
  }
  renderer.render(scene, camera);
  if (film) followFilm(time);
  $("seek").valueAsNumber = time;
  if (at - labelled > LABEL_MS) {
    labelled = at;
    const text = `${clockText(time)} / ${clockText(seconds)}`;
    $("clock").value = text;
    $("seek").setAttribute("aria-valuetext", text);
  }
}

// Draw low bodies, and then fewer pixels, where frames are slow, as without a graphics processor.
function adapt(elapsed) {
  slow = elapsed > SLOW_MS ? slow + 1 : 0;
  if (slow < 20) return;
  slow = 0;
  if (detail === "full" && shapes.low) {
    detail = "low";
    for (const dancer of dancers) dancer.changeBody();
    return;
  }
  if (pixels <= LEAST_PIXELS) return;
  pixels = Math.max(LEAST_PIXELS, pixels * 0.75);
  resize();
}

// ---------------------------------------------------------------- timeline

function drawCurves() {
  const canvas = $("curves");
  const scale = Math.min(window.devicePixelRatio, 2);
  const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale)));
  const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale)));
  const context = canvas.getContext("2d");
  const colours = getComputedStyle(document.documentElement);
  const x = (time) => (time / seconds) * width;
  const feetTop = 0.66 * height;
  if (data.waveform) {
    const wave = bytes(data.waveform);
    context.fillStyle = colours.getPropertyValue("--song");
    for (let i = 0; i < wave.length; i++) {
      const tall = (wave[i] / 255) * 0.6 * height;
      context.fillRect((i / wave.length) * width, 0.32 * height - tall / 2, width / wave.length + 0.5, tall);
    }
  }
  context.fillStyle = colours.getPropertyValue("--beat");
  const beats = data.motions.find((motion) => motion.beats.length)?.beats ?? [];
  let lastBeat = -Infinity;
  for (const beat of beats) {
    if (x(beat) - lastBeat < 3 * scale) continue; // as many as can be told apart
    lastBeat = x(beat);
    context.fillRect(lastBeat, 0, scale, 0.12 * height);
  }
  context.lineWidth = 1.5 * scale;
  for (const motion of data.motions) {
    const curve = bytes(motion.speed);
    context.strokeStyle = motion.dancers[0].colour;
    context.beginPath();
    curve.forEach((value, i) => context.lineTo(x(i / data.curve_hz), feetTop - (value / 255) * 0.6 * height));
    context.stroke();
  }
  const everyone = data.motions.flatMap((motion) => motion.dancers.map((dancer) => ({ motion, dancer })));
  const row = (height - feetTop - 2 * scale) / (2 * everyone.length);
  everyone.forEach(({ motion, dancer }, d) => {
    const contacts = bytes(dancer.contacts);
    context.fillStyle = dancer.colour;
    for (let foot = 0; foot < 2; foot++) {
      const top = feetTop + 2 * scale + (2 * d + foot) * row;
      for (let t = 0, from = -1; t <= contacts.length; t++) {
        const down = t < contacts.length && contacts[t] & (1 << foot);
        if (down && from < 0) from = t;
        if (!down && from >= 0) {
          context.fillRect(x(from / motion.fps), top, Math.max(x((t - from) / motion.fps), 0.5), Math.max(row - scale, 1));
          from = -1;
        }
      }
    }
  });
}

// ---------------------------------------------------------------- buttons and keys

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const fileName = (name) => name.replace(/[^\w.-]+/g, "_");

function savePicture() {
  draw(now(), before); // the buffer is empty after a frame was shown
  $("view").toBlob((blob) => save(blob, `${fileName(data.motions[0].name)}_${now().toFixed(2)}s.png`), "image/png");
}

function showDances() {
  for (const motion of data.motions) {
    const item = element("li", "", $("dances"));
    const name = element("div", "", item);
    name.className = "name";
    for (const dancer of motion.dancers) element("i", "", name).style.background = dancer.colour;
    name.append(motion.name);
    const list = element("dl", "", item);
    for (const [label, value] of motion.numbers) {
      element("dt", label, list);
      element("dd", value, list);
    }
    const foot = element("div", "", item);
    foot.className = "foot";
    if (motion.glb) saveButton(motion, foot);
    showTerms(motion, foot);
    if (!motion.glb) element("small", data.glb_missing, item);
  }
}

function showTerms(motion, foot) {
  if (motion.licence.length > SHORT_TERMS) {
    const details = element("details", "", foot);
    element("summary", "Licence", details).setAttribute("aria-label", `Licence of ${motion.name}`);
    element("small", motion.licence, details);
  } else if (motion.licence) element("small", motion.licence, foot);
}

function saveButton(motion, foot) {
  const button = element("button", "Save GLB", foot);
  button.setAttribute("aria-label", `Save GLB of ${motion.name}`);
  button.onclick = () => save(new Blob([bytes(motion.glb)], { type: "model/gltf-binary" }), `${fileName(motion.name)}.glb`);
}

function toggle(id, value) {
  $(id).setAttribute("aria-pressed", String(value));
  changed = true;
  return value;
}

const setLoop = () => { looping = toggle("loop", !looping); };
const setFollow = () => { following = toggle("follow", !following); };

function setSlow() {
  rate = toggle("slow", rate === 1) ? 0.5 : 1;
  if (song) song.playbackRate = rate;
}

function setTogether() {
  place(toggle("together", $("together").getAttribute("aria-pressed") !== "true"));
  pose(now());
  frameAll();
}

const around = new THREE.Spherical();

function turn(sideways, up, nearer) {
  step.subVectors(camera.position, controls.target);
  around.setFromVector3(step);
  around.theta += sideways;
  around.phi = Math.min(Math.max(around.phi + up, 0.1), controls.maxPolarAngle);
  around.radius = Math.min(Math.max(around.radius * nearer, controls.minDistance), controls.maxDistance);
  camera.position.copy(controls.target).add(step.setFromSpherical(around));
  controls.update();
  changed = true;
}

// Rows of a dataset, of a page that `opendance view DATASET` serves.
function showRows() {
  for (const name of ["back", "previous", "next"]) {
    if (data.rows[name]) $(name).href = data.rows[name];
    $(name).hidden = !data.rows[name];
  }
  $("place").textContent = data.rows.place;
  if (data.rows.note) problem(data.rows.note);
  $("rows").hidden = false;
}

function visit(name) {
  const target = data.rows?.[name];
  if (target) location.href = target;
}

const KEYS = {
  p: () => visit("previous"), n: () => visit("next"), Escape: () => visit("back"),
  " ": () => setPlaying(!playing), l: setLoop, s: setSlow, f: setFollow,
  o: () => { if (data.motions.length > 1) setTogether(); },
  ArrowLeft: () => seekTo(now() - 1), ArrowRight: () => seekTo(now() + 1),
  ",": () => seekTo(now() - 1 / data.motions[0].fps), ".": () => seekTo(now() + 1 / data.motions[0].fps),
  Home: () => seekTo(0), End: () => seekTo(seconds),
  "+": () => turn(0, 0, 0.9), "=": () => turn(0, 0, 0.9), "-": () => turn(0, 0, 1 / 0.9),
};
const SHIFTED = {
  ArrowLeft: () => turn(-0.12, 0, 1), ArrowRight: () => turn(0.12, 0, 1),
  ArrowUp: () => turn(0, -0.08, 1), ArrowDown: () => turn(0, 0.08, 1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.closest("button, summary, a")) return; // which it presses
  if (event.target !== $("seek") && event.target.closest("input, select")) return; // which it changes
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = (event.shiftKey && SHIFTED[name]) || KEYS[name];
  if (!act) return;
  event.preventDefault();
  act();
});

// ---------------------------------------------------------------- start

showDances();
if (data.rows) showRows();
$("seek").max = seconds;
$("seek").oninput = () => seekTo($("seek").valueAsNumber);
$("play").onclick = () => setPlaying(!playing);
$("loop").onclick = setLoop;
$("slow").onclick = setSlow;
$("follow").onclick = setFollow;
$("together").onclick = setTogether;
$("together").hidden = data.motions.length < 2;
$("picture").onclick = savePicture;
document.querySelector("#legend .song").hidden = !song;
document.querySelector("#legend .beat").hidden = !data.motions.some((motion) => motion.beats.length);
controls.maxPolarAngle = 1.55; // above the floor
controls.minDistance = 1;
controls.maxDistance = 25;
controls.addEventListener("change", () => { changed = true; });
place(false);
pose(0);
resize();
frameAll();
new ResizeObserver(() => { resize(); drawCurves(); }).observe($("stage"));
requestAnimationFrame(frame);
