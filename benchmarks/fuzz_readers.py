"""Table of all readers of the package for ``benchmarks.fuzz``: valid files of each, and the function that reads them."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import torch

from opendance_hf.errors import OpenDanceError
from opendance_hf.formats import FORMATS, format_named
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.pipeline.stage import Rejected

FIXTURES: Final = Path(__file__).parents[1] / "tests" / "fixtures" / "formats"
#: A valid input: the file that is read, and files beside it that are read with it. Any of them may be mutated.
Seed = Sequence[Path]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        seeds: writes the valid inputs to a folder and returns them.
        read: reads a file. It may write to the file's folder, which is its own.
        refuses: exceptions that its documentation names for bad input.
        takes: False if it refuses whatever it gets: formats that are only written, requests about items that do not exist.
        lines: True if its errors may have several lines, such as a table of names to fill in.
    """

    seeds: Callable[[Path], list[Seed]]
    read: Callable[[Path], object]
    refuses: tuple[type[Exception], ...] = (OpenDanceError,)
    takes: bool = True
    lines: bool = False


def fixtures(*names: str) -> Callable[[Path], list[Seed]]:
    """Return a maker of seeds that are copies of files under tests/fixtures/formats; ``a+b`` is a file and one beside it."""

    def make(folder: Path) -> list[Seed]:
        found = []
        for number, name in enumerate(names):
            place = folder / str(number)
            place.mkdir()
            found.append(
                [Path(shutil.copy(FIXTURES / part, place / Path(part).name)) for part in name.split("+")]
            )
        return found

    return make


def texts(name: str, *contents: str) -> Callable[[Path], list[Seed]]:
    """Return a maker of text files of one name."""

    def make(folder: Path) -> list[Seed]:
        found = []
        for number, content in enumerate(contents):
            (folder / str(number)).mkdir()
            path = folder / str(number) / name
            path.write_text(content, encoding="utf-8")
            found.append([path])
        return found

    return make


def _dance(num_frames: int = 12) -> Any:
    """Return a swaying dancer as an OpenDance motion."""
    from opendance_hf.formats.motion import Motion

    clock = np.arange(num_frames) / 60
    poses = 0.2 * np.sin(6 * clock[:, None, None] + np.arange(72).reshape(24, 3))[None]
    transl = np.stack([clock, 0.9 + 0 * clock, 0 * clock], axis=1)[None]
    offsets = MEAN_OFFSETS[None].astype(np.float64)
    joints = forward_kinematics(poses, transl, offsets[:, None])
    return Motion(joints, 60.0, poses, transl, offsets, meta={"id": "dance"})


def written(name: str, suffix: str, *more: str) -> Callable[[Path], list[Seed]]:
    """Return a maker of a file that our writer of a format writes, and fixtures."""

    def make(folder: Path) -> list[Seed]:
        writer: Any = format_named(name)
        own = folder / "written"
        own.mkdir()
        return [[Path(writer.write(_dance(), own / f"a{suffix}")[0])], *fixtures(*more)(folder)]

    return make


def reads(name: str) -> Callable[[Path], object]:
    """Return the reader of a motion format; it must give finite joints."""
    answers = {"fps": 30.0} if name in ("gvhmr", "wham") else {}

    def read(path: Path) -> object:
        motion = format_named(name).read(path, **answers)
        if not np.isfinite(motion.joints).all():
            raise AssertionError("joints are not finite")
        return motion

    return read


def _edge(folder: Path) -> list[Seed]:
    poses = np.zeros((6, 24, 3))
    poses[:, 0, 0] = np.pi / 2  # z points up
    joints = forward_kinematics(poses, np.zeros((6, 3)), MEAN_OFFSETS)
    content = {"smpl_poses": poses.reshape(6, 72), "smpl_trans": np.zeros((6, 3)), "full_pose": joints}
    (folder / "a.pkl").write_bytes(pickle.dumps(content))
    return [[folder / "a.pkl"]]


