"""Classify the genre of music (paper section 3.2) with an audio classifier of the ten GTZAN classes.

Any model that ``AutoModelForAudioClassification`` loads can be used if its labels are those classes, from the Hub or from
``opendance train genre``. This package contains no such model, and without one ``genre`` stays null.
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

#: Patterns of the files that are loaded from the folder of a classifier.
_LOADED: Final = ("config.json", "preprocessor_config.json", "*.safetensors", "*.bin")


def label_order(name: str, labels: dict[int, str]) -> list[int]:
    """Return the index of the classifier's output for each of :data:`GENRES`.

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


def _commit(name: str, revision: str) -> str | None:
    """Return the commit to load from the Hub; None for a folder, or for the newest one."""
    return None if Path(name).exists() else revision or None


def _config(name: str, revision: str = "") -> Any:
    from transformers import AutoConfig

    import opendance_hf.modeling.music_genre  # noqa: F401 (registers it with the Auto classes)

    try:
        return AutoConfig.from_pretrained(name, revision=_commit(name, revision))
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise BackendError(
            f"{name}: no audio classifier can be loaded ({first}); give a folder or a Hub id"
        ) from None


def content_version(name: str, revision: str = "") -> str:
    """Return the commit of a classifier on the Hub, or a hash of the loaded files of a folder."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    folder = Path(name)
    if not folder.exists():
        return str(
            extract_commit_hash(cached_file(name, "config.json", revision=revision or None), None)
            or "unknown"
        )
    files = sorted({file for pattern in _LOADED for file in folder.glob(pattern)})
    parts = [f"{file.name} {sha256_of(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class AudioClassifier(Backend):
    """Classify the genre of music with a ``transformers`` model.

    Args:
        file: folder or Hub id.
        revision: commit on the Hub, or hash of the folder. If given, a model with another one is refused.
        clip_s: maximum length, seconds, of a classified part; longer music is split equally. GTZAN's clips have 30 s.
    """

    name = "transformers"
    slow_imports = ("transformers",)
    licence = "that of the model"
    shared = True

    file: str = ""
    revision: str = ""
    clip_s: float = 30.0

    @property
    def version(self) -> str:
        """First digits of the revision."""
        return self.revision[:12]

    @property
    def label(self) -> str:
        """Hub id, or name of the folder without its private path."""
        return Path(self.file).resolve().name if Path(self.file).exists() else self.file

    def prepare(self) -> AudioClassifier:
        """Check the classes of the classifier; only its configuration is fetched.

        Raises:
            BackendError: if the classifier is not found, has other classes, or is not the one of ``revision``.
        """
        if not self.file:
            raise BackendError("transformers: no audio classifier given: write transformers:FOLDER-OR-HUB-ID")
        label_order(self.file, _config(self.file, self.revision).id2label)
        found = content_version(self.file, self.revision)
        if self.revision not in ("", found):
            raise BackendError(
                f"{self.file}: not the genre classifier that the configuration was made with (revision {found[:12]}, "
                f"expected {self.revision[:12]}); restore it, or remove revision from the configuration"
            )
        return replace(self, revision=found)

    def fetch(self) -> None:
        """Download the model of a Hub id before the workers start."""
        if not Path(self.file).exists():
            from huggingface_hub import snapshot_download

            try:
                snapshot_download(self.file, revision=self.revision or None, allow_patterns=list(_LOADED))
            except (OSError, ValueError) as error:
                raise BackendError(
                    f"{self.file}: cannot be downloaded ({error}); check the network"
                ) from None

    def fingerprinted(self) -> dict[str, Any]:
        """Return the values that results depend on: the content of the model, not its path."""
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
        self._order = label_order(name, _config(name, settings.revision).id2label)
        commit = _commit(name, settings.revision)
        try:
            self._model = AutoModelForAudioClassification.from_pretrained(name, revision=commit).eval()
            self._prepare = AutoFeatureExtractor.from_pretrained(name, revision=commit)
        except (OSError, ValueError) as error:
            raise BackendError(
                f"{name}: not an audio classifier ({str(error).strip().splitlines()[0]})"
            ) from None

    def classify(self, path: Path, start_s: float, end_s: float) -> tuple[str, npt.NDArray[np.float32]]:
        """Classify a span of a file, see :class:`~opendance_hf.pipeline.backends.base.GenreClassifier`."""
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
