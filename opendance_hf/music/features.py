"""The music features of Bailando (438 numbers a frame) and FACT (35), by librosa, on the motion's frames.

Every feature uses windows of 2,048 samples, 512 apart. Audio at 30,720 Hz therefore gives 60 frames a second,
the rate of the motion, and audio at 3,840 Hz gives 7.5, the rate of Bailando's dance codes.

Sources: Siyao et al., "Bailando", CVPR 2022, and Li et al., "AI Choreographer" (FACT), ICCV 2021; both
describe the music by librosa features of these kinds, and the settings here are those of their released data
preparation. The numbers are those of librosa 0.11. With 0.8.1, which Bailando pinned, the onset envelope
differs (its mel bands reach up to 11,025 Hz at any sample rate, so that half of them are empty at 3,840 Hz),
and with it the tempogram and the beats; the chroma differs a little.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.music.decode import decode_audio

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

HOP: Final = 512
SAMPLE_RATE_60FPS: Final = 60 * HOP
SAMPLE_RATE_7P5FPS: Final = SAMPLE_RATE_60FPS // 8

#: Columns of ``music_features``. ``onset_env`` and ``onset_beat`` are one column each.
BLOCKS: Final[dict[str, slice]] = {
    "mfcc": slice(0, 20),
    "mfcc_delta": slice(20, 40),
    "chroma_cqt": slice(40, 52),
    "onset_env": slice(52, 53),
    "onset_beat": slice(53, 54),
    "tempogram": slice(54, 438),
}
#: Columns of ``music_features_fact``.
FACT_BLOCKS: Final[dict[str, slice]] = {
    "onset_env": slice(0, 1),
    "mfcc": slice(1, 21),
    "chroma_cens": slice(21, 33),
    "onset_peak": slice(33, 34),
    "onset_beat": slice(34, 35),
}

_FPS = 60
_CODE_FRAMES = SAMPLE_RATE_60FPS // SAMPLE_RATE_7P5FPS
# Seven octaves above C1 reach 4.2 kHz, more than the 1.92 kHz of audio at 3,840 Hz; five reach 1.05 kHz.
_CHROMA_OCTAVES = {SAMPLE_RATE_60FPS: 7, SAMPLE_RATE_7P5FPS: 5}
# On less than one window librosa 0.11 fails: the delta lacks frames, the inverse STFT may turn to NaN.
_MIN_SAMPLES = 2048


@dataclass(frozen=True)
class MusicFeatures:
    """The 438 features of one piece of audio.

    Attributes:
        features: (frames, 438), columns as in :data:`BLOCKS`.
        beats: (beats,) frame indices, increasing; where the column ``onset_beat`` is 1.
        bpm: estimated beats per minute; 0 when nothing sounds.
    """

    features: Floats
    beats: Ints
    bpm: float


@dataclass(frozen=True)
class MusicAnnotation:
    """The music of a motion of T frames at 60 FPS, named and shaped like the columns of a dataset row.

    Attributes:
        music_features: (T, 438) at 60 FPS, columns as in :data:`BLOCKS`.
        music_features_7p5fps: (ceil(T/8), 438), the same from audio at 3,840 Hz.
        music_features_fact: (T, 35), columns as in :data:`FACT_BLOCKS`.
        music_beats: (beats,) frames of the motion within [0, T), increasing; the beats of ``music_features``.
        bpm: estimated beats per minute of the 60 FPS features; 0 when nothing sounds.
    """

    music_features: Floats
    music_features_7p5fps: Floats
    music_features_fact: Floats
    music_beats: Ints
    bpm: float


def extract(path: str | PathLike[str], start_s: float, end_s: float, num_frames: int) -> MusicAnnotation:
    """The music of a file between two times, for a motion of exactly ``num_frames`` frames at 60 FPS.

    Args:
        path: an audio or video file.
        start_s: time of the motion's first frame, in seconds; time 0 as in :func:`decode_audio`.
        end_s: time where the motion ends, in seconds.
        num_frames: of the motion, ``round(60 * (end_s - start_s))``.

    Raises:
        FileNotFoundError, AudioError, NoAudioError: see :func:`decode_audio`.
        ValueError: the span is impossible, or ``num_frames`` does not match it.
    """
    if num_frames != round(_FPS * (end_s - start_s)):
        raise ValueError(
            f"num_frames is {num_frames}, but {start_s} s to {end_s} s are "
            f"{round(_FPS * (end_s - start_s))} frames at {_FPS} FPS; resample the motion to {_FPS} FPS first"
        )
    return extract_audio(
        decode_audio(path, SAMPLE_RATE_60FPS, start_s, end_s),
        decode_audio(path, SAMPLE_RATE_7P5FPS, start_s, end_s),
        num_frames,
    )


def extract_audio(
    audio_30720: npt.NDArray[np.floating], audio_3840: npt.NDArray[np.floating], num_frames: int
) -> MusicAnnotation:
    """The same as :func:`extract` for audio already decoded, at 30,720 Hz and at 3,840 Hz.

    Frame t is centred on second t / 60 of the audio. Centred frames are one more than the motion has, so the
    last one is cut. Audio that ends before the motion is continued with silence; audio that outlasts it is
    heard in full (the beat tracker profits from the context) before its features are cut.

    Args:
        audio_30720: (samples,) mono at 30,720 Hz; ``512 * num_frames`` samples last as long as the motion.
        audio_3840: (samples,) the same sound at 3,840 Hz.
        num_frames: T, the frames of the motion at 60 FPS.

    Raises:
        ValueError: the audio is not mono or not finite, or ``num_frames`` is not positive.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    num_codes = -(-num_frames // _CODE_FRAMES)
    audio = _checked(audio_30720, (num_frames - 1) * HOP)
    slow_audio = _checked(audio_3840, (num_codes - 1) * HOP)
    with _short_audio_is_fine():
        mel = _mel_power(audio, SAMPLE_RATE_60FPS)
        full = _music_features(audio, SAMPLE_RATE_60FPS, mel)
        slow = _music_features(slow_audio, SAMPLE_RATE_7P5FPS, _mel_power(slow_audio, SAMPLE_RATE_7P5FPS))
        fact = _fact_features(audio, mel, start_bpm=120.0)
    return MusicAnnotation(
        music_features=full.features[:num_frames],
        music_features_7p5fps=slow.features[:num_codes],
        music_features_fact=fact[:num_frames],
        music_beats=full.beats[full.beats < num_frames],
        bpm=full.bpm,
    )


def music_features(audio: npt.NDArray[np.floating], sample_rate: int = SAMPLE_RATE_60FPS) -> MusicFeatures:
    """The 438 features a frame that Bailando reads.

    The signal is split into a harmonic and a percussive part. From the whole come 20 MFCCs, relative to the
    loudest moment, and their slope over 3 frames; from the harmonic part the chroma of a constant-Q
    transform; from the percussive part the onset envelope (median over the mel bands), and from that the
    beats and the tempogram.

    Digital silence gives zeros, no beats and a tempo of 0. Audio shorter than one window of 2,048 samples is
    continued with silence.

    Args:
        audio: (samples,) mono.
        sample_rate: 30,720 Hz for 60 frames a second, 3,840 Hz for 7.5.

    Returns:
        ``1 + samples // 512`` frames; frame i is centred on sample 512 i.

    Raises:
        ValueError: another sample rate, or audio that is not mono or not finite.
    """
    if sample_rate not in _CHROMA_OCTAVES:
        raise ValueError(f"sample_rate must be 30720 (60 FPS) or 3840 (7.5 FPS), got {sample_rate}")
    signal = _checked(audio)
    with _short_audio_is_fine():
        result = _music_features(signal, sample_rate, _mel_power(signal, sample_rate))
    num_frames = 1 + len(audio) // HOP
    return MusicFeatures(result.features[:num_frames], result.beats[result.beats < num_frames], result.bpm)


def fact_features(audio: npt.NDArray[np.floating], start_bpm: float = 120.0) -> Floats:
    """The 35 features a frame that FACT reads, at 60 FPS; columns as in :data:`FACT_BLOCKS`.

    All of them come from the unseparated signal: the onset envelope is the mean over the mel bands, its peaks
    are librosa's onset events, and the beats are tracked on it. Envelope and beats are thus not those of
    :func:`music_features`, and neither is the first MFCC, which is in absolute decibels here.

    Digital silence gives zeros except for that first MFCC, the level of silence.

    Args:
        audio: (samples,) mono at 30,720 Hz.
        start_bpm: the tempo that the beat tracker expects. FACT's data preparation passes the known tempo of
            each AIST piece; 120 is librosa's guess for unknown music.

    Returns:
        (1 + samples // 512, 35); frame i is centred on sample 512 i.

    Raises:
        ValueError: audio that is not mono or not finite.
    """
    signal = _checked(audio)
    with _short_audio_is_fine():
        result = _fact_features(signal, _mel_power(signal, SAMPLE_RATE_60FPS), start_bpm)
    return result[: 1 + len(audio) // HOP]


def _checked(audio: npt.NDArray[np.floating], min_samples: int = 0) -> Floats:
    """Mono float32 audio, continued with silence to the samples that the analysis needs."""
    signal = np.asarray(audio, dtype=np.float32)
    if signal.ndim != 1:
        raise ValueError(f"audio must be mono (samples,), got shape {signal.shape}; mix the channels first")
    if not np.isfinite(signal).all():
        raise ValueError("audio holds NaN or infinity; decode or convert the file again")
    return np.pad(signal, (0, max(0, max(min_samples, _MIN_SAMPLES) - len(signal))))


@contextmanager
def _short_audio_is_fine() -> Iterator[None]:
    """No warnings of librosa about what is documented here: clips shorter than a CQT filter, and silence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
        warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
        yield


def _mel_power(audio: Floats, sample_rate: int) -> Floats:
    """(128, frames), the spectrogram that the MFCCs of both feature sets and FACT's onset envelope share."""
    import librosa

    mel: Floats = librosa.feature.melspectrogram(y=audio, sr=sample_rate, hop_length=HOP)
    return mel


def _music_features(audio: Floats, sample_rate: int, mel: Floats) -> MusicFeatures:
    import librosa

    harmonic, percussive = librosa.effects.hpss(audio)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel, ref=np.max), n_mfcc=20)
    chroma = librosa.feature.chroma_cqt(
        y=harmonic, sr=sample_rate, hop_length=HOP, n_octaves=_CHROMA_OCTAVES[sample_rate]
    )
    envelope = librosa.onset.onset_strength(y=percussive, sr=sample_rate, hop_length=HOP, aggregate=np.median)
    tempogram = librosa.feature.tempogram(
        onset_envelope=envelope, sr=sample_rate, hop_length=HOP, win_length=384
    )
    tempo, beats = librosa.beat.beat_track(onset_envelope=envelope, sr=sample_rate, hop_length=HOP)
    blocks = (
        mfcc,
        librosa.feature.delta(mfcc, width=3),
        chroma,
        envelope[None],
        _one_hot(beats, len(envelope)),
        tempogram,
    )
    return MusicFeatures(_columns(*blocks), np.asarray(beats, dtype=np.int32), float(np.max(tempo)))


