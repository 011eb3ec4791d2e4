"""The genre of music from its sound, by a convolutional network that looks at spectrograms.

After Palanisamy, Singhania and Yao, "Rethinking CNN models for audio classification" (2020), which the paper takes its
classifier from (section 3.2): log mel spectrograms of a short, a middle and a long window are the three channels of a
picture, and a network made for pictures classifies it. Theirs starts from weights trained on photographs; this one may,
through ``model.backbone.load_state_dict``, but starts from nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel
from transformers import initialization as init
from transformers.audio_utils import mel_filter_bank
from transformers.modeling_outputs import SequenceClassifierOutput

from opendance_hf.modeling.music_genre.configuration_music_genre import MusicGenreConfig
from opendance_hf.modeling.pretrained import DancePreTrainedModel


class MusicGenrePreTrainedModel(DancePreTrainedModel):
    """Base of the genre classifier: the initialisation of all its modules."""

    config_class = MusicGenreConfig
    main_input_name = "input_values"
    # The backbone is that of transformers, which has no checkpointing.
    supports_gradient_checkpointing = False
    auto_classes = ("AutoModel", "AutoModelForAudioClassification")
    #: Spectrograms are computed in single precision.
    _keep_in_fp32_modules_strict = {"bank_", "window_"}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MusicGenreForAudioClassification):
            for name, value in module.filters().items():
                init.copy_(module.get_buffer(name), value)


class MusicGenreForAudioClassification(MusicGenrePreTrainedModel):
    """Classifier of the genre of music: sound to logits.

    >>> config = MusicGenreConfig(embedding_size=4, hidden_sizes=(8, 8), depths=(1, 1), layer_type="basic")
    >>> model = MusicGenreForAudioClassification(config).eval()
    >>> model(torch.zeros(1, 22_050)).logits.shape
    torch.Size([1, 10])
    """

    def __init__(self, config: MusicGenreConfig) -> None:
        """Build the network with fresh weights."""
        super().__init__(config)
        rate = config.sampling_rate
        self.windows = [round(rate * ms / 1000) for ms in config.windows_ms]
        self.hops = [round(rate * ms / 1000) for ms in config.hops_ms]
        for name, value in self.filters().items():
            self.register_buffer(name, value)
        self.backbone = ResNetModel(
            ResNetConfig(
                num_channels=len(self.windows),
                embedding_size=config.embedding_size,
                hidden_sizes=config.hidden_sizes,
                depths=config.depths,
                layer_type=config.layer_type,
            )
        )
        self.classifier = nn.Linear(config.hidden_sizes[-1], len(config.id2label or {}))
        self.post_init()

    def filters(self) -> dict[str, Tensor]:
        """Return the mel filters and windows of the spectrograms, the buffers of the model."""
        rate, bins = self.config.sampling_rate, self.config.num_mel_bins
        found: dict[str, Tensor] = {}
        for number, window in enumerate(self.windows):
            bank = mel_filter_bank(
                window // 2 + 1, bins, 0.0, rate / 2, rate, norm="slaney", mel_scale="slaney"
            )
            found[f"bank_{number}"] = torch.from_numpy(bank).float()
            found[f"window_{number}"] = torch.hann_window(window, device="cpu")
        return found

    def pictures(self, input_values: Tensor) -> Tensor:
        """Compute (B, 3, mel bins, frames) log mel spectrograms of (B, samples), each of mean 0 and deviation 1."""
        seconds = input_values.shape[-1] / self.config.sampling_rate
        size = (self.config.num_mel_bins, max(32, round(seconds * self.config.frames_per_second)))
        channels = []
        for number, (window, hop) in enumerate(zip(self.windows, self.hops, strict=True)):
            spectrum = torch.stft(
                input_values.float(),
                window,
                hop,
                window=self.get_buffer(f"window_{number}").float(),
                return_complex=True,
                pad_mode="constant",
            )
            power = spectrum.abs().square().transpose(1, 2) @ self.get_buffer(f"bank_{number}").float()
            level = power.clamp_min(1e-10).log().transpose(1, 2)
            level = functional.interpolate(level[:, None], size, mode="bilinear", align_corners=False)
            spread, mean = torch.std_mean(level, dim=(2, 3), keepdim=True)
            channels.append((level - mean) / (spread + 1e-5))
        return torch.cat(channels, dim=1)

    def forward(
        self,
        input_values: Tensor,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Classify mono sound.

        Args:
            input_values: (B, samples) at the configuration's sampling rate; its loudness does not matter.
            labels: (B,) indices of genres.
            attention_mask: of feature extractors; not used, as all clips of a batch have one length.
        """
        seen = self.backbone(self.pictures(input_values).to(self.classifier.weight.dtype))
        logits = self.classifier(seen.pooler_output.flatten(1))
        loss = None if labels is None else functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