_FORMAT_SEEDS: Final[dict[str, Callable[[Path], list[Seed]]]] = {
    "aistpp": written("aistpp", ".pkl", "aist_plusplus_final/motions/gBR_sBM_cAll_d04_mBR0_ch03.pkl"),
    "amass": written("amass", ".npz", "amass_smpl.npz", "amass_smplh_poses.npz", "amass_smplx_stageii.npz"),
    "amc": fixtures("01_01.amc+01.asf"),
    "bvh": written("bvh", ".bvh", "cmu.bvh", "mixamo.bvh", "lafan1.bvh"),
    "c3d": fixtures("markers.c3d", "markers_int.c3d"),
    "coco": fixtures("aist_plusplus_final/keypoints3d/gBR_sBM_cAll_d04_mBR0_ch03.pkl"),
    "csv": written("csv", ".csv"),
    "dd100": fixtures("dd100/motion/smplx/all/Waltz_5_0_00.npy"),
    "edge": _edge,
    "fbx": texts("a.fbx", "Kaydara FBX Binary  \0 0000"),
    "gdance": fixtures("gdance/motions_smpl/sBM_two_00_120.pkl"),
    "glb": written("glb", ".glb", "linear.glb", "shorts.glb", "step.glb", "cubicspline.glb"),
    "gvhmr": fixtures("hmr4d_results.pt"),
    "humandata": written("humandata", ".npz", "humandata.npz"),
    "humanml3d": fixtures("humanml3d/new_joint_vecs/000001.npy"),
    "lodge": fixtures("finedance/motion/001.npy"),
    "opendance": written("opendance", ".npz"),
    "phantomdance": fixtures("phantomdance/motion/001.json"),
    "smplcodec": written("smplcodec", ".smpl", "dance_smplx.smpl", "dance_smplh.smpl"),
    "usd": texts("a.usda", "#usda 1.0\n"),
    "vrma": written("vrma", ".vrma"),
    "wham": fixtures("wham_output.pkl"),
}


def _sequence(num_frames: int = 12) -> Any:
    """Return a valid row of a dataset."""
    from opendance_hf.schema import Backend, Camera, DanceSequence, Provenance, flat_dancers

    motion, rng = _dance(num_frames), np.random.default_rng(0)
    width = {name: rng.standard_normal((rows, size), np.float32) for name, rows, size in (
        ("music_features", num_frames, 438), ("music_features_7p5fps", math.ceil(num_frames / 8), 438),
        ("music_features_fact", num_frames, 35),
    )}  # fmt: skip
    return DanceSequence(
        id="seq-0", group="song-0", num_dancers=1, num_frames=num_frames, joints=flat_dancers(motion.joints),
        smpl_pose=flat_dancers(motion.poses), smpl_transl=flat_dancers(motion.transl),
        rest_offsets=motion.rest_offsets.reshape(-1).astype(np.float32), **width, music_beats=np.array([3, 9], np.int32), bpm=120.0,
        motion_velocity=0.5, confidence=np.ones((num_frames, 1), np.float32),
        provenance=Provenance(
            source_sha256="0" * 64, start_s=0.0, end_s=num_frames / 60, source_fps=30.0, licence="cc-by-4.0", opendance_version="0",
            camera=Camera(640, 480, 500.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 4.0)),
            backends=(Backend("pose", "x", "y"),),
        ),
    )  # fmt: skip


def _npz(folder: Path) -> list[Seed]:
    from opendance_hf.storage.npz import save_sequence

    return [[save_sequence(folder / "a.npz", _sequence())]]


def _load_sequence(path: Path) -> object:
    from opendance_hf.schema import validate
    from opendance_hf.storage.npz import load_sequence

    return validate(load_sequence(path))


def _load_header(path: Path) -> object:
    from opendance_hf.storage.npz import load_header

    return load_header(path)


def _dataset_file(path: Path, folder: str, name: str) -> Path:
    """Move a file to its place in a dataset, and return the dataset's folder."""
    place = path.parent / folder / "individual" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place)
    return path.parent


def _parquet(folder: Path) -> list[Seed]:
    from opendance_hf.storage.parquet import write_parquet

    other = dataclasses.replace(_sequence(20), id="seq-1")
    return [write_parquet(folder / "d", "individual", "train", [_sequence(), other])]


def _read_parquet(path: Path) -> object:
    from opendance_hf.storage.parquet import read_parquet

    return list(
        read_parquet(_dataset_file(path, "data", "train-00000-of-00001.parquet"), "individual", "train")
    )


def _read_scalars(path: Path) -> object:
    from opendance_hf.storage.parquet import read_scalars

    root = _dataset_file(path, "data", "train-00000-of-00001.parquet")
    return list(read_scalars(root, "individual", "train", ["id", "num_frames", "provenance.licence"]))


