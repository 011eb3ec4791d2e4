"""A convolutional network that tells the genre of music from spectrograms (paper section 3.2, reference 22)."""

from opendance_hf.modeling.music_genre.configuration_music_genre import MusicGenreConfig
from opendance_hf.modeling.music_genre.modeling_music_genre import MusicGenreForAudioClassification

__all__ = ["MusicGenreConfig", "MusicGenreForAudioClassification"]
