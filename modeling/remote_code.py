"""Save models and feature extractors with their code, so that ``transformers`` alone can load them.

``transformers`` copies the file of a class and the files beside it that it imports. The modules here import others of this
package from anywhere. They are therefore copied into the folder side by side, with their imports made relative.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from transformers import FeatureExtractionMixin

_PACKAGE = "opendance_hf"


def write_code(folder: Path | str, *classes: type) -> list[str]:
    """Write the modules of classes, and all modules of this package that they import, into a folder.

    Args:
        folder: is created if missing.
        classes: of this package; a class that was itself loaded from such a folder is left to ``transformers``.

    Returns:
        ``file.Class`` of each class, as the ``auto_map`` of a configuration names it.

    Raises:
        ValueError: if a module imports this package in a way that cannot be made relative.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    waiting, written = [cls.__module__ for cls in classes], set[str]()
    while waiting:
        module = waiting.pop()
        if module in written:
            continue
        written.add(module)
        text, needed = _flattened(module)
        (folder / f"{_file(module)}.py").write_text(text, encoding="utf-8")
        waiting += needed
    return [f"{_file(cls.__module__)}.{cls.__name__}" for cls in classes]


class FeatureExtractorWithCode(FeatureExtractionMixin):
    """Base of feature extractors; ``save_pretrained`` writes their code too."""

    #: Auto classes that load it.
    auto_classes: ClassVar[tuple[str, ...]]

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> Any:  # type: ignore[override]
        """Write the configuration and the code; options as of ``FeatureExtractionMixin.save_pretrained``."""
        if options.pop("push_to_hub", False):
            # Not by transformers, which would not upload the code.
            repo_id = options.pop("repo_id", Path(save_directory).resolve().name)
            self.save_pretrained(save_directory)
            return self.push_to_hub(repo_id, **options)
        if from_this_package(type(self)):
            (name,) = write_code(os.fspath(save_directory), type(self))
            self.auto_map = dict.fromkeys(self.auto_classes, name)
        return super().save_pretrained(save_directory, **options)


def from_this_package(cls: type) -> bool:
    """Return whether a class is of this package, and not of a folder with code."""
    return cls.__module__.split(".")[0] == _PACKAGE


def _file(module: str) -> str:
    """Return the name of a module among its copies: modeling_bailando, music_features."""
    parts = module.split(".")[1:]
    return parts[-1] if parts[0] == "modeling" else "_".join(parts)


@lru_cache
def _flattened(module: str) -> tuple[str, list[str]]:
    """Return the text of a module with relative imports, and the modules of this package that it imports."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{module}: this module has no file")
    text = Path(spec.origin).read_text(encoding="utf-8")
    lines, needed = text.splitlines(), list[str]()
    for node in sorted(_imports(ast.parse(text), module), key=lambda node: -node.lineno):
        new = []
        for alias in node.names:
            source = f"{node.module}.{alias.name}"
            name = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            if importlib.util.find_spec(str(node.module)).submodule_search_locations and _is_module(source):  # type: ignore[union-attr]
                needed.append(source)
                # transformers finds files by `from .NAME import`, and misses `from . import NAME`.
                new.append(f"from .{_file(source)} import __name__ as _")
                new.append(f"from . import {_file(source)} as {alias.asname or alias.name}")
            else:
                needed.append(str(node.module))
                new.append(f"from .{_file(str(node.module))} import {name}")
        indent = " " * node.col_offset
        lines[node.lineno - 1 : node.end_lineno] = [indent + line for line in new]
    return "\n".join(lines) + "\n", needed


def _imports(tree: ast.Module, module: str) -> Iterator[ast.ImportFrom]:
    """Yield the imports of this package in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(a.name.split(".")[0] == _PACKAGE for a in node.names):
            raise ValueError(f"{module}:{node.lineno}: write `from {_PACKAGE}... import ...`")
        if isinstance(node, ast.ImportFrom):
            if node.level or node.module == _PACKAGE:
                raise ValueError(
                    f"{module}:{node.lineno}: name the module: `from {_PACKAGE}.module import ...`"
                )
            if str(node.module).split(".")[0] == _PACKAGE:
                yield node


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
