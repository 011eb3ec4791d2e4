"""Write fingerprints of music and motion, from which :mod:`opendance_hf.pipeline.group` finds sequences that share one."""

from __future__ import annotations

from dataclasses import dataclass

from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class Fingerprint(Stage):
    """Write ``fingerprints/{id}.npz``: spectrogram peaks of the music and coarse tracks of the dancers' limbs."""

    name = "fingerprint"
    reads = ("motion",)
    files = ("fingerprints/{id}.npz",)

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        from opendance_hf.pipeline.group import fingerprint_of, save_fingerprint  # the Parquet writer, SciPy

        found = fingerprint_of(clip.path, clip.start_s, clip.end_s, clip.motion.joints)
        save_fingerprint(clip.job.build / self.files[0].format(id=clip.id), found)
        return clip