def _tar(folder: Path) -> list[Seed]:
    from opendance_hf.storage.webdataset import write_webdataset

    other = dataclasses.replace(_sequence(20), id="seq-1")
    return [write_webdataset(folder / "d", "individual", "train", [_sequence(), other])]


def _read_tar(path: Path) -> object:
    from opendance_hf.storage.webdataset import read_webdataset

    return list(read_webdataset(_dataset_file(path, "webdataset", "train-00000.tar"), "individual", "train"))


def _contents(folder: Path) -> list[Seed]:
    from PIL import Image

    picture = folder / "p" / "figures" / "statistics.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(picture)
    (folder / "README.md").write_text("# Dances\n\nä\n", encoding="utf-8")
    return [*_tar(folder / "t"), *_parquet(folder / "q"), [folder / "README.md"]]


def _published(path: Path) -> object:
    from opendance_hf.storage.contents import published_files

    return published_files(path.parent, "dataset")


def _load_config(path: Path) -> object:
    from opendance_hf.pipeline.config import read_config

    return read_config(path)


def _configs(folder: Path) -> list[Seed]:
    from opendance_hf.pipeline.config import dump_config
    from opendance_hf.pipeline.pipelines import PROFILES

    contents = [dump_config(make()) for name, make in PROFILES.items() if name != "paper"]
    return texts("config.yaml", *contents)(folder)


def _change_pipeline(path: Path) -> object:
    from opendance_hf.pipeline.config import change_pipeline
    from opendance_hf.pipeline.pipelines import default_pipeline

    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return change_pipeline(default_pipeline(), lines)


def _recipes(folder: Path) -> list[Seed]:
    packaged = Path(__file__).parents[1] / "opendance_hf" / "training" / "recipes"
    found = []
    for recipe in sorted(packaged.glob("*_debug.yaml")):
        (folder / recipe.stem).mkdir()
        found.append([Path(shutil.copy(recipe, folder / recipe.stem))])
    return found


def _load_recipe(path: Path) -> object:
    from opendance_hf.training.recipe import load_recipe

    return load_recipe("gpt", str(path), ["trainer.max_steps=1e2", "model.x=[1, {a: b}]"])


def _trainer(path: Path) -> object:
    from opendance_hf.training.recipe import checked_trainer, load_recipe

    return checked_trainer(load_recipe("gpt", str(path))["trainer"], {})


def _names(path: Path) -> object:
    from opendance_hf.formats.rigs import load_names

    return load_names(path)


def _beats(path: Path) -> object:
    from opendance_hf.music.beat_file import read_beats

    return read_beats(path)


_POSTS: Final = 'video,followers,posts_90d,dance_weight\na.mp4,1000,5,0.9\nb.mp4,5,1,0.1\nc.mp4,800,3,"{""Entertainment-Dance"": 0.8}"\n'


def _posts(folder: Path) -> list[Seed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"video": "a.mp4", "followers": 1000, "posts_90d": 5, "dance_weight": 0.9},
        {"video": "b.mp4", "followers": 9, "posts_90d": 1, "dance_weight": 0.1},
    ]
    (folder / "p").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "p" / "posts.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    return [
        *texts("posts.csv", _POSTS)(folder / "p"),
        *texts(
            "posts.jsonl", lines, '{"video": "a", "followers": 1, "posts_90d": 2, "dance_weight": {"x": 1}}\n'
        )(_made(folder / "j")),
        [folder / "p" / "posts.parquet"],
    ]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _collect(path: Path) -> object:
    from opendance_hf.pipeline.collect import Columns, Counts, Criteria, select

    return list(select(path, Criteria(), Columns(), Counts()))


def _selection(path: Path) -> object:
    from opendance_hf.pipeline.collect import read_selection

    return read_selection(path)


_DECISIONS: Final = (
    "round,subject,kind,annotator,verdict,reasons,note,sequence,source,start_s,end_s,decided_at,seconds,withdrawn_at,repair,"
    "repair_start_s,repair_end_s,dancer,other,foot,num_dancers,span\n"
    "1,s1,vote,ann,keep,,'=fine,q1,v.mp4,0.0,2.0,2026-01-02T03:04:05Z,3.5,,,,,,,,,\n"
    "2,m1,repair,ann,,,,q1,v.mp4,0.0,2.0,2026-01-02T03:05:05+02:00,,,exchange_dancers,0.5,1.0,1,2,,2,0123456789abcdef0123456789abcdef@0-2000\n"
)


