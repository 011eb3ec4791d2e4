"""Models that read music and write dance, and those that annotate videos: one folder for each.

``bailando`` (solo), ``bailando_pp`` (dancers together) and ``fact`` (the baseline); ``music_genre`` classifies music,
``cliff`` and ``smoothnet`` estimate motion. Importing this package makes ``transformers``' Auto classes know them all
(:data:`~opendance_hf.modeling.models.MODELS`); ``opendance_hf.dance`` adds ``transformers.pipeline("music-to-dance")``.
A model imports the core of ``opendance_hf`` and nothing of the pipeline or the front doors.
"""

from typing import Any

from opendance_hf.modeling.feature_extraction_dance import DanceFeatureExtractor
from opendance_hf.modeling.models import MODELS, register, resolve

for _entry in MODELS.values():
    register(_entry)


def __getattr__(name: str) -> Any:
    """Return a class of the table by its name: ``from opendance_hf.modeling import BailandoVQVAE``."""
    for entry in MODELS.values():
        for place in (entry.config, entry.model):
            if place.partition(":")[2] == name:
                return resolve(place)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MODELS", "DanceFeatureExtractor", "register"]
