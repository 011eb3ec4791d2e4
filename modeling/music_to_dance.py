"""``transformers.pipeline("music-to-dance", model=...)``: a song in, a dance out."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

TASK = "music-to-dance"
_GENERATION = ("do_sample", "temperature", "top_k", "top_p", "seed_joints")


class MusicToDancePipeline(Pipeline):
    """Lets a Bailando dance to songs.

    ``pipe(song)`` takes an audio or video file, or ``{"array": (samples,), "sampling_rate": Hz}`` as ``datasets`` decodes
    it, or a list of these, and returns ``{"joints": (T, 24, 3) metres, y up, "fps": 60}`` for each. Options:
    ``seed`` (another seed, another dance), ``do_sample``, ``temperature``, ``top_k``, ``top_p``.
    """

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def _sanitize_parameters(
        self, seed: int | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown := set(options) - set(_GENERATION):
            raise ValueError(
                f"{TASK} has no option {', '.join(sorted(unknown))}; there are seed, {', '.join(_GENERATION)}"
            )
        generation = dict(options)
        if seed is not None:
            generation["seed"] = seed
        return {}, generation, {}

    def preprocess(self, input_: Any, **_: Any) -> Any:
        """A song to music features."""
        processor: Any = self.feature_extractor
        if isinstance(input_, dict):
            return processor(input_["array"], input_["sampling_rate"])
        return processor(input_)

    def _forward(self, input_tensors: Any, **forward_parameters: Any) -> Any:
        options = {"do_sample": True, "top_k": 20, **forward_parameters}
        model: Any = self.model
        output = model.generate_dance(
            input_tensors["music_features"],
            int(input_tensors["num_frames"].max()),
            generator=torch.Generator().manual_seed(options.pop("seed", 0)),
            **options,
        )
        return {"joints": output.joints, "num_frames": input_tensors["num_frames"]}

    def postprocess(self, model_outputs: Any, **_: Any) -> Any:
        """One dance."""
        processor: Any = self.feature_extractor
        (dance,) = processor.post_process_dance(model_outputs, model_outputs["num_frames"].cpu())
        return dance


def register() -> None:
    """Make the task known to ``transformers.pipeline``."""
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=MusicToDancePipeline, pt_model=AutoModel, type="multimodal"
        )
