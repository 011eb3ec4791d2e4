// The page of `opendance view`: dancers on a stage, in step with a song. All data are in the page; nothing is requested.
"use strict";

const $ = (id) => document.getElementById(id);
const JOINTS = 24;
const PALETTE = 10; // materials of a body
const SHADOWS = [0, 4, 5, 7, 8, 10, 11, 15, 22, 23]; // joints with a shadow: pelvis, knees, feet, head, hands
const SHADOW_REACH_M = 1.1;
const QUATERNION_STEP = 1 / 32767;
const LABEL_MS = 250; // between updates of the text of the clock
const SLOW_MS = 45; // frames that take longer are drawn with fewer pixels
const LEAST_PIXELS = 0.5;
const FLOOR_M = 80;
const FLOOR = "#d3d7de";
const LINES = "#b4bbc6"; // of the floor, every metre
const WALL = 0xe9ecf0;

const data = JSON.parse($("data").textContent);
const parents = data.parents;
const seconds = data.seconds;

// ---------------------------------------------------------------- data

function bytes(text) {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}

const floats = (text) => new Float32Array(bytes(text).buffer);
const faces = new Uint16Array(bytes(data.faces).buffer);
const material = bytes(data.material);

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

// ---------------------------------------------------------------- dancers

// A body whose bones are computed here: three.js would make 24 objects of them and walk through all in every frame.
class Dancer {
  constructor(found, motion, group) {
    this.motion = motion;
    this.offsets = floats(found.offsets);
    this.quaternions = new Int16Array(bytes(found.quaternions).buffer);
    this.pelvis = new Uint16Array(bytes(found.pelvis).buffer);
    this.low = found.pelvis_low;
    this.step = found.pelvis_step;
    this.joints = new Float64Array(JOINTS * 3);
    this.turned = new Float64Array(JOINTS * 4);
    this.rest = new Float64Array(JOINTS * 3);
    for (let j = 0; j < JOINTS; j++)
      for (let k = 0; k < 3; k++) this.rest[3 * j + k] = this.offsets[3 * j + k] + (j ? this.rest[3 * parents[j] + k] : 0);
    this.mesh = body(found);
    this.shadows = SHADOWS.map(() => new THREE.Mesh(shadowPlane, shadowMaterial.clone()));
    for (const shadow of this.shadows) shadow.rotation.x = -Math.PI / 2;
    group.add(this.mesh, ...this.shadows);
  }

  // Write the joints and the matrices of the bones at a time in seconds, interpolated between frames.
  pose(time) {
    const { offsets, quaternions, joints, turned, rest } = this;
    const last = this.motion.frames - 1;
    const at = Math.min(Math.max(time * this.motion.fps, 0), last);
    const i = Math.floor(at);
    const n = Math.min(i + 1, last);
    const share = at - i;
    const matrices = this.mesh.skeleton.boneMatrices;
    for (let j = 0; j < JOINTS; j++) {
      const a = 4 * (i * JOINTS + j);
      const b = 4 * (n * JOINTS + j);
      const dot = quaternions[a] * quaternions[b] + quaternions[a + 1] * quaternions[b + 1] +
        quaternions[a + 2] * quaternions[b + 2] + quaternions[a + 3] * quaternions[b + 3];
      const next = dot < 0 ? -share : share;
      let w = (quaternions[a] * (1 - share) + quaternions[b] * next) * QUATERNION_STEP;
      let x = (quaternions[a + 1] * (1 - share) + quaternions[b + 1] * next) * QUATERNION_STEP;
      let y = (quaternions[a + 2] * (1 - share) + quaternions[b + 2] * next) * QUATERNION_STEP;
      let z = (quaternions[a + 3] * (1 - share) + quaternions[b + 3] * next) * QUATERNION_STEP;
      const scale = 1 / Math.sqrt(w * w + x * x + y * y + z * z);
      w *= scale; x *= scale; y *= scale; z *= scale;
      const o = 3 * j;
      if (j === 0) {
        for (let k = 0; k < 3; k++)
          joints[k] = this.low[k] + this.step[k] * (this.pelvis[3 * i + k] * (1 - share) + this.pelvis[3 * n + k] * share);
      } else {
        const p = parents[j];
        const pw = turned[4 * p], px = turned[4 * p + 1], py = turned[4 * p + 2], pz = turned[4 * p + 3];
        const vx = offsets[o], vy = offsets[o + 1], vz = offsets[o + 2];
        // The offset turned by the parent: v + 2 w (u x v) + 2 u x (u x v).
        const cx = py * vz - pz * vy, cy = pz * vx - px * vz, cz = px * vy - py * vx;
        joints[o] = joints[3 * p] + vx + 2 * (pw * cx + py * cz - pz * cy);
        joints[o + 1] = joints[3 * p + 1] + vy + 2 * (pw * cy + pz * cx - px * cz);
        joints[o + 2] = joints[3 * p + 2] + vz + 2 * (pw * cz + px * cy - py * cx);
        const lw = w, lx = x, ly = y, lz = z;
        w = pw * lw - px * lx - py * ly - pz * lz;
        x = pw * lx + px * lw + py * lz - pz * ly;
        y = pw * ly - px * lz + py * lw + pz * lx;
        z = pw * lz + px * ly - py * lx + pz * lw;
      }
      turned[4 * j] = w; turned[4 * j + 1] = x; turned[4 * j + 2] = y; turned[4 * j + 3] = z;
      const m = 16 * j;
      const rx = rest[o], ry = rest[o + 1], rz = rest[o + 2];
      const r00 = 1 - 2 * (y * y + z * z), r01 = 2 * (x * y - w * z), r02 = 2 * (x * z + w * y);
      const r10 = 2 * (x * y + w * z), r11 = 1 - 2 * (x * x + z * z), r12 = 2 * (y * z - w * x);
      const r20 = 2 * (x * z - w * y), r21 = 2 * (y * z + w * x), r22 = 1 - 2 * (x * x + y * y);
      matrices[m] = r00; matrices[m + 1] = r10; matrices[m + 2] = r20;
      matrices[m + 4] = r01; matrices[m + 5] = r11; matrices[m + 6] = r21;
      matrices[m + 8] = r02; matrices[m + 9] = r12; matrices[m + 10] = r22;
      matrices[m + 12] = joints[o] - r00 * rx - r01 * ry - r02 * rz;
      matrices[m + 13] = joints[o + 1] - r10 * rx - r11 * ry - r12 * rz;
      matrices[m + 14] = joints[o + 2] - r20 * rx - r21 * ry - r22 * rz;
    }
    this.mesh.skeleton.boneTexture.needsUpdate = true;
    this.cast();
  }

