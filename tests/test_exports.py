"""The packages are attributes of ``opendance_hf`` and export their entry points, without slow imports before use."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_packages_are_attributes_and_imported_on_use() -> None:
    said = run(
        """
import sys
import opendance_hf
import opendance_hf.pipeline, opendance_hf.training
slow = {"torch", "cv2", "scipy", "transformers", "datasets", "numpy"} & set(sys.modules)
assert not slow, slow
assert "pipeline" in dir(opendance_hf) and "build_dataset" in dir(opendance_hf.pipeline)
print(opendance_hf.pipeline.build_dataset.__module__, opendance_hf.training.run.__module__,
      opendance_hf.metrics.evaluate.__module__)
"""
    )
    assert said == "opendance_hf.pipeline.build opendance_hf.training.stages opendance_hf.metrics.evaluation"


def test_every_export_exists_and_others_are_attribute_errors() -> None:
    import opendance_hf
    from opendance_hf import pipeline, training

    for package in (pipeline, training):
        for name in package.__all__:
            assert getattr(package, name).__name__ == name
    for package in (opendance_hf, pipeline, training):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'tomorrow'"):
            _ = package.tomorrow
    assert not hasattr(opendance_hf, "__wrapped__")
