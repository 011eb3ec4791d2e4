"""Bailando's 438 music features: our engine against plain librosa calls, on the same sound in one process."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from benchmarks.timing import cold_seconds, seconds
from opendance_hf import music
from opendance_hf.synthetic.music import SAMPLE_RATE, make_music

SECONDS = 12
REPEATS = 7
RATES = {"60fps": music.SAMPLE_RATE_60FPS, "7p5fps": music.SAMPLE_RATE_7P5FPS}


def song(rate: int) -> np.ndarray:
    """(samples,) float32, twelve seconds of drums, bass and chords."""
    common = np.gcd(rate, SAMPLE_RATE)
    sound = make_music(seed=0, duration_s=SECONDS).samples
    return resample_poly(sound, rate // common, SAMPLE_RATE // common).astype(np.float32)


def plain_librosa(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """(frames, 438) by one librosa call a feature, as someone who follows Bailando's preparation would."""
    import librosa

    mel = librosa.feature.melspectrogram(y=audio, sr=sample_rate)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel, ref=np.max))
    delta = librosa.feature.delta(mfcc, width=3)
    harmonic, percussive = librosa.effects.hpss(audio)
    octaves = 7 if sample_rate == 30720 else 5
    chroma = librosa.feature.chroma_cqt(y=harmonic, sr=sample_rate, n_octaves=octaves)
    envelope = librosa.onset.onset_strength(y=percussive, sr=sample_rate, aggregate=np.median)
    tempogram = librosa.feature.tempogram(onset_envelope=envelope, sr=sample_rate)
    _, beats = librosa.beat.beat_track(onset_envelope=envelope, sr=sample_rate)
    one_hot = np.zeros(len(envelope))
    one_hot[beats] = 1
    return np.vstack([mfcc, delta, chroma, envelope, one_hot, tempogram]).T


def compare(rate: int) -> dict[str, Any]:
    audio = song(rate)

    def ours() -> np.ndarray:
        return music.music_features(audio, rate).features

    def reference() -> np.ndarray:
        return plain_librosa(audio, rate)

    found, expected = ours(), reference()
    ours_s, reference_s = seconds(ours, reference, repeats=REPEATS)
    noise = (
        f"import numpy as np; audio = np.random.RandomState(0).randn({SECONDS * rate}).astype(np.float32)\n"
    )
    program = f"from opendance_hf.music import music_features; music_features(audio, {rate})"
    plain_program = f"{inspect.getsource(plain_librosa)}\nplain_librosa(audio, {rate})"
    return {
        "ratio": reference_s / ours_s,
        "ours_s": ours_s,
        "reference_s": reference_s,
        "cold_s": cold_seconds(noise + program),
        "cold_reference_s": cold_seconds(noise + plain_program),
        "max_error_by_block": {
            name: float(np.abs(found - expected)[:, columns].max() / np.abs(expected[:, columns]).max())
            for name, columns in music.BLOCKS.items()
        },
    }


def run() -> dict[str, Any]:
    return {
        "what": f"the 438 features of {SECONDS} s of synthesised music; reference: one librosa 0.11 call a feature, "
        "in the order of Bailando's data preparation; ours uses two threads",
        **compare(RATES["60fps"]),
        "7p5fps": compare(RATES["7p5fps"]),
    }
