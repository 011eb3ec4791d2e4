"""``transformers.pipeline("music-to-dance", model=...)``: a song in, a dance out."""

from __future__ import annotations

from typing import Any

from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from opendance_hf.dance.dancer import Dancer

TASK = "music-to-dance"


class MusicToDancePipeline(Pipeline):
    """Pipeline that dances to songs with a :class:`~opendance_hf.dance.Dancer`.

    ``pipe(song)`` takes an audio or video file, or ``{"array": (samples,), "sampling_rate": Hz}`` as ``datasets`` decodes
    it, or a list of these. It returns for each ``{"joints": (T, 24, 3) metres, y up, "smpl_pose": (T, 24, 3),
    "smpl_transl": (T, 3), "rest_offsets": (24, 3), "fps": 60, "music_beats": frames, "bpm": float}``; arrays of several
    dancers have the dancers as their first dimension. Options: ``seed`` (another seed, another dance), ``seed_motion`` (a
    :class:`~opendance_hf.formats.motion.Motion`), and those of the model's generation configuration, such as ``do_sample``,
    ``temperature``, ``top_k`` and ``top_p``.
    """

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _pipeline_calls_generate = False

    def _sanitize_parameters(
        self, seed: int | None = None, seed_motion: Any = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        model: Any = self.model
        if unknown := set(options) - set(model.generation_names):
            raise ValueError(
                f"{TASK} has no option {', '.join(sorted(unknown))}; there are seed, seed_motion, "
                f"{', '.join(model.generation_names)}"
            )
        forward = dict(options)
        if seed is not None:
            forward["seed"] = seed
        if seed_motion is not None:
            forward["seed_motions"] = [seed_motion]
        return {}, forward, {}

    def preprocess(self, input_: Any, **_: Any) -> Any:
        """Extract the music features of a song."""
        extractor: Any = self.feature_extractor
        if isinstance(input_, dict):
            return extractor(input_["array"], input_["sampling_rate"])
        return extractor(input_)

    def _forward(self, input_tensors: Any, **forward_parameters: Any) -> Any:
        dancer = Dancer(self.model, self.feature_extractor)  # type: ignore[arg-type]
        frames = [int(count) for count in input_tensors["num_frames"]]
        music = [one.cpu() for one in input_tensors["music_features"]]
        (dance,) = dancer.dance(music, frames, **forward_parameters)
        return {
            **dance,
            "music_beats": input_tensors["music_beats"][0],
            "bpm": float(input_tensors["bpm"][0]),
        }

    def postprocess(self, model_outputs: Any, **_: Any) -> Any:
        """Return the dance."""
        return dict(model_outputs)


def register() -> None:
    """Make the task known to ``transformers.pipeline``."""
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=MusicToDancePipeline, pt_model=AutoModel, type="multimodal"
        )
