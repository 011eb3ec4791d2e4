"""Write dances as one HTML page with a 3D stage, which needs no network and no server (``opendance view``)."""

from __future__ import annotations

import base64
import hashlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from opendance_hf.apps.export import load_dance, readable_answers, song_part
from opendance_hf.apps.stage_curves import CURVE_HZ, beats_of, contacts_of, ground_of, numbers_of, speed_curve
from opendance_hf.apps.stage_video import video_part
from opendance_hf.body import BodyMesh, BodyShapeError, load_mesh, shape_body
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_output
from opendance_hf.formats import glb
from opendance_hf.formats.detect import SUFFIXES
from opendance_hf.formats.motion import Motion, check_suffix
from opendance_hf.formats.resample import resampled, with_poses
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_quaternion
from opendance_hf.motion.skeleton import PARENTS
from opendance_hf.music.sound import NoAudioError
from opendance_hf.render.avatar import dancer_colour, material_colours

#: Faster motions are resampled to this: browsers draw no more frames a second.
MAX_FPS: Final = 60.0
#: Dancers on one stage.
MAX_DANCERS: Final = 12
#: Poses of all dancers, bytes before base64: 40 minutes of one dancer at 60 frames a second.
MAX_POSE_BYTES: Final = 30 * 1024**2
#: GLB files of all dances together that are kept in the page, bytes.
MAX_GLB_BYTES: Final = 3 * 1024**2
#: Dancers up to which a page has full bodies beside the low ones: 0.25 MB each, and 0.24 MB for all.
MAX_FULL_BODIES: Final = 4
#: Free floor between dances that stand side by side, metres.
_GAP_M: Final = 0.9
#: Files of the page, by their names in the template.
_FILES: Final = {
    "three": "three.min.js", "dancers": "dancers.js", "script": "view.js", "style": "view.css", "terms": "three.LICENSE.txt",
}  # fmt: skip
_WAVEFORM_BINS: Final = 1200
_SONG_HZ: Final = 48_000
_QUATERNION_STEPS: Final = 32767
_PELVIS_STEPS: Final = 65535
_VERTEX_STEPS: Final = 65535
_WEIGHT_STEPS: Final = 255

Floats = npt.NDArray[np.floating]
#: Bodies of a page: low ones in software and full ones on a graphics processor, low ones, or full ones.
DETAILS: Final = ("auto", "low", "full")


class ViewError(OpenDanceError, ValueError):
    """Raised if dances cannot be shown; the message has the file, the cause and the remedy."""


@dataclass(frozen=True)
class ViewOptions:
    """Options of :func:`view`.

    Attributes:
        audio: the song, or a video with it; the part that belongs to the dance is kept in the page.
        audio_start_s: where that part begins; by default as the first dance says, or 0.
        overwrite: True to replace a page that exists.
        rows: ids of the rows to show, of a dataset.
        answers: what motion files may lack: ``fps``, ``up`` or ``names``, as for :func:`convert_motion`.
        detail: see :data:`DETAILS`.
        video: shown beside the dances; its sound is the song if there is no other.
        video_start_s: where the dance begins in it; by default as the first dance says, or 0.
    """

    audio: Path | None = None
    audio_start_s: float | None = None
    overwrite: bool = False
    rows: tuple[str, ...] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)
    detail: str = "auto"
    video: Path | None = None
    video_start_s: float | None = None


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
    sources = _sources(dances, options.rows)
    out = out or Path(f"{options.rows[0] if options.rows else dances[0].stem}.html")
    check_suffix(out, ".html", ".htm")
    given = [*dances, *([song] if song else []), *([options.video] if options.video else [])]
    check_output(out, given, overwrite=options.overwrite)
    motions = [ready(motion) for motion in _load(sources, options.answers)]
    check_size([str(path) for path, _ in sources], motions)
    seconds = max(motion.num_frames / motion.fps for motion in motions)
    video, start = None, options.video_start_s
    if start is None:
        start = float(motions[0].meta.get("start_s", 0.0))
    if options.video is not None:
        video = video_part(options.video, start, seconds)
    samples = None
    if song is not None:
        samples = song_of(motions, song, options.audio_start_s)
    elif options.video is not None:
        with suppress(NoAudioError):
            samples = song_of(motions, options.video, start)
    names = list(options.rows) or _names(dances)
    write_stage(out, stage_data(names, motions, samples, detail=options.detail, video=video))
    return out


def read_stage(
    names: list[str], dances: list[Path], song: Path | None, audio_start_s: float | None = None
) -> dict[str, Any]:
    """Return what the page holds, see :func:`stage_data`, of motion files and their song.

    Raises:
        ViewError, ExportError, FormatError, AudioError: see :func:`view`.
    """
    motions = [ready(load_dance(str(path), None)) for path in dances]
    check_size([str(path) for path in dances], motions)
    return stage_data(names, motions, None if song is None else song_of(motions, song, audio_start_s))


