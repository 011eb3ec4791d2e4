"""Install the wheel in a clean environment, import every module of the source tree, run the packaged weights and body.

    make wheel-check

Modules are found by walking the tree, not the wheel: one that packaging forgot is an import error here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent

_IMPORT_ALL = """
import importlib, pathlib, sys
failed = []
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
    except Exception as error:
        failed.append(f"{name}: {error!r}")
    else:
        assert pathlib.Path(module.__file__).is_relative_to(sys.prefix), module.__file__
print(*failed, sep="\\n")
print(f"{len(sys.argv) - 1 - len(failed)} of {len(sys.argv) - 1} modules import")
sys.exit(bool(failed))
"""

#: Encode and decode a walk on the spot with the packaged VQ-VAE. Its error is 98 mm; random weights: 460 mm.
RUN_WEIGHTS = """
import numpy as np
import torch
from opendance_hf.assets import packaged_weights
from opendance_hf.modeling.bailando import BailandoVQVAE, split_root
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS

swing = 0.4 * np.sin(2 * np.pi * np.arange(96) / 60)
poses = np.zeros((96, 24, 3))
poses[:, 16:18, 2] = -1.2, 1.2  # arms down
poses[:, 1, 0], poses[:, 2, 0] = -swing, swing
joints = forward_kinematics(poses, np.zeros((96, 3)), MEAN_OFFSETS)
relative, _ = split_root(torch.from_numpy(joints).float()[None])
coder = BailandoVQVAE.from_pretrained(packaged_weights("bailando-vqvae-cmu")).eval()
with torch.no_grad():
    decoded, _ = coder.decode(*coder.encode(relative))
error_mm = 1000 * (decoded - relative).norm(dim=-1).mean()
assert decoded.shape == relative.shape and torch.isfinite(decoded).all()
assert error_mm < 150, f"the decoded walk is off by {error_mm:.1f} mm, expected less than 150 mm"
print(f"bailando-vqvae-cmu: {len(joints)} frames decoded, off by {error_mm:.1f} mm")
"""

#: From a song to a GLB in two commands, with the dancer of the package and without a network.
DANCE = """
import os, pathlib, subprocess, sys
import soundfile
from opendance_hf.synthetic.music import SAMPLE_RATE, make_music

soundfile.write("song.wav", make_music(0, 8).samples, SAMPLE_RATE)
opendance = str(pathlib.Path(sys.executable).with_name("opendance"))
offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
for command in (["generate", "song.wav", "--out", "dance.npz"], ["export", "dance.npz", "--to", "glb", "--out", "dance.glb"]):
    subprocess.run([opendance, *command], check=True, env=offline)
assert pathlib.Path("dance.glb").read_bytes()[:4] == b"glTF"
print(f"a song became a dance and a GLB of {pathlib.Path('dance.glb').stat().st_size:,} bytes")
"""

#: Pose the packaged body; its terms lie beside it.
POSE_BODY = """
import numpy as np
from opendance_hf.body import load_mesh, shape_body, skin
from opendance_hf.body.mesh import ASSET
from opendance_hf.motion.skeleton import MEAN_OFFSETS

assert "CC0" in ASSET.with_name("LICENSE.md").read_text(encoding="utf-8")
for detail in ("full", "low"):
    mesh = shape_body(load_mesh(detail), MEAN_OFFSETS)
    vertices = skin(mesh, np.full((2, 24, 3), 0.1), np.zeros((2, 3)))
    assert vertices.shape == (2, len(mesh.vertices), 3) and np.isfinite(vertices).all()
    print(f"body, {detail}: {len(mesh.vertices)} vertices posed")
"""


def sources_of(root: Path, suffix: str = ".py") -> list[Path]:
    """Files of the package with that suffix, relative to ``root``, symlinked folders included."""
    files = []
    for folder, names, entries in os.walk(root / "opendance_hf", followlinks=True):
        names[:] = [name for name in names if name != "__pycache__" and not name.startswith(".")]
        files += [Path(folder, entry).relative_to(root) for entry in entries if entry.endswith(suffix)]
    return sorted(files)


def modules_of(root: Path) -> list[str]:
    """Dotted names of all modules of the package, ``__main__`` left out: to import it is to run it."""
    parts = [path.with_suffix("").parts for path in sources_of(root)]
    names = [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts if p[-1] != "__main__"]
    return sorted(names)


def main() -> int:
    """Build, install, import and run; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="opendance-wheel-") as temporary:
        dist, home = Path(temporary, "dist"), Path(temporary, "venv")
        subprocess.run([sys.executable, "-m", "build", "--outdir", str(dist), str(REPO)], check=True)
        (wheel,) = dist.glob("*.whl")
        venv.create(home, with_pip=True)
        python = str(home / "bin" / "python")
        install = [python, "-m", "pip", "install", "--disable-pip-version-check"]
        print("installing the wheel and all it asks for in a clean environment", flush=True)
        subprocess.run([*install, "-c", str(REPO / "constraints.txt"), f"{wheel}[all]"], check=True)
        subprocess.run([python, "-m", "pip", "check"], check=True)
        # -I: neither the working folder nor PYTHONPATH may lend a module that the wheel lacks.
        isolated = [python, "-I", "-c"]
        failed = subprocess.run([*isolated, _IMPORT_ALL, *modules_of(REPO)], cwd=temporary).returncode
        for program in (RUN_WEIGHTS, DANCE, POSE_BODY):
            failed = failed or subprocess.run([*isolated, program], cwd=temporary).returncode
        return failed


if __name__ == "__main__":
    sys.exit(main())
