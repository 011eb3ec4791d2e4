"""What a backend is: a frozen dataclass of thresholds that says what it needs, and loads what does the work.

A stage holds a backend as a field, so a backend's thresholds are part of the pipeline's configuration. The tables of all
backends are in :mod:`opendance_hf.pipeline.backends`. Libraries that take long to import are imported in ``load``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, Self

from opendance_hf.assets import ASSETS, asset_files, cache_dir, sha256_of
from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.clip import Bodies, Fit, Floats, Image, Landmarks, VideoInfo

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


class BackendError(OpenDanceError, ValueError):
    """A backend whose files are missing, changed or not what they should be; says what to get and where to put it."""


@dataclass(frozen=True)
class Backend:
    """One way to do what a stage leaves open.

    Attributes:
        name: in configurations and on the command line.
        licence: of the model.
        assets: names in :data:`opendance_hf.assets.ASSETS` that it fetches.
        uses_gpu: whether it runs on a GPU where there is one; such backends get one worker a GPU.
        shared: whether one loaded instance serves all threads.
        reads: fields of the clip that it needs besides those of its stage.
    """

    name: ClassVar[str]
    licence: ClassVar[str] = "Apache-2.0"
    assets: ClassVar[tuple[str, ...]] = ()
    uses_gpu: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    @property
    def version(self) -> str:
        """What computed a result, besides the name: the version of the asset."""
        return ASSETS[self.assets[0]].version

    @property
    def label(self) -> str:
        """The name that provenance gives."""
        return self.name

    def provenance(self, stage: str) -> tuple[tuple[str, str, str], ...]:
        """Return (stage, name, version) rows for what it computes in a stage."""
        return ((stage, self.label, self.version),)

    def prepare(self) -> Self:
        """Find the user's files, before any work starts, and return the backend with what was found filled in.

        Raises:
            BackendError: if a file is missing or wrong.
        """
        return self

    def fetch(self) -> None:
        """Fetch the assets.

        Raises:
            AssetError: if one cannot be had.
        """
        for asset in self.assets:
            asset_files(asset)

    def load(self) -> Any:
        """Load the model."""
        raise NotImplementedError

    def fingerprinted(self) -> dict[str, Any]:
        """Return what results depend on."""
        return {"backend": self.name, "version": self.version, **asdict(self)}


@dataclass(frozen=True)
class FileBackend(Backend):
    """A backend whose file or folder the user brings.

    Args:
        file: path or Hub id; where empty, ``default_file`` in the folder ``OPENDANCE_ASSETS``, then in the cache.
        sha256: of its content; where given, another content is an error. Results depend on this, not on ``file``.

    Attributes:
        default_file: what the file or folder is called where ``file`` does not say.
        default_hub_id: repository that is asked where it is in neither place.
        hub_file: the one file that a Hub id stands for; where empty, a whole converted model.
        how_to_get: where it comes from and what to do with it, in words.
    """

    file: str = ""
    sha256: str = ""

    default_file: ClassVar[str]
    default_hub_id: ClassVar[str] = ""
    hub_file: ClassVar[str] = ""
    how_to_get: ClassVar[str]

    @property
    def version(self) -> str:
        """The first digits of the content's hash."""
        return self.sha256[:12]

    @property
    def path(self) -> Path:
        """Where the file lies; after :meth:`prepare`."""
        return Path(self.file)

    def check(self, path: Path) -> None:
        """Raise ``ValueError`` if the file is of another kind."""
        raise NotImplementedError

    def prepare(self) -> Self:
        """See :meth:`Backend.prepare`."""
        path = self._find()
        try:
            self.check(path)
            digest = digest_of(path)
        except (ValueError, OSError) as error:
            raise BackendError(f"{self.name} {path}: {error}. {self.how_to_get}") from None
        if self.sha256 not in ("", digest):
            raise BackendError(
                f"{self.name} {path}: not the file the configuration was made with (SHA-256 {digest[:12]}, expected "
                f"{self.sha256[:12]}); put that one back, or remove sha256 from the configuration"
            )
        return replace(self, file=str(path.absolute()), sha256=digest)

    def fingerprinted(self) -> dict[str, Any]:
        """See :meth:`Backend.fingerprinted`; the place of the file does not count."""
        values = super().fingerprinted()
        del values["file"]
        return values

    def _find(self) -> Path:
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
        """Return what a Hub id stands for, or None if there is nothing of that name."""
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        repo, file = name, self.hub_file
        if file and name.count("/") > 1 and name.endswith(Path(file).suffix):
            owner, project, file = name.split("/", 2)
            repo = f"{owner}/{project}"
        if not _HUB_ID.fullmatch(repo):
            return None
        try:
            if file:
                return Path(hf_hub_download(repo, file))
            return Path(snapshot_download(repo, allow_patterns=["config.json", "model.safetensors"]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
            return None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a converted model's configuration and weights."""
    if path.is_file():
        return sha256_of(path)
    parts = [sha256_of(path / name) for name in ("config.json", "model.safetensors")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def check_converted_model(path: Path, model_type: str) -> None:
    """Raise ``ValueError`` unless a folder holds a converted model of this type."""
    config = path / "config.json"
    if not config.is_file():
        raise ValueError("not a converted checkpoint, which is a folder with a config.json")
    values = json.loads(config.read_text(encoding="utf-8"))
    found = values.get("model_type") if isinstance(values, dict) else None
    if found != model_type:
        raise ValueError(f"a model of type {found!r}, not {model_type!r}")
    if not (path / "model.safetensors").is_file():
        raise ValueError("the folder has no model.safetensors")


@dataclass(frozen=True)
class Region:
    """A square of the image, possibly turned: centre and side in pixels, rotation in radians (clockwise)."""

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
        score: probability that the region holds a person.
        region: the region this person would be best seen in, from the estimate itself.
    """

    image: Floats
    world: Floats
    visibility: Floats
    score: float
    region: Region


class Picture(Protocol):
    """A frame of a video; :class:`opendance_hf.pipeline.video.Picture` is the real one."""

    @property
    def time_s(self) -> float:
        """When it is shown, seconds of the source."""
        ...

    @property
    def small(self) -> Image:
        """(H, W, 3) RGB, just large enough to compare pictures."""
        ...

    def rgb(self) -> Image:
        """(H, W, 3) RGB, upright."""
        ...


class Detector(Protocol):
    """Finds people in a frame. Role ``detector``."""

    def detect(self, image: Image) -> Floats:
        """(H, W, 3) RGB image to (N, 5) boxes ``x1 y1 x2 y2 score`` in pixels."""
        ...


class Tracker(Protocol):
    """Links boxes over the frames of one shot. Role ``tracker``: ``load()`` gives a function of the frame rate."""

    def update(self, boxes: Floats) -> Any:
        """(N, 5) boxes of the next frame to (N,) track numbers; -1 for a box that no track has claimed."""
        ...


class PoseEstimator(Protocol):
    """Estimates one person's 2D and 3D landmarks inside a region. Role ``pose``."""

    def region_of_box(self, box: Floats) -> Region:
        """Return the region to look at for a person's box ``x1 y1 x2 y2`` (pixels)."""
        ...

    def estimate(self, image: Image, region: Region, mirrored: bool = False) -> Keypoints:
        """Return the landmarks of the one person that the region of a (H, W, 3) RGB image holds.

        ``mirrored``: look at it in a mirror; the answer is turned back. It errs the other way in depth.
        """
        ...


class BodyEstimator(Protocol):
    """Estimates SMPL bodies in frames. Role ``lifter``."""

    def estimate(self, images: list[Image], boxes: list[Floats]) -> list[tuple[Floats, Floats, Floats]]:
        """For each frame its (D, 24, 3, 3) rotations, (D, 10) betas and (D, 3) transl, see ``Bodies``."""
        ...


class Smoother(Protocol):
    """Takes the jitter out of a span. Role ``smoother``."""

    def smooth(self, landmarks: Landmarks, bodies: Bodies | None) -> tuple[Landmarks, Bodies | None]:
        """Return smooth landmarks, and smooth bodies if there are any, at the same times."""
        ...


class Fitter(Protocol):
    """Fits a skeleton to a span. Role ``fitter``."""

    def fit(self, smoothed: Landmarks, bodies: Bodies | None, video: VideoInfo) -> Fit:
        """Return the fitted motion of all dancers of the span."""
        ...


class GenreClassifier(Protocol):
    """Names the genre of music. Role ``genre``."""

    def classify(self, path: Path, start_s: float, end_s: float) -> tuple[str, Floats]:
        """Return the likeliest genre of a span of a file, and (10,) probabilities in the order of ``GENRES``."""
        ...
