"""Music features by plain librosa 0.11 calls: the reference for the fast engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from opendance_hf.music.layout import (
    CHROMA_OCTAVES,
    HOP,
    TEMPOGRAM_LAGS,
    EngineOutput,
    Floats,
    one_hot,
    side_by_side,
)


class Analysis:
    """Analyse a piece of audio with librosa; the mel spectrogram is computed once."""

    def __init__(self, audio: Floats, sample_rate: int) -> None:
        """Take mono audio (samples,) of at least one window."""
        import librosa

        self._audio = audio
        self._rate = sample_rate
        with _without_warnings():
            self._mel = librosa.feature.melspectrogram(y=audio, sr=sample_rate, hop_length=HOP)

    def music(self) -> EngineOutput:
        """Compute the 438 features, for 1 + samples // 512 frames."""
        import librosa

        audio, rate = self._audio, self._rate
        with _without_warnings():
            harmonic, percussive = librosa.effects.hpss(audio)
            mfcc = librosa.feature.mfcc(S=librosa.power_to_db(self._mel, ref=np.max), n_mfcc=20)
            chroma = librosa.feature.chroma_cqt(
                y=harmonic, sr=rate, hop_length=HOP, n_octaves=CHROMA_OCTAVES[rate]
            )
            envelope = librosa.onset.onset_strength(
                y=percussive, sr=rate, hop_length=HOP, aggregate=np.median
            )
            tempogram = librosa.feature.tempogram(
                onset_envelope=envelope, sr=rate, hop_length=HOP, win_length=TEMPOGRAM_LAGS
            )
            tempo, beats = librosa.beat.beat_track(onset_envelope=envelope, sr=rate, hop_length=HOP)
        features = side_by_side(
            mfcc.T,
            librosa.feature.delta(mfcc, width=3).T,
            chroma.T,
            envelope[:, None],
            one_hot(beats, len(envelope)),
            tempogram.T,
        )
        return EngineOutput(features, np.asarray(beats, dtype=np.int32), float(np.max(tempo)))

    def fact(self, start_bpm: float) -> Floats:
        """Compute the 35 features, for 1 + samples // 512 frames."""
        import librosa

        rate = self._rate
        with _without_warnings():
            decibels = librosa.power_to_db(self._mel)
            envelope = librosa.onset.onset_strength(S=decibels, sr=rate, hop_length=HOP)
            peaks = librosa.onset.onset_detect(onset_envelope=envelope, sr=rate, hop_length=HOP)
            _, beats = librosa.beat.beat_track(
                onset_envelope=envelope, sr=rate, hop_length=HOP, start_bpm=start_bpm
            )
            chroma = librosa.feature.chroma_cens(y=self._audio, sr=rate, hop_length=HOP)
        return side_by_side(
            envelope[:, None],
            librosa.feature.mfcc(S=decibels, n_mfcc=20).T,
            chroma.T,
            one_hot(peaks, len(envelope)),
            one_hot(beats, len(envelope)),
        )


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress warnings about documented cases: clips shorter than a CQT filter, and silence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
        warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
        yield
