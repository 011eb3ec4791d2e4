"""What models read: windows of a dataset, memory-mapped."""

from opendance_hf.data.reader import NoMusicError, NoWindowsError, Reader, Windows
from opendance_hf.data.tars import TarError, TarReader, names_tars
from opendance_hf.data.windows import MotionWindows, NpzMotions, SequenceReader, is_npz_folder, open_reader

__all__ = [
    "MotionWindows",
    "NoMusicError",
    "NoWindowsError",
    "NpzMotions",
    "Reader",
    "SequenceReader",
    "TarError",
    "TarReader",
    "Windows",
    "is_npz_folder",
    "names_tars",
    "open_reader",
]
