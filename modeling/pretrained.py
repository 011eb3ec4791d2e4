"""Base classes of the models: saving with code, and dancing with saved generation defaults."""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path
from typing import Any, ClassVar, Final

from huggingface_hub import try_to_load_from_cache
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils.hub import cached_file

from opendance_hf.modeling.layers import SAMPLING, generation_options
from opendance_hf.modeling.remote_code import from_this_package, write_code

log = logging.getLogger(__name__)
#: Options of ``save_pretrained`` that are about the Hub.
_HUB_OPTIONS: Final = ("repo_id", "commit_message", "private", "token", "revision", "create_pr")


class DancePreTrainedModel(PreTrainedModel):
    """Base of all models.

    ``save_pretrained`` writes the code beside the weights: without this package, ``trust_remote_code=True`` loads them.
    """

    _supports_sdpa = True
    supports_gradient_checkpointing = True
    #: Auto classes that load the model.
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModel",)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers looks for the name of its table in the file of the class; here it is in layers.py.
        return True

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:  # type: ignore[override]
        """Write weights, configuration and code; options as of ``PreTrainedModel.save_pretrained``.

        The code of a class from outside this package is not written; ``register_for_auto_class`` of ``transformers`` does
        that.

        Raises:
            ValueError: for generation defaults that contradict each other; nothing is written then.
        """
        if options.pop("push_to_hub", False):
            # Not by transformers, which would not upload the code.
            hub = {name: options.pop(name) for name in _HUB_OPTIONS if name in options}
            self.save_pretrained(save_directory, **options)
            self.push_to_hub(hub.pop("repo_id", Path(save_directory).resolve().name), **hub)
            return
        if isinstance(self, DanceGenerationMixin):
            self.generation_config.validate(strict=True)
        for part in self.config.sub_configs:
            # transformers leaves out where the whole came from, but not where its parts did: a folder of this machine.
            getattr(self.config, part)._name_or_path = ""
        if from_this_package(type(self)):
            if options.get("is_main_process", True):
                config, model = write_code(os.fspath(save_directory), type(self.config), type(self))
                self.config.auto_map = {"AutoConfig": config, **dict.fromkeys(self.auto_classes, model)}
        elif type(self)._auto_class is None and hasattr(self.config, "auto_map"):
            del self.config.auto_map  # of the folder that the model came from
        super().save_pretrained(save_directory, **options)


class DanceGenerationMixin:
    """Generation defaults of models that dance: ``generation_config.json``, saved and loaded with the weights.

    The name is that of ``transformers``' protocol: a class ending in GenerationMixin can generate. A model sets
    ``generation_config`` in its constructor, and calls :meth:`generation_options`.
    """

    generation_config: GenerationConfig
    #: Options of ``generate_dance`` that a generation configuration may hold.
    generation_names: ClassVar[tuple[str, ...]] = SAMPLING
    #: Values of options that ``transformers`` does not know, where a generation configuration lacks them.
    generation_defaults: ClassVar[dict[str, Any]] = {}
    #: How the music of a shorter piece of a batch is continued, as a mode of ``numpy.pad``: like after the end of a song.
    music_padding: ClassVar[str] = "constant"

    def generation_options(self, given: GenerationConfig | None = None, **options: Any) -> GenerationConfig:
        """Return the generation configuration of a call: the model's, or the given one, with options changed.

        Raises:
            ValueError: for an option that does not exist, or a value outside its range.
        """
        base = copy.deepcopy(self.generation_config if given is None else given)
        for name, value in self.generation_defaults.items():
            if not hasattr(base, name):
                setattr(base, name, value)
        return generation_options(base, options, self.generation_names)

    def adjust_generation_fn(
        self, generation_config: GenerationConfig | None, *places: Any, **options: Any
    ) -> None:
        """Load ``generation_config.json`` (called by ``from_pretrained``); a folder without one keeps the defaults.

        Raises:
            OSError: if the file is damaged, or the Hub does not answer.
        """
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
        given = {key: options[key] for key in known if key in options}
        *_, name = places
        if cached_file(name, GENERATION_CONFIG_NAME, _raise_exceptions_for_missing_entries=False, **given):
            self.generation_config = GenerationConfig.from_pretrained(name, **given)
        elif not os.path.isdir(name) and try_to_load_from_cache(name, GENERATION_CONFIG_NAME) is None:
            log.warning("%s: %s is not in the cache; using the defaults", name, GENERATION_CONFIG_NAME)
