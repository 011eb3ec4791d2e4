"""The music features of Bailando (438 numbers a frame) and FACT (35), on the motion's frames.

Every feature uses windows of 2,048 samples, 512 apart. Audio at 30,720 Hz therefore gives 60 frames a second,
the rate of the motion, and audio at 3,840 Hz gives 7.5, the rate of Bailando's dance codes.

Sources: Siyao et al., "Bailando", CVPR 2022, and Li et al., "AI Choreographer" (FACT), ICCV 2021; both
describe the music by librosa features of these kinds, and the settings here are those of their released data
preparation.

Three engines compute them:

- ``"fast"``, the default, computes the numbers of librosa 0.11 without librosa.
- ``"librosa"`` calls librosa 0.11, as the data preparations do; it is slower, above all in a new process.
- ``"librosa-0.8.1"`` computes the numbers of librosa 0.8.1 (without librosa), which Bailando pinned: for models
  trained on the features that its authors published. The onset envelope differs most: its mel bands reach up to
  11,025 Hz at any sample rate, so that half of them are empty at 3,840 Hz, and with it beats and tempogram; at
  the ends of a piece the sound is mirrored instead of padded with zeros; chroma has narrower filters. Chroma is
  that of librosa 0.8.1 with resampy 0.3 or later. resampy 0.2.2, the newest when those features were made,
  halves rates by another filter: its chroma differs by up to 0.005 where next to nothing sounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from typing import Final, Protocol, get_args

import numpy as np
import numpy.typing as npt

from opendance_hf.brief import brief_repr
from opendance_hf.music import fast, librosa_engine
from opendance_hf.music.decode import decode_audio
from opendance_hf.music.layout import (
    CHROMA_OCTAVES,
    HOP,
    SAMPLE_RATE_7P5FPS,
    SAMPLE_RATE_60FPS,
    WINDOW,
    Engine,
    EngineOutput,
    Floats,
    Ints,
    MusicFeatures,
)
from opendance_hf.music.sound import AudioError, measure_sound
from opendance_hf.music.tempo import tempo_from_beats

_FPS: Final = 60
_CODE_FRAMES: Final = SAMPLE_RATE_60FPS // SAMPLE_RATE_7P5FPS
# On less than one window librosa 0.11 fails: the delta lacks frames, the inverse STFT may turn to NaN.
_MIN_SAMPLES: Final = WINDOW
_TPAMI_DIM: Final = 55
#: The shortest audio that :func:`annotate_whole` accepts: shorter audio holds no beats.
MIN_SECONDS: Final = 1.0
# Unscaled integer samples are accepted; squares of larger values overflow.
_LOUDEST: Final = 1e6


@dataclass(frozen=True)
class MusicAnnotation:
    """Music features of a motion of T frames at 60 FPS, named and shaped like the columns of a dataset row.

    Attributes:
        music_features: (T, 438) at 60 FPS, columns as in :data:`BLOCKS`.
        music_features_7p5fps: (ceil(T/8), 438), the same from audio at 3,840 Hz.
        music_features_fact: (T, 35), columns as in :data:`FACT_BLOCKS`.
        music_beats: (beats,) frames of the motion within [0, T), increasing; the beats of ``music_features``.
        bpm: beats per minute, estimated from the beats at 60 FPS; 0 when nothing sounds.
    """

    __repr__ = brief_repr

    music_features: Floats
    music_features_7p5fps: Floats
    music_features_fact: Floats
    music_beats: Ints
    bpm: float


def annotate_whole(
    path: str | PathLike[str], *, start_s: float = 0.0, end_s: float | None = None, engine: Engine = "fast"
) -> MusicAnnotation:
    """Compute :func:`opendance_hf.music.song.annotate_music` with all sound in memory, 3 MB a second."""
    check_engine(engine)
    audio = decode_audio(path, SAMPLE_RATE_60FPS, start_s, end_s)
    seconds = len(audio) / SAMPLE_RATE_60FPS
    if not len(audio):
        raise AudioError(f"{path}: no sound after {start_s} s; start earlier")
    if seconds < MIN_SECONDS:
        raise AudioError(
            f"{path}: {seconds:.2f} s of sound are too short for beats; take {MIN_SECONDS:g} s at least"
        )
    if silent := measure_sound(path).silence(start_s, math.inf if end_s is None else end_s):
        raise AudioError(
            f"{path}: no music: the sound is silent ({silent}); use a file, or a span, with music"
        )
    slow = decode_audio(path, SAMPLE_RATE_7P5FPS, start_s, end_s)
    try:
        return extract_audio(audio, slow, round(len(audio) / HOP), engine=engine)
    except ValueError as error:
        raise AudioError(f"{path}: {error}") from None


def extract(
    path: str | PathLike[str], start_s: float, end_s: float, num_frames: int, *, engine: Engine = "fast"
) -> MusicAnnotation:
    """Compute the music features between two times of a file, for a motion of ``num_frames`` frames at 60 FPS.

    Args:
        path: an audio or video file.
        start_s: time of the motion's first frame, in seconds; time 0 as in :func:`decode_audio`.
        end_s: time where the motion ends, in seconds.
        num_frames: of the motion, ``round(60 * (end_s - start_s))``.
        engine: see the top of this module.

    Raises:
        FileNotFoundError, AudioError, NoAudioError: see :func:`decode_audio`.
        ValueError: the span is impossible, ``num_frames`` does not match it, or the engine is unknown.
    """
    check_engine(engine)
    if num_frames != round(_FPS * (end_s - start_s)):
        raise ValueError(
            f"num_frames is {num_frames}, but {start_s} s to {end_s} s are "
            f"{round(_FPS * (end_s - start_s))} frames at {_FPS} FPS; resample the motion to {_FPS} FPS first"
        )
    return extract_audio(
        decode_audio(path, SAMPLE_RATE_60FPS, start_s, end_s),
        decode_audio(path, SAMPLE_RATE_7P5FPS, start_s, end_s),
        num_frames,
        engine=engine,
    )


def extract_audio(
    audio_30720: npt.NDArray[np.floating],
    audio_3840: npt.NDArray[np.floating],
    num_frames: int,
    *,
    engine: Engine = "fast",
) -> MusicAnnotation:
    """Compute what :func:`extract` does from decoded audio, at 30,720 Hz and at 3,840 Hz.

    Frame t is centred on second t / 60 of the audio. Centred frames are one more than the motion has, so the
    last one is cut. Audio that ends before the motion is padded with silence. Longer audio is analysed in full, for
    the context of the beat tracker, before its features are cut.

    Args:
        audio_30720: (samples,) mono at 30,720 Hz; ``512 * num_frames`` samples last as long as the motion.
        audio_3840: (samples,) the same sound at 3,840 Hz.
        num_frames: T, the frames of the motion at 60 FPS.
        engine: see the top of this module.

    Raises:
        ValueError: the audio is not mono or not finite, ``num_frames`` is not positive, or the engine unknown.
    """
    check_engine(engine)
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    num_codes = -(-num_frames // _CODE_FRAMES)
    audio = _padded(audio_30720, (num_frames - 1) * HOP)
    slow_audio = _padded(audio_3840, (num_codes - 1) * HOP)
    analysis = _analysis(engine, audio, SAMPLE_RATE_60FPS)
    full = analysis.music()
    fact = analysis.fact(start_bpm=120.0)
    slow = _analysis(engine, slow_audio, SAMPLE_RATE_7P5FPS).music()
    return MusicAnnotation(
        music_features=full.features[:num_frames],
        music_features_7p5fps=slow.features[:num_codes],
        music_features_fact=fact[:num_frames],
        music_beats=full.beats[full.beats < num_frames],
        bpm=_bpm(full, SAMPLE_RATE_60FPS),
    )


def music_features(
    audio: npt.NDArray[np.floating], sample_rate: int = SAMPLE_RATE_60FPS, *, engine: Engine = "fast"
) -> MusicFeatures:
    """Compute the 438 features per frame that Bailando reads.

    The signal is split into a harmonic and a percussive part. From the whole come 20 MFCCs, relative to the
    loudest moment, and their slope over 3 frames; from the harmonic part the chroma of a constant-Q
    transform; from the percussive part the onset envelope (median over the mel bands), and from that the
    beats and the tempogram.

    Digital silence gives zeros, no beats and a tempo of 0. Audio shorter than one window of 2,048 samples is
    padded with silence.

    Args:
        audio: (samples,) mono.
        sample_rate: 30,720 Hz for 60 frames a second, 3,840 Hz for 7.5.
        engine: see the top of this module.

    Returns:
        ``1 + samples // 512`` frames; frame i is centred on sample 512 i.

    Raises:
        ValueError: another sample rate, an unknown engine, or audio that is not mono or not finite.
    """
    check_engine(engine)
    if sample_rate not in CHROMA_OCTAVES:
        raise ValueError(f"sample_rate must be 30720 (60 FPS) or 3840 (7.5 FPS), got {sample_rate}")
    result = _analysis(engine, _padded(audio), sample_rate).music()
    num_frames = 1 + len(audio) // HOP
    return MusicFeatures(
        features=result.features[:num_frames],
        beats=result.beats[result.beats < num_frames],
        bpm=_bpm(result, sample_rate),
    )


def tpami_features(music_features: Floats) -> Floats:
    """Return the 55 features per frame of Bailando++'s journal version (TPAMI): the first 55 of the 438.

    They are the MFCCs, their slope, the chroma, the onset envelope, the beats, and one column of the tempogram.
    That column has lag 0, where the normalised autocorrelation is 1. It tells only that the audio is not silent within
    3.2 s (at 60 FPS).

    Args:
        music_features: (frames, 438) at 60 or 7.5 FPS.

    Returns:
        (frames, 55), a view.
    """
    return music_features[:, :_TPAMI_DIM]


def fact_features(
    audio: npt.NDArray[np.floating], start_bpm: float = 120.0, *, engine: Engine = "fast"
) -> Floats:
    """Compute the 35 features per frame that FACT reads, at 60 FPS; columns as in :data:`FACT_BLOCKS`.

    All of them come from the unseparated signal: the onset envelope is the mean over the mel bands, its peaks
    are librosa's onset events, and the beats are tracked on it. Envelope and beats are thus not those of
    :func:`music_features`, and neither is the first MFCC, which is in absolute decibels here.

    Digital silence gives zeros except for that first MFCC, the level of silence.

    Args:
        audio: (samples,) mono at 30,720 Hz.
        start_bpm: the tempo that the beat tracker expects. FACT's data preparation passes the known tempo of
            each AIST piece; 120 is librosa's guess for unknown music.
        engine: see the top of this module.

    Returns:
        (1 + samples // 512, 35); frame i is centred on sample 512 i.

    Raises:
        ValueError: audio that is not mono or not finite, a ``start_bpm`` outside (0, 1000), or an unknown
            engine.
    """
    check_engine(engine)
    if not 0 < start_bpm < 1000:
        raise ValueError(f"start_bpm must be a tempo between 0 and 1000, got {start_bpm}")
    result = _analysis(engine, _padded(audio), SAMPLE_RATE_60FPS).fact(start_bpm)
    return result[: 1 + len(audio) // HOP]


def _padded(audio: npt.NDArray[np.floating], min_samples: int = 0) -> Floats:
    """Return checked audio, padded with silence to the samples that the analysis needs."""
    signal = checked(audio)
    return np.pad(signal, (0, max(0, max(min_samples, _MIN_SAMPLES) - len(signal))))


def checked(audio: npt.NDArray[np.floating]) -> Floats:
    """Return mono audio as float32.

    Raises:
        ValueError: for audio that is not mono, not finite, or absurdly loud.
    """
    signal = np.asarray(audio, dtype=np.float32)
    if signal.ndim != 1:
        raise ValueError(f"audio must be mono (samples,), got shape {signal.shape}; mix the channels first")
    if not np.isfinite(signal).all():
        raise ValueError("audio holds NaN or infinity; decode or convert the file again")
    if len(signal) and np.abs(signal).max() > _LOUDEST:
        raise ValueError(f"audio reaches {np.abs(signal).max():.3g}, where full scale is 1; scale it down")
    return signal


class _Analysis(Protocol):
    def music(self) -> EngineOutput: ...

    def fact(self, start_bpm: float) -> Floats: ...


def _analysis(engine: Engine, audio: Floats, sample_rate: int) -> _Analysis:
    if engine == "librosa":
        return librosa_engine.Analysis(audio, sample_rate)
    return fast.Analysis(audio, sample_rate, like_0_8_1=engine == "librosa-0.8.1")


def _bpm(output: EngineOutput, sample_rate: int) -> float:
    return refined_bpm(output.beats, output.tempogram_bpm, sample_rate)


def refined_bpm(beats: Ints, tempogram_bpm: float, sample_rate: int) -> float:
    """Return the tempo of beats (frames) that were tracked with the tempo of a tempogram, in beats per minute."""
    return tempo_from_beats(beats, sample_rate / HOP, tempogram_bpm)


def check_engine(engine: str) -> None:
    """Check the name of an engine.

    Raises:
        ValueError: if it is unknown.
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
