"""What a build's results depend on, besides its inputs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from opendance_hf.pipeline.backends.choice import Choice

#: Raise it when a stage's result changes: builds made with another revision are not resumed but redone.
REVISION = 10


@dataclass(frozen=True)
class Settings:
    """What a build's results depend on, besides its inputs.

    Attributes:
        genre_model: folder or Hub id of the genre classifier, if any.
        genre_version: of that, hash or commit; results depend on this, not on where it lies.
    """

    licence: str = "unknown"
    previews: bool = True
    quality_gate: bool = True
    choice: Choice = field(default_factory=Choice)
    genre_model: str = ""
    genre_version: str = ""
    revision: int = REVISION

    @property
    def fingerprint(self) -> str:
        """Short hash of the settings; of the models chosen their content counts, not where they lie."""
        values = asdict(self) | {"choice": self.choice.digests}
        if not self.choice.digests:
            del values["choice"]
        del values["genre_model" if self.genre_version else "genre_version"]
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
