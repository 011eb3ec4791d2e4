from __future__ import annotations

import numpy as np
import pytest

from opendance_hf.synthetic.music import SAMPLE_RATE, make_music


@pytest.mark.parametrize("seed", range(4))
def test_beats_are_where_it_gets_loud(seed: int) -> None:
    music = make_music(seed, 6.0)
    assert 90 <= music.bpm <= 130
    np.testing.assert_allclose(np.diff(music.beats_s), 60 / music.bpm)
    energy = np.square(music.samples.astype(float))
    width = int(0.04 * SAMPLE_RATE)
    for beat_s in music.beats_s[1:-1]:
        at = int(beat_s * SAMPLE_RATE)
        assert energy[at : at + width].mean() > 1.5 * energy[at - width : at].mean()


def test_it_has_the_length_asked_for_and_depends_on_the_seed_only() -> None:
    music = make_music(5, 3.5)
    assert music.samples.shape == (int(3.5 * SAMPLE_RATE),)
    assert np.abs(music.samples).max() <= 1
    assert music.samples.tobytes() == make_music(5, 3.5).samples.tobytes()
    assert music.samples.tobytes() != make_music(6, 3.5).samples.tobytes()
