"""The genre of the music (paper section 3.2): an audio classifier of the ten GTZAN classes, a folder or a Hub id.

Any model that ``AutoModelForAudioClassification`` loads will do, as long as its labels are those classes: one of the Hub, or one that ``opendance train genre`` made. None ships with
this package, and without one ``genre`` stays null.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

import opendance_hf.modeling.music_genre  # noqa: F401 (makes the Auto classes know it)
from opendance_hf.assets import sha256_of
from opendance_hf.errors import OpenDanceError
from opendance_hf.music import decode_audio
from opendance_hf.schema import GENRES

#: GTZAN's clips, which such classifiers are trained on, last so long; longer music is classified in equal parts.
_CLIP_S: Final = 30.0
#: Files of a folder that a classifier is loaded from.
_LOADED: Final = ("config.json", "preprocessor_config.json", "*.safetensors", "*.bin")


class GenreError(OpenDanceError, ValueError):
    """A classifier that cannot be used; the message names it and says why."""


def label_order(name: str, labels: dict[int, str]) -> list[int]:
    """Which output of a classifier is each of :data:`GENRES`.

    Raises:
        GenreError: if its labels are not these ten, each once, whatever their spelling (``Hip-Hop``, ``hip hop``).
    """
    by_label = {re.sub(r"[^a-z0-9]", "", str(label).lower()): int(index) for index, label in labels.items()}
    missing, other = sorted(set(GENRES) - set(by_label)), sorted(set(by_label) - set(GENRES))
    if missing or other or len(labels) != len(GENRES):
        raise GenreError(
            f"{name}: its classes are not the ten of GTZAN (missing: {', '.join(missing) or 'none'}; other: "
            f"{', '.join(other[:10]) or 'none'}); give a model of {', '.join(GENRES)}"
        )
    return [by_label[genre] for genre in GENRES]


def check_genre_model(name: str) -> None:
    """Look at the classes of a classifier before a build starts; fetches its configuration alone.

    Raises:
        GenreError: if it cannot be found, or has other classes.
    """
    label_order(name, _config(name).id2label)


def _config(name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise GenreError(
            f"{name}: no audio classifier can be loaded ({first}); give a folder or a Hub id"
        ) from None


def genre_version(name: str) -> str:
    """What a classifier is, wherever it lies: the commit of a Hub id; of a folder, a hash of what is loaded from it."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    folder = Path(name)
    if not folder.exists():
        return str(extract_commit_hash(cached_file(name, "config.json"), None) or "unknown")[:12]
    files = sorted({file for pattern in _LOADED for file in folder.glob(pattern)})
    parts = [f"{file.name} {sha256_of(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


class GenreModel:
    """A classifier, loaded once; ``name`` and ``version`` are what provenance says of it."""

    def __init__(self, name: str) -> None:
        """Load a folder or a Hub id.

        Raises:
            GenreError: as :func:`check_genre_model`; also if it is no classifier of waveforms.
        """
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        config = _config(name)
        self._order = label_order(name, config.id2label)
        try:
            self._model = AutoModelForAudioClassification.from_pretrained(name).eval()
            self._prepare = AutoFeatureExtractor.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise GenreError(
                f"{name}: not an audio classifier ({str(error).strip().splitlines()[0]})"
            ) from None
        # A folder's place on this machine is nobody's business.
        self.name = Path(name).resolve().name if Path(name).exists() else name
        self.version = genre_version(name)

    def classify(self, path: Path, start_s: float, end_s: float) -> tuple[str, npt.NDArray[np.float32]]:
        """The likeliest genre of a span of a file, and probabilities (10,) in the order of :data:`GENRES`."""
        rate = int(self._prepare.sampling_rate)
        sound = decode_audio(path, rate, start_s, end_s)
        total = torch.zeros(len(GENRES))
        for part in np.array_split(sound, math.ceil((end_s - start_s) / _CLIP_S)):
            inputs = self._prepare(part, sampling_rate=rate, return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**inputs).logits[0].float()
            total += logits.softmax(-1)[self._order] * len(part)
        scores = (total / total.sum()).numpy().astype(np.float32)
        return GENRES[int(scores.argmax())], scores
