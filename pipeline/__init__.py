"""The construction pipeline: 2D dance videos in, annotated 3D music-dance sequences out (paper section 3)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opendance_hf.pipeline.build import BuildError, BuildOptions, BuildResult, build_dataset
    from opendance_hf.pipeline.config import ConfigError, change_pipeline, dump_config, read_config
    from opendance_hf.pipeline.inputs import find_inputs
    from opendance_hf.pipeline.pipelines import default_pipeline, paper_pipeline

__all__ = [
    "BuildError",
    "BuildOptions",
    "BuildResult",
    "ConfigError",
    "build_dataset",
    "change_pipeline",
    "default_pipeline",
    "dump_config",
    "find_inputs",
    "paper_pipeline",
    "read_config",
]

# The modules take a second to import, so they are imported when one of their names is used.
_MODULES = ("build", "config", "inputs", "pipelines")


def __getattr__(name: str) -> Any:
    """Import an exported name on its first use."""
    if name in __all__:
        for module in _MODULES:
            found = getattr(import_module(f"{__name__}.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return all names, those that are not imported yet included."""
    return sorted({*globals(), *__all__})
