"""Configuration of the genre classifier."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from opendance_hf.music.genres import GENRES


class MusicGenreConfig(PretrainedConfig):
    """Mel spectrograms of three resolutions, as the three colours of a picture, to a ResNet.

    Args:
        sampling_rate: of the sound, in Hz.
        num_mel_bins: height of the picture.
        windows_ms: lengths of the windows of the three spectrograms.
        hops_ms: steps between their windows.
        frames_per_second: width of the picture; the spectrograms are interpolated to it.
        embedding_size: channels after the first convolution.
        hidden_sizes: channels of the stages.
        depths: residual blocks of the stages.
        layer_type: ``basic`` (as in ResNet-18) or ``bottleneck`` (as in ResNet-50).
    """

    model_type = "music_genre"

    def __init__(
        self,
        sampling_rate: int = 22_050,
        num_mel_bins: int = 128,
        windows_ms: tuple[float, ...] = (25.0, 50.0, 100.0),
        hops_ms: tuple[float, ...] = (10.0, 25.0, 50.0),
        frames_per_second: float = 50.0,
        embedding_size: int = 64,
        hidden_sizes: tuple[int, ...] = (256, 512, 1024, 2048),
        depths: tuple[int, ...] = (3, 4, 6, 3),
        layer_type: str = "bottleneck",
        **kwargs: Any,
    ) -> None:
        if len(windows_ms) != len(hops_ms):
            raise ValueError(f"as many windows as hops needed, got {len(windows_ms)} and {len(hops_ms)}")
        self.sampling_rate = sampling_rate
        self.num_mel_bins = num_mel_bins
        self.windows_ms = list(windows_ms)
        self.hops_ms = list(hops_ms)
        self.frames_per_second = frames_per_second
        self.embedding_size = embedding_size
        self.hidden_sizes = list(hidden_sizes)
        self.depths = list(depths)
        self.layer_type = layer_type
        kwargs.setdefault("id2label", dict(enumerate(GENRES)))
        kwargs.setdefault("label2id", {genre: index for index, genre in enumerate(GENRES)})
        super().__init__(**kwargs)