def _fact_features(audio: Floats, mel: Floats, start_bpm: float) -> Floats:
    import librosa

    rate = SAMPLE_RATE_60FPS
    decibels = librosa.power_to_db(mel)
    envelope = librosa.onset.onset_strength(S=decibels, sr=rate, hop_length=HOP)
    peaks = librosa.onset.onset_detect(onset_envelope=envelope, sr=rate, hop_length=HOP)
    _, beats = librosa.beat.beat_track(onset_envelope=envelope, sr=rate, hop_length=HOP, start_bpm=start_bpm)
    return _columns(
        envelope[None],
        librosa.feature.mfcc(S=decibels, n_mfcc=20),
        librosa.feature.chroma_cens(y=audio, sr=rate, hop_length=HOP),
        _one_hot(peaks, len(envelope)),
        _one_hot(beats, len(envelope)),
    )


def _one_hot(frames: npt.NDArray[np.integer], num_frames: int) -> Floats:
    """(1, num_frames), 1 at the given frames."""
    row = np.zeros((1, num_frames), dtype=np.float32)
    row[0, frames] = 1
    return row


def _columns(*blocks: npt.NDArray[np.floating]) -> Floats:
    """Blocks (width, frames) side by side, as (frames, total width)."""
    return np.ascontiguousarray(np.concatenate(blocks).T, dtype=np.float32)
