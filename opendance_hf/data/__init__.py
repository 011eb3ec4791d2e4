"""What models read: windows of a dataset, memory-mapped."""

from opendance_hf.data.windows import MotionWindows, NpzMotions, SequenceReader, is_npz_folder

__all__ = ["MotionWindows", "NpzMotions", "SequenceReader", "is_npz_folder"]
