"""The page of `opendance view` holds the dance, keeps what it is given out of its code, and dances in a real browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from opendance_hf.apps.view import MAX_FULL_BODIES, _names, render_page, stage_data
from opendance_hf.body import load_mesh, shape_body, skin
from opendance_hf.cli import app
from opendance_hf.formats import bvh, opendance
from opendance_hf.formats.glb import read as read_glb
from opendance_hf.formats.motion import Motion
from opendance_hf.metrics import step_beat
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.music import decode_audio
from opendance_hf.pipeline.video import read_frames
from opendance_hf.render.video import VideoWriter
from tests.apps.chromium import DESKTOP, PHONE, SOFTWARE_WEBGL, Chromium, Page, axe, find_chromium

CLICKS_S = (0.5, 1.0, 1.5)


def make_dance(num_dancers: int = 2, num_frames: int = 120, fps: float = 60.0, **meta: Any) -> Motion:
    """Dancers who sway and walk, each with bones of their own."""
    rng = np.random.default_rng([num_dancers, num_frames])
    time = np.arange(num_frames)[:, None, None] / fps
    size = rng.uniform(0.05, 0.25, (num_dancers, 1, 24, 3))
    poses = size * np.sin(2 * np.pi * time * rng.uniform(0.5, 1.5, (num_dancers, 1, 24, 3)))
    poses[:, :, 0, 1] += np.pi * np.arange(num_dancers)[:, None]
    walk = np.stack([0.4 * time[:, 0, 0], np.full(num_frames, 0.95), 0 * time[:, 0, 0]], axis=-1)
    transl = walk + 0.8 * np.arange(num_dancers)[:, None, None] * [1, 0, 0]
    offsets = MEAN_OFFSETS * rng.uniform(0.95, 1.05, (num_dancers, 24, 1))
    joints = forward_kinematics(poses, transl, offsets[:, None])
    return Motion(joints, fps, poses, transl, offsets, meta=meta)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clicks in a song of 3 seconds."""
    path = tmp_path_factory.mktemp("song") / "clicks.wav"
    samples = np.zeros(3 * 44_100)
    click = np.sin(2 * np.pi * 1500 * np.arange(1323) / 44_100) * np.linspace(0.8, 0, 1323)
    for at in CLICKS_S:
        samples[round(at * 44_100) :][: len(click)] = click
    soundfile.write(path, samples, 44_100)
    return path


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["view", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def array(text: str, dtype: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def joints_of(dancer: dict[str, Any]) -> np.ndarray:
    """Joints of a dancer of the page, (T, 24, 3)."""
    quaternions = array(dancer["quaternions"], "<i2", -1, 4) / 32767
    poses = Rotation.from_quat(quaternions, scalar_first=True).as_rotvec().reshape(-1, 24, 3)
    offsets = array(dancer["offsets"], "<f4", 24, 3)
    pelvis = np.array(dancer["pelvis_low"]) + array(dancer["pelvis"], "<u2", -1, 3) * dancer["pelvis_step"]
    return forward_kinematics(poses, pelvis - offsets[0], offsets)


def test_the_page_holds_the_dance(tmp_path: Path) -> None:
    beats = (0, 30, 60, 90)
    dance = make_dance(ground=0.1, music_beats=beats, licence="CC0-1.0")
    opendance.write(dance, tmp_path / "duo.npz")
    code, said = run(tmp_path / "duo.npz", "--out", tmp_path / "new" / "duo.html")
    assert code == 0, said
    page = (tmp_path / "new" / "duo.html").read_text(encoding="utf-8")
    data = data_of(page)
    (motion,) = data["motions"]
    assert (motion["name"], motion["licence"], motion["frames"], motion["shift"]) == (
        "duo",
        "CC0-1.0",
        120,
        0.0,
    )
    assert motion["beats"] == [0, 0.5, 1, 1.5]
    for dancer, joints in zip(motion["dancers"], dance.joints, strict=True):
        assert np.abs(joints_of(dancer) + np.array([0, 0.1, 0]) - joints).max() < 0.002
        assert len(base64.b64decode(dancer["bodies"]["low"]["vertices"])) // 6 < 2000
    scores = [step_beat(joints, np.array(beats), 60.0) for joints in dance.joints]
    mean = np.mean([score.score for score in scores if score is not None])
    assert dict(motion["numbers"])["step beat"] == f"{mean:.3f}"
    assert data["song"] is None
    (tmp_path / "dance.glb").write_bytes(base64.b64decode(motion["glb"]))
    assert read_glb(tmp_path / "dance.glb").num_dancers == 2
    assert os.listdir(tmp_path / "new") == ["duo.html"], "no temporary files"


@pytest.mark.parametrize(
    ("detail", "dancers", "names"),
    [
        ("auto", MAX_FULL_BODIES, {"low", "full"}),
        ("auto", MAX_FULL_BODIES + 1, {"low"}),
        ("low", 1, {"low"}),
        ("full", 1, {"full"}),
    ],
)
def test_a_page_has_the_bodies_of_its_detail(detail: str, dancers: int, names: set[str]) -> None:
    dance = make_dance(dancers, 2)
    data = stage_data(["a"], [dance], detail=detail)
    assert set(data["bodies"]) == names
    assert dance.rest_offsets is not None
    for found, offsets in zip(data["motions"][0]["dancers"], dance.rest_offsets, strict=True):
        assert set(found["bodies"]) == names
        for name in names:
            mesh, body = shape_body(load_mesh(name), offsets), found["bodies"][name]  # type: ignore[arg-type]
            vertices = np.array(body["low"]) + array(body["vertices"], "<u2", -1, 3) * body["step"]
            assert np.abs(vertices - mesh.vertices).max() < 1e-4
            weights = array(body["weights"], "u1", -1, 4).astype(int)
            assert (weights.sum(axis=1) == 255).all()
            assert np.abs(weights / 255 - mesh.weights).max() < 0.009
            assert (array(data["bodies"][name]["faces"], "<u2", -1, 3) == mesh.faces).all()


def test_dances_stand_side_by_side() -> None:
    dances = [make_dance(2, 60), make_dance(1, 30)]
    data = stage_data(["a", "b"], dances)
    spans = [
        (dance.joints[..., 0].min() + entry["shift"], dance.joints[..., 0].max() + entry["shift"])
        for dance, entry in zip(dances, data["motions"], strict=True)
    ]
    assert spans[1][0] - spans[0][1] == pytest.approx(0.9, abs=0.01)
    assert spans[0][0] == pytest.approx(-spans[1][1], abs=0.01)
    assert len({dancer["colour"] for entry in data["motions"] for dancer in entry["dancers"]}) == 3


def test_a_fast_file_has_60_frames_a_second(tmp_path: Path) -> None:
    opendance.write(make_dance(1, 240, 120.0), tmp_path / "fast.npz")
    assert run(tmp_path / "fast.npz", "--out", tmp_path / "fast.html")[0] == 0
    data = data_of((tmp_path / "fast.html").read_text(encoding="utf-8"))
    assert (data["motions"][0]["fps"], data["motions"][0]["frames"], data["seconds"]) == (60, 120, 2)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_one_frame_is_enough(num_frames: int) -> None:
    data = stage_data(["pose"], [make_dance(1, num_frames)])
    assert dict(data["motions"][0]["numbers"])["skate"] == "unknown: too short"
    assert data["motions"][0]["glb"]


def test_feet_on_the_floor_are_marked() -> None:
    still = np.zeros((1, 90, 24, 3))
    transl = np.zeros((1, 90, 3))
    transl[:, 40:60, 1] = 0.5
    offsets = MEAN_OFFSETS[None].astype(np.float64)
    dance = Motion(forward_kinematics(still, transl, offsets[:, None]), 60.0, still, transl, offsets)
    (motion,) = stage_data(["jump"], [dance])["motions"]
    contacts = array(motion["dancers"][0]["contacts"], "u1", 90)
    assert (contacts[:30] == 3).all()
    assert (contacts[42:58] == 0).all()
    assert (contacts[70:] == 3).all()


def test_every_dance_has_a_name_of_its_own() -> None:
    files = ["a.npz", "d/b.npz", "e/b.npz", "e/c.npz", "e/c.bvh"]
    assert _names([Path(file) for file in files]) == ["a", "d/b", "e/b", "e/c.npz", "e/c.bvh"]


def test_names_and_terms_are_data() -> None:
    bad = "</script><img src=x onerror=alert(1)>"
    page = render_page(stage_data([bad], [make_dance(1, 10, licence=bad)]))
    assert bad not in page
    assert "<img" not in page
    assert data_of(page)["motions"][0]["name"] == data_of(page)["motions"][0]["licence"] == bad
    assert f"<title>{html.escape(bad)}</title>" in page


def test_three_js_is_the_file_that_its_readme_describes(repo: Path) -> None:
    folder = repo / "opendance_hf" / "apps" / "static" / "view"
    digest = hashlib.sha256((folder / "three.min.js").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text(encoding="utf-8")


def test_the_song_is_in_step(tmp_path: Path, song: Path) -> None:
    opendance.write(make_dance(1, 60, song_start_s=0.75), tmp_path / "solo.npz")
    assert run(tmp_path / "solo.npz", song, "--out", tmp_path / "solo.html")[0] == 0
    data = data_of((tmp_path / "solo.html").read_text(encoding="utf-8"))
    (tmp_path / "part.mp3").write_bytes(base64.b64decode(data["song"]))
    sound = np.abs(decode_audio(tmp_path / "part.mp3", 48_000))
    assert len(sound) == pytest.approx(48_000, abs=0.04 * 48_000)
    assert np.flatnonzero(sound > 0.2)[0] / 48_000 == pytest.approx(0.25, abs=0.01)
    peaks = array(data["waveform"], "u1", 1200)
    assert np.flatnonzero(peaks > 64)[0] / 1200 == pytest.approx(0.25, abs=0.01)


def test_bad_input_is_named_with_its_remedy(tmp_path: Path, song: Path) -> None:
    dance = tmp_path / "solo.npz"
    opendance.write(make_dance(1, 60), dance)
    many = tmp_path / "many.npz"
    opendance.write(make_dance(13, 4), many)
    opendance.write(Motion(1000 * make_dance(2, 20).joints, 60.0), tmp_path / "mm.npz")
    (tmp_path / "broken.npz").write_bytes(b"not an archive")
    page = tmp_path / "page.html"
    page.write_text("old")
    for arguments, words in (
        ([song], ("clicks.wav", "not a motion", ".npz")),
        ([dance, song, "--audio", song], ("clicks.wav", "one song")),
        ([many], ("many.npz", "13 dancers", "--dancer")),
        ([tmp_path / "broken.npz"], ("broken.npz",)),
        ([tmp_path / "mm.npz"], ("mm, dancer 1", "unit")),
        ([dance, "--audio", song, "--audio-start", "2.5"], ("clicks.wav", "0.5 s", "--audio-start")),
        ([dance, "--out", tmp_path / "page.txt"], ("page.txt", ".html")),
        ([dance, "--out", dance, "--overwrite"], ("solo.npz",)),
    ):
        given = [] if "--out" in arguments else ["--out", page, "--overwrite"]
        code, said = run(*arguments, *given)
        assert code == 2, said
        for word in words:
            assert word in said
        assert page.read_text() == "old"
    assert run(dance, "--out", page)[0] == 2, "exists"
    assert page.read_text() == "old"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of 4 seconds with a tone: a bar grows from left to right, so that a picture tells its time."""
    path = tmp_path / "clip.mp4"
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * 22_050) / 22_050)
    with VideoWriter(path, 30, audio=tone, sample_rate=22_050) as video:
        for number in range(120):
            picture = np.full((180, 320, 3), 40, np.uint8)
            picture[:, : round(320 * number / 120)] = 230
            video.write(picture)
    return path


def test_a_video_is_cut_to_the_dance_and_is_the_song(tmp_path: Path, clip: Path) -> None:
    opendance.write(make_dance(1, 60, start_s=1.5), tmp_path / "solo.npz")
    assert run(tmp_path / "solo.npz", "--video", clip, "--out", tmp_path / "solo.html")[0] == 0
    data = data_of((tmp_path / "solo.html").read_text(encoding="utf-8"))
    assert data["song"], "the sound of the video"
    (tmp_path / "part.mp4").write_bytes(base64.b64decode(data["video"]))
    pictures = list(read_frames(tmp_path / "part.mp4"))
    assert len(pictures) == pytest.approx(30, abs=1)
    for time, picture in pictures[::7]:
        shown_s = 4 * (picture[90, :, 0] > 128).mean()
        assert shown_s == pytest.approx(1.5 + time, abs=0.04)
    at = ["--video-start", "0", "--out", tmp_path / "zero.html"]
    assert run(tmp_path / "solo.npz", "--video", clip, *at)[0] == 0
    assert data_of((tmp_path / "zero.html").read_text(encoding="utf-8"))["video"] != data["video"]
    code, said = run(
        tmp_path / "solo.npz", "--video", clip, "--video-start", "9", "--out", tmp_path / "n.html"
    )
    assert (code, "clip.mp4" in said, "--video-start" in said) == (2, True, True), said


def test_what_a_file_does_not_tell_is_said(tmp_path: Path) -> None:
    dance = make_dance(1, 30, 30.0)
    bvh.write(dance, tmp_path / "dance.bvh")
    opendance.write(dance, tmp_path / "dance.npz")
    out = ["--out", tmp_path / "page.html", "--overwrite"]
    assert run(tmp_path / "dance.bvh", tmp_path / "dance.npz", "--fps", "15", *out)[0] == 0
    data = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [motion["fps"] for motion in data["motions"]] == [15, 30]
    for options, words in (
        (["--fps", "15"], ("--fps", "dance.npz")),
        (["--up", "x"], ("--up x", "y or z")),
        (["--names", "smpl"], ("--names",)),
    ):
        given = [tmp_path / "dance.bvh"] if options[1] == "x" else [tmp_path / "dance.npz"]
        code, said = run(*given, *options, *out)
        assert code == 2, said
        assert all(word in said for word in words), said


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    find_chromium()
    browser = Chromium(tmp_path / "profile", SOFTWARE_WEBGL)
    yield browser
    browser.close()


def test_dancers_dance_in_the_browser(browser: Chromium, tmp_path: Path, song: Path) -> None:
    duo = make_dance(2, 120, ground=0.0, music_beats=(0, 30, 60, 90))
    opendance.write(duo, tmp_path / "duo.npz")
    opendance.write(replace(make_dance(1, 60), fps=30.0), tmp_path / "solo.npz")
    assert run(tmp_path / "duo.npz", tmp_path / "solo.npz", song, "--out", tmp_path / "page.html")[0] == 0
    page = browser.page("about:blank", 640, 560)
    page.send("Network.enable")
    page.open((tmp_path / "page.html").as_uri())
    page.wait("drawn > 0", 60)
    screenshot(page, "view")

    page.press(" ")
    page.wait("playing && now() > 0.3")
    before = page.run("drawn")
    page.wait(f"drawn >= {before} + 5")
    page.press(" ")
    page.wait("!playing && song.paused")
    page.press("Home")
    page.press("ArrowRight")
    page.wait("Math.abs(now() - 1) < 0.01 && !changed && !song.seeking")
    assert page.run("seek.valueAsNumber") == pytest.approx(1.0, abs=0.01)
    assert "0:01.0" in page.text()
    check_bodies(page, duo)

    page.press("s")
    assert page.run("[song.playbackRate, $('slow').ariaPressed]") == [0.5, "true"]
    page.press("l")
    page.press("f")
    assert page.run("[looping, following]") == [False, False]
    page.press("o")
    assert page.run("groups[0].position.x !== data.motions[0].shift") is True
    assert page.run("(() => { let size; save = (blob) => { size = blob.size }; savePicture();"
                    " return new Promise((done) => setTimeout(() => done(size), 1000)) })()") > 5000  # fmt: skip
    urls = [
        e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert {url.split(":")[0] for url in urls} <= {"about", "file", "blob", "data"}
    assert sum(url.startswith("file:") for url in urls) == 1
    assert not page.complaints()


def test_the_video_follows_the_clock(browser: Chromium, tmp_path: Path, clip: Path) -> None:
    opendance.write(make_dance(1, 120, start_s=1.0), tmp_path / "solo.npz")
    assert run(tmp_path / "solo.npz", "--video", clip, "--out", tmp_path / "page.html")[0] == 0
    page = browser.page((tmp_path / "page.html").as_uri(), 640, 560)
    page.wait("drawn > 0 && film.readyState >= 2", 60)
    assert page.run("[film.muted, film.videoWidth, film.videoHeight]") == [True, 640, 360]
    page.press(" ")
    page.wait("now() > 0.8 && !film.paused")
    assert abs(page.run("film.currentTime - now()")) < 0.3
    page.press(" ")
    page.wait("film.paused && !film.seeking && Math.abs(film.currentTime - now()) < 0.03")
    page.press("Home")
    page.press("ArrowRight")
    page.wait("!film.seeking && Math.abs(film.currentTime - 1) < 0.03 && Math.abs(now() - 1) < 0.01")
    assert not page.complaints()


def test_full_bodies_are_drawn_and_given_up_where_frames_are_slow(browser: Chromium, tmp_path: Path) -> None:
    data = stage_data(["a"], [make_dance(1, 60)], detail="full")
    (tmp_path / "full.html").write_text(render_page(data), encoding="utf-8")
    page = browser.page((tmp_path / "full.html").as_uri(), 320, 400)
    page.wait("drawn > 0", 60)
    count = "dancers[0].mesh.geometry.attributes.position.count"
    assert page.run(count) == len(load_mesh("full").vertices)
    (tmp_path / "auto.html").write_text(render_page(stage_data(["a"], [make_dance(1, 60)])), encoding="utf-8")
    page.open((tmp_path / "auto.html").as_uri())
    page.wait("drawn > 0 && software", 60)
    assert page.run(count) == len(load_mesh("low").vertices)
    # As on a graphics processor whose frames take too long.
    page.run("detail = 'full'; dancers[0].changeBody(); for (let i = 0; i < 20; i++) adapt(100)")
    assert page.run(count) == len(load_mesh("low").vertices)
    page.wait("!changed")
    assert not page.complaints()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_motion_stays_with_the_sound_for_three_minutes(browser: Chromium, tmp_path: Path) -> None:
    """The figures of docs/view.md; -s prints them."""
    seconds, speed = 180, 0.02
    duo = make_dance(2, 60 * seconds)
    assert duo.poses is not None
    assert duo.transl is not None
    duo.transl[:, :, 0] = speed * np.arange(60 * seconds) / 60  # a pose tells its time
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, seconds * 44_100)
    soundfile.write(tmp_path / "noise.wav", samples, 44_100)
    opendance.write(replace(duo, joints=forward_kinematics(duo.poses, duo.transl, duo.rest_offsets[:, None])),  # type: ignore[index]
                    tmp_path / "duo.npz")  # fmt: skip
    assert run(tmp_path / "duo.npz", tmp_path / "noise.wav", "--out", tmp_path / "page.html")[0] == 0
    page = browser.page((tmp_path / "page.html").as_uri(), 640, 560)
    page.wait("drawn > 0", 60)
    page.resize(640, 560 + 360 - page.run("$('stage').clientHeight"))
    page.wait("$('stage').clientWidth === 640 && $('stage').clientHeight === 360")
    page.run(
        "globalThis.late = []; globalThis.clocks = []; const first = dancers[0].joints[0], render = renderer.render;"
        " renderer.render = (...scene) => { render.call(renderer, ...scene); if (!playing) return;"
        f" late.push(song.currentTime - (dancers[0].joints[0] - first) / {speed});"
        " clocks.push([performance.now() / 1000, song.currentTime]); }; looping = false; undefined"
    )
    page.press(" ")
    page.wait("now() > 1")
    before = page.run("[drawn, spent, performance.now()]")
    page.wait(f"now() > {seconds} - 3", seconds + 60)
    after = page.run("[drawn, spent, performance.now()]")
    late = 1000 * np.abs(page.run("late"))
    clocks = np.array(page.run("clocks"))
    first, last = (clocks[(start < clocks[:, 1]) & (clocks[:, 1] < start + 5)] for start in (1, seconds - 9))
    drift = 1000 * abs(np.median(first[:, 0] - first[:, 1]) - np.median(last[:, 0] - last[:, 1]))
    frames = (after[0] - before[0]) / (after[2] - before[2]) * 1000
    cost = (after[1] - before[1]) / (after[0] - before[0])
    print(
        f"{len(late)} frames, {frames:.1f} a second, {cost:.2f} ms of JavaScript each; pose against song: "
        f"{np.mean(late):.1f} ms on average, {late.max():.1f} at most; song against the machine: {drift:.1f} ms"
    )
    assert len(late) > 15 * (seconds - 5)
    assert late.max() < 40
    assert drift < 40
    assert frames > 15
    assert cost < 4


def test_the_stage_has_no_violation_of_axe(browser: Chromium, tmp_path: Path) -> None:
    names = ["one", "two"]
    data = stage_data(names, [make_dance(1, 20, licence="CC0-1.0", music_beats=(0, 9)), make_dance(2, 20)])
    (tmp_path / "page.html").write_text(render_page(data), encoding="utf-8")
    page = browser.page((tmp_path / "page.html").as_uri(), *DESKTOP)
    page.wait("drawn > 0", 60)
    page.run("document.querySelector('details').open = true")
    for size in (DESKTOP, PHONE):
        page.resize(*size)
        assert axe(page) == []
    page.run("document.getElementById('play').textContent = ''")
    assert [line.partition(":")[0] for line in axe(page)] == ["button-name"], "axe finds what is wrong"


def check_bodies(page: Page, dance: Motion) -> None:
    """Compare joints and skinned vertices of the page, one second in, with ours."""
    assert dance.poses is not None
    assert dance.transl is not None
    assert dance.rest_offsets is not None
    for d in range(dance.num_dancers):
        joints = np.array(page.run(f"Array.from(dancers[{d}].joints)")).reshape(24, 3)
        assert np.abs(joints - dance.joints[d, 60]).max() < 0.002
        matrices = page.run(f"Array.from(dancers[{d}].mesh.skeleton.boneMatrices.slice(0, 384))")
        mesh = shape_body(load_mesh("low"), dance.rest_offsets[d])
        homogeneous = np.concatenate([mesh.vertices, np.ones((len(mesh.vertices), 1))], axis=1)
        each = np.einsum("vj,vkji->vki", homogeneous, np.reshape(matrices, (24, 4, 4))[mesh.bones])
        vertices = (mesh.weights[..., None] * each).sum(axis=1)[:, :3]
        assert np.abs(vertices - skin(mesh, dance.poses[d, 60], dance.transl[d, 60])).max() < 0.002


def screenshot(page: Page, name: str) -> None:
    """For people who look; see docs/view.md."""
    if folder := os.environ.get("OPENDANCE_SCREENSHOTS"):
        page.screenshot(Path(folder, f"{name}.png"))
