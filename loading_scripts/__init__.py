"""Builders that turn raw annotation trees into datasets: ``datasets.GeneratorBasedBuilder`` subclasses, one a source."""

from opendance_hf.loading_scripts.opendance_3d import LoadingError, OpenDance3D, OpenDance3DConfig

__all__ = ["LoadingError", "OpenDance3D", "OpenDance3DConfig"]
