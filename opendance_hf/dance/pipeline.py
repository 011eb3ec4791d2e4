"""``transformers.pipeline("music-to-dance", model=...)``: a song in, a dance out."""

from __future__ import annotations

from typing import Any

from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from opendance_hf.dance.dancer import Dancer, extract

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

    def __call__(self, inputs: Any, *args: Any, batch_size: int | None = None, **options: Any) -> Any:
        """Dance to songs; a list of songs is danced to ``batch_size`` at a time, which changes no dance."""
        size = batch_size or self._batch_size or 1
        if size == 1 or not isinstance(inputs, list):
            return super().__call__(inputs, *args, batch_size=1, **options)
        # transformers would stack songs of different lengths.
        forward = {**self._forward_params, **self._sanitize_parameters(**options)[1]}
        found: list[Any] = []
        for first in range(0, len(inputs), size):
            parts = [self.preprocess(song) for song in inputs[first : first + size]]
            found += self._dance(parts, **forward)
        return found

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
        return extract(self.feature_extractor, input_)

    def _forward(self, input_tensors: Any, **forward_parameters: Any) -> Any:
        (dance,) = self._dance([input_tensors], **forward_parameters)
        return dance

    def _dance(self, songs: list[Any], **options: Any) -> list[dict[str, Any]]:
        """Dance to songs of which each has gone through :meth:`preprocess`."""
        dancer = Dancer(self.model, self.feature_extractor)  # type: ignore[arg-type]
        frames = [int(song["num_frames"][0]) for song in songs]
        music = [song["music_features"][0].cpu() for song in songs]
        return [
            {**dance, "music_beats": song["music_beats"][0], "bpm": float(song["bpm"][0])}
            for song, dance in zip(songs, dancer.dance(music, frames, **options), strict=True)
        ]

    def postprocess(self, model_outputs: Any, **_: Any) -> Any:
        """Return the dance."""
        return dict(model_outputs)


def register() -> None:
    """Make the task known to ``transformers.pipeline``."""
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=MusicToDancePipeline, pt_model=AutoModel, type="multimodal"
        )
