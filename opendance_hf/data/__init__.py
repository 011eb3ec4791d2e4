"""What models read: windows of a dataset, memory-mapped."""

from opendance_hf.data.windows import MotionWindows, SequenceReader

__all__ = ["MotionWindows", "SequenceReader"]
