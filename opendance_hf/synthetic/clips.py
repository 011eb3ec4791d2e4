"""Whole clips: choreography, music, figures, room and camera of one seed, as an MP4 file and its exact truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.procrustes import constant_pose_error
from opendance_hf.render.video import VideoWriter
from opendance_hf.schema import Camera
from opendance_hf.synthetic.choreography import Pattern, compose
from opendance_hf.synthetic.figure import Figure, Look, dress, dressed_like, random_looks
from opendance_hf.synthetic.filming import View, blurred, dimmed, moving_cameras, subframe_times, view_camera
from opendance_hf.synthetic.mocap import perform_joints
from opendance_hf.synthetic.motion import TRUTH_JOINTS, Performance, perform
from opendance_hf.synthetic.moves import SWAY_S, Moves, crouched, held, hopped, spun, turned
from opendance_hf.synthetic.music import SAMPLE_RATE, Music, make_music
from opendance_hf.synthetic.others import FlatFigure, Other, bystander, passer_by, poster, screen_images
from opendance_hf.synthetic.scene import Crate, Room, Stage, random_camera, title_card
from opendance_hf.synthetic.truth import Truth, truth_path

Array = npt.NDArray[np.floating]
Image = npt.NDArray[np.uint8]

#: A take is danced anew until a still pose misses it by this much and this share of it faces away.
MIN_LIVELINESS_M: Final = 0.132
MIN_AWAY: Final = 0.16
_TAKES: Final = 60
_BODY_M: Final = 0.13  # what a body reaches beyond its bones
_SIZES: Final = {1: (480, 854), 2: (854, 480), 3: (1024, 576), 4: (1024, 576)}
_NAMES: Final = {1: "solo", 2: "duo", 3: "trio", 4: "quartet"}
_REST_S: Final = 0.3  # from dancing to standing
_ROOM_BEHIND_M: Final = 0.6  # between the dancers and the wall
_NO_MOVES: Final = Moves()
_SUBFRAMES: Final = 5  # of a blurred picture
#: Distance of somebody who watches from behind the dancers.
_BYSTANDER_M: Final = 1.5
_PASSER_BY_M: Final = 0.8
#: Share of the pictures in which somebody's outermost joint is beyond the edge, if the dance is filmed so.
_EDGE_SHARE: Final = 0.25


@dataclass(frozen=True)
class Clip:
    """Everything a clip is made of, before it is drawn.

    Attributes:
        title_s: times of the title's pictures; ``times_s``: of the others.
        dances: of each dancer at ``times_s``; ``subframes``: at all times at which the shutter is open.
        others: people who do not dance, at the times of ``subframes``.
        cameras: at all times at which the shutter is open; empty if the camera does not move.
    """

    name: str
    seed: int
    fps: float
    title_s: Array
    times_s: Array
    end_s: float
    music: Music
    looks: list[Look]
    patterns: list[tuple[int, int, Pattern]]
    dances: list[Performance]
    subframes: list[Performance]
    others: list[Other]
    trouble: Trouble
    stage: Stage
    cameras: tuple[Camera, ...] = ()


@dataclass(frozen=True)
class Capture:
    """Motion capture to dance instead of a choreography: (D, T, 24, 3) SMPL joints, metres, y up."""

    joints: Array
    fps: float


@dataclass(frozen=True)
class Trouble:
    """What makes a clip hard.

    Attributes:
        title_s: length of a title card before the dance.
        still_s: how long the dancers stand still at the end.
        obstacle: a crate stands before the dancers.
        variable: pictures come at uneven times, 1/50 to 1/20 s apart.
        moves: movements that are added to the dance.
        view: another camera than the usual one.
        loose_m: how much further than usual the clothes stand off the bodies.
        bystander: somebody stands at the edge of the picture, behind the dancers.
        passer_by: somebody walks through the picture behind the dancers, in the middle of the dance.
        poster: a life-size picture of somebody is on the wall.
        mirror: a screen on the wall shows the dancers, mirrored and smaller.
        edge: the left or right edge of the picture cuts dancers off in a quarter of the pictures.
        alike: all dancers wear the same clothes.
        exposure_s: how long the shutter is open: what moves is blurred.
        light: share of the usual light; below 1 the picture is dark and has noise.
        crf: of the video's compression, up to 51.
    """

    title_s: float = 0.0
    still_s: float = 0.0
    obstacle: bool = False
    variable: bool = False
    moves: Moves = _NO_MOVES
    view: View | None = None
    loose_m: float = 0.0
    bystander: bool = False
    passer_by: bool = False
    poster: bool = False
    mirror: bool = False
    edge: bool = False
    alike: bool = False
    exposure_s: float = 0.0
    light: float = 1.0
    crf: int = 20


def make_clip(
    seed: int,
    num_dancers: int,
    *,
    duration_s: float = 8.0,
    fps: float = 30.0,
    size: tuple[int, int] | None = None,
    trouble: Trouble = Trouble(),
    capture: Capture | None = None,
    supersample: int = 2,
) -> Clip:
    """Choreograph a clip; see :func:`render_clip` for the arguments, :class:`Stage` for ``supersample``.

    Raises:
        ValueError: for more than four dancers, or a clip shorter than two beats.
        MissingBodyError: if the package with the body's data is not installed.
    """
    if num_dancers not in _SIZES:
        raise ValueError(f"a clip has one to {max(_SIZES)} dancers, not {num_dancers}")
    end_s = trouble.title_s + duration_s
    music = make_music(seed, end_s + trouble.still_s)
    beats_s = music.beats_s[music.beats_s >= trouble.title_s]
    if (beats_s < end_s).sum() < 2:
        raise ValueError(f"{duration_s} s are too short to dance")
    rng = np.random.default_rng([seed, num_dancers, 3])
    looks = [replace(look, loose_m=trouble.loose_m) for look in random_looks(rng, num_dancers)]
    if trouble.alike:
        looks = [dressed_like(look, looks[0]) for look in looks]
    figures = [dress(look) for look in looks]
    clock = _clock(seed, end_s + trouble.still_s, fps, trouble.variable)
    title_s, times_s = clock[clock < trouble.title_s - 1e-9], clock[clock >= trouble.title_s - 1e-9]
    count = _SUBFRAMES if trouble.exposure_s else 1
    open_s = subframe_times(times_s, trouble.exposure_s, count)
    moments = _come_to_rest(open_s, end_s) if trouble.still_s else open_s
    if trouble.moves.hold_s:
        moments = held(moments, trouble.moves.hold_from_s, trouble.moves.hold_s)
    patterns: list[tuple[int, int, Pattern]] = []
    if capture is None:
        dances, patterns = _choreographed(seed, figures, beats_s, moments, trouble.moves.crouch_m)
    else:
        dances = [
            perform_joints(joints, capture.fps, figure.body, np.maximum(moments - times_s[0], 0))
            for joints, figure in zip(capture.joints, figures, strict=True)
        ]
    dances = _moved(dances, trouble, beats_s, moments)
    camera_size = size or _SIZES[num_dancers]
    view, cameras = trouble.view, tuple[Camera, ...]()
    dancers = list(zip(figures, dances, strict=True))
    stage, others = _set_stage(seed, rng, trouble, dancers, open_s, camera_size, supersample)
    if view is not None and view.moves:
        cameras = tuple(moving_cameras(view, stage.camera, open_s, seed))
    return Clip(
        name=clip_name(seed, num_dancers),
        seed=seed,
        fps=fps,
        title_s=title_s,
        times_s=times_s,
        end_s=end_s,
        music=music,
        looks=looks,
        patterns=patterns,
        dances=[dance.every(count) for dance in dances],
        subframes=dances,
        others=others,
        trouble=trouble,
        stage=stage,
        cameras=cameras,
    )


def clip_name(seed: int, num_dancers: int) -> str:
    """Return the name of the clip of a seed, such as ``duo_007``."""
    return f"{_NAMES[num_dancers]}_{seed:03d}"


def _set_stage(
    seed: int,
    rng: np.random.Generator,
    trouble: Trouble,
    dancers: list[tuple[Figure, Performance]],
    times_s: Array,
    size: tuple[int, int],
    supersample: int,
) -> tuple[Stage, list[Other]]:
    """Place the camera, the room and whatever else is in it around the dancers; return also the people who do not dance."""
    points = np.concatenate([dance.positions.reshape(-1, 3) for _, dance in dancers])
    reach = np.concatenate([points - _BODY_M, points + _BODY_M])
    behind_z = float(points[:, 2].min())
    on_wall = _on_wall(seed, trouble, dancers, behind_z - _ROOM_BEHIND_M)
    seen = np.concatenate([reach, *(o.figure.reach() for o in on_wall if isinstance(o.figure, FlatFigure))])
    if trouble.view is None:
        camera = random_camera(rng, seen, *size)
    else:
        camera = view_camera(trouble.view, seen, *size)
    if trouble.edge:
        camera = _at_edge(camera, dancers, left=seed % 2 == 0)
    crate = _crate(rng, points) if trouble.obstacle else None
    room = Room.random(rng)
    if trouble.view is not None:
        behind = float(reach[:, 2].min()) - _ROOM_BEHIND_M
        room = replace(room, wall_z=min(room.wall_z, behind), furnished=trouble.view.moves)
    others = list(on_wall)
    if trouble.bystander:
        others.append(bystander(seed, camera, behind_z - _BYSTANDER_M))
        room = replace(room, wall_z=min(room.wall_z, behind_z - _BYSTANDER_M - _ROOM_BEHIND_M))
    if trouble.passer_by:
        others.append(passer_by(seed, camera, behind_z - _PASSER_BY_M, times_s))
        room = replace(room, wall_z=min(room.wall_z, behind_z - _PASSER_BY_M - _ROOM_BEHIND_M))
    if on_wall:
        room = replace(room, wall_z=behind_z - _ROOM_BEHIND_M)
    figures = [figure for figure, _ in dancers] + [other.figure for other in others]
    return Stage(camera, room, figures, rng, crate, supersample), others


def _on_wall(
    seed: int, trouble: Trouble, dancers: list[tuple[Figure, Performance]], wall_z: float
) -> list[Other]:
    """Return the pictures of people on the wall."""
    found: list[Other] = []
    if trouble.poster:
        x = np.concatenate([dance.positions[..., 0].ravel() for _, dance in dancers])
        found.append(poster(seed, wall_z, float(x.min()), float(x.max())))
    if trouble.mirror:
        found += screen_images(seed, wall_z, dancers)
    return found


def _at_edge(camera: Camera, dancers: list[tuple[Figure, Performance]], left: bool) -> Camera:
    """Return a camera moved sideways so that an edge cuts somebody off in some of the pictures."""
    joints = np.concatenate([dance.positions for _, dance in dancers], axis=1)
    rotation, shift = np.asarray(camera.rotation).reshape(3, 3), np.asarray(camera.translation)
    depth = (joints @ rotation.T + shift)[..., 2]
    edge = 0 if left else camera.width_px
    # How far each joint has to move to the edge, metres; the outermost one of each frame arrives first.
    way = (edge - camera.project(joints)[..., 0]) * depth / camera.focal_px
    moved_m = float(
        np.quantile(way.max(axis=1) if left else way.min(axis=1), 1 - _EDGE_SHARE if left else _EDGE_SHARE)
    )
    return replace(camera, translation=(float(shift[0]) + moved_m, float(shift[1]), float(shift[2])))


def _moved(dances: list[Performance], trouble: Trouble, beats_s: Array, times_s: Array) -> list[Performance]:
    """Return the dances with the movements that are added, and turned as the view wants them."""
    if trouble.moves.turns:
        dances = [spun(dance, trouble.moves.turns * (-1) ** d, times_s) for d, dance in enumerate(dances)]
    if trouble.moves.hop_m:
        dances = [hopped(dance, trouble.moves.hop_m, beats_s, times_s) for dance in dances]
    if trouble.view is not None:
        middle = np.mean([dance.root().mean(axis=0) for dance in dances], axis=0)
        dances = [turned(dance, float(np.radians(trouble.view.yaw_deg)), middle) for dance in dances]
    return dances


def _clock(seed: int, duration_s: float, fps: float, variable: bool) -> Array:
    """When the pictures are shown."""
    if not variable:
        return np.arange(round(duration_s * fps)) / fps
    rng = np.random.default_rng([seed, 5])
    # Phones film like this: a steady rate that drops for a while when the light fails, and trembles.
    phases = rng.choice([1 / 50, 1 / 30, 1 / 24, 1 / 20], size=1 + int(duration_s)).repeat(50)
    steps = phases * rng.uniform(0.9, 1.1, len(phases))
    times = np.round(np.concatenate([[0.0], np.cumsum(steps)]) * 90_000) / 90_000
    return times[times < duration_s]


def _come_to_rest(times_s: Array, end_s: float) -> Array:
    """The moment of the dance that is seen at each time: it slows down towards its end, then hardly sways."""
    late = np.clip((times_s - (end_s - _REST_S)) / _REST_S, 0, 1)
    moment = np.minimum(times_s, end_s - _REST_S) + _REST_S * (late - late**2 / 2)
    return moment + SWAY_S * np.sin(2 * np.pi * 0.3 * np.maximum(times_s - end_s, 0))


def _choreographed(
    seed: int, figures: list[Figure], beats_s: Array, times_s: Array, crouch_m: float
) -> tuple[list[Performance], list[tuple[int, int, Pattern]]]:
    best = -1.0
    for take in range(_TAKES):
        parts, marks = compose(seed * _TAKES + take, len(figures), len(beats_s))
        if crouch_m:
            parts = [crouched(part, crouch_m) for part in parts]
        trial = [
            perform(part, figure.body, beats_s, times_s) for part, figure in zip(parts, figures, strict=True)
        ]
        lively = min(constant_pose_error(dance.joints()) for dance in trial)
        away = min(float((np.cos(dance.facing_rad) < 0).mean()) for dance in trial)
        good = min(lively / MIN_LIVELINESS_M, 1.0) + min(away / MIN_AWAY, 1.0)
        if good > best:
            best, dances, patterns = good, trial, marks
        if good >= 2.0:
            break
    return dances, patterns


def _crate(rng: np.random.Generator, points: Array) -> Crate:
    """A crate before the dancers' usual places: it hides shins for a while, and feet."""
    x = float(np.quantile(points[:, 0], rng.uniform(0.25, 0.75)))
    return Crate(
        x, float(points[:, 2].max()) + 0.25, float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.3, 0.5))
    )


