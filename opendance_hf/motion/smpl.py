"""Read the user's own SMPL body file without executing it, as plain arrays that are handed to ``smplx``.

SMPL (Loper et al. 2015) is licensed for research by its authors and is not part of this package. The official file is
a Python 2 pickle that wraps its arrays with chumpy. :func:`convert_smpl` converts it to an ``.npz``, which everything
else reads. ``smplx`` would execute the pickle, so it is given arrays instead of a path.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.archives import ArchiveError, read_arrays
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS
from opendance_hf.pickles import PickleError, load_pickled_arrays

NUM_VERTICES: Final = 6890
NUM_BETAS: Final = 10
_MAX_BETAS: Final = 300
_POSE_BASIS: Final = 9 * (NUM_JOINTS - 1)
_MAX_METRES: Final = 3.0

#: How to obtain the file, for error messages.
HOW_TO_GET: Final = (
    "register at the SMPL project site of the Max Planck Institute (smpl.is.tue.mpg.de), download 'SMPL for Python "
    "Users' (basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl) or, from the SMPLify project site (smplify.is.tue.mpg.de), "
    "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl, and run `opendance convert smpl THE.pkl --out SMPL_NEUTRAL.npz`"
)

Floats = npt.NDArray[np.float32]


class SMPLFileError(OpenDanceError, ValueError):
    """Raised for a file that is not an SMPL body; the message names the file, the fault and how to get a valid one."""


@dataclass(frozen=True)
class SMPLData:
    """Arrays of an SMPL body, under the names of the official file. V is 6,890; B is 10 to 300.

    Attributes:
        v_template: (V, 3) mean shape in the rest pose, metres, y up.
        shapedirs: (V, 3, B) displacements for each shape coefficient.
        posedirs: (V, 3, 207) displacements for the rotations of the 23 joints.
        J_regressor: (24, V) weights of the vertices in each joint.
        weights: (V, 24) skinning weights.
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
        """Return the joints of the mean shape (24, 3) and their displacements by shape (24, 3, 10), metres."""
        # Sum 6,890 vertices in double precision, so that the order of adding does not matter.
        regressor = self.J_regressor.astype(np.float64)
        mean = regressor @ self.v_template
        moves = np.einsum("jv,vcb->jcb", regressor, self.shapedirs[..., :NUM_BETAS].astype(np.float64))
        return mean.astype(np.float32), moves.astype(np.float32)

    def rest_offsets(self, betas: Floats) -> Floats:
        """Convert (..., 10) shape to (..., 24, 3) rest offsets of our schema; row 0 is the pelvis of the shaped body."""
        mean, moves = self.rest_joints()
        joints = mean + np.einsum("jcb,...b->...jc", moves, betas)
        offsets = joints.copy()
        offsets[..., 1:, :] -= joints[..., list(PARENTS[1:]), :]
        return np.asarray(offsets, dtype=np.float32)


def convert_smpl(source: Path | str, target: Path | str) -> SMPLData:
    """Write the arrays of the official SMPL pickle to an ``.npz``, without executing the pickle.

    Raises:
        SMPLFileError: if the file is not an SMPL body, or ``target`` does not end in ``.npz``.
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
    """Read a converted SMPL body.

    Raises:
        SMPLFileError: if the file does not exist, is still a pickle, or does not hold an SMPL body.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        raise SMPLFileError(
            f"{path}: still a pickle: run `opendance convert smpl {path.name} --out SMPL.npz`"
        )
    try:
        content = read_arrays(path, [f.name for f in fields(SMPLData)])
    except FileNotFoundError:
        raise SMPLFileError(f"{path}: no such file; {HOW_TO_GET}") from None
    except (ArchiveError, OSError) as error:
        found = str(error).removeprefix(f"{path}: ")
        raise SMPLFileError(f"{path}: not a converted SMPL body ({found})") from None
    return _checked(path, content)


def smplx_layer(data: SMPLData) -> Any:
    """Create the SMPL module of ``smplx`` on these arrays, for example for meshes.

    Raises:
        ImportError: if smplx is not installed (the extra ``smpl``).
    """
    import smplx
    from smplx.utils import Struct

    arrays = Struct(**{f.name: getattr(data, f.name) for f in fields(data)})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning about 10 coefficients
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
    # The official file stores the parent of the root as 2^32 - 1; smplx expects -1.
    out["kintree_table"][0, 0] = -1
    return SMPLData(**out)
