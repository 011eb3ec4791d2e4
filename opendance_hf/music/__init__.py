"""Decoding of audio and video files, and the music features that dance models read."""

from opendance_hf.music.decode import decode_audio
from opendance_hf.music.features import (
    MusicAnnotation,
    extract,
    extract_audio,
    fact_features,
    music_features,
    tpami_features,
)
from opendance_hf.music.layout import (
    BLOCKS,
    FACT_BLOCKS,
    HOP,
    SAMPLE_RATE_7P5FPS,
    SAMPLE_RATE_60FPS,
    Engine,
    MusicFeatures,
)
from opendance_hf.music.media import clock_origin, open_media
from opendance_hf.music.song import SongFeatures, annotate_music, open_song
from opendance_hf.music.sound import AudioError, NoAudioError
from opendance_hf.music.tempo import tempo_doubt

__all__ = [
    "BLOCKS",
    "FACT_BLOCKS",
    "HOP",
    "SAMPLE_RATE_7P5FPS",
    "SAMPLE_RATE_60FPS",
    "AudioError",
    "Engine",
    "MusicAnnotation",
    "MusicFeatures",
    "NoAudioError",
    "SongFeatures",
    "annotate_music",
    "clock_origin",
    "decode_audio",
    "extract",
    "extract_audio",
    "fact_features",
    "music_features",
    "open_media",
    "open_song",
    "tempo_doubt",
    "tpami_features",
]