def render_clip(
    seed: int,
    num_dancers: int,
    folder: Path,
    *,
    duration_s: float = 8.0,
    fps: float = 30.0,
    size: tuple[int, int] | None = None,
    trouble: Trouble = Trouble(),
    capture: Capture | None = None,
) -> Path:
    """Write ``folder/videos/NAME.mp4``, with sound, and ``folder/truth/NAME.truth.npz``.

    The truth lies apart, so that ``folder/videos`` can be handed to a pipeline as it is.

    Args:
        seed: of everything: music, steps, bodies, clothes, room, camera.
        num_dancers: one to four.
        folder: made if need be.
        duration_s: length of the dance.
        fps: frames per second.
        size: width and height in pixels; by default upright for one dancer, wide for more.
        trouble: what makes the clip hard, a title or a crate; nothing by default.
        capture: what the dancers do, instead of a choreography.

    Returns:
        The path of the video; :func:`truth_path` gives that of its truth.

    Raises:
        ValueError: for more than four dancers, or a clip shorter than two beats.
        MissingBodyError: if the package with the body's data is not installed.
    """
    clip = make_clip(
        seed, num_dancers, duration_s=duration_s, fps=fps, size=size, trouble=trouble, capture=capture
    )
    video = folder / "videos" / f"{clip.name}.mp4"
    for path in (video, truth_path(video)):
        path.parent.mkdir(parents=True, exist_ok=True)
    at = [None] * len(clip.times_s) if not trouble.variable else clip.times_s.tolist()
    with VideoWriter(
        video, fps, audio=clip.music.samples, sample_rate=SAMPLE_RATE, crf=trouble.crf
    ) as writer:
        for time_s in clip.title_s.tolist():
            writer.write(title_card(seed, clip.stage.camera, time_s), time_s if trouble.variable else None)
        for frame, time_s in enumerate(at):
            writer.write(picture_of(clip, frame), time_s)
    truth_of(clip, hashlib.sha256(video.read_bytes()).hexdigest()).save(truth_path(video))
    return video