def write_stage(out: Path, data: dict[str, Any]) -> None:
    """Write the page of :func:`stage_data` atomically.

    Raises:
        OSError: if it cannot be written.
    """
    with atomic_write(out) as partial:
        partial.write_text(render_page(data), encoding="utf-8")


def song_of(motions: list[Motion], song: Path, start_s: float | None = None) -> Floats:
    """Return the (N,) samples at 48 kHz of the part of a song that is heard with dances in step.

    The first dance says where the song begins, unless ``start_s`` does; the longest one how much of it is heard.

    Raises:
        ExportError: if the song ends before the dances.
        AudioError: if it cannot be read.
    """
    longest = max(motions, key=lambda motion: motion.num_frames / motion.fps)
    first = motions[0].meta
    start: dict[str, Any] = {name: first[name] for name in ("song_start_s", "start_s") if name in first}
    return song_part(replace(longest, meta=start), song, start_s, _SONG_HZ)


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
    if audio is not None and audio.is_dir():
        raise ViewError(f"--audio {audio}: a page has one song; name the file")
    if len(songs) > 1:
        raise ViewError(f"{songs[0]} and {songs[1]}: a page has one song; leave out one of them")
    return dances, songs[0] if songs else None


def _sources(dances: list[Path], rows: tuple[str, ...]) -> list[tuple[Path, str | None]]:
    """Return the file or dataset of every dance, with the row if one is named."""
    if not rows:
        return [(path, None) for path in dances]
    if len(dances) > 1:
        raise ViewError(f"--row {rows[0]}: is for one dataset; {len(dances)} files are named")
    return [(dances[0], row) for row in rows]


def _load(sources: list[tuple[Path, str | None]], answers: Mapping[str, Any]) -> list[Motion]:
    """Read every dance; what its file may lack is said to the formats that ask for it."""
    taken = [readable_answers(path) for path, _ in sources]
    for name in answers:
        if not any(name in names for names in taken):
            raise ViewError(f"{sources[0][0]}: takes no --{name}, since its files have it")
    if answers.get("up", "y") not in ("y", "z"):
        raise ViewError(f"--up {answers['up']}: expected y or z")
    return [
        load_dance(str(path), row, **{name: value for name, value in answers.items() if name in names})
        for (path, row), names in zip(sources, taken, strict=True)
    ]


def ready(motion: Motion) -> Motion:
    """Return a motion with rotations and at most :data:`MAX_FPS` frames a second, as a stage needs it."""
    motion = with_poses(motion)
    return resampled(motion, MAX_FPS) if motion.fps > MAX_FPS else motion


