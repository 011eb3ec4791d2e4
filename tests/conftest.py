"""Fixtures of all tests. Sets the Hugging Face environment before any test module imports it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no failure.
hypothesis.settings.register_profile("opendance", deadline=None)
hypothesis.settings.load_profile("opendance")

_CACHE = tempfile.mkdtemp(prefix="opendance-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ["HF_DATASETS_CACHE"] = str(Path(_CACHE, "datasets"))
os.environ.setdefault("MPLBACKEND", "Agg")

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the source tree."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference files: $OPENDANCE_SHARED, or ``shared`` beside the source tree."""
    folder = Path(os.environ.get("OPENDANCE_SHARED") or REPO.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"reference files not found in {folder}; set OPENDANCE_SHARED")
    return folder
