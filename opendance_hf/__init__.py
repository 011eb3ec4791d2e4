"""OpenDance-HF: music-driven 3D dance on the Hugging Face stack.

``opendance_hf.pipeline`` turns 2D dance videos into annotated 3D sequences, ``opendance_hf.loading_scripts`` turns
annotated sequences into datasets, ``opendance_hf.modeling`` turns datasets into models and new dances. They are imported
when they are first used.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a module of the package on its first use as an attribute."""
    from importlib import import_module
    from importlib.util import find_spec

    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return all names, those of modules that are not imported yet included."""
    from pkgutil import iter_modules

    return sorted({*globals(), *(module.name for module in iter_modules(__path__))})
