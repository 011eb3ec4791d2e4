"""Read the people that other programs found in videos, from the files they left. Role ``results``.

To add a program, write a module of :mod:`opendance_hf.formats` with ``read_people``, a subclass of :class:`Results`, and a
line in ``BACKENDS``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from opendance_hf.assets import sha256_of
from opendance_hf.formats import FormatError, phalp, wham
from opendance_hf.formats.people import People
from opendance_hf.pipeline.backends.base import BackendError, FileBackend

#: Number of files that are read to tell the program.
_MAX_TRIED: Final = 3


@dataclass(frozen=True)
class Results(FileBackend):
    """Base class of the files of one program: ``file`` is the file of the only video, or a folder with those of all videos.

    Attributes:
        module: module of :mod:`opendance_hf.formats` with ``read_people``.
        names: names of a video's file in the folder, in the order in which they are looked for; ``*`` is the name of the
            video without its suffix.
    """

    module: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    shared: ClassVar[bool] = True

    def files(self, path: Path) -> list[Path]:
        """Return the files of results at a path, a file or a folder, in the order of their paths."""
        if path.is_file():
            return [path]
        return sorted({file for name in self.names for file in path.glob(name) if file.is_file()})

    def of_video(self, video: Path) -> Path | None:
        """Return the file of a video; None if there is none."""
        if self.path.is_file():
            return self.path
        places = [self.path / name.replace("*", video.stem) for name in self.names]
        return next((place for place in places if place.is_file()), None)

    def check(self, path: Path) -> None:
        """Check that there are results; damaged files are found when they are read."""
        if not self.files(path):
            expected = " or ".join(name.replace("*", "VIDEO") for name in self.names)
            raise ValueError(f"holds no results of {self.name}, expected {expected}")

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of the names and the content of all files."""
        if path.is_file():
            return sha256_of(path)
        content = [(file.relative_to(path).as_posix(), sha256_of(file)) for file in self.files(path)]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def _find_file(self) -> Path:
        if not self.file or not self.path.exists():
            raise BackendError(
                f"{self.name} {self.file or '(no file)'}: no such file or folder. {self.how_to_get}"
            )
        return self.path

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a file is of this program."""
        raise NotImplementedError

    def load(self) -> Self:
        """Return the backend itself: there is nothing to load."""
        return self

    def read(self, path: Path) -> People:
        """Read one file.

        Raises:
            FormatError: if the file is damaged or of another program.
        """
        people: People = import_module(self.module).read_people(path)
        return people


@dataclass(frozen=True)
class GVHMR(Results):
    """Results of GVHMR (Shen et al., SIGGRAPH Asia 2024), one person."""

    name: ClassVar[str] = "gvhmr"
    licence: ClassVar[str] = "that of your results: read the terms of GVHMR and of SMPL-X"
    module: ClassVar[str] = "opendance_hf.formats.gvhmr"
    names: ClassVar[tuple[str, ...]] = ("*/hmr4d_results.pt", "*.pt")
    how_to_get: ClassVar[str] = "Run GVHMR on the videos: tools/demo/demo.py writes VIDEO/hmr4d_results.pt"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether torch.save may have written the file."""
        return path.suffix == ".pt"


@dataclass(frozen=True)
class WHAM(Results):
    """Results of WHAM (Shin et al., CVPR 2024), all people of the video."""

    name: ClassVar[str] = "wham"
    licence: ClassVar[str] = "that of your results: read the terms of WHAM and of SMPL"
    module: ClassVar[str] = "opendance_hf.formats.wham"
    names: ClassVar[tuple[str, ...]] = ("*/wham_output.pkl", "*.pkl")
    how_to_get: ClassVar[str] = "Run WHAM on the videos: demo.py --save_pkl writes VIDEO/wham_output.pkl"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a pickle holds people with their frames."""
        if path.name == "wham_output.pkl":
            return True
        return not path.name.startswith("demo_") and _holds(path, wham.recognises)


@dataclass(frozen=True)
class PHALP(Results):
    """Results of 4DHumans (Goel et al., ICCV 2023), all people of the video."""

    name: ClassVar[str] = "phalp"
    licence: ClassVar[str] = "that of your results: read the terms of 4DHumans and of SMPL"
    module: ClassVar[str] = "opendance_hf.formats.phalp"
    names: ClassVar[tuple[str, ...]] = ("demo_*.pkl", "*.pkl")
    how_to_get: ClassVar[str] = "Run 4DHumans on the videos: track.py writes results/demo_VIDEO.pkl"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a pickle holds frames with their people."""
        return path.name.startswith("demo_") or _holds(path, phalp.recognises)


def _holds(path: Path, recognises: Callable[[dict[str, Any]], bool]) -> bool:
    try:
        return recognises(phalp.load(path))
    except (FormatError, OSError):
        return False


#: Classes of results by name, in the order in which a file is tried.
_TOOLS: Final[tuple[type[Results], ...]] = (GVHMR, WHAM, PHALP)


def results_at(text: str) -> Results:
    """Return the backend that ``RESULTS`` or ``NAME:RESULTS`` describes; without a name the files tell the program.

    Raises:
        BackendError: if there are no results, or those of several programs.
    """
    name, _, file = text.partition(":")
    for tool in _TOOLS:
        if name == tool.name and file:
            return tool(file)
    path = Path(text)
    if not path.exists():
        raise BackendError(f"--poses {text}: no such file or folder")
    found = [
        tool for tool in _TOOLS if any(tool.recognises(file) for file in tool(text).files(path)[:_MAX_TRIED])
    ]
    if len(found) != 1:
        names = " or ".join(f"{tool.name}:{text}" for tool in found or _TOOLS)
        what = "results of several programs" if found else "no results of a known program"
        raise BackendError(
            f"--poses {text}: {what}; write {names}, or see docs/backends.md for the names of files"
        )
    return found[0](text)
