"""Read and write glTF 2.0 animations (``.glb``): skeletons that move, with the skinned body of the package.

Files are written in metres, y up, with one skeleton and one skinned mesh a dancer, and one animation of all of them; rest
pose and bone axes are those of the rig. Files are read whose nodes move in one animation, with any axes above them: nodes
that are joints of a skin, or else all nodes of a hierarchy. Several skins are several dancers.

Source: Khronos Group, "glTF 2.0 Specification", sections 3.7.3 (skins) and 3.11 (animations), appendix C (interpolation).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

from opendance_hf.formats import FormatError
from opendance_hf.formats.animation import MAX_VALUES, Animation, check_size, even_rate, to_motion
from opendance_hf.formats.body import Axis
from opendance_hf.formats.gltf import INDICES, VERTICES, GltfFile, GltfWriter, is_number
from opendance_hf.formats.motion import Motion, check_suffix
from opendance_hf.formats.rigged import Rigged, rigged
from opendance_hf.formats.rigs import NameTable, check_rig, table_of
from opendance_hf.formats.skinned import SkinnedBody, bind_body, check_detail, colour_of

#: Suffix of the files that are written.
SUFFIX: Final = ".glb"

log = logging.getLogger(__name__)
Array = npt.NDArray[np.floating]

_MAX_SKINS: Final = 256
_MAX_SECONDS: Final = 3 * 3600
#: Rate at which animations are read whose keys are not evenly spaced.
_DEFAULT_FPS: Final = 60.0


def write(motion: Motion, path: Path, *, rig: str = "smpl", detail: str = "full") -> list[Path]:
    """Write all dancers in one file.

    Args:
        motion: the motion; it needs poses.
        path: the file.
        rig: names, rest pose and bone axes of the joints, see :data:`opendance_hf.formats.rigs.RIGS`.
        detail: of the body: ``full``, ``low`` (1,897 vertices) or ``none``, for skeletons alone.

    Raises:
        FormatError: if the motion has no poses, or ``path`` does not end in ``.glb``.
        OSError: if the file cannot be written.
    """
    check_suffix(path, ".glb")
    check_detail(detail)
    table, writer = check_rig(rig), GltfWriter()
    scene = Scene(writer, str(motion.meta.get("id", path.stem)), motion.fps, motion.num_frames)
    for index in range(motion.num_dancers):
        dancer = motion.dancer(index)
        body = rigged(path, dancer, table)
        joints = scene.add_skeleton(body, f"dancer_{index + 1}")
        if detail != "none":
            scene.add_body(bind_body(path, dancer, body, detail), joints)
    scene.save(path, copyright_=str(motion.meta.get("licence", "")))
    return [path]


class Scene:
    """Build the scene of a file.

    Args:
        writer: of the file.
        name: of scene and animation.
        fps: frames per second.
        num_frames: of all skeletons.
    """

    def __init__(self, writer: GltfWriter, name: str, fps: float, num_frames: int) -> None:
        self._writer = writer
        self._roots: list[int] = []
        self._nodes: list[dict[str, Any]] = []
        self._channels: list[dict[str, Any]] = []
        self._samplers: list[dict[str, int]] = []
        self._meshes: list[dict[str, Any]] = []
        self._skins: list[dict[str, Any]] = []
        self._materials: list[dict[str, Any]] = []
        self._name = name
        self._times = writer.add((np.arange(num_frames) / fps).astype(np.float32), bounds=True)

    def add_skeleton(self, body: Rigged, name: str) -> list[int]:
        """Add the nodes and the animation of a skeleton; return the nodes of its joints."""
        animation, first = body.animation, len(self._nodes) + 1
        top: dict[str, Any] = {"name": name, "children": []}
        self._roots.append(len(self._nodes))
        self._nodes.append(top)
        quaternions = Rotation.from_matrix(animation.rotations.reshape(-1, 3, 3)).as_quat()
        quaternions = quaternions.reshape(*animation.rotations.shape[:2], 4)
        # One sign from frame to frame, for tools that interpolate the numbers.
        steps = (quaternions[1:] * quaternions[:-1]).sum(-1)
        signs = np.cumprod(np.concatenate([np.ones((1, steps.shape[1])), np.where(steps < 0, -1, 1)]), axis=0)
        quaternions = (quaternions * signs[..., None]).astype(np.float32)
        rest = Rotation.from_matrix(animation.rest_rotations).as_quat()
        for joint, parent in enumerate(animation.parents):
            node = {
                "name": animation.names[joint],
                "translation": animation.rest_translations[joint].tolist(),
                "rotation": rest[joint].tolist(),
            }
            self._nodes.append(node)
            above = top if parent < 0 else self._nodes[first + parent]
            above.setdefault("children", []).append(first + joint)
            if np.abs(np.abs(quaternions[:, joint] @ rest[joint]) - 1).max() > 1e-9:
                self._animate(first + joint, "rotation", quaternions[:, joint])
            moved = animation.translations[:, joint]
            if np.abs(moved - animation.rest_translations[joint]).max() > 1e-6:
                self._animate(first + joint, "translation", moved.astype(np.float32))
        return [first + joint for joint in range(len(animation.names))]

    def add_body(self, body: SkinnedBody, nodes: list[int]) -> None:
        """Add the skinned body of a dancer to the nodes of its joints."""
        number = len(self._skins)
        attributes = {
            "POSITION": self._writer.add(body.vertices, target=VERTICES, bounds=True),
            "NORMAL": self._writer.add(body.normals, target=VERTICES),
            "JOINTS_0": self._writer.add(body.bones, target=VERTICES),
            "WEIGHTS_0": self._writer.add(body.weights, target=VERTICES),
        }
        primitives = [
            {
                "attributes": attributes,
                "indices": self._writer.add(faces.reshape(-1).astype(np.uint16), target=INDICES),
                "material": self._material(name, number),
            }
            for name, faces in body.parts.items()
        ]
        inverse = np.linalg.inv(body.bind)
        inverse[:, 3] = 0, 0, 0, 1
        bind = self._writer.add(inverse.astype(np.float32))
        self._skins.append({"inverseBindMatrices": bind, "joints": nodes, "skeleton": nodes[0]})
        self._meshes.append({"name": f"body_{number + 1}", "primitives": primitives})
        self._roots.append(len(self._nodes))
        self._nodes.append({"name": f"body_{number + 1}", "mesh": len(self._meshes) - 1, "skin": number})

    def save(self, path: Path, *, copyright_: str = "", **content: Any) -> None:
        """Write the file; ``content`` is added to its JSON."""
        self._writer.content |= {
            "scene": 0,
            "scenes": [{"name": self._name, "nodes": self._roots}],
            "nodes": self._nodes,
            "animations": [{"name": self._name, "channels": self._channels, "samplers": self._samplers}],
            **content,
        }
        lists = {"meshes": self._meshes, "skins": self._skins, "materials": self._materials}
        self._writer.content |= {name: items for name, items in lists.items() if items}
        self._writer.save(path, copyright_=copyright_)

    def _animate(self, node: int, what: str, values: np.ndarray) -> None:
        self._samplers.append({"input": self._times, "output": self._writer.add(values)})
        self._channels.append({"sampler": len(self._samplers) - 1, "target": {"node": node, "path": what}})

    def _material(self, name: str, dancer: int) -> int:
        own = f"{name}_{dancer + 1}" if name == "top" else name
        for index, material in enumerate(self._materials):
            if material["name"] == own:
                return index
        colour = [*colour_of(name, dancer), 1.0]
        pbr = {"baseColorFactor": colour, "metallicFactor": 0.0, "roughnessFactor": 0.8}
        self._materials.append({"name": own, "pbrMetallicRoughness": pbr})
        return len(self._materials) - 1


def read(
    path: Path, *, fps: float | None = None, up: Axis | None = None, names: str | Path | None = None
) -> Motion:
    """Read the animated skeletons of a file.

    Args:
        path: the file.
        fps: frames per second to sample it at; by default that of its keys.
        up: axis that points up; measured by default.
        names: table of the joints' names; found by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is damaged, has no animation of a person, or dancers of different skeletons.
    """
    return motion_of_file(GltfFile.load(path), kind="glTF", fps=fps, up=up, names=table_of(names))


def motion_of_file(
    file: GltfFile, *, kind: str, fps: float | None, up: Axis | None, names: NameTable | None
) -> Motion:
    """Return the animated skeletons of a loaded file, see :func:`read`.

    Raises:
        FormatError: as :func:`read`.
    """
    try:
        with np.errstate(all="ignore"):  # numbers may be as large as they like, until they are checked
            animations = read_animations(file, fps)
    except np.linalg.LinAlgError:
        raise FormatError(f"{file.path}: matrices have no rotation; the file is damaged") from None
    return to_motion(file.path, animations, kind=kind, names=names, up=up)


def beside(path: Path) -> list[Path]:
    """Return the files that a ``.gltf`` needs: those of its buffers.

    Raises:
        FormatError: see :meth:`GltfFile.load`.
    """
    return GltfFile.load(path).beside() if path.suffix.lower() == ".gltf" else []


def read_animations(file: GltfFile, fps: float | None = None) -> list[Animation]:
    """Return the animation of each skeleton, sampled at one rate.

    Raises:
        FormatError: if the file is damaged or nothing moves.
    """
    parents = _node_parents(file)
    animated = file.items("animations")
    if not animated:
        raise FormatError(f"{file.path}: has no animation")
    if len(animated) > 1:
        log.warning(
            "%s: has %d animations; the first is read, and what only others move stands still",
            file.path,
            len(animated),
        )
    channels = _channels(file, animated[0])
    times = _sample_times(file, [keys for keys, _, _ in channels.values()], fps)
    skins = [
        _chain_of(joints, parents)
        for item in file.items("skins")[:_MAX_SKINS]
        if (joints := _list_of_nodes(file, item, "joints"))
    ]
    # Clothes are skins of their own, with the joints of the body or some of them.
    largest = sorted(skins, key=len, reverse=True)
    kept: list[list[int]] = []
    for nodes in largest:
        if not any(set(nodes) <= set(other) for other in kept):
            kept.append(nodes)
    skeletons = [nodes for nodes in skins if any(nodes is one for one in kept)]
    skeletons = skeletons or [_chain_of(range(len(parents)), parents)]
    num_bytes = sum(map(len, file.buffers))
    check_size(file.path, len(times), max(map(len, skeletons)), num_bytes)
    if len(times) * sum(map(len, skeletons)) > MAX_VALUES:
        raise FormatError(
            f"{file.path}: {len(skeletons)} skeletons and {len(times):,} frames are too many; split the file"
        )
    return [_animation(file, nodes, parents, channels, times) for nodes in skeletons]


#: Animated values of one node: key times, values and interpolation, by node and ``translation``, ``rotation`` or ``scale``.
_Channels = dict[tuple[int, str], tuple[Array, Array, str]]
_WIDTHS: Final = {"translation": 3, "rotation": 4, "scale": 3}


def _node_parents(file: GltfFile) -> list[int]:
    """Return the parent of each node, -1 for roots; refuse nodes below themselves or below two others."""
    nodes = file.items("nodes")
    check_size(file.path, 1, len(nodes), sum(map(len, file.buffers)))
    parents = [-1] * len(nodes)
    for number, node in enumerate(nodes):
        for child in _list_of_nodes(file, node, "children"):
            if parents[child] >= 0:
                raise FormatError(f"{file.path}: node {child} has two parents; the file is damaged")
            parents[child] = number
    for number in range(len(nodes)):
        at, steps = number, 0
        while parents[at] >= 0:
            at, steps = parents[at], steps + 1
            if steps > len(nodes):
                raise FormatError(f"{file.path}: node {number} is below itself; the file is damaged")
    return parents


def _list_of_nodes(file: GltfFile, item: dict[str, Any], name: str) -> list[int]:
    nodes = item.get(name, [])
    if not isinstance(nodes, list):
        raise FormatError(f"{file.path}: '{name}' is not a list of nodes; the file is damaged")
    for node in nodes:
        file.item("nodes", node)
    return nodes


def _chain_of(joints: Sequence[int], parents: Sequence[int]) -> list[int]:
    """Return joints and all nodes above them, parents first."""
    wanted: set[int] = set()
    for joint in joints:
        while joint >= 0 and joint not in wanted:
            wanted.add(joint)
            joint = parents[joint]

    def depth(node: int) -> int:
        steps = 0
        while parents[node] >= 0:
            node, steps = parents[node], steps + 1
        return steps

    return sorted(wanted, key=depth)


def _channels(file: GltfFile, animation: dict[str, Any]) -> _Channels:
    inner = GltfFile(
        file.path, {"channels": animation.get("channels"), "samplers": animation.get("samplers")}, []
    )
    out: _Channels = {}
    arrays: dict[int, Array] = {}  # many channels may share their numbers

    def array(index: Any) -> Array:
        if not isinstance(index, int):
            return file.array(index)
        if index not in arrays:
            arrays[index] = file.array(index)
        return arrays[index]

    for channel in inner.items("channels"):
        target = channel.get("target", {})
        what = target.get("path") if isinstance(target, dict) else None
        if not isinstance(what, str) or what not in _WIDTHS or "node" not in target:
            continue
        file.item("nodes", target["node"])
        sampler = inner.item("samplers", channel.get("sampler"))
        keys, values = array(sampler.get("input")), array(sampler.get("output"))
        kind = str(sampler.get("interpolation", "LINEAR"))
        each = 3 if kind == "CUBICSPLINE" else 1
        if keys.ndim != 1 or values.shape != (len(keys) * each, _WIDTHS[what]) or (np.diff(keys) <= 0).any():
            raise FormatError(
                f"{file.path}: the {what} of node {target['node']} has {values.shape} values at {len(keys)} times, which must "
                "increase; the file is damaged"
            )
        if what == "rotation" and each == 1 and np.linalg.norm(values, axis=1).min() < 1e-6:
            raise FormatError(
                f"{file.path}: a rotation of node {target['node']} is zero; the file is damaged"
            )
        if kind not in ("LINEAR", "STEP", "CUBICSPLINE"):
            raise FormatError(f"{file.path}: unknown interpolation {ascii(kind)[:20]}")
        out[target["node"], what] = (keys, values, kind)
    if not out:
        raise FormatError(f"{file.path}: its first animation moves no node")
    return out


def _sample_times(file: GltfFile, keys: list[Array], fps: float | None) -> Array:
    """Return the times of the frames: those of the keys if they are even, or else at a rate."""
    longest = max(keys, key=len)
    end = max(float(times[-1]) for times in keys)
    start = min(float(times[0]) for times in keys)
    step = np.diff(longest)
    even = len(longest) > 1 and float(np.ptp(step)) < 0.02 * float(step.mean()) and longest[-1] == end
    rate = fps or (1 / float(np.median(step)) if even else _DEFAULT_FPS)
    rate = even_rate(rate)
    if not 0 <= end - start <= _MAX_SECONDS or not 0.1 <= rate <= 1000:
        raise FormatError(
            f"{file.path}: lasts {end - start:g} s at {rate:g} frames a second, which is not read"
        )
    return start + np.arange(int((end - start) * rate + 1e-3) + 1) / rate


def _sampled(keys: Array, values: Array, kind: str, times: Array, *, rotation: bool) -> Array:
    """Return values at other times, by the interpolation of the file."""
    times = times.clip(keys[0], keys[-1])
    if kind == "CUBICSPLINE":
        values = values.reshape(len(keys), 3, -1)
        after = (
            np.searchsorted(keys, times, side="right").clip(1, max(len(keys) - 1, 1)).clip(0, len(keys) - 1)
        )
        before = (after - 1).clip(0)
        span = np.where(after > before, keys[after] - keys[before], 1.0)
        t = ((times - keys[before]) / span)[:, None]
        span = span[:, None]
        out = (
            (2 * t**3 - 3 * t**2 + 1) * values[before, 1]
            + (t**3 - 2 * t**2 + t) * span * values[before, 2]
            + (3 * t**2 - 2 * t**3) * values[after, 1]
            + (t**3 - t**2) * span * values[after, 0]
        )
    elif kind == "STEP":
        out = values[(np.searchsorted(keys, times + 1e-9, side="right") - 1).clip(0)]
    elif rotation and len(keys) > 1:
        out = Slerp(keys, Rotation.from_quat(values))(times).as_quat()
    else:
        out = np.stack([np.interp(times, keys, column) for column in values.T], axis=1)
    return np.asarray(out)


def _animation(
    file: GltfFile, chain_nodes: list[int], parents: list[int], channels: _Channels, times: Array
) -> Animation:
    """Return the animation of a chain of nodes; scales above joints are applied to their positions."""
    index = {node: number for number, node in enumerate(chain_nodes)}
    nodes, frames = file.items("nodes"), len(times)
    own = tuple(index.get(parents[node], -1) for node in chain_nodes)
    still = np.stack([_node_matrix(file, nodes[node]) for node in chain_nodes])
    world = np.empty((frames, len(chain_nodes), 4, 4))
    rest = np.empty((len(chain_nodes), 4, 4))
    for number, node in enumerate(chain_nodes):
        local = np.broadcast_to(still[number], (frames, 4, 4))
        if any((node, what) in channels for what in _WIDTHS):
            local = _moving(file, node, nodes[node], channels, times)
        above = own[number]
        world[:, number] = local if above < 0 else world[:, above] @ local
        rest[number] = still[number] if above < 0 else rest[above] @ still[number]
    names = [str(nodes[node].get("name", f"node{node}")) for node in chain_nodes]
    for item in file.items("skins"):
        joints = _list_of_nodes(file, item, "joints")
        if not joints or set(_chain_of(joints, parents)) != set(chain_nodes):
            continue
        names = [name if node in joints else "" for name, node in zip(names, chain_nodes, strict=True)]
        if "inverseBindMatrices" in item:
            bind = file.array(item["inverseBindMatrices"])
            if bind.shape != (len(joints), 16):
                raise FormatError(
                    f"{file.path}: a skin has {len(joints)} joints and {bind.shape} bind matrices"
                )
            for joint, matrix in zip(joints, bind.reshape(-1, 4, 4), strict=True):
                if abs(np.linalg.det(matrix)) < 1e-12:
                    raise FormatError(
                        f"{file.path}: a bind matrix of a skin is singular; the file is damaged"
                    )
                rest[index[joint]] = np.linalg.inv(matrix.T)
    rotations, translations = _relative(own, world)
    rest_rotations, rest_translations = _relative(own, rest[None])
    fps = even_rate(1 / float(times[1] - times[0])) if frames > 1 else _DEFAULT_FPS
    return Animation(
        tuple(names), own, rest_rotations[0], rest_translations[0], rotations, translations,
        fps,
    )  # fmt: skip


def _relative(parents: Sequence[int], world: Array) -> tuple[Array, Array]:
    """Return the rotations and translations relative to parents of (T, J, 4, 4) world matrices, without their scales."""
    u, _, vt = np.linalg.svd(world[..., :3, :3])
    turned = u @ vt
    if (np.linalg.det(turned) < 0).any():
        turned = turned * np.where(np.linalg.det(turned) < 0, -1, 1)[..., None, None]
    rotations, translations = turned.copy(), world[..., :3, 3].copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            back = np.swapaxes(turned[:, parent], -1, -2)
            rotations[:, joint] = back @ turned[:, joint]
            offset = world[:, joint, :3, 3] - world[:, parent, :3, 3]
            translations[:, joint] = np.einsum("tij,tj->ti", back, offset)
    return rotations, translations


def _values(file: GltfFile, node: dict[str, Any], what: str, default: Sequence[float]) -> Array:
    value = node.get(what, default)
    if not isinstance(value, list | tuple) or len(value) != len(default) or not all(map(is_number, value)):
        raise FormatError(f"{file.path}: the {what} of a node is damaged")
    return np.array(value, dtype=np.float64)


def _node_matrix(file: GltfFile, node: dict[str, Any]) -> Array:
    if "matrix" in node:
        return _values(file, node, "matrix", np.eye(4).ravel().tolist()).reshape(4, 4).T
    return _matrices(*(_values(file, node, what, default)[None] for what, default in _DEFAULTS.items()))[0]


_DEFAULTS: Final[dict[str, Sequence[float]]] = {
    "translation": (0.0, 0.0, 0.0), "rotation": (0.0, 0.0, 0.0, 1.0), "scale": (1.0, 1.0, 1.0),
}  # fmt: skip


def _moving(file: GltfFile, node: int, content: dict[str, Any], channels: _Channels, times: Array) -> Array:
    """Return the (T, 4, 4) matrices of a node that is animated."""
    parts = []
    for what, default in _DEFAULTS.items():
        if (node, what) in channels:
            keys, values, kind = channels[node, what]
            parts.append(_sampled(keys, values, kind, times, rotation=what == "rotation"))
        else:
            parts.append(np.broadcast_to(_values(file, content, what, default), (len(times), len(default))))
    return _matrices(*parts)


def _matrices(translation: Array, rotation: Array, scale: Array) -> Array:
    length = np.linalg.norm(rotation, axis=-1, keepdims=True)
    rotation = np.where(length > 1e-6, rotation, [0.0, 0.0, 0.0, 1.0])
    out = np.zeros((len(translation), 4, 4))
    out[:, :3, :3] = Rotation.from_quat(rotation).as_matrix() * scale[:, None, :]
    out[:, :3, 3] = translation
    out[:, 3, 3] = 1
    return out
