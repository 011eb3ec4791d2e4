"""Models that read music and write dance: one folder a model, each with a configuration, a model and a processor.

``bailando`` (solo), ``bailando_pp`` (dancers together) and ``fact`` (the baseline); ``music_genre`` classifies music. Importing this package makes
``transformers``' Auto classes and ``transformers.pipeline("music-to-dance")`` know them. A model imports the core of
``opendance_hf`` and nothing of the pipeline or the front doors.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

from opendance_hf.modeling.bailando.configuration_bailando import (
    BailandoConfig,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando.modeling_bailando import BailandoForDanceGeneration, BailandoGPT
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import BailandoVQVAE
from opendance_hf.modeling.bailando.processing_bailando import BailandoProcessor
from opendance_hf.modeling.bailando_pp import BailandoPPConfig, BailandoPPForDanceGeneration
from opendance_hf.modeling.fact import FACTConfig, FACTForDanceGeneration
from opendance_hf.modeling.music_genre import MusicGenreConfig, MusicGenreForAudioClassification
from opendance_hf.modeling.music_to_dance import register

for _config, _model in (
    (BailandoConfig, BailandoForDanceGeneration),
    (BailandoVQVAEConfig, BailandoVQVAE),
    (BailandoGPTConfig, BailandoGPT),
    (BailandoPPConfig, BailandoPPForDanceGeneration),
    (FACTConfig, FACTForDanceGeneration),
    (MusicGenreConfig, MusicGenreForAudioClassification),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)
AutoModelForAudioClassification.register(MusicGenreConfig, MusicGenreForAudioClassification, exist_ok=True)
# Folders of these carry their code, so that transformers alone can load them with trust_remote_code=True.
for _model in (BailandoForDanceGeneration, BailandoVQVAE, BailandoGPT):
    _model.config_class.register_for_auto_class()
    _model.register_for_auto_class("AutoModel")
for _config in (BailandoConfig, BailandoPPConfig):
    AutoFeatureExtractor.register(_config, BailandoProcessor, exist_ok=True)
register()
