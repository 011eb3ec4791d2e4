"""Table of the models: the Auto classes, the Hub and its cards, training and dancing read it.

To add a model, write its folder and one entry here. Names are text, so that the table is read without loading torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Limits of the models that dance, for their cards.
DANCE_LIMITS: Final = (
    "It knows the dances it learned from and their faults; motion estimated from video is not motion capture. Generated\n"
    "dances may slide on the ground, repeat or freeze."
)
#: The extractor of the models that dance.
DANCE_EXTRACTOR: Final = "opendance_hf.modeling.feature_extraction_dance:DanceFeatureExtractor"
_HERE: Final = "opendance_hf.modeling"
_TRAINING: Final = "opendance_hf.training"


@dataclass(frozen=True)
class ModelEntry:
    """A model; classes are named ``module:Class``.

    Attributes:
        config: class of its configuration.
        model: class of the model.
        description: one sentence for its card.
        usage: Python lines for its card, after ``model = ...``; ``{name}`` is the name of the model.
        extractor: class of its feature extractor; empty if the input needs none.
        auto_classes: Auto classes that load it.
        dances: whether :class:`~opendance_hf.dance.Dancer` can use it: the class has ``generate_dance``, ``seed_frames`` and
            ``seed_inputs``, and the configuration ``music_input``.
        limits: what its card says about limits.
        stages: training stages that write it, each with its class. Recipes are in ``recipes/`` beside the stage's module.
    """

    config: str
    model: str
    description: str
    usage: str = ""
    extractor: str = ""
    auto_classes: tuple[str, ...] = ("AutoModel",)
    dances: bool = False
    limits: str = DANCE_LIMITS
    stages: Mapping[str, str] = field(default_factory=dict)


#: Models by ``model_type``.
MODELS: Final[dict[str, ModelEntry]] = {
    "bailando": ModelEntry(
        f"{_HERE}.bailando.configuration_bailando:BailandoConfig",
        f"{_HERE}.bailando.modeling_bailando:BailandoForDanceGeneration",
        "Bailando, a pose VQ-VAE and a motion GPT: music to a dance of one.",
        "dance = model.generate_dance(music_features, num_frames)  # of its DanceFeatureExtractor\n"
        "dance.joints  # (1, num_frames, 24, 3) metres",
        DANCE_EXTRACTOR,
        dances=True,
        stages={
            "gpt": f"{_TRAINING}.gpt:GPTStage",
            "actor_critic": f"{_TRAINING}.actor_critic:ActorCriticStage",
        },
    ),
    "bailando_pp": ModelEntry(
        f"{_HERE}.bailando_pp.configuration_bailando_pp:BailandoPPConfig",
        f"{_HERE}.bailando_pp.modeling_bailando_pp:BailandoPPForDanceGeneration",
        "Bailando++, a pose VQ-VAE and a GPT of several dancers who see each other: music to a dance of two or more.",
        "dance = model.generate_dance(music_features, num_frames, num_dancers=2)  # of its DanceFeatureExtractor\n"
        "dance.joints  # (1, 2, num_frames, 24, 3) metres, one world frame",
        DANCE_EXTRACTOR,
        dances=True,
        stages={"bailando_pp": f"{_TRAINING}.bailando_pp:BailandoPPStage"},
    ),
    "fact": ModelEntry(
        f"{_HERE}.fact.configuration_fact:FACTConfig",
        f"{_HERE}.fact.modeling_fact:FACTForDanceGeneration",
        "FACT, a full-attention cross-modal transformer: two seconds of motion and music to a dance.",
        "dance = model.generate_dance(music_features, num_frames, seed_poses=seed_poses, seed_transl=seed_transl)\n"
        "dance.joints  # (1, num_frames, 24, 3) metres, the two seconds of the seed included",
        DANCE_EXTRACTOR,
        dances=True,
        stages={"fact": f"{_TRAINING}.fact:FACTStage"},
    ),
    "bailando_vqvae": ModelEntry(
        f"{_HERE}.bailando.configuration_bailando:BailandoVQVAEConfig",
        f"{_HERE}.bailando.modeling_bailando_vqvae:BailandoVQVAE",
        "The pose VQ-VAE of Bailando: 8 frames of the upper and of the lower body to one code each, and back.",
        "upper, lower = model.encode(joints)  # (1, 8 n, 24, 3) metres, relative to the pelvis",
        stages={"vqvae": f"{_TRAINING}.vqvae:VQVAEStage", "rotation": f"{_TRAINING}.rotation:RotationStage"},
    ),
    "bailando_relation": ModelEntry(
        f"{_HERE}.bailando_pp.configuration_bailando_pp:BailandoRelationConfig",
        f"{_HERE}.bailando_pp.modeling_bailando_relation:BailandoRelationVQVAE",
        "The VQ-VAE of Bailando++ for the relation of dancers: a partner's place and which hands are near, 8 frames to one "
        "code each.",
        "place, hands = model.encode(relation_of(joints))  # (1, 2, 8 n, 24, 3) metres, one world frame",
        stages={"relation": f"{_TRAINING}.relation:RelationStage"},
    ),
    "bailando_gpt": ModelEntry(
        f"{_HERE}.bailando.configuration_bailando:BailandoGPTConfig",
        f"{_HERE}.bailando.modeling_bailando:BailandoGPT",
        "The motion GPT of Bailando: the next codes of a dance from music and the codes so far.",
        "output = model(upper_codes, lower_codes, music)  # (1, n) codes and (1, n, 438) features",
    ),
    "bailando_pp_gpt": ModelEntry(
        f"{_HERE}.bailando_pp.configuration_bailando_pp:BailandoPPGPTConfig",
        f"{_HERE}.bailando_pp.modeling_bailando_pp:BailandoPPGPT",
        "The motion GPT of Bailando++: the next codes of several dancers from music and their codes so far.",
        "output = model(upper_codes, lower_codes, music)  # (1, dancers, n) codes and (1, n, 438) features",
    ),
    "bailando_actor_critic": ModelEntry(
        f"{_HERE}.bailando.configuration_bailando:BailandoActorCriticConfig",
        f"{_HERE}.bailando.actor_critic:BailandoActorCritic",
        "The motion GPT of Bailando with the critic of its actor-critic training.",
        "output = model(upper_codes, lower_codes, music)  # (1, n) codes and (1, n, 438) features",
    ),
    "music_genre": ModelEntry(
        f"{_HERE}.music_genre.configuration_music_genre:MusicGenreConfig",
        f"{_HERE}.music_genre.modeling_music_genre:MusicGenreForAudioClassification",
        "A convolutional network over spectrograms: music to one of the ten genres of GTZAN.",
        "logits = model(sound).logits  # sound (1, samples) at model.config.sampling_rate\n"
        "# for the rows of a dataset: opendance build videos --genre-model {name}",
        "transformers:Wav2Vec2FeatureExtractor",
        auto_classes=("AutoModel", "AutoModelForAudioClassification"),
        stages={"genre": f"{_TRAINING}.genre:GenreStage"},
    ),
    "smoothnet": ModelEntry(
        f"{_HERE}.smoothnet.configuration_smoothnet:SmoothNetConfig",
        f"{_HERE}.smoothnet.modeling_smoothnet:SmoothNetModel",
        "SmoothNet: estimated motion to the same without jitter.",
        "smoothed = model(joints.flatten(-2)).smoothed  # (frames, coordinates)",
    ),
    "lifter": ModelEntry(
        f"{_HERE}.lifter.configuration_lifter:LifterConfig",
        f"{_HERE}.lifter.modeling_lifter:LifterModel",
        "The lifter: landmarks that an estimator found frame by frame to joints with a better depth.",
        "joints = model.lift(rays, world, visibility)  # (1, frames, 14, 3) metres, relative to the hips",
        limits=(
            "It knows the errors of one estimator, at one frame rate, on upright dancers. It cannot tell a tilted camera from a\n"
            "leaning dancer. Trained on rendered clips, it may make single real views worse: compare on your own."
        ),
        stages={"lifter": f"{_TRAINING}.lifter:LifterStage"},
    ),
    "cliff": ModelEntry(
        f"{_HERE}.cliff.configuration_cliff:CLIFFConfig",
        f"{_HERE}.cliff.modeling_cliff:CLIFFModel",
        "CLIFF: SMPL pose, shape and camera of one person from a crop and its place in the picture.",
        "output = model(images, bbox_info)  # (n, 3, 256, 192) crops and (n, 3) places",
        f"{_HERE}.cliff.feature_extraction_cliff:CLIFFFeatureExtractor",
    ),
}


def resolve(name: str) -> Any:
    """Import the object that ``module:Name`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def register(entry: ModelEntry) -> None:
    """Make the Auto classes of ``transformers`` know a model, its configuration and its extractor."""
    import transformers

    config, model = resolve(entry.config), resolve(entry.model)
    transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
    for name in entry.auto_classes:
        getattr(transformers, name).register(config, model, exist_ok=True)
    if entry.extractor:
        transformers.AutoFeatureExtractor.register(config, resolve(entry.extractor), exist_ok=True)


def extractor_for(config: Any) -> Any:
    """Return a new feature extractor for a model with this configuration, or None if it needs none."""
    entry = MODELS[config.model_type]
    if not entry.extractor:
        return None
    kind = resolve(entry.extractor)
    if hasattr(kind, "for_model"):
        return kind.for_model(config)
    rate = getattr(config, "sampling_rate", None)
    return kind() if rate is None else kind(sampling_rate=rate, do_normalize=True)
