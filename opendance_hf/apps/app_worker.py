"""Do the work of ``opendance app`` in processes of their own: check songs, dance to them, export the dances.

A file that makes a decoder crash, or work that takes too long or too much memory, ends such a process and not the server. The
processes end with the server, also if it is killed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from opendance_hf.apps.app_jobs import (
    ENERGIES,
    MIN_SECONDS,
    JobError,
    Request,
    State,
    read_request,
    song_name,
    stage_file,
    write_state,
)
from opendance_hf.disk import DiskError, disk_fault
from opendance_hf.errors import OpenDanceError, missing_extra

#: Name of the film among the exports.
FILM: Final = "film"
#: Between the seeds of the takes of one dance.
_NEXT_TAKE: Final = 1_000_003
#: Codes between two notes of the progress.
_NOTED_CODES: Final = 24
#: Between two looks at the memory of a process, seconds.
_WATCH_S: Final = 0.2
#: Limits of songs: channels, sample rate, pictures (covers and videos) and their pixels (8K).
_MAX_CHANNELS: Final = 8
_MAX_RATE_HZ: Final = 192_000
_MAX_PICTURES: Final = 4
_MAX_PIXELS: Final = 7680 * 4320
#: Samples of all channels, for each second that a song may have: stereo at 96 kHz.
_MAX_SAMPLES: Final = 192_000
#: Message for a full or broken disk; visitors need not know its paths.
DISK_FULL: Final = (
    "this server cannot store anything now, its disk is full or broken: try again later, or tell who runs it"
)

log = logging.getLogger(__name__)


_SMALLER: Final = "send a shorter song, or the sound alone as MP3"


class WorkerError(OpenDanceError, RuntimeError):
    """Raised if a process ended or took too long; the message has the remedy."""


@dataclass
class Worker:
    """A process that runs functions of modules, one at a time; it starts with the first.

    Attributes:
        limit_s: time after which the process is killed.
        memory_bytes: resident memory beyond which it is killed; None for no limit.
        address_bytes: address space that it can have beside that of its libraries, beyond which allocations fail in it; None
            for no limit. Not for processes with torch, which reserves more than it uses.
    """

    limit_s: float
    memory_bytes: int | None = None
    address_bytes: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _process: BaseProcess | None = None
    _connection: Connection | None = None

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns there.

        Raises:
            WorkerError: if the process cannot start or ended, or its time or memory is used up.
            JobError: with the message of any error for users.
        """
        with self._lock:
            try:
                connection = self._started()
                connection.send((work, arguments))
                self._watch(connection)
                kind, value = connection.recv()
            except (EOFError, OSError):
                self._end()
                raise WorkerError(
                    "the work ended without a result: try again, or with another file"
                ) from None
            except BaseException:
                self._end()
                raise
        if kind == "error":
            raise JobError(value)
        return value

    def kill(self) -> None:
        """End the process, and with it what :meth:`run` waits for in another thread."""
        if (process := self._process) is not None:
            process.kill()

    def _watch(self, connection: Connection) -> None:
        """Wait for an answer.

        Raises:
            WorkerError: if the time or the memory is used up.
        """
        end_s = time.monotonic() + self.limit_s
        while not connection.poll(max(0.0, min(_WATCH_S, end_s - time.monotonic()))):
            if time.monotonic() >= end_s:
                raise WorkerError(
                    f"this took longer than {self.limit_s:g} s and was stopped: try a shorter song"
                )
            if self.memory_bytes is not None and self._memory() > self.memory_bytes:
                raise WorkerError(
                    f"this needed more than {self.memory_bytes / 1e9:g} GB of memory and was stopped: {_SMALLER}"
                )

    def _memory(self) -> int:
        """Return the resident memory of the process in bytes, 0 if it has ended."""
        try:
            return 0 if self._process is None else int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _end(self) -> None:
        self.kill()
        if self._process is not None:
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _started(self) -> Connection:
        if self._connection is None or self._process is None or not self._process.is_alive():
            self._end()
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self.address_bytes), daemon=True)
            try:
                process.start()
            finally:
                theirs.close()
            self._connection, self._process = ours, process
        return self._connection


