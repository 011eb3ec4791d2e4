"""A human body on the 24-joint skeleton: its mesh, shaped to a dancer's bones, and posed.

    mesh = shape_body(load_mesh("low"), rest_offsets)   # (24, 3) metres
    vertices = skin(mesh, poses, transl)                # (T, V, 3) metres

The mesh is part of the package (CC0, see LICENSE.md beside it); neither a licensed body model nor an extra is needed.
"""

from opendance_hf.body.mesh import MATERIALS, BodyMesh, load_mesh
from opendance_hf.body.shape import BodyShapeError, shape_body
from opendance_hf.body.skin import skin

__all__ = ["MATERIALS", "BodyMesh", "BodyShapeError", "load_mesh", "shape_body", "skin"]
