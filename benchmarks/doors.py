"""The whole circle in one script: captures in, a dataset, one training step, a dance, a GLB out, a picture in Blender.

    python -m benchmarks.doors --shared DIR --blender PATH [--captures FOLDER] [--work DIR]

Captures are CMU's salsa (subjects 60 and 61) as BVH and as ASF/AMC. Without ``--captures``, a folder of your own ``.bvh`` and
``.amc`` files of the database, they are written from the joints in ``DIR/data/mocap``. Songs are synthesised. Every step is
the command that a user types; the dancer is as good as one training step of its GPT makes it.

CMU: "The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF
EIA-0196217. It is free for all uses, but may not be resold directly, even in converted form."
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from opendance_hf.assets import packaged_weights
from opendance_hf.formats import bvh
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.generated import posed
from opendance_hf.synthetic.music import SAMPLE_RATE, make_music
from opendance_hf.terms import TERMS
from tests.formats.acclaim import write_acclaim

#: Trials, without those that are held out.
TRIALS = ("salsa_01", "salsa_02")
SECONDS = 20
OPENER = Path(__file__).parents[1] / "tests" / "formats" / "blender_open.py"


def write_captures(mocap: Path, folder: Path) -> None:
    """Write the first dancer of two trials as BVH and the second as AMC."""
    for number, trial in enumerate(TRIALS, start=1):
        with np.load(mocap / f"{trial}.npz", allow_pickle=False) as file:
            joints = file["joints"][:, : SECONDS * 60].astype(np.float64)
        poses, transl, offsets = posed(joints)
        moved = forward_kinematics(poses, transl, offsets[:, None])
        motion = Motion(moved, 60.0, poses, transl, offsets, meta={"id": trial})
        (folder / "bvh").mkdir(parents=True, exist_ok=True)
        bvh.write(motion.dancer(0), folder / "bvh" / f"60_{number:02}.bvh", rig="mixamo")
        write_acclaim(motion.dancer(1), folder / "amc", f"61_{number:02}")


def write_songs(names: Iterable[str], folder: Path) -> None:
    """Synthesise a song for each capture."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(sorted(names)):
        music = make_music(seed, SECONDS + 1)
        soundfile.write(folder / f"{name}.wav", music.samples, SAMPLE_RATE)


def opendance(*arguments: object) -> None:
    """Run a command of the package and print it with its seconds."""
    words = list(map(str, arguments))
    start = time.perf_counter()
    print("$ opendance", *words, flush=True)
    command = "import sys; from opendance_hf.cli import main; main()"
    subprocess.run([sys.executable, "-c", command, *words], check=True)
    print(f"  {time.perf_counter() - start:.1f} s", flush=True)


def run(captures: Path, songs: Path, work: Path, blender: str) -> Path:
    """Run all steps and return the picture."""
    one_step = ("--config", "debug", "--set", "trainer.max_steps=1")
    for name in ("bvh", "amc"):
        rate = ("--fps", 60) if name == "amc" else ()
        opendance(
            "import", name, captures / name, "--audio", songs, "--out", work / f"salsa-{name}", "--licence", "cmu-mocap", *rate,
        )  # fmt: skip
    for data in ("salsa-bvh", "salsa-amc"):
        card = (work / data / "README.md").read_text(encoding="utf-8")
        assert " ".join(TERMS["cmu-mocap"].split()) in " ".join(card.split()), "the card quotes CMU's terms"
    # The VQ-VAE of the package has learnt poses, which one step does not teach.
    coder = packaged_weights("bailando-vqvae-cmu")
    data, model = work / "salsa-bvh", work / "bailando"
    opendance("train", "gpt", "--dataset", data, "--vqvae", coder, "--output-dir", model, *one_step)
    song = sorted(songs.glob("*.wav"))[0]
    opendance(
        "generate",
        song,
        "--model",
        model,
        "--out",
        work / "dance.npz",
        "--no-video",
        "--overwrite",
    )
    opendance(
        "export",
        work / "dance.npz",
        "--to",
        "glb",
        "--out",
        work / "dance.glb",
        "--audio",
        song,
        "--overwrite",
    )
    picture = work / "dance.png"
    subprocess.run(
        [blender, str(OPENER), str(work / "dance.glb"), "60", "[0, 300, 600]", str(work / "dance.json"), "pelvis", "right_wrist"],
        check=True, env={"PICTURE": str(picture)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return picture


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.doors", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/mocap")
    parser.add_argument(
        "--captures", type=Path, help="folder with the folders bvh and amc; default: written from --shared"
    )
    parser.add_argument("--blender", required=True, help="a Python that has bpy")
    parser.add_argument("--work", type=Path, default=Path("doors"))
    options = parser.parse_args()
    captures = options.captures or options.work / "captures"
    if options.captures is None:
        write_captures(options.shared / "data" / "mocap", captures)
    files = [*captures.glob("bvh/*.bvh"), *captures.glob("amc/*.amc")]
    write_songs({file.stem for file in files}, options.work / "songs")
    print(f"picture: {run(captures, options.work / 'songs', options.work, options.blender)}")


if __name__ == "__main__":
    main()