  // Place the shadows: small and dark near the floor, wide and faint above.
  cast() {
    for (let k = 0; k < SHADOWS.length; k++) {
      const o = 3 * SHADOWS[k];
      const height = Math.max(this.joints[o + 1], 0);
      const shadow = this.shadows[k];
      shadow.visible = height < SHADOW_REACH_M;
      shadow.position.set(this.joints[o], 0.004 + 0.0005 * k, this.joints[o + 2]);
      shadow.scale.setScalar(0.3 + 0.75 * height);
      shadow.material.opacity = (0.42 / (1 + (height / 0.4) ** 2)) * (1 - height / SHADOW_REACH_M);
    }
  }
}

// Bones that three.js does not compute: Dancer.pose writes their matrices.
class OwnSkeleton extends THREE.Skeleton {
  update() {}
}

function body(found) {
  const geometry = new THREE.BufferGeometry();
  const vertices = floats(found.vertices);
  const palette = bytes(found.palette);
  const colours = new Float32Array(vertices.length);
  const colour = new THREE.Color();
  for (let v = 0; v < material.length; v++) {
    const at = 3 * Math.min(material[v], PALETTE - 1);
    colour.setRGB(palette[at] / 255, palette[at + 1] / 255, palette[at + 2] / 255, THREE.SRGBColorSpace);
    colour.toArray(colours, 3 * v);
  }
  geometry.setAttribute("position", new THREE.BufferAttribute(vertices, 3));
  geometry.setAttribute("color", new THREE.BufferAttribute(colours, 3));
  geometry.setAttribute("skinIndex", new THREE.BufferAttribute(new Uint16Array(bytes(found.bones)), 4));
  geometry.setAttribute("skinWeight", new THREE.BufferAttribute(floats(found.weights), 4));
  geometry.setIndex(new THREE.BufferAttribute(faces, 1));
  geometry.computeVertexNormals();
  const mesh = new THREE.SkinnedMesh(geometry, bodyMaterial);
  const skeleton = new OwnSkeleton(Array.from({ length: JOINTS }, () => new THREE.Bone()));
  skeleton.computeBoneTexture();
  for (let j = 0; j < JOINTS; j++) skeleton.boneMatrices[16 * j + 15] = 1;
  mesh.bind(skeleton, mesh.matrixWorld);
  mesh.bindMode = "detached";
  mesh.frustumCulled = false;
  return mesh;
}

function shadowTexture() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 64;
  const context = canvas.getContext("2d");
  const fade = context.createRadialGradient(32, 32, 0, 32, 32, 32);
  for (const [at, alpha] of [[0, 1], [0.5, 0.5], [1, 0]]) fade.addColorStop(at, `rgba(20, 24, 32, ${alpha})`);
  context.fillStyle = fade;
  context.fillRect(0, 0, 64, 64);
  return new THREE.CanvasTexture(canvas);
}

