"""Songs of known beats, and scores of the beats found in them, for :mod:`benchmarks.tempo`."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from opendance_hf.music import SAMPLE_RATE_60FPS, decode_audio
from opendance_hf.synthetic.music import SAMPLE_RATE, Difficulty, make_music, random_hits

Audio = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

#: Kinds of synthesised songs.
KINDS: Final = {
    "plain": Difficulty(),
    "swing": Difficulty(swing=0.65),
    "loud off-beat hats": Difficulty(offbeat_hats=0.9),
    "the same, faint drums": Difficulty(offbeat_hats=1.0, drums=0.3),
    "no drums": Difficulty(drums=0.0),
    "tempo drifts by 4%": Difficulty(drift=0.04),
    "soft start of 10 s": Difficulty(soft_start_s=10),
    "67 to 98 bpm": Difficulty(tempo=0.75),
    "126 to 182 bpm": Difficulty(tempo=1.4),
    "swing, hats, drift, soft": Difficulty(
        swing=0.6, offbeat_hats=0.6, drift=0.03, soft_start_s=6, drums=0.5
    ),
}
NO_BEAT: Final = "no beat (random hits)"
SECONDS: Final = 30.0
#: Lag of the envelope behind synthesised drums: what exceeds it lies between the notes and the sound of a song.
ENVELOPE_LAG_MS: Final = 19.0
#: Beats before this time are left out, as is usual for beat trackers.
_FROM_S: Final = 5.0
_RIGHT_F: Final = 0.9


@dataclass(frozen=True)
class Song:
    """Mono ``audio`` at 30,720 Hz, its tempo, and beats, index of the first downbeat and notes (seconds) where known."""

    name: str
    bpm: float
    audio: Audio
    beats_s: Doubles | None = None
    downbeat: int = 0
    notes_s: Doubles | None = None


def synthetic_songs(seeds: range, difficulty: Difficulty, longest_cut_s: float = 2.5) -> Iterator[Song]:
    """Yield pieces of 30 s, without a seeded part of their beginning, so that they start anywhere in a bar."""
    for seed in seeds:
        music = make_music(seed, SECONDS, difficulty)
        cut = round(np.random.default_rng([seed, 3]).uniform(0, longest_cut_s) * SAMPLE_RATE)
        times = music.beats_s - cut / SAMPLE_RATE
        kept = times >= 0
        first = -int((~kept).sum()) % 4
        yield Song(f"seed {seed}", music.bpm, _resampled(music.samples[cut:]), times[kept], first)


def songs_without_beat(seeds: range) -> Iterator[Song]:
    """Yield drums hit at random times."""
    for seed in seeds:
        yield Song(f"seed {seed}", 0.0, _resampled(random_hits(seed, SECONDS)), np.zeros(0))


def listed_songs(folder: Path) -> Iterator[Song]:
    """Yield the audio files whose tempo is listed in a text file called ``LICENSE...``."""
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    for listing in (path for name, path in sorted(files.items()) if name.startswith("LICENSE")):
        for name, bpm in re.findall(r"^\s*(\S+\.\w+)\s+([\d.]+) bpm\b", listing.read_text(), re.MULTILINE):
            if name in files:
                yield Song(name, float(bpm), decode_audio(files[name], SAMPLE_RATE_60FPS))


def songs_with_notes(folder: Path) -> Iterator[Song]:
    """Yield the sum of the tracks of every folder that holds a ``notes.mid`` of constant tempo.

    Beats are counted from time 0 of the notes, bars of four likewise.
    """
    for notes in sorted(folder.rglob("notes.mid")):
        # Set-tempo events: microseconds per beat in three bytes.
        events = re.findall(rb"\xff\x51\x03(...)", notes.read_bytes(), re.DOTALL)
        tempi = {int.from_bytes(event, "big") for event in events}
        tracks = [decode_audio(path, SAMPLE_RATE_60FPS) for path in sorted(notes.parent.glob("*.ogg"))]
        if len(tempi) != 1 or not tracks:
            print(f"skipped {notes.parent}: {len(tempi)} tempi, {len(tracks)} tracks")
            continue
        mix = np.zeros(max(map(len, tracks)), np.float32)
        for track in tracks:
            mix[: len(track)] += track
        beat_s = tempi.pop() / 1e6
        beats_s = np.arange(0, len(mix) / SAMPLE_RATE_60FPS, beat_s)
        yield Song(notes.parent.name, 60 / beat_s, mix, beats_s, notes_s=beat_s * note_beats(notes))


def note_beats(path: Path) -> Doubles:
    """Return the times of the notes of a MIDI file, in beats from its start, sorted and without repetition."""
    data = path.read_bytes()
    division = struct.unpack(">H", data[12:14])[0]
    times: set[float] = set()
    at = 14
    while at < len(data):
        end = at + 8 + struct.unpack(">I", data[at + 4 : at + 8])[0]
        at, tick, status = at + 8, 0, 0
        while at < end:
            delta, at = _number(data, at)
            tick += delta
            if data[at] & 0x80:
                status, at = data[at], at + 1
            if status >= 0xF0:  # text, tempo and the like: a kind for 0xFF, then a length
                length, at = _number(data, at + (status == 0xFF))
                at += length
                continue
            if status & 0xF0 == 0x90 and data[at + 1]:
                times.add(tick / division)
            at += 1 if status & 0xE0 == 0xC0 else 2
    return np.array(sorted(times))


def note_lag_ms(envelope: Doubles, notes_s: Doubles) -> float:
    """Return how long after the notes the onset envelope (60 FPS) is highest on average, between -100 and 100 ms."""
    lags_s = np.arange(-0.1, 0.1, 0.001)
    heights = [np.interp(notes_s + lag, np.arange(len(envelope)) / 60, envelope).mean() for lag in lags_s]
    return round(1000 * float(lags_s[int(np.argmax(heights))]))


def scores(found_s: Doubles, downbeat: int, song: Song) -> dict[str, Any]:
    """Return F-measures, error in ms (mean, deviation) and phase in beats of found beats, from 5 s on."""
    assert song.beats_s is not None
    known = song.beats_s[song.beats_s >= _FROM_S]
    found = found_s[found_s >= _FROM_S]
    bars, found_bars = (
        times[times >= _FROM_S] for times in (song.beats_s[song.downbeat :: 4], found_s[downbeat::4])
    )
    result: dict[str, Any] = {
        "f_35ms": f_measure(found, known, 0.035),
        "f_70ms": f_measure(found, known, 0.07),
        "f_bars": f_measure(found_bars, bars, 0.07),
    }
    if not len(found):
        return result | {"error_ms": None, "deviation_ms": None, "phase": None}
    errors = found - known[np.abs(found[:, None] - known).argmin(axis=1)]
    near = 1000 * errors[np.abs(errors) <= 0.07]
    phase = np.interp(found, known, np.arange(len(known)))
    return result | {
        "error_ms": round(float(near.mean()), 2) if len(near) else None,
        "deviation_ms": round(float(near.std()), 2) if len(near) else None,
        "phase": round(float(np.angle(np.exp(2j * np.pi * phase).mean()) / (2 * np.pi)), 3),
    }


def f_measure(found: Doubles, known: Doubles, tolerance_s: float) -> float:
    """Return the F-measure of found times, each of which may match one known time."""
    if not len(found) or not len(known):
        return 0.0
    nearest = np.abs(known[:, None] - found).argmin(axis=1)
    hits = np.unique(nearest[np.abs(found[nearest] - known) <= tolerance_s])
    return round(2 * len(hits) / (len(found) + len(known)), 4)


def beat_rows(group: str, pieces: list[dict[str, Any]]) -> list[str]:
    """Return two rows of a Markdown table, of tracked beats and of the grid."""
    rows = []
    for name, title in (("tracked", "tracked"), ("grid", "`find_beats`")):
        found = [piece["scores"][name] for piece in pieces]
        levels = [piece["levels"][name] for piece in pieces]
        means = [f"{np.mean([one[key] for one in found]):.3f}" for key in ("f_35ms", "f_70ms", "f_bars")]
        errors = [
            f"{np.mean(values):.1f}"
            if (values := [one[key] for one in found if one[key] is not None])
            else "-"
            for key in ("error_ms", "deviation_ms")
        ]
        half = sum(
            level == "right" and one["phase"] is not None and abs(one["phase"]) > 0.25
            for one, level in zip(found, levels, strict=True)
        )
        counts = " | ".join(str(levels.count(level)) for level in ("right", "octave", "other", "wrong"))
        label = f"{group} | {len(pieces)}" if name == "tracked" else " | "
        rows.append(
            f"| {label} | {title} | {counts} | {half} | {means[0]} | {means[1]} | {errors[0]} ± {errors[1]} | {means[2]} |"
        )
    return rows


BEAT_HEADER: Final = (
    "| music | N | beats | tempo right | half, double | 2/3, 3/2 and others | wrong | off beat | F 35 ms | F 70 ms | "
    "error, ms | F of downbeats |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def confidence_rows(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return a Markdown table of the confidence: how many beats of each class are right."""
    rows = ["| confidence | songs | right (F at 70 ms of 0.9 or more) |", "|---|---|---|"]
    pieces = [piece for found in groups.values() for piece in found]
    for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01)):
        chosen = [piece for piece in pieces if low <= piece["confidence"] < high]
        right = sum(piece["scores"]["grid"]["f_70ms"] >= _RIGHT_F for piece in chosen)
        rows.append(f"| {low} to {min(high, 1)} | {len(chosen)} | {right} |")
    return rows


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length, seven bits a byte; return it and where the next thing begins."""
    value = 0
    while True:
        value = value << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def _resampled(samples: npt.NDArray[np.floating]) -> Audio:
    common = gcd(SAMPLE_RATE, SAMPLE_RATE_60FPS)
    return resample_poly(samples, SAMPLE_RATE_60FPS // common, SAMPLE_RATE // common).astype(np.float32)
