"""Write dances as one HTML page with a 3D stage, which needs no network and no server (``opendance view``)."""

from __future__ import annotations

import base64
import hashlib
import io
import tempfile
from dataclasses import dataclass, replace
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from scipy.ndimage import gaussian_filter1d

from opendance_hf.apps.export import load_dance, song_part
from opendance_hf.body import BodyShapeError, load_mesh, shape_body
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_output
from opendance_hf.formats import glb
from opendance_hf.formats.detect import SUFFIXES
from opendance_hf.formats.motion import Motion, check_suffix
from opendance_hf.formats.resample import resampled, with_poses
from opendance_hf.metrics import floor_height, foot_skate_ratio, joint_speed, step_beat
from opendance_hf.metrics.beats import FPS, SPEED_SIGMA
from opendance_hf.metrics.features import MIN_FRAMES
from opendance_hf.metrics.quality import CONTACT_HEIGHT
from opendance_hf.motion.contacts import RestLimits, frames_at_rest
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_quaternion
from opendance_hf.motion.skeleton import JOINT_INDEX, PARENTS
from opendance_hf.render.avatar import dancer_colour, material_colours

#: Faster motions are resampled to this: browsers draw no more frames a second.
MAX_FPS: Final = 60.0
#: Dancers on one stage.
MAX_DANCERS: Final = 12
#: Poses of all dancers, bytes before base64: 40 minutes of one dancer at 60 frames a second.
MAX_POSE_BYTES: Final = 30 * 1024**2
#: GLB files of all dances together that are kept in the page, bytes.
MAX_GLB_BYTES: Final = 3 * 1024**2
#: Free floor between dances that stand side by side, metres.
_GAP_M: Final = 0.9
#: Files of the page, by their names in the template.
_FILES: Final = {
    "three": "three.min.js", "dancers": "dancers.js", "script": "view.js", "style": "view.css", "terms": "three.LICENSE.txt",
}  # fmt: skip
_CURVE_HZ: Final = 10.0
_WAVEFORM_BINS: Final = 1200
_SONG_HZ: Final = 48_000
_QUATERNION_STEPS: Final = 32767
_PELVIS_STEPS: Final = 65535
_FEET: Final = (JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"])
#: Standard deviation of the smoothing of foot positions before their speed, seconds.
_FOOT_SIGMA_S: Final = 0.033

Floats = npt.NDArray[np.floating]


class ViewError(OpenDanceError, ValueError):
    """Raised if dances cannot be shown; the message has the file, the cause and the remedy."""


@dataclass(frozen=True)
class ViewOptions:
    """Options of :func:`view`.

    Attributes:
        audio: the song, or a video with it; the part that belongs to the dance is kept in the page.
        audio_start_s: where that part begins; by default as the first dance says, or 0.
        overwrite: True to replace a page that exists.
    """

    audio: Path | None = None
    audio_start_s: float | None = None
    overwrite: bool = False


def view(files: list[Path], out: Path | None, options: ViewOptions) -> Path:
    """Write one page with all dances in step, side by side.

    Args:
        files: motion files of any format that is read; one of them may be the song instead of ``options.audio``.
        out: the page; by default named after the first dance, in the current folder.
        options: see :class:`ViewOptions`.

    Returns:
        The page.

    Raises:
        ViewError: if there is no motion, more than one song, too many dancers or frames, or a body cannot be made.
        ExportError: if a file is missing, or the song ends before the dance.
        FormatError: if a motion cannot be read.
        AudioError: if the song cannot be read.
        OutputError, DiskError: if the page exists or cannot be written.
    """
    dances, song = _split(files, options.audio)
    out = out or Path(f"{dances[0].stem}.html")
    check_suffix(out, ".html", ".htm")
    check_output(out, [*dances, *([song] if song else [])], overwrite=options.overwrite)
    page = render_page(read_stage(_names(dances), dances, song, options.audio_start_s))
    with atomic_write(out) as partial:
        partial.write_text(page, encoding="utf-8")
    return out


def read_stage(
    names: list[str], dances: list[Path], song: Path | None, audio_start_s: float | None = None
) -> dict[str, Any]:
    """Return what the page holds, see :func:`stage_data`, of motion files and their song.

    Raises:
        ViewError, ExportError, FormatError, AudioError: see :func:`view`.
    """
    motions = [_load(path) for path in dances]
    _check_size(dances, motions)
    longest = max(motions, key=lambda motion: motion.num_frames / motion.fps)
    samples = None
    if song is not None:
        # The first dance says where the song begins; the longest one how much of it is heard.
        first = motions[0].meta
        start: dict[str, Any] = {name: first[name] for name in ("song_start_s", "start_s") if name in first}
        samples = song_part(replace(longest, meta=start), song, audio_start_s, _SONG_HZ)
    return stage_data(names, motions, samples)


def _split(files: list[Path], audio: Path | None) -> tuple[list[Path], Path | None]:
    """Return the motion files and the song."""
    motion_suffixes = set(chain(*SUFFIXES))
    dances = [path for path in files if path.is_dir() or path.suffix.lower() in motion_suffixes]
    songs = [path for path in files if path not in dances] + ([audio] if audio else [])
    if not dances:
        raise ViewError(
            f"{songs[0] if songs else 'no file'}: not a motion; name a file that ends in one of "
            f"{', '.join(sorted(motion_suffixes))}"
        )
    if len(songs) > 1:
        raise ViewError(f"{songs[0]} and {songs[1]}: a page has one song; leave out one of them")
    return dances, songs[0] if songs else None


def _load(path: Path) -> Motion:
    motion = with_poses(load_dance(str(path), None))
    return resampled(motion, MAX_FPS) if motion.fps > MAX_FPS else motion


def _check_size(paths: list[Path], motions: list[Motion]) -> None:
    dancers = sum(motion.num_dancers for motion in motions)
    if dancers > MAX_DANCERS:
        raise ViewError(
            f"{paths[-1]}: {dancers} dancers in all, a stage holds {MAX_DANCERS}: name fewer files, or take one dancer of "
            "a file with opendance export --dancer"
        )
    size = sum(motion.num_dancers * motion.num_frames * (len(PARENTS) * 8 + 7) for motion in motions)
    if size > MAX_POSE_BYTES:
        raise ViewError(
            f"{paths[0]}: {size / 1024**2:.0f} MiB of poses, a page holds {MAX_POSE_BYTES // 1024**2}: name fewer files, "
            "or lower the rate with opendance export --fps 30"
        )


def _names(paths: list[Path]) -> list[str]:
    """Return a name for every file: its stem, with its folder or suffix where stems are alike."""
    names = [path.stem for path in paths]
    for longer in (
        [f"{path.parent.name}/{path.stem}" for path in paths],
        [f"{path.parent.name}/{path.name}" for path in paths],
    ):
        names = [other if names.count(name) > 1 else name for name, other in zip(names, longer, strict=True)]
    return names


def stage_data(names: list[str], motions: list[Motion], song: Floats | None = None) -> dict[str, Any]:
    """Return what the page holds, as JSON; arrays are little-endian and in base64.

    Args:
        names: of the dances.
        motions: with poses, at most :data:`MAX_FPS` frames a second.
        song: (N,) samples at 48 kHz that begin with the dances.

    Raises:
        ViewError: if a body cannot be shaped to the bones of a dancer.
    """
    mesh = load_mesh("low")
    seconds = max(motion.num_frames / motion.fps for motion in motions)
    grounds = [_ground(motion) for motion in motions]
    known = [_beats_s(motion) for motion in motions]
    shared = next((beats for beats in known if len(beats)), np.zeros(0))
    # Dances to one song have its beats, also those whose files lack them.
    beats = [own if len(own) else shared for own in known]
    curves = [_speed(motion) for motion in motions]
    top = max(float(curve.max()) for curve in curves) or 1.0
    entries: list[dict[str, Any]] = []
    for i, (name, motion) in enumerate(zip(names, motions, strict=True)):
        first = sum(len(entry["dancers"]) for entry in entries)
        entries.append(
            {
                "name": name,
                "licence": str(motion.meta.get("licence", "")),
                "fps": motion.fps,
                "frames": motion.num_frames,
                "beats": np.round(beats[i], 4).tolist(),
                "numbers": _numbers(motion, beats[i], grounds[i]),
                "speed": _base64(np.round(255 * curves[i] / top), "u1"),
                "dancers": [
                    _dancer(name, motion.dancer(index), grounds[i], first + index)
                    for index in range(motion.num_dancers)
                ],
            }
        )
    for entry, shift in zip(entries, _side_by_side(motions), strict=True):
        entry["shift"] = shift
    for entry, file in zip(entries, _glb_files(motions), strict=True):
        entry["glb"] = file
    return {
        "seconds": seconds,
        "parents": list(PARENTS),
        "faces": _base64(mesh.faces, "<u2"),
        "material": _base64(mesh.material, "u1"),
        "curve_hz": _CURVE_HZ,
        "top_speed_mps": round(top, 3),
        "motions": entries,
        "glb_missing": f"GLB too large (over {MAX_GLB_BYTES // 1024**2} MiB in all): use opendance export",
        "song": None if song is None else base64.b64encode(_mp3(song)).decode(),
        "waveform": None if song is None else _base64(_waveform(song), "u1"),
    }


def render_page(data: dict[str, Any]) -> str:
    """Return the page of :func:`stage_data`: scripts, styles and data in one text.

    Its content security policy allows its scripts and its style by their hashes, and no request.
    """
    folder = resources.files("opendance_hf.apps") / "static" / "view"
    files = {name: (folder / file).read_text(encoding="utf-8") for name, file in _FILES.items()}
    hashes = {name: _hash(files[name]) for name in ("three", "dancers", "script", "style")}
    return (
        templates()
        .get_template("view.html.jinja")
        .render(
            data=data,
            title=", ".join(motion["name"] for motion in data["motions"]),
            hashes=hashes,
            **{name: Markup(text) for name, text in files.items()},
        )
    )


def templates() -> Environment:
    """Return the templates of pages; what they are given is text, never markup."""
    return Environment(
        loader=PackageLoader("opendance_hf.apps"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hash(text: str) -> str:
    """Return the source of a content security policy that allows an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _dancer(name: str, motion: Motion, ground: float, number: int) -> dict[str, Any]:
    """Return one dancer: the body at rest, and its poses as 16-bit integers.

    Args:
        name: of the dance, for messages.
        motion: of one dancer.
        ground: height of the ground, metres; the page has it at 0.
        number: of the dancer among all of the page, for the colour.
    """
    assert motion.poses is not None
    assert motion.transl is not None
    assert motion.rest_offsets is not None
    offsets = motion.rest_offsets[0]
    try:
        mesh = shape_body(load_mesh("low"), offsets)
    except BodyShapeError as error:
        raise ViewError(
            f"{name}, dancer {motion.meta.get('dancer', 0) + 1}: {error}; check the unit of the file"
        ) from None
    quaternions = matrix_to_quaternion(axis_angle_to_matrix(motion.poses[0].astype(np.float64)))
    pelvis = motion.transl[0].astype(np.float64) + offsets[0] - [0.0, ground, 0.0]
    low, high = pelvis.min(axis=0), pelvis.max(axis=0)
    step = np.maximum(high - low, 1e-3) / _PELVIS_STEPS
    return {
        "colour": "#{:02x}{:02x}{:02x}".format(*dancer_colour(number)),
        "palette": _base64(np.round(material_colours(number)), "u1"),
        "offsets": _base64(offsets, "<f4"),
        "vertices": _base64(mesh.vertices, "<f4"),
        "bones": _base64(mesh.bones, "u1"),
        "weights": _base64(mesh.weights, "<f4"),
        "quaternions": _base64(np.round(quaternions * _QUATERNION_STEPS), "<i2"),
        "pelvis": _base64(np.round((pelvis - low) / step), "<u2"),
        "pelvis_low": low.tolist(),
        "pelvis_step": step.tolist(),
        "contacts": _base64(_contacts(motion, ground), "u1"),
    }


def _contacts(motion: Motion, ground: float) -> npt.NDArray[np.integer]:
    """Return (T,) bits of the feet that stand on the ground: 1 the left, 2 the right."""
    toes = motion.joints[0][:, _FEET].astype(np.float64)
    smooth = gaussian_filter1d(toes, _FOOT_SIGMA_S * motion.fps, axis=0, mode="nearest")
    step = np.gradient(smooth, axis=0) if len(toes) > 1 else np.zeros_like(toes)
    speed = np.linalg.norm(step, axis=-1) * motion.fps
    down = toes[..., 1] < ground + CONTACT_HEIGHT
    for foot in range(len(_FEET)):
        down[:, foot] &= frames_at_rest(speed[:, foot], 1 / motion.fps, RestLimits())
    return down @ np.array([1, 2])


def _ground(motion: Motion) -> float:
    """Return the height of the ground: that of the file, or else where the feet of the dancers go."""
    if "ground" in motion.meta:
        return float(motion.meta["ground"])
    if motion.num_frames < MIN_FRAMES:
        return float(motion.joints[..., 1].min())
    return float(np.median([floor_height(joints) for joints in motion.joints]))


def _beats_s(motion: Motion) -> Floats:
    beats = np.asarray(motion.meta.get("music_beats", ()), dtype=np.float64)
    return beats / motion.fps


def _speed(motion: Motion) -> Floats:
    """Return the mean speed of the joints of all dancers, m/s, at :data:`_CURVE_HZ`."""
    times = np.arange(0, motion.num_frames / motion.fps, 1 / _CURVE_HZ)
    if motion.num_frames < 2:
        return np.zeros(len(times))
    sigma = SPEED_SIGMA * motion.fps / FPS
    speed = np.mean([joint_speed(joints, sigma=sigma) for joints in motion.joints], axis=0) * motion.fps
    return np.interp(times, (np.arange(len(speed)) + 0.5) / motion.fps, speed)


def _numbers(motion: Motion, beats_s: Floats, ground: float) -> list[list[str]]:
    """Return the labels and values that are shown beside the name of a dance; means over its dancers."""
    step, skate = "unknown: no beats", "unknown: too short"
    if motion.num_frames >= MIN_FRAMES:
        found = [step_beat(joints, beats_s * motion.fps, motion.fps) for joints in motion.joints]
        scores = [score.score for score in found if score is not None]
        if scores:
            step = f"{np.mean(scores):.3f}"
        slides = [foot_skate_ratio(joints, fps=motion.fps, floor=ground) for joints in motion.joints]
        skate = f"{100 * np.mean(slides):.1f} %"
    return [["step beat", step], ["skate", skate]]


def _side_by_side(motions: list[Motion]) -> list[float]:
    """Return the shift along x of every dance that places them in a row around x = 0, metres."""
    lows = [float(motion.joints[..., 0].min()) for motion in motions]
    widths = [float(motion.joints[..., 0].max()) - low for motion, low in zip(motions, lows, strict=True)]
    left = -(sum(widths) + _GAP_M * (len(motions) - 1)) / 2
    shifts = []
    for low, width in zip(lows, widths, strict=True):
        shifts.append(round(left - low, 4))
        left += width + _GAP_M
    return shifts if len(motions) > 1 else [0.0]


def _glb_files(motions: list[Motion]) -> list[str | None]:
    """Return the GLB file of every dance in base64, or None where the page has no room for it."""
    files: list[str | None] = []
    room = MAX_GLB_BYTES
    with tempfile.TemporaryDirectory() as folder:
        for motion in motions:
            path = Path(folder, "dance.glb")
            glb.write(motion, path, detail="low")
            fits = path.stat().st_size <= room
            files.append(base64.b64encode(path.read_bytes()).decode() if fits else None)
            room -= path.stat().st_size if fits else 0
    return files


def _mp3(samples: Floats) -> bytes:
    """Return a song (N,) at 48 kHz as MP3, which every browser plays."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, _SONG_HZ, format="MP3", subtype="MPEG_LAYER_III")
    return file.getvalue()


def _waveform(samples: Floats) -> Floats:
    """Return the largest amplitude of each part of a song, 0 to 255."""
    edges = np.linspace(0, len(samples), _WAVEFORM_BINS, endpoint=False).astype(int)
    peaks = np.maximum.reduceat(np.abs(samples), edges)
    return np.round(255 * peaks / max(float(peaks.max()), 1e-6))


def _base64(values: npt.NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(dtype).tobytes()).decode()
