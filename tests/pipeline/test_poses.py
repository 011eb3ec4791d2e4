"""The stages poses and dancers: what GVHMR, WHAM and 4DHumans found becomes landmarks and boxes of our pipeline."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.formats import FormatError, gvhmr, phalp, wham
from opendance_hf.formats.body import REST_PELVIS
from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.backends.results import GVHMR, results_at
from opendance_hf.pipeline.body_landmarks import landmarks_in_camera
from opendance_hf.pipeline.clip import CameraMotion, Clip, FoundPeople, Landmarks, VideoInfo
from opendance_hf.pipeline.config import dump_config, pipeline_fingerprint, prepare_pipeline, read_config
from opendance_hf.pipeline.fitting.initial_pose import landmarks_in_view
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import results_pipeline
from opendance_hf.pipeline.stage import Dropped, Rejected
from opendance_hf.pipeline.stages.dancers import Dancers
from opendance_hf.pipeline.stages.poses import Poses

FIXTURES = Path(__file__).parents[1] / "fixtures" / "formats"
NOTES = json.loads((FIXTURES / "fixtures.json").read_text())
FRAMES, FPS, FOCAL_PX = 12, 30.0, 700.0
VIDEO = VideoInfo(640, 360, FPS, FRAMES / FPS, has_audio=True)
TIMES = np.arange(FRAMES) / FPS
JOINTS = [JOINT_INDEX[name] for name in LIMB_JOINTS]
LIMBS = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]
HIPS = [LANDMARK_INDEX["left_hip"], LANDMARK_INDEX["right_hip"]]


def truth_in_camera(dancer: int, file: str, body: str) -> np.ndarray:
    """(12, 24, 3) joints of the fixture in the camera frame, with the pelvis that we assume for the body."""
    joints = np.load(FIXTURES / "truth.npz")["joints"][dancer, :FRAMES]
    ours, theirs = np.array(REST_PELVIS[body]), np.array(NOTES[file]["rest_pelvis"])
    camera = (joints - NOTES[file]["camera"]["position"]) * [1, -1, -1]
    return np.asarray(camera + ours - theirs)


def projected(points: np.ndarray, focal_px: float = FOCAL_PX) -> np.ndarray:
    return np.asarray(points[..., :2] / points[..., 2:] * focal_px + [320, 180])


def rows(people: FoundPeople, person: int) -> np.ndarray:
    return np.flatnonzero(people.people == person)


def check_body(people: FoundPeople, row: np.ndarray, joints: np.ndarray, focal_px: float = FOCAL_PX) -> None:
    """Landmarks are where the joints are seen, and in metres where they are, once the crop's rotation is undone."""
    np.testing.assert_allclose(people.image[row][:, LIMBS], projected(joints[:, JOINTS], focal_px), atol=2.0)
    one = {"image": people.image[row][None], "world": people.world[row][None]}
    visibility, regions = np.ones((1, len(row), 33), np.float32), np.ones((1, len(row)), np.float32)
    found = Landmarks(people.times_s[: len(row)], one["image"], one["world"], visibility, regions)
    seen = landmarks_in_view(found, 640, 360, focal_px)[0][:, LIMBS] * [1, -1, -1]
    hips = joints[:, [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(seen, joints[:, JOINTS] - hips, atol=0.01)


def placed(tool: str, file: str) -> FoundPeople:
    stage = Poses(results_at(f"{tool}:{FIXTURES / file}"))
    return stage.placed(stage.results.read(FIXTURES / file), TIMES, VIDEO)  # type: ignore[attr-defined]


def test_gvhmrs_person_is_seen_where_the_camera_saw_them() -> None:
    people = placed("gvhmr", "hmr4d_results.pt")
    assert set(people.people) == {0}
    np.testing.assert_array_equal(people.frames, np.arange(FRAMES))
    check_body(people, rows(people, 0), truth_in_camera(0, "hmr4d_results.pt", "smplx"))
    shown = people.image.clip(0, [640, 360])
    assert (shown >= people.boxes[:, None, :2]).all()
    assert (shown <= people.boxes[:, None, 2:]).all()
    out = people.image[..., 1] >= 360
    assert out.any(), "toes leave the picture at the bottom"
    np.testing.assert_array_equal(people.visibility, ~out)


def test_results_of_a_reduced_video_are_scaled_to_its_size() -> None:
    found = gvhmr.read_people(FIXTURES / "hmr4d_results.pt")
    small = Poses().placed(found, TIMES, VIDEO)
    large = Poses().placed(found, TIMES, replace(VIDEO, width_px=1280, height_px=720))
    np.testing.assert_allclose(large.image, 2 * small.image, rtol=1e-4)


def test_the_face_the_feet_and_the_fingers_are_on_the_right_sides() -> None:
    people = placed("gvhmr", "hmr4d_results.pt")
    world = people.world.astype(np.float64)

    def at(name: str) -> np.ndarray:
        return world[:, LANDMARK_INDEX[name]]

    ears = at("left_ear") - at("right_ear")
    shoulders = at("left_shoulder") - at("right_shoulder")
    assert ((ears * shoulders).sum(axis=1) > 0).all()
    nose = at("nose") - (at("left_ear") + at("right_ear")) / 2
    np.testing.assert_allclose(np.linalg.norm(nose, axis=1), np.hypot(0.01, 0.11), atol=1e-3)
    for side in ("left", "right"):
        toes, heel, ankle = at(f"{side}_foot_index"), at(f"{side}_heel"), at(f"{side}_ankle")
        assert (
            ((toes - ankle) * (heel - ankle)).sum(axis=1) < np.linalg.norm(toes - ankle, axis=1) * 0.05
        ).all()
        assert (np.linalg.norm(at(f"{side}_thumb") - at(f"{side}_index"), axis=1) < 0.1).all()


@pytest.mark.parametrize(("frames", "refused"), [(10, False), (14, False), (9, True), (15, True)])
def test_results_with_another_number_of_frames_are_those_of_another_video(frames: int, refused: bool) -> None:
    found = gvhmr.read_people(FIXTURES / "hmr4d_results.pt")
    times = np.arange(frames) / FPS
    if refused:
        with pytest.raises(Rejected, match=f"another video: 12 frames, the video has {frames}"):
            Poses().placed(found, times, VIDEO)
    else:
        assert len(Poses().placed(found, times, VIDEO).frames) == min(frames, FRAMES)


def shot(people: FoundPeople, frames: int) -> Clip:
    times = np.arange(frames) / FPS
    motion = CameraMotion(times, np.zeros(frames))
    video = replace(VIDEO, duration_s=frames / FPS)
    return Clip(Path("dance.mp4"), "0" * 64, 0.0, video.duration_s, video, motion, people=people)


def walking(*spans: tuple[int, int], frames: int = 300) -> FoundPeople:
    """People who each move about their own place during a span of frames."""
    parts = []
    for number, (start, end) in enumerate(spans):
        at = np.arange(start, end)
        x = 150.0 + 300 * number + 60 * np.sin(at / 20)
        image = np.stack([np.repeat(x[:, None], 33, 1), np.tile(np.linspace(60, 300, 33), (len(at), 1))], -1)
        boxes = np.stack([x - 40, np.full(len(at), 50.0), x + 40, np.full(len(at), 310.0)], 1)
        parts.append((np.full(len(at), number), at, boxes, image))
    numbers, at, boxes, image = (np.concatenate(values) for values in zip(*parts, strict=True))
    count = len(at)
    return FoundPeople(
        np.arange(frames) / FPS, numbers, at, boxes.astype(np.float32), image.astype(np.float32),
        np.zeros((count, 33, 3), np.float32), np.ones((count, 33), np.float32), np.full(count, 300, np.float32),
    )  # fmt: skip


def test_spans_have_an_unchanged_set_of_dancers() -> None:
    """The second dancer comes after 5 s: one span alone and one together, each with its own frames."""
    results = Dancers()(shot(walking((0, 300), (150, 300)), 300))
    clips = [clip for clip in results if isinstance(clip, Clip)]
    assert [len(clip.landmarks.image) for clip in clips] == [1, 2]
    assert [clip.boxes.shape[:2] for clip in clips] == [(1, 150), (2, 150)]
    assert all((clip.landmarks.visibility == 1).all() for clip in clips)
    np.testing.assert_allclose(clips[1].landmarks.times_s, np.arange(150, 300) / FPS)
    x = clips[1].landmarks.image[:, 0, 0, 0]
    np.testing.assert_allclose(x, [150 + 60 * np.sin(7.5), 450 + 60 * np.sin(7.5)], rtol=1e-4)


def test_people_of_a_moment_are_not_dancers() -> None:
    results = Dancers()(shot(walking((0, 300), (100, 110)), 300))
    clips = [clip for clip in results if isinstance(clip, Clip)]
    dropped = [part for part in results if isinstance(part, Dropped)]
    assert [clip.landmarks.image.shape[:2] for clip in clips] == [(1, 300)]
    assert [(part.reason, part.detail) for part in dropped] == [
        ("people who are found for too short a time", "1, the longest for 0.3 s, at least 1 s needed")
    ]


def test_a_frame_without_the_dancer_has_visibility_0() -> None:
    people = walking((0, 300))
    keep = (people.frames < 100) | (people.frames >= 110)
    arrays = {name: value[keep] for name, value in vars(people).items() if name != "times_s"}
    (clip,) = Dancers()(shot(FoundPeople(people.times_s, **arrays), 300))
    assert isinstance(clip, Clip)
    assert np.flatnonzero(clip.landmarks.visibility[0, :, 0] == 0).tolist() == list(range(100, 110))


def test_a_shot_without_people_says_so() -> None:
    results = Dancers()(shot(walking((0, 20)), 300))
    assert [part.reason for part in results if isinstance(part, Dropped)][-1] == "nobody in the picture"


def test_files_are_found_by_the_name_of_the_video(tmp_path: Path) -> None:
    (tmp_path / "tango").mkdir()
    for name in ("tango/hmr4d_results.pt", "waltz.pt"):
        (tmp_path / name).write_bytes((FIXTURES / "hmr4d_results.pt").read_bytes())
    results = results_at(str(tmp_path)).prepare()
    assert isinstance(results, GVHMR)
    assert results.of_video(Path("videos/tango.mp4")) == tmp_path / "tango" / "hmr4d_results.pt"
    assert results.of_video(Path("waltz.mov")) == tmp_path / "waltz.pt"
    assert results.of_video(Path("salsa.mp4")) is None
    before = results.sha256
    (tmp_path / "waltz.pt").write_bytes(b"other")
    assert results_at(f"gvhmr:{tmp_path}").prepare().sha256 != before


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no results of a known program; write gvhmr:"):
        results_at(str(tmp_path))
    with pytest.raises(BackendError, match="no such file or folder"):
        results_at(str(tmp_path / "nothing"))
    with pytest.raises(
        BackendError, match=r"holds no results of gvhmr, expected VIDEO/hmr4d_results.pt or VIDEO.pt"
    ):
        GVHMR(str(tmp_path)).prepare()


def test_a_video_without_results_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "waltz.pt").write_bytes((FIXTURES / "hmr4d_results.pt").read_bytes())
    with pytest.raises(Rejected, match="no results of gvhmr for this video"):
        Poses(GVHMR(str(tmp_path)))(shot(walking((0, 20)), 20))


def test_a_damaged_file_costs_its_own_video_alone(tmp_path: Path) -> None:
    (tmp_path / "dance.pt").write_bytes((FIXTURES / "hmr4d_results.pt").read_bytes()[:2000])
    with pytest.raises(Rejected, match=r"results of gvhmr cannot be read: .*dance\.pt"):
        Poses(GVHMR(str(tmp_path)))(shot(walking((0, 20)), 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K_fullimg": None}, "K_fullimg"),
        ({"smpl_params_incam": None}, "smpl_params_incam"),
        ({"transl": np.nan}, "not finite"),
        ({"transl": 1e9}, "absurdly large"),
    ],
)
def test_a_file_of_gvhmr_that_is_not_a_body_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    import torch

    content = torch.load(FIXTURES / "hmr4d_results.pt", weights_only=True)
    for name, value in change.items():
        if value is None:
            del content[name]
        else:
            content["smpl_params_incam"][name][:] = value
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(FormatError, match=message):
        gvhmr.read_people(tmp_path / "a.pt")


def test_whams_people_share_the_camera_and_one_of_them_comes_late() -> None:
    """The file has no focal length: pixels are those of the one that WHAM assumes, the diagonal."""
    people = placed("wham", "wham_output.pkl")
    for person, first in ((0, 0), (1, 4)):
        row = rows(people, person)
        np.testing.assert_array_equal(people.frames[row], np.arange(first, FRAMES))
        check_body(people, row, truth_in_camera(person, "wham_output.pkl", "smpl")[first:], VIDEO.diagonal_px)


def test_phalps_people_keep_their_numbers_where_the_order_in_the_file_changes() -> None:
    people = placed("phalp", "demo_clip.pkl")
    focal_px = 5000 / 256 * 640
    for person in (0, 1):
        row = rows(people, person)
        frames = [k for k in range(FRAMES) if not (person == 1 and k == 7)]
        np.testing.assert_array_equal(people.frames[row], frames, err_msg="the ghost of frame 7 is left out")
        joints = truth_in_camera(person, "demo_clip.pkl", "smpl")[frames]
        # Seen from afar along the ray of the body's translation, as the tool's own 2D joints are.
        transl = joints[:, :1] - REST_PELVIS["smpl"]
        far = joints - transl + transl * [1, 1, focal_px / FOCAL_PX]
        check_body(people, row, far, focal_px)
        np.testing.assert_allclose(people.regions_px[row], 2.2 * FOCAL_PX / transl[:, 0, 2], rtol=0.02)


def test_the_size_of_phalps_body_is_that_of_its_joints(tmp_path: Path) -> None:
    content = joblib.load(FIXTURES / "demo_clip.pkl")
    for frame in content.values():
        frame["3d_joints"] = [1.1 * joints for joints in frame["3d_joints"]]
    joblib.dump(content, tmp_path / "demo_a.pkl", compress=3)
    mean = phalp.read_people(FIXTURES / "demo_clip.pkl").persons
    tall = phalp.read_people(tmp_path / "demo_a.pkl").persons
    np.testing.assert_allclose([person.size for person in mean], 1, atol=1e-3)
    np.testing.assert_allclose([person.size for person in tall], 1.1, atol=1e-3)
    spread = [np.ptp(landmarks_in_camera(person)[:, :, 1], axis=1) for person in (mean[0], tall[0])]
    np.testing.assert_allclose(spread[1] / spread[0], 1.1, atol=2e-3)


def test_two_people_are_not_in_one_place() -> None:
    for tool, file in (("wham", "wham_output.pkl"), ("phalp", "demo_clip.pkl")):
        people = placed(tool, file)
        both = np.intersect1d(people.frames[rows(people, 0)], people.frames[rows(people, 1)])
        x = [
            people.image[rows(people, k)[np.isin(people.frames[rows(people, k)], both)]][:, 23, 0]
            for k in (0, 1)
        ]
        assert (np.abs(x[0] - x[1]) > 20).all()


def test_files_of_several_programs_are_told_apart(tmp_path: Path) -> None:
    for name, file in (
        ("a.pkl", "wham_output.pkl"),
        ("b.pkl", "demo_clip.pkl"),
        ("c.pt", "hmr4d_results.pt"),
    ):
        (tmp_path / name).write_bytes((FIXTURES / file).read_bytes())
    assert [results_at(str(tmp_path / name)).name for name in ("a.pkl", "b.pkl", "c.pt")] == [
        "wham",
        "phalp",
        "gvhmr",
    ]
    with pytest.raises(
        BackendError, match=r"results of several programs; write gvhmr:.* or wham:.* or phalp:"
    ):
        results_at(str(tmp_path))
    assert results_at(f"phalp:{tmp_path}").of_video(Path("b.mp4")) == tmp_path / "b.pkl"


@pytest.mark.parametrize(("module", "file"), [(wham, "wham_output.pkl"), (phalp, "demo_clip.pkl")])
@pytest.mark.parametrize("length", [0, 10, 1000, 5000])
def test_a_truncated_pickle_is_one_error(module: ModuleType, file: str, length: int, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes((FIXTURES / file).read_bytes()[:length])
    with pytest.raises(FormatError, match=r"a\.pkl"):
        module.read_people(tmp_path / "a.pkl")


def test_a_body_of_too_many_frames_is_refused_before_its_matrices_are_made(tmp_path: Path) -> None:
    content = joblib.load(FIXTURES / "wham_output.pkl")
    count = 500_001
    person = {key: np.zeros((count, 1), np.float32) for key in ("trans", "trans_world", "pose", "pose_world")}
    joblib.dump({0: content[0] | person | {"frame_ids": np.arange(count)}}, tmp_path / "a.pkl")
    with pytest.raises(FormatError, match="500,001 frames, at most 500,000"):
        wham.read_people(tmp_path / "a.pkl")


def changed_phalp(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = joblib.load(FIXTURES / "demo_clip.pkl")
    change(content["outputs/_DEMO/clip/img/000003.jpg"])
    joblib.dump(content, tmp_path / "demo_a.pkl", compress=3)
    return tmp_path / "demo_a.pkl"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame["tid"].pop(), "not lists of the same length"),
        (lambda frame: frame.update(tid=["a", "b"]), "a person of frame .*000003.jpg has no number"),
        (lambda frame: frame.update(camera=[np.zeros(2)] * 2), "other shapes"),
        (lambda frame: frame.update(smpl=["body"] * 2), "smpl of frame .*000003.jpg is a NoneType"),
        (lambda frame: frame.update(size=[[720, 1280]] * 2), "several sizes"),
        (lambda frame: frame["smpl"][0].update(global_orient=np.ones((1, 3, 3))), "should be rotations"),
        (lambda frame: frame.update(camera=[np.full(3, np.nan)] * 2), "not finite"),
        (lambda frame: frame.update({"3d_joints": [np.zeros((25, 3))] * 2}), "other shapes"),
        (lambda frame: frame.pop("camera"), "expected frames with tid"),
    ],
)
def test_a_damaged_file_of_phalp_is_one_error(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=message):
        phalp.read_people(changed_phalp(tmp_path, change))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("frame_ids", np.zeros(12), "ascending"),
        ("trans", np.zeros((3, 3)), "shape"),
        ("pose", np.full((12, 72), np.inf), "finite"),
    ],
)
def test_a_damaged_file_of_wham_is_one_error(
    key: str, value: np.ndarray, message: str, tmp_path: Path
) -> None:
    content = joblib.load(FIXTURES / "wham_output.pkl")
    content[0][key] = value
    joblib.dump(content, tmp_path / "a.pkl")
    with pytest.raises(FormatError, match=message):
        wham.read_people(tmp_path / "a.pkl")