def _serve(connection: Connection, address_bytes: int | None) -> None:
    """Run what comes, until the server has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    threading.Thread(target=_end_with_server, daemon=True).start()
    logging.basicConfig(level=logging.WARNING)
    import av.logging

    av.logging.set_libav_level(av.logging.ERROR)
    if address_bytes is not None:
        # Libraries reserve address space for each core of the machine.
        limit = psutil.Process().memory_info().vms + address_bytes
        with contextlib.suppress(ValueError, OSError):  # not every system has this limit
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            work, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = "done", work(*arguments)
        except Exception as error:
            answer = "error", _said(error)
        try:
            connection.send(answer)
        except OSError:
            return


def _end_with_server() -> None:
    """End this process, in the middle of its work, when the server has ended."""
    if (server := multiprocessing.parent_process()) is not None:
        wait([server.sentinel])
        os._exit(1)


def _said(error: Exception) -> str:
    """Return the message of an error for users; others are faults of ours, which go to the log."""
    if isinstance(error, DiskError) or disk_fault(error) is not None:
        log.error("%s", error)
        return DISK_FULL
    if isinstance(error, OpenDanceError):
        return str(error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return f"this needs more memory than the server gives it: {_SMALLER}"
    if isinstance(error, ModuleNotFoundError) and (message := missing_extra(error)):
        return message
    log.error("unexpected", exc_info=error)
    return f"an unexpected fault ({type(error).__name__}), which the log of the server has: try again"


def load_decoder() -> None:
    """Import what :func:`check_song` needs."""


def load_dancer() -> None:
    """Load what :func:`dance` needs for one dancer."""
    _dancer(1)


def check_song(path: Path, max_seconds: float) -> float:
    """Return the length of a song in seconds, if it can be danced to.

    Decoding stops beyond the limits, whatever the file says of itself.

    Raises:
        AudioError: if it cannot be decoded.
        JobError: if it is empty, too short, too long, silent or not finite, has more channels, samples or pictures than a
            song, or larger pictures.
    """
    import av

    from opendance_hf.music.media import audio_stream, open_media
    from opendance_hf.music.sound import SoundFrames, measure_sound

    if not path.stat().st_size:
        raise JobError("the file is empty: choose it again, or another copy of it")
    try:
        with open_media(path, sound_only=True) as container:
            _check_pictures(container)
            stream = audio_stream(container)
            _check_length(SoundFrames(container, stream) if stream is not None else (), max_seconds)
        with open_media(path) as container:
            _check_pictures(container)  # their real size
    except av.FFmpegError:
        pass  # measure_sound says what is wrong
    sound = measure_sound(path)
    seconds = float(sound.ends_s[-1])
    if seconds < MIN_SECONDS:
        raise JobError(f"{seconds:.2f} s long: expected at least {MIN_SECONDS:g} s")
    if np.isinf(sound.levels_dbfs).any():
        raise JobError("the sound has samples that are not numbers, or absurdly large: export it again")
    if silent := sound.silence():
        raise JobError(f"the song is silent ({silent}): choose a file with music")
    return seconds


def _check_pictures(container: Any) -> None:
    """Refuse a file with too many or too large covers and videos, which all have to be decoded to open it."""
    videos = container.streams.video
    if len(videos) > _MAX_PICTURES:
        raise JobError(f"{len(videos)} pictures and videos: expected at most {_MAX_PICTURES}; {_SMALLER}")
    for video in videos:
        if video.width * video.height > _MAX_PIXELS:
            raise JobError(
                f"a picture of {video.width} x {video.height}: expected at most 8K (7680 x 4320); {_SMALLER}"
            )


def _check_length(frames: Iterable[Any], max_seconds: float) -> None:
    """Decode frames of sound, and refuse them as soon as they are too long or have too many samples."""
    samples, decoded_s = 0, 0.0
    for sound in frames:
        rate, channels = sound.frame.sample_rate, sound.frame.layout.nb_channels
        if rate > _MAX_RATE_HZ or channels > _MAX_CHANNELS:
            raise JobError(
                f"{channels} channels at {rate} Hz: expected at most {_MAX_CHANNELS} and {_MAX_RATE_HZ} Hz; {_SMALLER}"
            )
        samples += sound.frame.samples * channels
        decoded_s += sound.frame.samples / rate
        if max(sound.time_s, decoded_s - 1) > max_seconds:
            raise JobError(
                f"longer than {max_seconds:g} s, the limit of this server: cut it, and send a part"
            )
        if samples > _MAX_SAMPLES * max_seconds:
            raise JobError(
                f"{channels} channels at {rate} Hz are too many samples for a song of this length: send it as stereo"
            )


def dance(folder: Path) -> None:
    """Dance to the song of a job, and write ``dance.npz`` and the page of the stage into its folder.

    Raises:
        OpenDanceError: if the song cannot be danced to.
    """
    from opendance_hf.formats import opendance

    request, file = read_request(folder), folder / "dance.npz"
    if not file.is_file():
        write_state(folder, State("working", "Listening to the song"))
        opendance.write(dance_to(request, folder / "song", lambda share: _dancing(folder, share)), file)
    write_state(folder, State("working", "Setting the stage", 0.97))
    beats = opendance.read(file).meta.get("music_beats", ())
    try:
        make_page(folder)
    except Exception as error:  # the dance is finished; the page is made when somebody asks for it
        log.error("the page of %s", folder, exc_info=error)
    step = float(np.median(np.diff(beats))) if len(beats) > 1 else 0.0
    write_state(folder, State("done", "", 1.0, 3600 / step if step > 0 else 0.0))


def make_page(folder: Path) -> None:
    """Write the page of the stage of a dance, unless it is there.

    Raises:
        OpenDanceError: if the dance cannot be shown.
    """
    from opendance_hf.apps.app_stage import render_stage

    if not stage_file(folder).is_file():
        render_stage(folder, read_request(folder), folder / "dance.npz")


def _dancing(folder: Path, share: float) -> None:
    write_state(folder, State("working", "Dancing", 0.05 + 0.9 * share))


def dance_to(request: Request, song: Path, progress: Callable[[float], None]) -> Any:
    """Return the dance of a request: a :class:`~opendance_hf.formats.motion.Motion`.

    Energy is a choice among takes: of as many as :data:`ENERGIES` says, the one with the lowest or highest mean joint speed.

    Args:
        request: what is asked.
        song: its file.
        progress: called with the share that is done.
    """
    from opendance_hf.metrics import joint_speed
    from opendance_hf.music import SAMPLE_RATE_60FPS, decode_audio

    dancer = _dancer(request.dancers)
    count, kept = ENERGIES[request.energy]
    end_s = request.end_s
    sound: Any = song
    if request.start_s or end_s is not None:
        samples = decode_audio(song, SAMPLE_RATE_60FPS, request.start_s, end_s)
        sound = {"array": samples, "sampling_rate": SAMPLE_RATE_60FPS}
    beats = None if request.beats is None else [60 * (np.array(request.beats) - request.start_s)]
    options: dict[str, Any] = {} if request.dancers == 1 else {"num_dancers": request.dancers}
    per_code = dancer.model.config.vqvae_config.frames_per_code
    seconds = (request.seconds if end_s is None else end_s) - request.start_s
    steps = count * math.ceil(60 * seconds / per_code)
    streamer = _Progress(steps, progress)
    takes = []
    for take in range(count):
        streamer.seen = take * steps // count
        seed = request.seed + take * _NEXT_TAKE
        (motion,) = dancer([sound], seed=seed, music_beats=beats, streamer=streamer, **options)
        speed = float(np.mean([joint_speed(joints).mean() for joints in motion.joints]))
        takes.append((speed, motion))
    motion = sorted(takes, key=lambda one: one[0])[kept][1]
    return replace(
        motion, meta=motion.meta | {"id": Path(request.name).stem, "song_start_s": request.start_s}
    )


@lru_cache(maxsize=2)
def _dancer(dancers: int) -> Any:
    from opendance_hf.apps.generate import PACKAGED_DANCERS
    from opendance_hf.assets import packaged_weights
    from opendance_hf.dance import Dancer

    return Dancer.from_pretrained(packaged_weights(PACKAGED_DANCERS[dancers]))


@dataclass
class _Progress:
    """Receiver of the codes of a generation, which counts their steps; a take that is danced again counts once."""

    steps: int
    told: Callable[[float], None]
    seen: int = 0

    def put(self, codes: Any) -> None:
        """Take note of one step."""
        self.seen += 1
        if self.seen % _NOTED_CODES == 0:
            self.told(min(self.seen / self.steps, 1.0))

    def end(self) -> None:
        """Do nothing: the next take follows."""


def export(folder: Path, kind: str) -> None:
    """Write the dance of a job as ``exports/KIND.SUFFIX``, or ``exports/KIND.zip`` if it is several files.

    Args:
        folder: of the job.
        kind: a format that is written, or :data:`FILM`.

    Raises:
        OpenDanceError: if the format cannot hold the dance, or needs what is not installed here.
    """
    from opendance_hf.apps import export as exports
    from opendance_hf.apps.generate import write_film
    from opendance_hf.formats import opendance

    request, source, target = read_request(folder), folder / "dance.npz", folder / "exports"
    target.mkdir(exist_ok=True, mode=0o700)
    stem = file_stem(request.name)
    with tempfile.TemporaryDirectory(prefix=".", dir=target) as made:
        if kind == FILM:
            files = [Path(made, f"{stem}.mp4")]
            write_film(opendance.read(source), folder / "song", files[0], request.start_s)
        else:
            out = Path(made, stem + exports.suffix_of(kind))
            files = exports.export(str(source), kind, out, exports.ExportOptions())
        done = files[0]
        if len(files) > 1:
            done = Path(made, f"{kind}.zip")
            with zipfile.ZipFile(done, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in files:
                    archive.write(file, file.name)
        shutil.move(done, target / f"{kind}{done.suffix}")


def file_stem(name: str) -> str:
    """Return the stem of the name of a song as a name for files on any system."""
    kept = "".join(c if c.isalnum() or c in "-_ " else "_" for c in Path(song_name(name)).stem)
    return kept.strip()[:60] or "dance"
