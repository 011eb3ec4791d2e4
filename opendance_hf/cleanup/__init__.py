"""Clean up captured, estimated and generated motion: jitter, sliding feet, the floor, limbs inside bodies."""

from opendance_hf.cleanup.clean import CleanedMotion, CleanError, Quality, clean_motion
from opendance_hf.cleanup.settings import CleanSettings

__all__ = ["CleanError", "CleanSettings", "CleanedMotion", "Quality", "clean_motion"]
