"""Feet that rest are put where they rest, and nothing jumps where one contact ends and the next begins."""

from __future__ import annotations

import numpy as np

from opendance_hf.pipeline.stages.contacts import _corrections


def test_a_short_gap_between_two_contacts_is_corrected_no_more_than_they_are() -> None:
    """Two contacts ask for the same 5 cm; so does what is between them."""
    drift = np.zeros((40, 3))
    contact = np.ones(40, bool)
    contact[19:21] = False
    # The first contact drifts away from its place by 5 cm at its end, the second comes back from as far.
    drift[14:26, 0] = 0.05
    drift[26:, 0] = 0.0
    shift, weight = _corrections(drift, contact, blend=8)
    assert np.abs(shift[19:21]).max() <= np.abs(shift[[18, 21]]).max() + 1e-9
    assert (weight <= 1 + 1e-9).all()
    assert (weight[contact] == 1).all()
    np.testing.assert_allclose((drift + shift)[:19], np.tile(np.median(drift[:19], axis=0), (19, 1)))


def test_a_correction_fades_out_where_nothing_follows() -> None:
    path = np.zeros((30, 3))
    path[:10, 2] = np.linspace(0, 0.09, 10)
    contact = np.arange(30) < 10
    shift, weight = _corrections(path, contact, blend=6)
    assert (np.diff(weight[9:17, 0]) < 0).all()
    np.testing.assert_array_equal(weight[16:], 0)
    np.testing.assert_array_equal(shift[16:], 0)
    assert np.abs(np.diff(shift[9:17, 2])).max() < 0.02