def test_the_option_selects_the_pipeline_and_the_program(tmp_path: Path) -> None:
    file = FIXTURES / "wham_output.pkl"
    done = CliRunner().invoke(app, ["build", "--print-config", "--poses", str(file), "--max-dancers", "3"])
    assert done.exit_code == 0, done.output
    stages = {name: values for entry in yaml.safe_load(done.output) for name, values in entry.items()}
    assert stages["poses"]["results"]["wham"]["file"] == str(file)
    assert stages["dancers"]["max_dancers"] == 3
    assert not set(stages) & {"detect", "track", "segment", "pose", "depth"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--profile", "fast"], "--poses has a pipeline of its own: leave out --profile fast"),
        (["--detector", "yolox"], "no stage 'detect' in the pipeline"),
        (["second.mp4"], "is the file of one video: name that video, or a folder of results"),
    ],
)
def test_options_that_do_not_go_with_poses(options: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        [
            "build",
            "first.mp4",
            *options,
            "--poses",
            str(FIXTURES / "wham_output.pkl"),
            "--out",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code != 0
    assert message in " ".join(done.output.replace("│", " ").split())


def test_the_configuration_is_read_back(tmp_path: Path) -> None:
    pipeline = prepare_pipeline(results_pipeline(results_at(str(FIXTURES / "demo_clip.pkl"))))
    (tmp_path / "pipeline.yaml").write_text(dump_config(pipeline))
    assert read_config(tmp_path / "pipeline.yaml") == pipeline
    assert pipeline_fingerprint(
        prepare_pipeline(read_config(tmp_path / "pipeline.yaml"))
    ) == pipeline_fingerprint(pipeline)


@pytest.mark.parametrize("program", [b"\x80\x02.", b"\x80\x02q\x00.", b"", b"\x80\x02)R."])
def test_a_file_of_gvhmr_whose_program_is_damaged_is_one_error(program: bytes, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(FIXTURES / "hmr4d_results.pt") as source,
        zipfile.ZipFile(tmp_path / "a.pt", "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name, program if name.endswith("data.pkl") else source.read(name))
    with pytest.raises(FormatError, match=r"a\.pt.*nothing of it was executed"):
        gvhmr.read_people(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("module", "file"), [(gvhmr, "hmr4d_results.pt"), (wham, "wham_output.pkl"), (phalp, "demo_clip.pkl")]
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_give_people_or_one_error(
    module: ModuleType, file: str, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    data = (FIXTURES / file).read_bytes()
    inside = bytearray(zlib.decompress(data) if module is phalp else data)
    for place, value in changes:
        inside[place % len(inside)] = value
    path = tmp_path / f"demo_a{Path(file).suffix}"
    path.write_bytes(zlib.compress(inside) if module is phalp else inside)
    with suppress(FormatError):
        for person in module.read_people(path).persons:
            assert np.isfinite(landmarks_in_camera(person)).all()


def test_videos_of_one_name_do_not_share_their_results(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tango.pt").write_bytes((FIXTURES / "hmr4d_results.pt").read_bytes())
    for name in ("a/tango.mp4", "b/tango.mov"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_text(name)
    out = tmp_path / "out"
    arguments = ["build", str(tmp_path / "videos"), "--out", str(out), "--poses", str(tmp_path / "results")]
    done = CliRunner().invoke(app, [*arguments, "--allow-empty"])
    assert done.exit_code == 0, done.output
    with closing(Ledger(tmp_path / "out.build" / "ledger.sqlite")) as ledger:
        found = {item.name: (item.status, item.reason) for item in ledger.items()}
    assert {name for name, (status, _) in found.items() if status == "rejected"} == {
        "a/tango.mp4",
        "b/tango.mov",
    }
    assert all("2 videos are named 'tango'" in reason for _, reason in found.values())
