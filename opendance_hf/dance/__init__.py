"""Dances for songs: one way for the command line, ``transformers.pipeline``, validation and the demo.

Importing this package makes ``transformers.pipeline("music-to-dance")`` and the Auto classes know the models.
"""

from opendance_hf.dance.dancer import DanceError, Dancer
from opendance_hf.dance.pipeline import MusicToDancePipeline, register

register()

__all__ = ["DanceError", "Dancer", "MusicToDancePipeline"]