def check_size(names: Sequence[str], motions: list[Motion]) -> None:
    """Check that a stage has room for dances.

    Raises:
        ViewError: if it holds fewer dancers or poses.
    """
    dancers = sum(motion.num_dancers for motion in motions)
    if dancers > MAX_DANCERS:
        raise ViewError(
            f"{names[-1]}: {dancers} dancers in all, a stage holds {MAX_DANCERS}: name fewer files, or take one dancer of "
            "a file with opendance export --dancer"
        )
    size = sum(motion.num_dancers * motion.num_frames * (len(PARENTS) * 8 + 7) for motion in motions)
    if size > MAX_POSE_BYTES:
        raise ViewError(
            f"{names[0]}: {size / 1024**2:.0f} MiB of poses, a page holds {MAX_POSE_BYTES // 1024**2}: name fewer files, "
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


def stage_data(
    names: Sequence[str],
    motions: list[Motion],
    song: Floats | None = None,
    *,
    numbers: Sequence[Mapping[str, str]] = (),
    detail: str = "auto",
    video: bytes | None = None,
) -> dict[str, Any]:
    """Return what the page holds, as JSON; arrays are little-endian and in base64.

    Args:
        names: of the dances.
        motions: with poses, at most :data:`MAX_FPS` frames a second; see :func:`ready`.
        song: (N,) samples at 48 kHz that begin with the dances.
        numbers: further labels and values for each dance.
        detail: of the bodies; with "auto" the page has full ones for up to :data:`MAX_FULL_BODIES` dancers.
        video: MP4 that begins with the dances, see :func:`opendance_hf.apps.stage_video.video_part`.

    Raises:
        ViewError: if the detail is unknown, or a body cannot be shaped to the bones of a dancer.
    """
    check_detail(detail)
    meshes = _meshes(detail, sum(motion.num_dancers for motion in motions))
    seconds = max(motion.num_frames / motion.fps for motion in motions)
    grounds = [ground_of(motion) for motion in motions]
    known = [beats_of(motion) for motion in motions]
    shared = next((beats for beats in known if len(beats)), np.zeros(0))
    # Dances to one song have its beats, also those whose files lack them.
    beats = [own if len(own) else shared for own in known]
    curves = [speed_curve(motion) for motion in motions]
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
                "numbers": [
                    *numbers_of(motion, beats[i], grounds[i]),
                    *(numbers[i].items() if numbers else ()),
                ],
                "speed": _base64(np.round(255 * curves[i] / top), "u1"),
                "dancers": [
                    _dancer(name, motion.dancer(index), grounds[i], first + index, meshes)
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
        "bodies": {
            name: {"faces": _base64(mesh.faces, "<u2"), "material": _base64(mesh.material, "u1")}
            for name, mesh in meshes.items()
        },
        "curve_hz": CURVE_HZ,
        "top_speed_mps": round(top, 3),
        "motions": entries,
        "glb_missing": f"GLB too large (over {MAX_GLB_BYTES // 1024**2} MiB in all): use opendance export",
        "song": None if song is None else base64.b64encode(_mp3(song)).decode(),
        "waveform": None if song is None else _base64(_waveform(song), "u1"),
        "video": None if video is None else base64.b64encode(video).decode(),
        "rows": None,
    }


def check_detail(detail: str) -> None:
    """Check a detail of bodies.

    Raises:
        ViewError: if it is not one of :data:`DETAILS`.
    """
    if detail not in DETAILS:
        raise ViewError(f"unknown detail {detail!r}: expected one of {', '.join(DETAILS)}")


def _meshes(detail: str, dancers: int) -> dict[str, BodyMesh]:
    """Return the average bodies that a page has, by their detail."""
    meshes: dict[str, BodyMesh] = {}
    if detail in ("auto", "low"):
        meshes["low"] = load_mesh("low")
    if detail == "full" or (detail == "auto" and dancers <= MAX_FULL_BODIES):
        meshes["full"] = load_mesh("full")
    return meshes


def render_page(data: dict[str, Any]) -> str:
    """Return the page of :func:`stage_data`: scripts, styles and data in one text.

    It has :func:`content_policy`.
    """
    page = templates().get_template("view.html.jinja")
    return page.render(
        data=data,
        title=", ".join(motion["name"] for motion in data["motions"]),
        policy=content_policy(),
        **{name: Markup(text) for name, text in _files().items()},
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


def content_policy() -> str:
    """Return the content security policy of the page: its scripts and its style by their hashes, and no request."""
    hashes = {name: _hash(text) for name, text in _files().items()}
    return (
        f"default-src 'none'; script-src {hashes['three']} {hashes['dancers']} {hashes['script']}; "
        f"style-src {hashes['style']}; img-src data: blob:; media-src blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def _files() -> dict[str, str]:
    """Return the texts of the page by their names in the template."""
    folder = resources.files("opendance_hf.apps") / "static" / "view"
    return {name: (folder / file).read_text(encoding="utf-8") for name, file in _FILES.items()}


def _hash(text: str) -> str:
    """Return the source of a content security policy that allows an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _dancer(
    name: str, motion: Motion, ground: float, number: int, meshes: Mapping[str, BodyMesh]
) -> dict[str, Any]:
    """Return one dancer: the body at rest, and its poses as 16-bit integers.

    Args:
        name: of the dance, for messages.
        motion: of one dancer.
        ground: height of the ground, metres; the page has it at 0.
        number: of the dancer among all of the page, for the colour.
        meshes: average bodies by their detail.
    """
    assert motion.poses is not None
    assert motion.transl is not None
    assert motion.rest_offsets is not None
    offsets = motion.rest_offsets[0]
    try:
        bodies = {detail: _body(shape_body(mesh, offsets)) for detail, mesh in meshes.items()}
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
        "bodies": bodies,
        "quaternions": _base64(np.round(quaternions * _QUATERNION_STEPS), "<i2"),
        "pelvis": _base64(np.round((pelvis - low) / step), "<u2"),
        "pelvis_low": low.tolist(),
        "pelvis_step": step.tolist(),
        "contacts": _base64(contacts_of(motion, ground), "u1"),
    }


def _body(mesh: BodyMesh) -> dict[str, Any]:
    """Return the vertices of a body as 16-bit integers in its box, and its weights in steps that sum to 255."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    step = (high - low) / _VERTEX_STEPS
    weights = np.round(mesh.weights * _WEIGHT_STEPS).astype(np.int64)
    weights[:, 0] += _WEIGHT_STEPS - weights.sum(axis=1)
    return {
        "vertices": _base64(np.round((mesh.vertices - low) / step), "<u2"),
        "low": low.tolist(),
        "step": step.tolist(),
        "bones": _base64(mesh.bones, "u1"),
        "weights": _base64(weights, "u1"),
    }


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
