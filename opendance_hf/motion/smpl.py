"""The user's own SMPL body file: read without running it, kept as plain arrays, handed to ``smplx`` as such.

SMPL (Loper et al. 2015) is licensed for research by its authors and is never shipped here. The official file is a
pickle of Python 2 that wraps its arrays with chumpy; :func:`convert_smpl` turns it into an ``.npz`` once, and nothing
else here reads anything but that. ``smplx`` itself opens SMPL's pickles only, and by running them, so it is given
arrays, never a path.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS
from opendance_hf.pickles import PickleError, load_pickled_arrays

NUM_VERTICES: Final = 6890
NUM_BETAS: Final = 10
_MAX_BETAS: Final = 300
_POSE_BASIS: Final = 9 * (NUM_JOINTS - 1)
_MAX_METRES: Final = 3.0

#: Where to get it, in words.
HOW_TO_GET: Final = (
    "register at the SMPL project site of the Max Planck Institute (smpl.is.tue.mpg.de), download 'SMPL for Python "
    "Users' (basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl) or, from the SMPLify project site (smplify.is.tue.mpg.de), "
    "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl, and run `opendance convert smpl THE.pkl --out SMPL_NEUTRAL.npz`"
)

Floats = npt.NDArray[np.float32]


class SMPLFileError(OpenDanceError, ValueError):
    """A file that is no SMPL body; the message names the file, what is wrong and how to get a right one."""


@dataclass(frozen=True)
class SMPLData:
    """The arrays of a SMPL body, under the names of the official file. V is 6,890; B is 10 or 300.

    Attributes:
        v_template: (V, 3) mean shape in the rest pose, metres, y up.
        shapedirs: (V, 3, B) how each shape coefficient moves it.
        posedirs: (V, 3, 207) how rotations of the 23 joints move it.
        J_regressor: (24, V) joints from vertices.
        weights: (V, 24) skinning.
        kintree_table: (2, 24) parent and number of every joint.
        f: (F, 3) triangles.
    """

    v_template: Floats
    shapedirs: Floats
    posedirs: Floats
    J_regressor: Floats
    weights: Floats
    kintree_table: npt.NDArray[np.int64]
    f: npt.NDArray[np.int64]

    def rest_joints(self) -> tuple[Floats, Floats]:
        """(24, 3) joints of the mean shape and (24, 3, 10) how the shape coefficients move them, metres."""
        # Sums over 6,890 vertices: in double, so that they agree with any other order of adding.
        regressor = self.J_regressor.astype(np.float64)
        mean = regressor @ self.v_template
        moves = np.einsum("jv,vcb->jcb", regressor, self.shapedirs[..., :NUM_BETAS].astype(np.float64))
        return mean.astype(np.float32), moves.astype(np.float32)

    def rest_offsets(self, betas: Floats) -> Floats:
        """(..., 10) shape to the (..., 24, 3) rest offsets of our schema; row 0 is the pelvis of the shaped body."""
        mean, moves = self.rest_joints()
        joints = mean + np.einsum("jcb,...b->...jc", moves, betas)
        offsets = joints.copy()
        offsets[..., 1:, :] -= joints[..., list(PARENTS[1:]), :]
        return np.asarray(offsets, dtype=np.float32)


def convert_smpl(source: Path | str, target: Path | str) -> SMPLData:
    """Write the arrays of the official SMPL pickle to an ``.npz``, without running the pickle.

    Raises:
        SMPLFileError: if the file is no SMPL body, or ``target`` does not end in ``.npz``.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".npz":
        raise SMPLFileError(f"{target}: a converted SMPL body is one file whose name ends in .npz")
    try:
        content = load_pickled_arrays(source)
    except (OSError, PickleError) as error:
        raise SMPLFileError(str(error)) from None
    data = _checked(source, content)
    with atomic_write(target) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{f.name: getattr(data, f.name) for f in fields(data)})
    return data


def load_smpl(path: Path | str) -> SMPLData:
    """Read a converted body.

    Raises:
        SMPLFileError: if there is no such file, it is still a pickle, or holds no SMPL body.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        raise SMPLFileError(
            f"{path}: still a pickle: run `opendance convert smpl {path.name} --out SMPL.npz`"
        )
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("one array, no archive of them")
        with archive:
            content = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise SMPLFileError(f"{path}: no such file; {HOW_TO_GET}") from None
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise SMPLFileError(f"{path}: not a converted SMPL body ({error})") from None
    return _checked(path, content)


def smplx_layer(data: SMPLData) -> Any:
    """``smplx``'s own SMPL module on these arrays, for meshes and for everything smplx can do.

    Raises:
        ImportError: if smplx is not installed (the extra ``smpl``).
    """
    import smplx
    from smplx.utils import Struct

    arrays = Struct(**{f.name: getattr(data, f.name) for f in fields(data)})
    with contextlib.redirect_stdout(io.StringIO()):  # it warns of 10 coefficients, which is what we want
        return smplx.SMPLLayer(model_path="", data_struct=arrays, num_betas=NUM_BETAS)


def _checked(path: Path, content: dict[str, Any]) -> SMPLData:
    def fail(why: str) -> None:
        raise SMPLFileError(f"{path}: not a SMPL body: {why}. To get one: {HOW_TO_GET}")

    shapes: dict[str, tuple[int | None, ...]] = {
        "v_template": (NUM_VERTICES, 3),
        "shapedirs": (NUM_VERTICES, 3, None),
        "posedirs": (NUM_VERTICES, 3, _POSE_BASIS),
        "J_regressor": (NUM_JOINTS, NUM_VERTICES),
        "weights": (NUM_VERTICES, NUM_JOINTS),
        "kintree_table": (2, NUM_JOINTS),
        "f": (None, 3),
    }
    out: dict[str, Any] = {}
    for name, shape in shapes.items():
        value = content.get(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            fail(f"there is no array {name!r}")
        assert isinstance(value, np.ndarray)
        if value.ndim != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, value.shape, strict=True)
        ):
            fail(f"{name!r} has shape {value.shape}, expected {shape}")
        if not np.isfinite(value).all():
            fail(f"{name!r} holds NaN or infinity")
        out[name] = value.astype(np.int64 if name in ("kintree_table", "f") else np.float32)
    if not NUM_BETAS <= out["shapedirs"].shape[2] <= _MAX_BETAS:
        fail(f"it has {out['shapedirs'].shape[2]} shape coefficients, expected {NUM_BETAS} to {_MAX_BETAS}")
    if tuple(out["kintree_table"][0, 1:].tolist()) != PARENTS[1:]:
        fail("its joints are not those of SMPL's tree")
    if len(out["f"]) == 0 or out["f"].min() < 0 or out["f"].max() >= NUM_VERTICES:
        fail("its triangles name vertices that do not exist")
    if np.abs(out["v_template"]).max() > _MAX_METRES:
        fail("its template is not in metres")
    for name, axis in (("weights", 1), ("J_regressor", 1)):
        if np.abs(out[name].sum(axis) - 1).max() > 0.01:
            fail(f"the rows of {name!r} do not add up to one")
    # The root's parent is written as 2^32 - 1; smplx wants -1, and gives it that itself.
    out["kintree_table"][0, 0] = -1
    return SMPLData(**out)
