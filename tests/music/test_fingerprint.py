from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import soxr

from opendance_hf.music.fingerprint import SAME_SONG, SAMPLE_RATE, fingerprint, similarity, song_candidates
from opendance_hf.synthetic.tune import SAMPLE_RATE as TUNE_RATE
from opendance_hf.synthetic.tune import make_tune


def recoded(sound: np.ndarray, codec: str, container: str, bit_rate: int) -> np.ndarray:
    """What is left of 48 kHz sound after a lossy codec."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000, layout="mono", bit_rate=bit_rate)
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        fitted = av.AudioResampler(format=stream.format.name, frame_size=stream.codec_context.frame_size)
        for piece in fitted.resample(frame) + fitted.resample(None):
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as back:
        to_mono = av.AudioResampler(format="flt", layout="mono", rate=48_000)
        return np.concatenate([p.to_ndarray()[0] for f in back.decode(audio=0) for p in to_mono.resample(f)])


def heard(sound: np.ndarray, rate: int = 48_000) -> np.ndarray:
    return soxr.resample(sound, rate, SAMPLE_RATE)


@pytest.fixture(scope="module")
def song() -> np.ndarray:
    return soxr.resample(make_tune(1, 16), TUNE_RATE, 48_000).astype(np.float32)


@pytest.mark.parametrize(
    ("codec", "container", "bit_rate"),
    [("aac", "mp4", 64_000), ("libmp3lame", "mp3", 64_000), ("libopus", "ogg", 48_000)],
)
@pytest.mark.parametrize("speed", [0.97, 1.0, 1.015, 1.03])
def test_a_song_is_known_in_another_codec_cut_and_speed(
    song: np.ndarray, codec: str, container: str, bit_rate: int, speed: float
) -> None:
    part = song[3 * 48_000 : 12 * 48_000]
    other = soxr.resample(part, 48_000 * speed, 48_000).astype(np.float32)
    assert similarity(
        fingerprint(heard(song)), fingerprint(heard(recoded(other, codec, container, bit_rate)))
    ) > (SAME_SONG)


def test_four_seconds_and_another_voice_are_enough(song: np.ndarray) -> None:
    whole, part = fingerprint(heard(song)), song[5 * 48_000 : 9 * 48_000]
    assert similarity(whole, fingerprint(heard(part))) > SAME_SONG
    noise = np.random.default_rng(0).normal(0, 0.1 * part.std(), part.shape)
    assert similarity(fingerprint(heard(part + noise)), whole) > SAME_SONG


def test_songs_of_one_tempo_and_key_are_told_apart() -> None:
    prints = [fingerprint(heard(make_tune(seed, 10, bpm=118, key=3), TUNE_RATE)) for seed in range(10)]
    scores = [similarity(a, b) for i, a in enumerate(prints) for b in prints[:i]]
    assert max(scores) < 0.35


def test_the_index_proposes_what_matches(song: np.ndarray) -> None:
    fast = soxr.resample(song[2 * 48_000 :], 48_000 * 1.03, 48_000)
    others = [fingerprint(heard(make_tune(seed, 8), TUNE_RATE)) for seed in range(2, 8)]
    prints = [fingerprint(heard(song)), *others, fingerprint(heard(fast))]
    assert song_candidates(prints)[0] == (0, 7)


def test_nothing_to_hear_is_like_nothing(song: np.ndarray) -> None:
    whole = fingerprint(heard(song))
    silence = np.zeros(5 * SAMPLE_RATE, np.float32)
    for quiet in (silence, silence[:100], np.full_like(silence, np.nan), np.full_like(silence, 0.5)):
        nothing = fingerprint(quiet)
        assert similarity(whole, nothing) == similarity(nothing, nothing) == 0.0
        assert song_candidates([nothing, whole, nothing]) == []
    assert song_candidates([]) == []
