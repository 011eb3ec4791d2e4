"""Clean up captured, estimated and generated motion: jitter, sliding feet, the floor, limbs inside bodies."""

from typing import TYPE_CHECKING, Any

from opendance_hf.cleanup.settings import CleanSettings

if TYPE_CHECKING:
    from opendance_hf.cleanup.clean import CleanedMotion, CleanError, Quality, clean_motion

__all__ = ["CleanError", "CleanSettings", "CleanedMotion", "Quality", "clean_motion"]


def __getattr__(name: str) -> Any:
    """Import the clean-up on first use: SciPy's filters take a second to import, and settings do not need them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from opendance_hf.cleanup import clean

    return getattr(clean, name)
