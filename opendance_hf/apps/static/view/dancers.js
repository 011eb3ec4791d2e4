// What stands on the stage of `opendance view`: dancers with their shadows, the floor, names. view.js moves them.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const JOINTS = 24;
const HEAD = 15;
const SHADOWS = [0, 4, 5, 7, 8, 10, 11, 15, 22, 23]; // joints with a shadow: pelvis, knees, feet, head, hands
const SHADOW_REACH_M = 1.1;
const QUATERNION_STEP = 1 / 32767;
const FLOOR_M = 80;
const FLOOR = "#d3d7de";
const LINES = "#b4bbc6"; // of the floor, every metre

const parents = data.parents;

// ---------------------------------------------------------------- data

function bytes(text) {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}

const floats = (text) => new Float32Array(bytes(text).buffer);
const shapes = Object.fromEntries(Object.entries(data.bodies).map(([detail, found]) =>
  [detail, { index: new THREE.BufferAttribute(new Uint16Array(bytes(found.faces).buffer), 1), material: bytes(found.material) }]));

// Return true if there is no graphics processor: then smooth edges cost more than half of the time of a frame.
function drawsInSoftware() {
  const context = document.createElement("canvas").getContext("webgl2");
  const names = context?.getExtension("WEBGL_debug_renderer_info");
  return Boolean(names) && /swiftshader|llvmpipe|softpipe|basic render/i.test(context.getParameter(names.UNMASKED_RENDERER_WEBGL));
}

const software = drawsInSoftware();
// Bodies of all dancers: full ones where a graphics processor draws them. view.js changes to low ones if that is slow.
let detail = !shapes.low || (shapes.full && !software) ? "full" : "low";

// ---------------------------------------------------------------- dancers

const bodyMaterial = new THREE.MeshLambertMaterial({ vertexColors: true });
const shadowPlane = new THREE.PlaneGeometry(1, 1);
const shadowMaterial = new THREE.MeshBasicMaterial({ map: shadowTexture(), transparent: true, depthWrite: false, fog: false });

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
    this.found = found;
    this.group = group;
    this.mesh = body(found);
    this.shadows = SHADOWS.map(() => new THREE.Mesh(shadowPlane, shadowMaterial.clone()));
    for (const shadow of this.shadows) shadow.rotation.x = -Math.PI / 2;
    group.add(this.mesh, ...this.shadows);
  }

  // Draw the body of the current detail.
  changeBody() {
    this.group.remove(this.mesh);
    this.mesh.geometry.dispose();
    this.mesh.skeleton.dispose();
    this.mesh = body(this.found);
    this.group.add(this.mesh);
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
  const shape = found.bodies[detail];
  const { index, material } = shapes[detail];
  const geometry = new THREE.BufferGeometry();
  const steps = new Uint16Array(bytes(shape.vertices).buffer);
  const vertices = Float32Array.from(steps, (value, i) => shape.low[i % 3] + shape.step[i % 3] * value);
  const palette = bytes(found.palette);
  const colours = new Float32Array(vertices.length);
  const colour = new THREE.Color();
  for (let v = 0; v < material.length; v++) {
    const at = 3 * material[v];
    colour.setRGB(palette[at] / 255, palette[at + 1] / 255, palette[at + 2] / 255, THREE.SRGBColorSpace);
    colour.toArray(colours, 3 * v);
  }
  geometry.setAttribute("position", new THREE.BufferAttribute(vertices, 3));
  geometry.setAttribute("color", new THREE.BufferAttribute(colours, 3));
  geometry.setAttribute("skinIndex", new THREE.BufferAttribute(new Uint16Array(bytes(shape.bones)), 4));
  geometry.setAttribute("skinWeight", new THREE.BufferAttribute(bytes(shape.weights), 4, true));
  geometry.setIndex(index);
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
  texture.anisotropy = software ? 1 : 4;
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