def pose_of(clip: Clip, frame: int) -> list[tuple[Any, Any]]:
    """Rotations and positions of the bones of everybody in one frame, as :meth:`Stage.draw` takes them."""
    count = _subframes(clip)
    return _poses(clip, frame * count + count // 2)


def picture_of(clip: Clip, frame: int) -> Image:
    """Draw one frame (H, W, 3), with its blur and light."""
    count = _subframes(clip)
    moments = range(frame * count, (frame + 1) * count)
    cameras = clip.cameras or [None] * moments.stop
    picture = blurred([clip.stage.draw(_poses(clip, moment), cameras[moment]) for moment in moments])
    if clip.trouble.light < 1:
        return dimmed(picture, clip.trouble.light, np.random.default_rng([clip.seed, 11, frame]))
    return picture


def _subframes(clip: Clip) -> int:
    """Return the number of moments of a picture."""
    return len(clip.subframes[0].positions) // len(clip.times_s)


def _poses(clip: Clip, moment: int) -> list[tuple[Any, Any]]:
    poses = [(dance.rotations[moment], dance.positions[moment]) for dance in clip.subframes]
    return poses + [other.pose(moment) for other in clip.others]


def truth_of(clip: Clip, video_sha256: str = "") -> Truth:
    """The truth of a clip."""
    camera, turns, zooms = clip.stage.camera, None, None
    if clip.cameras:
        # The shutter is open evenly around the time of a picture.
        count = len(clip.cameras) // len(clip.times_s)
        shown = clip.cameras[count // 2 :: count]
        camera = shown[0]
        rotations = np.array([each.rotation for each in shown]).reshape(-1, 3, 3)
        turns = rotations @ rotations[0].T
        zooms = np.array([each.focal_px for each in shown]) / camera.focal_px
    return Truth(
        name=clip.name,
        seed=clip.seed,
        fps=clip.fps,
        names=tuple(TRUTH_JOINTS),
        joints=np.stack([dance.joints() for dance in clip.dances]),
        facing_rad=np.stack([dance.facing_rad for dance in clip.dances]),
        root=np.stack([dance.root() for dance in clip.dances]),
        times_s=clip.times_s,
        beats_s=clip.music.beats_s,
        camera=camera,
        turns=turns,
        zooms=zooms,
        video_sha256=video_sha256,
        planted=np.stack([dance.planted for dance in clip.dances]),
        start_s=float(clip.times_s[0]),
        end_s=clip.end_s,
    )
