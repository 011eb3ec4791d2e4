"""A licence is one that the Hub knows, or the error names the nearest."""

from __future__ import annotations

import pytest

from opendance_hf.storage.licences import LICENCES, LicenceError, check_licence


@pytest.mark.parametrize("licence", ["cc-by-4.0", "other", "unknown", "mit", "CC0-1.0", " Apache-2.0 "])
def test_identifiers_of_the_hub_are_accepted(licence: str) -> None:
    assert check_licence(licence) == licence.strip().lower()
    assert check_licence(licence) in LICENCES


@pytest.mark.parametrize(
    ("licence", "nearest"),
    [
        ("cc-by", "cc-by-4.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc-by-nc-sa", "cc-by-nc-sa-4.0"),
        ("cc0", "cc0-1.0"),
        ("MIT License", "mit"),
        ("apache2", "apache-2.0"),
        ("gplv3", "gpl-3.0"),
        ("cc-by-4", "cc-by-4.0"),
    ],
)
def test_others_are_refused_with_the_nearest(licence: str, nearest: str) -> None:
    with pytest.raises(LicenceError) as caught:
        check_licence(licence)
    assert repr(licence) in str(caught.value)
    assert f"did you mean {nearest!r}?" in str(caught.value)


@pytest.mark.parametrize("licence", ["", "ours alone"])
def test_what_resembles_none_is_refused(licence: str) -> None:
    with pytest.raises(LicenceError, match="expected an identifier of the Hub") as caught:
        check_licence(licence)
    assert "did you mean" not in str(caught.value)