// Squares of a metre.
function tiles() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 256;
  const context = canvas.getContext("2d");
  context.fillStyle = LINES;
  context.fillRect(0, 0, 256, 256);
  context.fillStyle = FLOOR;
  context.fillRect(2, 2, 252, 252);
  const texture = new THREE.CanvasTexture(canvas);
  texture.colorSpace = THREE.SRGBColorSpace;
  texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
  texture.repeat.set(FLOOR_M, FLOOR_M);
  texture.anisotropy = 4;
  return texture;
}

// The name of a dance over the heads of its dancers, of one size at every distance.
function nameLabel(text) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const font = "600 40px system-ui, 'Liberation Sans', sans-serif";
  context.font = font;
  const shown = text.length > 24 ? `${text.slice(0, 23)}…` : text;
  canvas.width = Math.ceil(context.measureText(shown).width) + 40;
  canvas.height = 64;
  context.fillStyle = "#1a1e25";
  context.roundRect(0, 0, canvas.width, 64, 16);
  context.fill();
  context.font = font;
  context.fillStyle = "#e8ebf0";
  context.textBaseline = "middle";
  context.fillText(shown, 20, 34);
  const texture = new THREE.CanvasTexture(canvas);
  texture.colorSpace = THREE.SRGBColorSpace;
  const sprite = new THREE.Sprite(new THREE.SpriteMaterial({ map: texture, sizeAttenuation: false, depthTest: false, fog: false }));
  sprite.userData.wide = canvas.width / canvas.height;
  return sprite;
}

// ---------------------------------------------------------------- stage

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = false;
}

function makeRenderer() {
  try {
    return new THREE.WebGLRenderer({ canvas: $("view"), antialias: true });
  } catch (error) {
    problem(`This browser cannot draw in 3D (${error.message}): turn on WebGL or hardware acceleration, or use another browser.`);
    throw error;
  }
}

const renderer = makeRenderer();
const scene = new THREE.Scene();
const camera = new THREE.PerspectiveCamera(35, 1, 0.1, 80);
const controls = new THREE.OrbitControls(camera, $("view"));
const bodyMaterial = new THREE.MeshLambertMaterial({ vertexColors: true });
const shadowPlane = new THREE.PlaneGeometry(1, 1);
const shadowMaterial = new THREE.MeshBasicMaterial({ map: shadowTexture(), transparent: true, depthWrite: false, fog: false });

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
      top = Math.max(top, joints[3 * 15 + 1]);
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
  const distance = Math.max(1.3 / half, (high - low + 2.2) / (2 * half * camera.aspect)) + 0.5;
  scene.fog.near = distance + 3;
  scene.fog.far = distance + 24;
  controls.target.set(middle.x, 0.95, middle.z);
  camera.position.set(middle.x, 0.95 + 0.16 * distance, middle.z + distance);
  controls.update();
}

let pixels = Math.min(window.devicePixelRatio, 2);

function resize() {
  const { clientWidth: width, clientHeight: height } = $("stage");
  if (!width || !height) return;
  camera.aspect = width / height;
  camera.updateProjectionMatrix();
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
  $("play").textContent = value ? "Pause" : "Play";
  if (value && now() >= seconds - 1e-3) seekTo(0);
  if (!song) return;
  if (value) song.play().catch((error) => { setPlaying(false); problem(`The song cannot be played: ${error.message}`); });
  else song.pause();
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
  if (song && song.paused) song.play();
}

// ---------------------------------------------------------------- frames

// Allocates nothing but the text of the clock, four times a second.
function frame(at) {
  requestAnimationFrame(frame);
  const elapsed = at - before;
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
  $("seek").valueAsNumber = time;
  if (at - labelled > LABEL_MS) {
    labelled = at;
    const text = `${clockText(time)} / ${clockText(seconds)}`;
    $("clock").value = text;
    $("seek").setAttribute("aria-valuetext", text);
  }
}

// Draw fewer pixels where frames are slow, as without a graphics processor.
function adapt(elapsed) {
  slow = elapsed > SLOW_MS ? slow + 1 : 0;
  if (slow < 20 || pixels <= LEAST_PIXELS) return;
  slow = 0;
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
    if (motion.licence) element("small", motion.licence, item);
    if (!motion.glb) {
      element("small", data.glb_missing, item);
      continue;
    }
    const button = element("button", "Save GLB", item);
    button.setAttribute("aria-label", `Save GLB of ${motion.name}`);
    button.onclick = () => save(new Blob([bytes(motion.glb)], { type: "model/gltf-binary" }), `${fileName(motion.name)}.glb`);
  }
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

const KEYS = {
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
  if (event.key === " " && event.target.closest("button, summary")) return; // which it presses
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = (event.shiftKey && SHIFTED[name]) || KEYS[name];
  if (!act) return;
  event.preventDefault();
  act();
});

// ---------------------------------------------------------------- start

showDances();
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
