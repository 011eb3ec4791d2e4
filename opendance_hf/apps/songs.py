"""Find the song of a dataset's row in a folder, since datasets hold no sound."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from opendance_hf.assets import sha256_of
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import NOT_MEDIA_SUFFIXES
from opendance_hf.schema import DanceSequence


class SongFolderError(OpenDanceError, ValueError):
    """Raised if a folder of songs cannot be used."""


class SongFolder:
    """A folder with songs or source videos of the rows of a dataset.

    A file belongs to a row if it is named after the row or its group, or has the hash that the row's provenance states: of
    the song of a pair, or else of the source. Hashes are computed when no name matches, once for each file.

    Args:
        folder: searched with its folders.

    Raises:
        SongFolderError: if it is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SongFolderError(
                f"--audio {folder}: expected a folder with the songs or source videos of the rows"
            )
        self.folder = folder
        self._files = sorted(
            path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix.lower() not in NOT_MEDIA_SUFFIXES
        )
        self._by_hash: dict[str, Path] | None = None
        self._hashing = Lock()

    def find(self, seq: DanceSequence) -> Path | None:
        """Return the file with the sound of a sequence, or None.

        Raises:
            OSError: if a file cannot be read.
        """
        for name in (seq.id, seq.group):
            if found := next((path for path in self._files if path.stem == name), None):
                return found
        with self._hashing:
            if self._by_hash is None:
                self._by_hash = {sha256_of(path): path for path in self._files if path.is_file()}
        pairing = seq.provenance.pairing
        return self._by_hash.get(seq.provenance.source_sha256 if pairing is None else pairing.song_sha256)
