"""Sound of odd and damaged files: restarted clocks, gaps, silence, channels in opposite phase, damaged packets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.cases.make_media import RATE, damage, join, song, write_media
from opendance_hf.music import AudioError, annotate_music, decode_audio
from opendance_hf.music import sound as sound_module
from opendance_hf.music.sound import measure_sound, mono_weights

PCM = ("", "pcm_s16le")


def wav(path: Path, sound: np.ndarray, layout: str = "") -> Path:
    return write_media(path, (), sound, codecs=PCM, layout=layout)


def gap_ts(path: Path, gap_s: float) -> Path:
    """Two seconds of sound, and two more after a gap in the time stamps."""
    parts = [
        write_media(
            path.with_suffix(f".{k}.ts"), (), song(2.0), codecs=("", "aac"), options={"start_s": start_s}
        )
        for k, start_s in enumerate((0.0, 2.0 + gap_s))
    ]
    return join(path, *parts)


@pytest.mark.parametrize("parts", [2, 3])
def test_a_clock_that_restarts_is_refused(tmp_path: Path, parts: int) -> None:
    part = write_media(tmp_path / "a.ts", (), song(2.0), codecs=("", "aac"))
    for read in (decode_audio, measure_sound):
        with pytest.raises(AudioError, match=r"joined\.ts: the clock restarts after 2\.\d s"):
            read(join(tmp_path / "joined.ts", *[part] * parts), *([RATE] if read is decode_audio else []))
    with pytest.raises(AudioError, match="the clock restarts"):
        decode_audio(tmp_path / "joined.ts", RATE, 0.0, 0.5)


def test_a_clock_that_wraps_does_not_restart(tmp_path: Path) -> None:
    """33-bit time stamps of MPEG-TS begin again after 95,443.7 s."""
    path = write_media(tmp_path / "wrap.ts", (), song(4.0), codecs=("", "aac"), options={"start_s": 95_440.0})
    plain = write_media(tmp_path / "plain.ts", (), song(4.0), codecs=("", "aac"))
    found, expected = decode_audio(path, RATE), decode_audio(plain, RATE)
    assert abs(len(found) - len(expected)) <= 1
    np.testing.assert_allclose(found[: len(expected)], expected[: len(found)], atol=1e-6)


def test_gaps_of_hours_are_refused_and_gaps_of_seconds_are_silence(tmp_path: Path) -> None:
    with pytest.raises(
        AudioError, match=r"time stamps jump ahead by (19998|20000) s after 2\.\d s \(at most 60 s allowed\)"
    ):
        decode_audio(gap_ts(tmp_path / "hours.ts", 20_000.0), RATE)
    short = gap_ts(tmp_path / "short.ts", 3.0)
    ((start_s, end_s),) = measure_sound(short).gaps
    assert (start_s, end_s) == (pytest.approx(2.0, abs=0.06), pytest.approx(5.0, abs=0.06))
    audio = decode_audio(short, RATE)
    assert not audio[round(2.1 * RATE) : round(4.9 * RATE)].any()
    assert np.abs(audio[round(5.1 * RATE) :]).max() > 0.2


@pytest.mark.parametrize("seconds", [0.2, 3.0])
def test_channels_that_cannot_be_mixed_are_refused(
    tmp_path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged AAC may state such a layout, which no container can be made to state."""
    path = wav(tmp_path / "wide.wav", np.stack([song(seconds)] * 2))
    monkeypatch.setattr(sound_module, "mono_weights", lambda _: mono_weights("WL+WR"))
    with pytest.raises(AudioError, match=r"wide\.wav: cannot be decoded as audio"):
        measure_sound(path)


def test_sound_that_begins_hours_after_the_picture_is_refused(tmp_path: Path) -> None:
    images = np.zeros((30, 32, 32, 3), np.uint8)
    path = write_media(tmp_path / "late.mkv", images, song(1.0), options={"sound_start_s": 18_000.0})
    with pytest.raises(
        AudioError, match=r"late\.mkv: the sound begins 18000 s after the picture \(at most 3600 s allowed\)"
    ):
        decode_audio(path, RATE)
    late = write_media(tmp_path / "soon.mkv", images, song(1.0), options={"sound_start_s": 30.0})
    audio = decode_audio(late, RATE)
    assert len(audio) == pytest.approx(31 * RATE, abs=0.1 * RATE)
    assert not audio[: 29 * RATE].any()


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("silence", np.zeros(3 * RATE)),
        ("dither", np.random.default_rng(0).uniform(-1, 1, 3 * RATE) / 32768),
        ("offset", np.full(3 * RATE, 0.4)),
        ("clicks", np.where(np.arange(3 * RATE) % RATE == 700, 0.9, 0.0)),
    ],
)
def test_silence_is_not_music(tmp_path: Path, name: str, sound: np.ndarray) -> None:
    path = wav(tmp_path / f"{name}.wav", sound)
    level = measure_sound(path).silence()
    assert "dBFS" in level
    with pytest.raises(AudioError, match=r"no music: the sound is silent \(-\d+\.\d dBFS"):
        annotate_music(path)


def test_quiet_music_is_music(tmp_path: Path) -> None:
    assert measure_sound(wav(tmp_path / "quiet.wav", song(3.0, level=0.02))).silence() == ""


