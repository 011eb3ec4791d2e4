"""Training: one short script a stage, run by ``opendance train``, ``accelerate launch`` or ``torchrun``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opendance_hf.training.stages import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    """Import ``run`` on its first use: it imports torch."""
    if name == "run":
        from opendance_hf.training.stages import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
