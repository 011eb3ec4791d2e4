"""Write USD (``.usd``, ``.usdc``, ``.usda``): UsdSkel skeletons with the skinned body; needs the extra ``usd``.

Metres, y up; one time code a frame. Source: OpenUSD's documentation of UsdSkel, "API introduction" and "Schemas in-depth".
Files are not read: Blender and others convert USD to glTF, which is.
"""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.formats import FormatError
from opendance_hf.formats.animation import Animation
from opendance_hf.formats.motion import Motion, check_suffix
from opendance_hf.formats.rigged import rigged
from opendance_hf.formats.rigs import check_rig
from opendance_hf.formats.skinned import SkinnedBody, bind_body, check_detail, colour_of

#: Suffix of the files that are written, and all that they may have.
SUFFIX: Final = ".usd"
SUFFIXES: Final = (".usd", ".usdc", ".usda")


def read(path: Path) -> NoReturn:
    """Refuse to read: USD is only written.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: otherwise.
    """
    path.stat()
    raise FormatError(
        f"{path}: USD is written, not read; convert it to .glb, in Blender for example, and read that"
    )


def missing() -> str:
    """Return what this machine lacks to write USD; empty if nothing."""
    return "" if find_spec("pxr") else "the package usd-core"


def write(motion: Motion, path: Path, *, rig: str = "smpl", detail: str = "full") -> list[Path]:
    """Write all dancers in one file.

    Args:
        motion: the motion; it needs poses.
        path: the file.
        rig: names, rest pose and bone axes of the joints, see :data:`opendance_hf.formats.rigs.RIGS`.
        detail: of the body: ``full``, ``low`` or ``none``, for skeletons alone.

    Raises:
        FormatError: if the motion has no poses, or the name of ``path`` ends otherwise.
        ModuleNotFoundError: if the extra is not installed.
        OSError: if the file cannot be written.
    """
    check_suffix(path, *SUFFIXES)
    check_detail(detail)
    from pxr import Usd, UsdGeom

    table = check_rig(rig)
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(motion.fps)
    stage.SetFramesPerSecond(motion.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(motion.num_frames - 1)
    top = UsdGeom.Xform.Define(stage, "/dance").GetPrim()
    stage.SetDefaultPrim(top)
    if licence := motion.meta.get("licence"):
        top.SetDocumentation(str(licence))
    for index in range(motion.num_dancers):
        dancer = motion.dancer(index)
        body = rigged(path, dancer, table)
        root = f"/dance/dancer_{index + 1}"
        skeleton = _add_skeleton(stage, root, body.animation)
        if detail != "none":
            _add_body(stage, root, skeleton, bind_body(path, dancer, body, detail), index)
    _save(stage, path)
    return [path]


def _save(stage: Any, path: Path) -> None:
    """Write the file whole or not at all; USD chooses the encoding by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        if not stage.GetRootLayer().Export(str(partial)):
            raise OSError(f"{path}: cannot be written")
        os.replace(partial, path)


def _add_skeleton(stage: Any, root: str, animation: Animation) -> Any:
    """Add the skeleton of a dancer with its animation, and return it."""
    from pxr import Gf, UsdSkel, Vt

    UsdSkel.Root.Define(stage, root)
    skeleton = UsdSkel.Skeleton.Define(stage, f"{root}/skeleton")
    moves = UsdSkel.Animation.Define(stage, f"{root}/skeleton/animation")
    joints: list[str] = []
    for name, parent in zip(animation.names, animation.parents, strict=True):
        joints.append(name.replace(":", "_") if parent < 0 else f"{joints[parent]}/{name.replace(':', '_')}")
    rotations, positions = animation.world_at_rest()
    skeleton.CreateJointsAttr(joints)
    skeleton.CreateBindTransformsAttr(_matrices(rotations, positions))
    rest = _matrices(animation.rest_rotations, animation.rest_translations)
    skeleton.CreateRestTransformsAttr(rest)
    moves.CreateJointsAttr(joints)
    turned, placed, scaled = (
        moves.CreateRotationsAttr(),
        moves.CreateTranslationsAttr(),
        moves.CreateScalesAttr(),
    )
    scaled.Set(Vt.Vec3hArray(len(joints), Gf.Vec3h(1, 1, 1)))
    quaternions = Rotation.from_matrix(animation.rotations.reshape(-1, 3, 3)).as_quat()
    quaternions = quaternions.reshape(*animation.rotations.shape[:2], 4).astype(np.float32)
    for frame, (rows, moved) in enumerate(
        zip(quaternions, animation.translations.astype(np.float32), strict=True)
    ):
        turned.Set(Vt.QuatfArray.FromNumpy(rows), frame)
        placed.Set(Vt.Vec3fArray.FromNumpy(moved), frame)
    binding = UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([moves.GetPath()])
    return skeleton


def _add_body(stage: Any, root: str, skeleton: Any, body: SkinnedBody, dancer: int) -> None:
    from pxr import Sdf, UsdGeom, UsdShade, UsdSkel, Vt

    mesh = UsdGeom.Mesh.Define(stage, f"{root}/body")
    faces = np.concatenate(list(body.parts.values()))
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(body.vertices))
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(body.normals))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.reshape(-1).astype(np.int32)))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateExtentAttr([body.vertices.min(axis=0).tolist(), body.vertices.max(axis=0).tolist()])
    first = 0
    for name, part in body.parts.items():
        subset = UsdGeom.Subset.Define(stage, f"{root}/body/{name}")
        subset.CreateElementTypeAttr(UsdGeom.Tokens.face)
        subset.CreateFamilyNameAttr("materialBind")
        subset.CreateIndicesAttr(Vt.IntArray.FromNumpy(np.arange(first, first + len(part), dtype=np.int32)))
        first += len(part)
        material = UsdShade.Material.Define(stage, f"{root}/materials/{name}")
        shader = UsdShade.Shader.Define(stage, f"{root}/materials/{name}/surface")
        shader.CreateIdAttr("UsdPreviewSurface")
        shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(colour_of(name, dancer))
        shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.8)
        material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
        UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(material)
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateJointIndicesPrimvar(False, 4).Set(
        Vt.IntArray.FromNumpy(body.bones.reshape(-1).astype(np.int32))
    )
    binding.CreateJointWeightsPrimvar(False, 4).Set(Vt.FloatArray.FromNumpy(body.weights.reshape(-1)))
    binding.CreateGeomBindTransformAttr()


def _matrices(rotations: Any, translations: Any) -> Any:
    """Return USD's matrices, which multiply rows from the left."""
    from pxr import Gf, Vt

    out = np.broadcast_to(np.eye(4), (len(rotations), 4, 4)).copy()
    out[:, :3, :3] = np.swapaxes(rotations, -1, -2)
    out[:, 3, :3] = translations
    return Vt.Matrix4dArray([Gf.Matrix4d(matrix.tolist()) for matrix in out])
