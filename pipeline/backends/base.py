"""Define the base classes of backends, the types they exchange with stages, and the interface of each role.

A backend is a frozen dataclass with its thresholds as fields; ``load`` returns the loaded model. A stage has a backend as a
field, so the thresholds of backends are part of the pipeline's configuration. All backends are listed in
:mod:`opendance_hf.pipeline.backends`. Libraries with a long import time are imported in ``load``.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from opendance_hf.assets import ASSETS, asset_files, cache_dir, sha256_of
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import HUB_ID
from opendance_hf.pipeline.clip import Bodies, Fit, Floats, Image, Landmarks, VideoInfo

#: HTTP status of repositories and files that do not exist, or are hidden from this user.
_NOT_ON_HUB: Final = (401, 403, 404)


class BackendError(OpenDanceError, ValueError):
    """Raised for missing, changed or invalid files of a backend; the message says which file to get and where to put it."""


@dataclass(frozen=True)
class Backend:
    """Base class of exchangeable implementations that stages use, such as detectors.

    Attributes:
        name: name in configurations and on the command line.
        licence: licence of the model.
        assets: names in :data:`opendance_hf.assets.ASSETS` of its pinned files.
        shared: True if all threads use one loaded instance.
        reads: fields of the clip that it reads in addition to those of its stage.
        slow_imports: modules that it needs and that take long to import; workers import them while the first stages run.
    """

    name: ClassVar[str]
    licence: ClassVar[str] = "Apache-2.0"
    assets: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    slow_imports: ClassVar[tuple[str, ...]] = ()

    @property
    def version(self) -> str:
        """Version for provenance, by default that of the first asset."""
        return ASSETS[self.assets[0]].version

    @property
    def uses_gpu(self) -> bool:
        """True if the model runs on a GPU, where the machine has one; each worker then gets its own."""
        return False

    @property
    def label(self) -> str:
        """Name for provenance."""
        return self.name

    def provenance(self, stage: str) -> tuple[tuple[str, str, str], ...]:
        """Return the (stage, name, version) rows of a stage that uses this backend."""
        return ((stage, self.label, self.version),)

    def prepare(self) -> Self:
        """Find and check the user's files before a build starts; return the backend with their paths and hashes.

        Raises:
            BackendError: if a file is missing or invalid.
        """
        return self

    def fetch(self) -> None:
        """Fetch the assets.

        Raises:
            AssetError: if one cannot be fetched.
        """
        for asset in self.assets:
            asset_files(asset)

    def load(self) -> Any:
        """Load the model."""
        raise NotImplementedError

    def fingerprinted(self) -> dict[str, Any]:
        """Return the values that results depend on."""
        return {"backend": self.name, "version": self.version, **asdict(self)}


@dataclass(frozen=True)
class FileBackend(Backend):
    """A backend whose file or folder the user provides.

    Args:
        file: path or Hub id. If empty, ``default_file`` is looked up in the folder ``OPENDANCE_ASSETS``, then in the cache.
        sha256: hash of the content. If given, other content is refused. Results depend on it, not on ``file``.

    Attributes:
        default_file: name of the file or folder where ``file`` is empty.
        default_hub_id: Hub repository that is tried last.
        hub_file: file to load from a Hub repository; if empty, a converted model is loaded.
        how_to_get: instructions to get and convert the file.
    """

    file: str = ""
    sha256: str = ""

    default_file: ClassVar[str]
    default_hub_id: ClassVar[str] = ""
    hub_file: ClassVar[str] = ""
    how_to_get: ClassVar[str]

    @property
    def version(self) -> str:
        """First digits of the content's hash."""
        return self.sha256[:12]

    @property
    def path(self) -> Path:
        """Path of the file; valid after :meth:`prepare`."""
        return Path(self.file)

    def check(self, path: Path) -> None:
        """Raise ``ValueError`` if the file is of another type."""
        raise NotImplementedError

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of the content."""
        return digest_of(path)

    def prepare(self) -> Self:
        """Find and check the file, see :meth:`Backend.prepare`."""
        path = self._find_file()
        try:
            self.check(path)
            sha256 = self.digest(path)
        except (ValueError, OSError) as error:
            raise BackendError(f"{self.name} {path}: {error}. {self.how_to_get}") from None
        if self.sha256 not in ("", sha256):
            raise BackendError(
                f"{self.name} {path}: not the file that the configuration was made with (SHA-256 {sha256[:12]}, expected "
                f"{self.sha256[:12]}); restore it, or remove sha256 from the configuration"
            )
        return replace(self, file=str(path.absolute()), sha256=sha256)

    def fingerprinted(self) -> dict[str, Any]:
        """Return the values that results depend on: the content of the file, not its path."""
        values = super().fingerprinted()
        del values["file"]
        return values

    def _find_file(self) -> Path:
        if self.file:
            path = Path(self.file)
            found = path if path.exists() else self._from_hub(self.file)
            if found is None:
                raise BackendError(
                    f"{self.name} {self.file}: no such file, folder or Hub id. {self.how_to_get}"
                )
            return found
        own = os.environ.get("OPENDANCE_ASSETS")
        places = [Path(folder) / self.default_file for folder in (own, cache_dir()) if folder]
        for place in places:
            if place.exists():
                return place
        if self.default_hub_id and (found := self._from_hub(self.default_hub_id)) is not None:
            return found
        where = " or ".join(map(str, places))
        raise BackendError(f"{self.name}: {self.how_to_get}. Put it at {where}, or name it: {self.name}:FILE")

    def _from_hub(self, name: str) -> Path | None:
        """Download the file or model of a Hub id; return None if the Hub does not have it.

        Raises:
            BackendError: if the Hub cannot be reached.
        """
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        repo, file = name, self.hub_file
        if file and name.count("/") > 1 and name.endswith(Path(file).suffix):
            owner, project, file = name.split("/", 2)
            repo = f"{owner}/{project}"
        if not HUB_ID.fullmatch(repo):
            return None
        try:
            if file:
                return Path(hf_hub_download(repo, file))
            return Path(snapshot_download(repo, allow_patterns=["config.json", "model.safetensors"]))
        except HFValidationError:
            return None
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code in _NOT_ON_HUB:
                return None
            cause = str(error).strip().partition("\n")[0]
            raise BackendError(
                f"{self.name} {name}: no such file here, and it cannot be downloaded from the Hub ({cause}); check the "
                f"network, or give a file: {self.name}:FILE. {self.how_to_get}"
            ) from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a converted model's configuration and weights."""
    if path.is_file():
        return sha256_of(path)
    members = sorted(path.glob("member-*.safetensors"))
    parts = [sha256_of(file) for file in (path / "config.json", path / "model.safetensors", *members)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def check_converted_model(path: Path, model_type: str) -> None:
    """Raise ``ValueError`` unless a folder holds a converted model of this type."""
    config = path / "config.json"
    if not config.is_file():
        raise ValueError("not a converted checkpoint, which is a folder with a config.json")
    values = json.loads(config.read_text(encoding="utf-8"))
    found = values.get("model_type") if isinstance(values, dict) else None
    if found != model_type:
        raise ValueError(f"a model of type {found!r}, expected {model_type!r}")
    if not (path / "model.safetensors").is_file():
        raise ValueError("the folder has no model.safetensors")


@dataclass(frozen=True)
class Region:
    """A square of the image, possibly rotated: centre and side in pixels, rotation in radians (clockwise)."""

    cx: float
    cy: float
    size: float
    rotation: float = 0.0


@dataclass(frozen=True)
class Keypoints:
    """One person in one frame, as the landmarks of :mod:`opendance_hf.pipeline.landmarks`.

    Attributes:
        image: (33, 2) pixels in the source frame.
        world: (33, 3) metres relative to the mid hip, x right, y up, z towards the camera.
        visibility: (33,) probability that the landmark is in the frame and not hidden.
        score: probability that the region contains a person.
        region: region around this person, computed from the estimate.
    """

    image: Floats
    world: Floats
    visibility: Floats
    score: float
    region: Region


class Picture(Protocol):
    """Interface of a video frame, implemented by :class:`opendance_hf.pipeline.video.Picture`."""

    @property
    def time_s(self) -> float:
        """Presentation time, seconds of the source."""
        ...

    @property
    def small(self) -> Image:
        """(H, W, 3) RGB at the reduced size used to compare frames."""
        ...

    def rgb(self) -> Image:
        """Convert to (H, W, 3) RGB, upright."""
        ...


class Detector(Protocol):
    """Interface of the role ``detector``: find people in a frame."""

    def detect(self, image: Image) -> Floats:
        """Return the (N, 5) boxes ``x1 y1 x2 y2 score``, pixels, of people in an (H, W, 3) RGB image."""
        ...


class Tracker(Protocol):
    """Interface of the role ``tracker``: link boxes over the frames of one shot.

    ``load()`` returns a function from the frame rate to a new tracker.
    """

    def update(self, boxes: Floats) -> Any:
        """Return the (N,) track numbers of the (N, 5) boxes of the next frame; -1 for boxes without a track."""
        ...


class PoseEstimator(Protocol):
    """Interface of the role ``pose``: estimate one person's 2D and 3D landmarks inside a region."""

    def region_of_box(self, box: Floats) -> Region:
        """Return the region in which to estimate the person of a box ``x1 y1 x2 y2`` (pixels)."""
        ...

    def estimate(self, image: Image, region: Region) -> Keypoints:
        """Estimate the landmarks of the person in a region of an (H, W, 3) RGB image."""
        ...


class BodyEstimator(Protocol):
    """Interface of the role ``lifter``: estimate SMPL bodies in frames."""

    def estimate(self, images: list[Image], boxes: list[Floats]) -> list[tuple[Floats, Floats, Floats]]:
        """Return (D, 24, 3, 3) rotations, (D, 10) betas and (D, 3) transl for each frame, see ``Bodies``."""
        ...


class Smoother(Protocol):
    """Interface of the role ``smoother``: smooth the estimates of a span over time."""

    def smooth(self, landmarks: Landmarks, bodies: Bodies | None) -> tuple[Landmarks, Bodies | None]:
        """Return smoothed landmarks, and smoothed bodies if there are any, at the same times."""
        ...


class Fitter(Protocol):
    """Interface of the role ``fitter``: fit a skeleton to a span."""

    def fit(
        self,
        smoothed: Landmarks,
        bodies: Bodies | None,
        video: VideoInfo,
        pins: npt.NDArray[np.bool_] | None = None,
    ) -> Fit:
        """Return the fitted motion of all dancers of the span.

        ``pins`` (D, T, 2) are the left and right feet that annotators pinned to the ground; it is given only if there are any.
        """
        ...


class GenreClassifier(Protocol):
    """Interface of the role ``genre``: classify the genre of music."""

    def classify(self, path: Path, start_s: float, end_s: float) -> tuple[str, Floats]:
        """Return the most likely genre of a span of a file, and (10,) probabilities in the order of ``GENRES``."""
        ...
