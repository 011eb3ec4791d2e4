"""Classify the genre of music (paper section 3.2) with an audio classifier of the ten GTZAN classes.

Any model that ``AutoModelForAudioClassification`` loads will do, as long as its labels are those classes: one of the Hub,
or one that ``opendance train genre`` made. None ships with this package, and without one ``genre`` stays null.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.assets import sha256_of
from opendance_hf.music import decode_audio
from opendance_hf.pipeline.backends.base import Backend, BackendError
from opendance_hf.schema import GENRES

#: Files of a folder that a classifier is loaded from.
_LOADED: Final = ("config.json", "preprocessor_config.json", "*.safetensors", "*.bin")


def label_order(name: str, labels: dict[int, str]) -> list[int]:
    """Return the output of a classifier that stands for each of :data:`GENRES`.

    Raises:
        BackendError: if its labels are not these ten, each once, whatever their spelling (``Hip-Hop``, ``hip hop``).
    """
    by_label = {re.sub(r"[^a-z0-9]", "", str(label).lower()): int(index) for index, label in labels.items()}
    missing, other = sorted(set(GENRES) - set(by_label)), sorted(set(by_label) - set(GENRES))
    if missing or other or len(labels) != len(GENRES):
        raise BackendError(
            f"{name}: its classes are not the ten of GTZAN (missing: {', '.join(missing) or 'none'}; other: "
            f"{', '.join(other[:10]) or 'none'}); give a model of {', '.join(GENRES)}"
        )
    return [by_label[genre] for genre in GENRES]


def _config(name: str) -> Any:
    from transformers import AutoConfig

    import opendance_hf.modeling.music_genre  # noqa: F401 (makes the Auto classes know it)

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise BackendError(
            f"{name}: no audio classifier can be loaded ({first}); give a folder or a Hub id"
        ) from None


def content_version(name: str) -> str:
    """Return what identifies a classifier: the commit of a Hub id; of a folder, a hash of what is loaded from it."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    folder = Path(name)
    if not folder.exists():
        return str(extract_commit_hash(cached_file(name, "config.json"), None) or "unknown")
    files = sorted({file for pattern in _LOADED for file in folder.glob(pattern)})
    parts = [f"{file.name} {sha256_of(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class AudioClassifier(Backend):
    """Names the genre of music with a classifier of ``transformers``.

    Args:
        file: folder or Hub id.
        revision: commit of the Hub, or hash of the folder; where given, another content is an error.
        clip_s: longer music is classified in equal parts of at most this length; GTZAN's clips are 30 s.
    """

    name = "transformers"
    licence = "that of the model"
    shared = True

    file: str = ""
    revision: str = ""
    clip_s: float = 30.0

    @property
    def version(self) -> str:
        """See :class:`Backend`."""
        return self.revision[:12]

    @property
    def label(self) -> str:
        """See :class:`Backend`; the place of a folder on this machine is private."""
        return Path(self.file).resolve().name if Path(self.file).exists() else self.file

    def prepare(self) -> AudioClassifier:
        """Look at the classes of the classifier; fetches its configuration alone.

        Raises:
            BackendError: if it cannot be found, has other classes, or is not the one of ``revision``.
        """
        if not self.file:
            raise BackendError("transformers: name an audio classifier, transformers:FOLDER-OR-HUB-ID")
        label_order(self.file, _config(self.file).id2label)
        found = content_version(self.file)
        if self.revision not in ("", found):
            raise BackendError(
                f"{self.file}: not the genre classifier the configuration was made with ({found[:12]}, expected "
                f"{self.revision[:12]}); put that one back, or remove revision from the configuration"
            )
        return replace(self, revision=found)

    def fingerprinted(self) -> dict[str, Any]:
        """See :meth:`Backend.fingerprinted`; the place of the model does not count."""
        values = super().fingerprinted()
        del values["file"]
        return values

    def load(self) -> _AudioClassifier:
        """Load the model.

        Raises:
            BackendError: if it is not a classifier of waveforms.
        """
        return _AudioClassifier(self)


class _AudioClassifier:
    def __init__(self, settings: AudioClassifier) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        name = settings.file
        self._clip_s = settings.clip_s
        self._order = label_order(name, _config(name).id2label)
        commit = None if Path(name).exists() else settings.revision
        try:
            self._model = AutoModelForAudioClassification.from_pretrained(name, revision=commit).eval()
            self._prepare = AutoFeatureExtractor.from_pretrained(name, revision=commit)
        except (OSError, ValueError) as error:
            raise BackendError(
                f"{name}: not an audio classifier ({str(error).strip().splitlines()[0]})"
            ) from None

    def classify(self, path: Path, start_s: float, end_s: float) -> tuple[str, npt.NDArray[np.float32]]:
        """See :class:`~opendance_hf.pipeline.backends.base.GenreClassifier`."""
        import torch

        rate = int(self._prepare.sampling_rate)
        sound = decode_audio(path, rate, start_s, end_s)
        total = torch.zeros(len(GENRES))
        for part in np.array_split(sound, math.ceil((end_s - start_s) / self._clip_s)):
            inputs = self._prepare(part, sampling_rate=rate, return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**inputs).logits[0].float()
            total += logits.softmax(-1)[self._order] * len(part)
        scores = (total / total.sum()).numpy().astype(np.float32)
        return GENRES[int(scores.argmax())], scores
