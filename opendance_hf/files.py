"""Write files atomically: a reader finds the complete old or the complete new content."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without an error.

    Missing parent folders are created. The temporary name begins with a dot, ends in ``.partial`` and is unique for
    each process and call, so that several writers of one file do not interfere. After an error ``path`` is unchanged,
    and the temporary file is removed.

    Args:
        path: the file to write.

    Raises:
        OSError: if a folder, the temporary file or ``path`` cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def names_a_folder(name: str | os.PathLike[str]) -> bool:
    """Return True if a name is a path on this machine, and False if it may be a repository of the Hub (``user/name``).

    A path exists, starts with ``.``, ``/`` or ``~``, does not have exactly one slash, or begins with an existing folder.
    """
    text = os.fspath(name)
    if isinstance(name, os.PathLike) or Path(text).expanduser().exists() or text.startswith((".", "/", "~")):
        return True
    return text.count("/") != 1 or Path(text).parent.is_dir()