def _import_decisions(path: Path) -> object:
    from opendance_hf.apps.inspect import import_decisions
    from opendance_hf.pipeline.inspection.store import Inspection
    from opendance_hf.pipeline.ledger import Ledger

    place = path.parent / "ledger.sqlite"
    Ledger(place).close()
    with Inspection(place) as inspection:
        inspection.db.execute("PRAGMA synchronous = OFF")
        return import_decisions(inspection, path)


def _names_list(path: Path) -> object:
    from opendance_hf.loading_scripts.folders import splits_in

    return splits_in(path.parent, [(path.name, "train")])


def _smpl_arrays() -> dict[str, np.ndarray]:
    rng, count = np.random.default_rng(0), 6890
    parents = np.array(
        [4294967295, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
    )
    weights = rng.random((count, 24))
    return {
        "v_template": rng.random((count, 3)), "shapedirs": rng.random((count, 3, 10)), "posedirs": np.zeros((count, 3, 207), np.float32),
        "J_regressor": np.full((24, count), 1 / count), "weights": weights / weights.sum(axis=1, keepdims=True),
        "kintree_table": np.stack([parents, np.arange(24)]), "f": rng.integers(0, count, (30, 3)),
    }  # fmt: skip


def _smpl_pickle(folder: Path) -> list[Seed]:
    (folder / "a.pkl").write_bytes(pickle.dumps(_smpl_arrays(), protocol=2))
    return [[folder / "a.pkl"]]


def _convert_smpl(path: Path) -> object:
    from opendance_hf.motion.smpl import convert_smpl

    return convert_smpl(path, path.parent / "out.npz")


def _smpl_npz(folder: Path) -> list[Seed]:
    np.savez_compressed(folder / "a.npz", **_smpl_arrays())
    return [[folder / "a.npz"]]


def _load_smpl(path: Path) -> object:
    from opendance_hf.motion.smpl import load_smpl

    return load_smpl(path)


def _windows(folder: Path) -> list[Seed]:
    joints = _dance(20).joints.astype(np.float32)
    np.savez(folder / "a.npz", joints=joints, fps=30.0, music_beats=np.array([2, 9]))
    return [[folder / "a.npz"]]


def _load_windows(path: Path) -> object:
    from opendance_hf.data.windows import _load_motion

    return _load_motion(path)


def _pickles(folder: Path) -> list[Seed]:
    arrays = {
        "a": np.arange(12.0).reshape(3, 4),
        "b": [1, "x", None, {"c": np.ones(2, np.float32)}],
        "d": (1.5, True, b"x"),
    }
    found = []
    for protocol in range(6):
        path = folder / f"p{protocol}.pkl"
        path.write_bytes(pickle.dumps(arrays, protocol=protocol))
        found.append([path])
    joblib.dump(arrays, folder / "j.pkl")
    joblib.dump(arrays, folder / "z.pkl", compress=3)
    return [*found, [folder / "j.pkl"], [folder / "z.pkl"]]


def _load_pickle(path: Path) -> object:
    from opendance_hf.pickles import load_pickled_arrays

    return load_pickled_arrays(path)


def _pickle_bomb(path: Path) -> object:
    from opendance_hf.pickles import pickled_array_item

    return pickled_array_item(path.read_bytes(), str(path))


def _phalp_joints() -> np.ndarray:
    """Return (45, 3) joints with the limbs of a mean body."""
    from opendance_hf.formats.phalp import _BONES, _MEAN_LENGTH

    joints = np.zeros((45, 3))
    for a, b, _ in _BONES:
        joints[b] = joints[a] + [0.0, _MEAN_LENGTH / len(_BONES), 0.0]
    return joints


def _phalp(folder: Path) -> list[Seed]:
    person = {
        "global_orient": np.eye(3)[None],
        "body_pose": np.repeat(np.eye(3)[None], 23, 0),
        "betas": np.zeros(10),
    }
    frame = {
        "tid": [1], "tracked_time": [0], "smpl": [person], "camera": [np.array([0.0, 0.0, 5.0])], "size": [[720, 1280]],
        "3d_joints": [_phalp_joints()],
    }  # fmt: skip
    joblib.dump({f"outputs/frame_{n:04d}.jpg": frame for n in range(4)}, folder / "demo_a.pkl", compress=3)
    plain = pickle.dumps({f"f{n}": frame for n in range(4)})
    (folder / "demo_b.pkl").write_bytes(plain)
    (folder / "demo_c.pkl").write_bytes(zlib.compress(plain))
    return [[folder / f"demo_{name}.pkl"] for name in "abc"] + list(fixtures("demo_clip.pkl")(folder))


def _read_people(module: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from importlib import import_module

        return import_module(f"opendance_hf.formats.{module}").read_people(path)

    return read


def _detect(path: Path) -> object:
    from opendance_hf.formats.detect import format_of

    return format_of(path)


def _all_formats(folder: Path) -> list[Seed]:
    names = ("aistpp", "amass", "dd100", "edge", "gdance", "humandata", "lodge", "opendance", "wham")
    return [seed for name in names for seed in _FORMAT_SEEDS[name](_made(folder / name))]


def _checkpoint(folder: Path) -> list[Seed]:
    state = {"layer.weight": torch.ones(4, 3), "layer.bias": torch.zeros(4)}
    torch.save({"model": state, "config": {"a": 1, "b": [1.5, "x"]}}, folder / "a.pt")
    torch.save(state, folder / "b.pt", _use_new_zipfile_serialization=False)
    return [[folder / "a.pt"], [folder / "b.pt"]]


def _load_checkpoint(path: Path) -> object:
    from opendance_hf.modeling.bailando.convert_bailando import load_official, weights_of

    return weights_of(load_official(path))


def _model(folder: Path) -> list[Seed]:
    from opendance_hf.modeling.smoothnet import SmoothNetConfig, SmoothNetModel

    SmoothNetModel(SmoothNetConfig()).save_pretrained(folder / "m")
    return [[folder / "m" / "config.json", folder / "m" / "model.safetensors"]]


def _load_model(path: Path) -> object:
    from opendance_hf.modeling.loading import load_model

    return load_model(str(path.parent), expected=("smoothnet",))


def _request(path: Path) -> object:
    """Read the body of a request as the servers do, and a request for a dance."""
    import asyncio

    from opendance_hf.apps.app_jobs import JobError, Request
    from opendance_hf.apps.serving import BadRequest, read_json

    class Sent:
        async def stream(self) -> Any:
            data = path.read_bytes()
            for first in range(0, len(data), 1000):
                yield data[first : first + 1000]

    try:
        body = asyncio.run(read_json(Sent()))  # type: ignore[arg-type]
        return Request("song", seconds=60.0).changed(body)
    except (BadRequest, JobError) as error:
        raise OpenDanceError(str(error)) from None


def _action(path: Path) -> object:
    """Answer the body of a request to the server of ``opendance inspect``, in an inspection without items."""
    from opendance_hf.apps import inspect_server
    from opendance_hf.pipeline.inspection.store import Inspection, Person
    from opendance_hf.pipeline.ledger import Ledger

    try:
        body, me = json.loads(path.read_bytes()), Person("ann", False)
    except (ValueError, RecursionError):
        raise OpenDanceError("not JSON: read_json refuses it") from None
    if not isinstance(body, dict):
        raise OpenDanceError("not an object: read_json refuses it")
    place = path.parent / "ledger.sqlite"
    Ledger(place).close()
    site: Any = None
    with Inspection(place) as inspection:
        for act in (
            lambda: inspect_server._repair(inspection, me, body),
            lambda: inspect_server._withdraw(inspection, me, body),
            lambda: inspect_server._undo(site, inspection, me, body),
            lambda: inspect_server._decide(site, inspection, me, body),
        ):
            try:
                act()
            except OpenDanceError as error:
                last = error
    raise last


def _media(folder: Path) -> list[Seed]:
    """Write small videos and sounds of many containers."""
    from benchmarks.films import write_containers

    return [[path] for path in write_containers(folder, seconds=1.5, sounds=False)]


def _sounds(folder: Path) -> list[Seed]:
    from benchmarks.films import write_containers

    return [[path] for path in write_containers(folder, seconds=1.5) if path.suffix != ".gif"]


def _probe(path: Path) -> object:
    from opendance_hf.pipeline.clip import Clip
    from opendance_hf.pipeline.stages.probe import Probe

    return Probe(min_duration_s=0.1)(Clip(path, "0" * 64))


def _pictures(path: Path) -> object:
    from opendance_hf.pipeline.video import probe, read_pictures

    probe(path)
    return sum(int(picture.rgb(64).size > 0) for picture in read_pictures(path))


def _audio(path: Path) -> object:
    from opendance_hf.music.decode import decode_audio, decode_blocks

    samples = decode_audio(path, 16_000)
    blocks = np.concatenate([np.zeros(0, np.float32), *decode_blocks(path, 16_000, block_samples=50_000)])
    if not np.isfinite(samples).all():
        raise AssertionError("samples are not finite")
    return samples, blocks


READERS: Final[dict[str, Reader]] = {
    **{
        f"format {name}": Reader(
            _FORMAT_SEEDS[name],
            reads(name),
            takes=name not in ("fbx", "usd"),
            lines=name in ("bvh", "glb", "vrma", "amc"),
        )
        for name in FORMATS
    },
    "format_of": Reader(_all_formats, _detect),
    "names of bones (YAML)": Reader(fixtures("odd_names.yaml"), _names),
    "people of GVHMR": Reader(fixtures("hmr4d_results.pt"), _read_people("gvhmr")),
    "people of WHAM": Reader(fixtures("wham_output.pkl"), _read_people("wham")),
    "people of PHALP": Reader(_phalp, _read_people("phalp")),
    "pickles": Reader(_pickles, _load_pickle),
    "pickled array": Reader(fixtures("dd100/motion/smplx/all/Waltz_5_0_00.npy"), _pickle_bomb),
    "checkpoint (torch)": Reader(_checkpoint, _load_checkpoint),
    "model folder": Reader(_model, _load_model),
    "SMPL pickle": Reader(_smpl_pickle, _convert_smpl),
    "SMPL npz": Reader(_smpl_npz, _load_smpl),
    "sequence npz": Reader(_npz, _load_sequence),
    "sequence header": Reader(_npz, _load_header),
    "training windows npz": Reader(_windows, _load_windows, (OpenDanceError, ValueError)),
    "dataset Parquet": Reader(_parquet, _read_parquet),
    "dataset scalars": Reader(_parquet, _read_scalars),
    "dataset WebDataset": Reader(_tar, _read_tar),
    "published files": Reader(_contents, _published),
    "pipeline config (YAML)": Reader(_configs, _load_config),
    "pipeline changes (--set)": Reader(
        texts(
            "changes.set",
            "probe.min_duration_s=4.0",
            "fit.fitter.steps=[1, 2, 3]",
            "pose.estimator=blazepose",
        ),
        _change_pipeline,
    ),
    "training recipe (YAML)": Reader(_recipes, _load_recipe),
    "trainer options (YAML)": Reader(
        texts(
            "a.yaml",
            "trainer: {max_steps: 3, learning_rate: 1e-3, save_strategy: no, optim: adamw_torch, seed: 1}\n",
        ),
        _trainer,
    ),
    "beat file": Reader(texts("a.beats.txt", "# beats\n0.5 1\n1.0 2\n1.5 3\n2.0 4\n2.5 1\n"), _beats),
    "posts of collect": Reader(_posts, _collect),
    "selected videos": Reader(
        texts("selected.csv", 'video,status,reason\na.mp4,selected,\n"b ""x"".mp4",rejected,few posts\n'),
        _selection,
    ),
    "decisions (CSV)": Reader(texts("decisions.csv", _DECISIONS), _import_decisions),
    "list of names": Reader(texts("train.txt", "a\nb c\nä\n"), _names_list),
    "request (JSON)": Reader(
        texts(
            "request.json",
            '{"dancers": 1, "seed": 3, "energy": "normal", "start_s": 1.0, "end_s": 20.0, "beats": null}',
            json.dumps({"beats": [round(0.5 * n, 2) for n in range(100)], "start_s": 0, "end_s": 40.0}),
        ),
        _request,
    ),
    "decision (JSON)": Reader(
        texts(
            "action.json",
            '{"desk": "votes", "round": 1, "subject": "s1", "verdict": "keep", "reasons": [], "note": "", "number": 1}',
            '{"kind": "swap", "subject": "m", "sequence": "s", "first": 1, "last": 9, "dancer": 1, "other": 2, "foot": null}',
        ),
        _action,
        takes=False,
    ),
    "video probe": Reader(_media, _probe, (OpenDanceError, Rejected)),
    "video pictures": Reader(_media, _pictures, (OpenDanceError, Rejected)),
    "audio": Reader(_sounds, _audio),
}
