"""Build folders as ``opendance build`` leaves them, made without any video being processed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from opendance_hf.assets import sha256_of
from opendance_hf.pipeline.build import CONFIG
from opendance_hf.pipeline.config import (
    dump_config,
    pipeline_fingerprint,
    prepare_pipeline,
    work_fingerprint,
)
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.render.video import VideoWriter
from opendance_hf.storage import save_sequence
from tests.factories import make_sequence

LICENCE = "CC0-1.0"
PIPELINE = prepare_pipeline(default_pipeline())


def make_build(
    build: Path, per_video: tuple[int, ...] = (1, 1, 1), *, videos: bool = False, sources: Path | None = None
) -> list[str]:
    """A finished build of one video for each number, with that many sequences; returns the ids in order.

    The source videos are not there, unless ``sources`` names a folder to put files into that stand for them.
    """
    build.mkdir(parents=True)
    ledger = Ledger(build / "ledger.sqlite")
    ledger.remember({"licence": LICENCE, "pipeline": pipeline_fingerprint(PIPELINE)})
    (build / CONFIG).write_text(dump_config(PIPELINE))
    ids = []
    for number, count in enumerate(per_video):
        digest = f"{number:016x}" * 4
        path = f"/videos/dance_{number:02d}.mp4"
        if sources is not None:
            sources.mkdir(exist_ok=True)
            path = str(sources / f"dance_{number:02d}.mp4")
            Path(path).write_bytes(b"%d" % number)
            digest = sha256_of(Path(path))
        ledger.add(path, f"dance_{number:02d}.mp4", digest, work_fingerprint(PIPELINE))
        rows = [
            make_result(build, digest, index, seed=10 * number + index, videos=videos)
            for index in range(count)
        ]
        ledger.start(path)
        ledger.finish(path, "published", "", 1.0, rows)
        ids += [str(row["id"]) for row in rows]
    ledger.close()
    return ids


def make_result(
    build: Path, digest: str, index: int, seed: int, *, videos: bool = False
) -> dict[str, object]:
    """The files of one sequence and the summary that the ledger keeps of it."""
    name, start_s = f"{digest[:16]}_{index:02d}", 5.0 * index
    seq = make_sequence(seed, num_dancers=1 + seed % 2, num_frames=40, id=name, group=digest[:16])
    provenance = dataclasses.replace(
        seq.provenance, source_sha256=digest, start_s=start_s, end_s=start_s + 2 / 3
    )
    seq = dataclasses.replace(seq, provenance=provenance)
    (build / "sequences").mkdir(exist_ok=True)
    save_sequence(build / "sequences" / f"{name}.npz", seq)
    if videos:
        write_videos(build, name, seed)
    return {
        "id": name, "config": seq.config, "num_dancers": seq.num_dancers, "num_frames": seq.num_frames,
        "start_s": start_s, "end_s": start_s + 2 / 3, "bpm": seq.bpm, "motion_velocity": seq.motion_velocity,
        "mean_confidence": 0.9, "metrics": {"reprojection_pck": 0.9},
    }  # fmt: skip


def write_videos(build: Path, name: str, seed: int) -> None:
    """A clip and a preview of one second: a block that moves, to a colour of its own."""
    colour = np.random.default_rng(seed).integers(60, 230, 3)
    for folder, width in (("clips", 96), ("previews", 256)):
        (build / folder).mkdir(exist_ok=True)
        with VideoWriter(build / folder / f"{name}.mp4", 30) as video:
            for frame in range(30):
                picture = np.full((160 + (28 if width > 96 else 0), width, 3), 28, np.uint8)
                for left in (0, 96) if width > 96 else (0,):
                    picture[40:120, left + 10 + frame : left + 40 + frame] = colour
                video.write(picture)
