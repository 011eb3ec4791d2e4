"""Base classes of the models: saving with code, and dancing with saved generation defaults."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from transformers import GenerationConfig, PreTrainedModel

from opendance_hf.modeling.layers import SAMPLING, generation_options
from opendance_hf.modeling.remote_code import from_this_package, write_code


class DancePreTrainedModel(PreTrainedModel):
    """Base of all models.

    ``save_pretrained`` writes the code beside the weights: without this package, ``trust_remote_code=True`` loads them.
    """

    _supports_sdpa = True
    supports_gradient_checkpointing = True
    #: Auto classes that load the model.
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModel",)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:  # type: ignore[override]
        """Write weights, configuration and code; options as of ``PreTrainedModel.save_pretrained``."""
        if options.get("is_main_process", True) and from_this_package(type(self)):
            config, model = write_code(os.fspath(save_directory), type(self.config), type(self))
            self.config.auto_map = {"AutoConfig": config, **dict.fromkeys(self.auto_classes, model)}
        super().save_pretrained(save_directory, **options)


class DanceGenerationMixin:
    """Generation defaults of models that dance: ``generation_config.json``, saved and loaded with the weights.

    The name is that of ``transformers``' protocol: a class ending in GenerationMixin can generate. A model sets
    ``generation_config`` in its constructor, and calls :meth:`generation_options`.
    """

    generation_config: GenerationConfig
    #: Options of ``generate_dance`` that a generation configuration may hold.
    generation_names: ClassVar[tuple[str, ...]] = SAMPLING
    #: How the music of a shorter piece of a batch is continued, as a mode of ``numpy.pad``: like after the end of a song.
    music_padding: ClassVar[str] = "constant"

    def generation_options(self, given: GenerationConfig | None = None, **options: Any) -> GenerationConfig:
        """Return the generation configuration of a call: the model's, or the given one, with options changed.

        Raises:
            ValueError: for an option that does not exist.
        """
        base = self.generation_config if given is None else given
        return generation_options(base, options, self.generation_names)

    def adjust_generation_fn(
        self, generation_config: GenerationConfig | None, *places: Any, **options: Any
    ) -> None:
        """Load ``generation_config.json`` (called by ``from_pretrained``); a folder without one keeps the defaults."""
        if generation_config is not None:
            self.generation_config = generation_config
            return
        known = (
            "cache_dir",
            "force_download",
            "proxies",
            "local_files_only",
            "token",
            "revision",
            "subfolder",
        )
        *_, name = places
        try:
            self.generation_config = GenerationConfig.from_pretrained(
                name, **{key: options[key] for key in known if key in options}
            )
        except OSError:
            return
