"""What models read: windows of a dataset, memory-mapped."""

from opendance_hf.data.windows import MotionWindows, NoWindowsError, NpzMotions, SequenceReader, is_npz_folder

__all__ = ["MotionWindows", "NoWindowsError", "NpzMotions", "SequenceReader", "is_npz_folder"]
