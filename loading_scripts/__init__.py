"""Builders of datasets from folders of annotations: one ``datasets.GeneratorBasedBuilder`` subclass per source."""

from opendance_hf.loading_scripts.opendance_3d import LoadingError, OpenDance3D, OpenDance3DConfig

__all__ = ["LoadingError", "OpenDance3D", "OpenDance3DConfig"]