def test_times_with_music_are_found(tmp_path: Path) -> None:
    quiet = np.zeros(RATE * 4, np.float32)
    path = wav(
        tmp_path / "a.wav", np.concatenate([quiet, song(4.0), quiet[:RATE], song(4.0), quiet, song(2.0)])
    )
    sound = measure_sound(path)
    ((first_s, second_s), (third_s, last_s)) = sound.music(2.0, 19.0)
    assert (first_s, second_s, third_s) == pytest.approx((4.0, 13.0, 17.0), abs=0.06)
    assert last_s == np.inf, "no silence at the end"
    assert sound.music(5.0, 19.0) == ((0.0, np.inf),)
    assert sound.silence(0.0, 3.9)
    assert not sound.silence(0.0, 6.0)


def stereo_like_music(seconds: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """A middle and sides as in recordings: the sides have a quarter of the power and other notes."""
    noise = np.random.default_rng(0).normal(0, 0.03, (2, round(seconds * RATE))).astype(np.float32)
    return song(seconds) + noise[0], 0.4 * np.roll(song(seconds), RATE // 5) + 0.5 * noise[1]


@pytest.mark.parametrize("kind", ["opposite", "inverted", "half", "treble", "5.1"])
def test_channels_that_cancel_keep_their_music(tmp_path: Path, kind: str) -> None:
    middle, side = stereo_like_music()
    half = len(middle) // 2
    treble = np.where(np.arange(len(middle)) % 2, 0.6, -0.6).astype(np.float32) * np.abs(middle)
    channels = {
        "opposite": [middle, -middle],
        "inverted": [middle + side, -(middle - side)],
        "half": [middle, np.concatenate([middle[:half], -middle[half:]])],
        "treble": [middle + treble, middle - treble],
        "5.1": [middle, -middle, 0.01 * side, 0 * side, 0.1 * side, 0.1 * side],
    }[kind]
    path = wav(tmp_path / "a.wav", np.stack(channels) / 2, "5.1" if kind == "5.1" else "")
    (channel,) = measure_sound(path).channels.values()
    assert channel in (0, 1)
    one = wav(tmp_path / "one.wav", channels[channel] / 2)
    found, expected = decode_audio(path, 30_720), decode_audio(one, 30_720)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(decode_audio(path, 30_720, 1.0, 2.0), found[30_720 : 2 * 30_720])


@pytest.mark.parametrize("kind", ["wide", "left", "unrelated"])
def test_ordinary_stereo_is_mixed(tmp_path: Path, kind: str) -> None:
    middle, side = stereo_like_music()
    left, right = {
        "wide": (middle + side, middle - side),
        "left": (middle, 0 * middle),
        "unrelated": (middle, side),
    }[kind]
    path = wav(tmp_path / "a.wav", np.stack([left, right]) / 2)
    assert measure_sound(path).channels == {}
    weights = mono_weights("stereo")
    mixed = (weights[0] * left + weights[1] * right) / 2
    np.testing.assert_allclose(decode_audio(path, RATE), mixed, atol=1e-4)


def test_eight_channels_are_read(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.m4a", (), np.stack([song(2.0)] * 8) / 8, layout="7.1")
    assert measure_sound(path).silence() == ""


@pytest.mark.parametrize("suffix", ["m4a", "mp3"])
def test_a_damaged_packet_is_a_short_gap_and_the_rest_stays_in_time(tmp_path: Path, suffix: str) -> None:
    codec = {"m4a": "aac", "mp3": "libmp3lame"}[suffix]
    path = write_media(tmp_path / f"a.{suffix}", (), song(4.0), codecs=("", codec))
    whole = decode_audio(path, RATE)
    found = decode_audio(damage(path, "audio", 80), RATE)
    ((start_s, end_s),) = measure_sound(path).gaps
    assert 0.02 < end_s - start_s < 0.06
    if suffix == "mp3":  # its time stamps are counted packets, so the rest comes a little early
        assert 0 <= len(whole) - len(found) < 0.06 * RATE
        return
    assert len(found) == len(whole)
    np.testing.assert_array_equal(
        found[: round((start_s - 0.03) * RATE)], whole[: round((start_s - 0.03) * RATE)]
    )
    late = round((end_s + 0.1) * RATE)
    np.testing.assert_allclose(found[late:], whole[late:], atol=2e-3)


def test_junk_in_an_mp3_and_a_tag_behind_it_cost_little(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp3", (), song(6.0), codecs=("", "libmp3lame"))
    data, junk = path.read_bytes(), np.random.default_rng(0).bytes(700)
    middle = len(data) // 2
    (tmp_path / "junk.mp3").write_bytes(data[:middle] + junk + data[middle + 700 :])
    (tmp_path / "tag.mp3").write_bytes(data + b"APETAGEX" + junk[:200])
    for name in ("junk.mp3", "tag.mp3"):
        sound = measure_sound(tmp_path / name)
        assert np.sum(sound.ends_s - sound.starts_s) > 5.4
        assert sum(end_s - start_s for start_s, end_s in sound.gaps) < 0.3
        assert len(annotate_music(tmp_path / name).music_beats) >= 8


def test_mostly_damaged_sound_is_refused(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.m4a", (), song(2.0))
    for number in range(20, 70):
        damage(path, "audio", number)
    with pytest.raises(AudioError, match=r"a\.m4a: the sound is mostly damaged: \d+ of \d+ packets"):
        decode_audio(path, RATE)


def test_a_file_that_changes_is_measured_again(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", song(2.0))
    assert measure_sound(path).ends_s[-1] == pytest.approx(2.0)
    wav(path, song(3.0))
    assert measure_sound(path).ends_s[-1] == pytest.approx(3.0)
