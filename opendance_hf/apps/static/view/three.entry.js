// Lists what view.js uses of three.js. three.min.js is built from this file: README.md has the command.
export {
  BufferAttribute, BufferGeometry, CanvasTexture, Color, DirectionalLight, Fog, HemisphereLight, Mesh,
  MeshBasicMaterial, MeshLambertMaterial, PerspectiveCamera, PlaneGeometry, RepeatWrapping, SRGBColorSpace, Scene, Skeleton, SkinnedMesh,
  Bone, Object3D, Spherical, Sprite, SpriteMaterial, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
