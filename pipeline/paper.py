"""Find the models of the paper that the user brought, or say exactly what to download and where to put it.

The paper annotates with YOLOX, CLIFF, SmoothNet and SMPLify (section 3.1), whose weights and body are their owners' to
give. Every file is looked for where its option says, else in the folder ``OPENDANCE_ASSETS``, else in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opendance_hf.assets import cache_dir, sha256_of
from opendance_hf.motion.smpl import HOW_TO_GET, SMPLFileError, load_smpl
from opendance_hf.pipeline.backends.choice import Choice
from opendance_hf.pipeline.build import BuildError

PROFILES: Final = ("default", "paper")
YOLOX_REPO: Final = "opencv/object_detection_yolox"
YOLOX_FILE: Final = "object_detection_yolox_2022nov.onnx"

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILE: Final = re.compile(r"([\w.-]+/[\w.-]+)/([\w./-]+\.onnx)")


@dataclass(frozen=True)
class _Part:
    """A stage with a choice.

    Attributes:
        stage: which one.
        embedded: name of the default model.
        paper: name of the paper's.
        file: what its file or folder is called where no option says where it is.
        how: where to get it, and what to do with it.
    """

    stage: str
    embedded: str
    paper: str
    file: str
    how: str


_PARTS: Final = {
    part.stage: part
    for part in (
        _Part(
            "detector",
            "nanodet",
            "yolox",
            YOLOX_FILE,
            f"YOLOX as ONNX: file {YOLOX_FILE} of the Hugging Face repository {YOLOX_REPO} (Apache-2.0; fetched from "
            "there when the Hub can be reached), or any model exported by YOLOX's own tools/export_onnx.py",
        ),
        _Part(
            "pose",
            "blazepose",
            "cliff",
            "cliff",
            "CLIFF: from the links in the readme of the GitHub project huawei-noah/noah-research (folder CLIFF) or "
            "haofanwang/CLIFF, the checkpoint hr48-PA43.0_MJE69.0_MVE81.2_3dpw.pt or "
            "res50-PA45.7_MJE72.0_MVE85.3_3dpw.pt; then run `opendance convert cliff THE.pt --out cliff`",
        ),
        _Part(
            "smoother",
            "filters",
            "smoothnet",
            "smoothnet",
            "SmoothNet: from MMHuman3D's model zoo (the SmoothNet configuration's page), smoothnet_windowsize32.pth.tar "
            "or one of another window; then run `opendance convert smoothnet THE.pth.tar --out smoothnet`",
        ),
        _Part("smpl", "", "smpl", "SMPL_NEUTRAL.npz", f"SMPL: {HOW_TO_GET}"),
    )
}


def resolve(
    profile: str = "default",
    detector: str | None = None,
    pose: str | None = None,
    smoother: str | None = None,
    smpl: str | None = None,
) -> Choice:
    """The models to build with; nothing is loaded yet.

    Args:
        profile: ``default``, or ``paper`` for the paper's model wherever no option says otherwise.
        detector: ``nanodet``, ``yolox``, an ONNX file, or a Hub id (with or without the file's name).
        pose: ``blazepose``, ``cliff``, a folder or a Hub id.
        smoother: ``filters``, ``smoothnet``, a folder or a Hub id.
        smpl: a converted SMPL body.

    Raises:
        BuildError: that names every file that is missing or is not what it should be, what to download, and where to
            put it.
    """
    if profile not in PROFILES:
        raise BuildError(f"--profile must be {' or '.join(PROFILES)}, got {profile!r}")
    wanted = {"detector": detector, "pose": pose, "smoother": smoother, "smpl": smpl}
    for stage, part in _PARTS.items():
        if wanted[stage] is None:
            wanted[stage] = part.paper if profile == "paper" else part.embedded
    refined = wanted["pose"] != "blazepose"
    if not refined:
        if smpl:
            raise BuildError("--smpl is what CLIFF's answers are refined on: give --pose cliff with it")
        wanted["smpl"] = ""
    elif not wanted["smpl"]:
        wanted["smpl"] = "smpl"  # CLIFF's answers mean nothing without the body

    found: dict[str, str] = {}
    wrong: list[str] = []
    for stage, part in _PARTS.items():
        value = wanted[stage] or ""
        if value == part.embedded:
            found[stage] = ""
            continue
        try:
            found[stage] = str(_locate(part, value))
        except _Missing as missing:
            wrong.append(f"- {missing}")
    if wrong:
        raise BuildError("files of the chosen models are not there:\n" + "\n".join(wrong))
    digests = tuple((stage, _digest(Path(path))) for stage, path in found.items() if path)
    return Choice(**found, digests=digests)


def check_unchanged(choice: Choice) -> None:
    """Make sure that the models of a build that goes on are still those it was made with.

    Raises:
        BuildError: naming the one that is gone or has other content.
    """
    for stage, digest in choice.digests:
        path = Path(getattr(choice, stage))
        try:
            same = _digest(path) == digest
        except OSError as error:
            raise BuildError(
                f"{path}: the build's --{stage} cannot be read ({error.strerror}); put it back, or leave out "
                "--continue and name another"
            ) from None
        if not same:
            raise BuildError(
                f"{path}: not the --{stage} that the build was made with; put that back, or leave out --continue "
                "to process all videos with this one"
            )


class _Missing(Exception):
    """Says what is missing and how to get it."""


def _locate(part: _Part, value: str) -> Path:
    """The file or folder that an option means, checked for being of the right kind."""
    check = _CHECKS[part.stage]
    option = f"--{part.stage}"
    if value != part.paper:
        path = Path(value)
        if not path.exists():
            fetched = _from_hub(part, value)
            if fetched is None:
                raise _Missing(f"{option} {value}: no such file or folder. {part.how}")
            path = fetched
        _checked(check, path, option, part)
        return path.absolute()
    own = os.environ.get("OPENDANCE_ASSETS")
    places = [Path(own) / part.file] if own else []
    places.append(cache_dir() / part.file)
    for path in places:
        if path.exists():
            _checked(check, path, option, part)
            return path.absolute()
    if part.stage == "detector" and (fetched := _from_hub(part, YOLOX_REPO)) is not None:
        _checked(check, fetched, option, part)
        return fetched
    where = " or ".join(str(path) for path in places)
    raise _Missing(f"{part.how}. Put it at {where}, or name it with {option}.")


def _checked(check: Callable[[Path], None], path: Path, option: str, part: _Part) -> None:
    try:
        check(path)
    except (ValueError, OSError) as error:
        raise _Missing(f"{option} {path}: {error}. {part.how}") from None


def _check_detector(path: Path) -> None:
    if not path.is_file() or path.suffix != ".onnx":
        raise ValueError("not an ONNX file")
    from opendance_hf.pipeline.backends.yolox import YOLOX

    try:
        YOLOX(path)
    except ValueError:
        raise
    except Exception as error:  # onnxruntime's have no class in common
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"not an ONNX file that can be run ({first})") from None


def _check_model(kind: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        config = path / "config.json"
        if not config.is_file():
            raise ValueError("not a converted checkpoint, which is a folder with a config.json")
        values = json.loads(config.read_text(encoding="utf-8"))
        found = values.get("model_type") if isinstance(values, dict) else None
        if found != kind:
            raise ValueError(f"a model of type {found!r}, not {kind!r}")
        if not (path / "model.safetensors").is_file():
            raise ValueError("the folder has no model.safetensors")

    return check


def _check_smpl(path: Path) -> None:
    try:
        load_smpl(path)
    except SMPLFileError as error:
        # The message already says how to get one.
        raise ValueError(str(error).split(". To get one")[0].removeprefix(f"{path}: ")) from None


_CHECKS: Final[dict[str, Callable[[Path], None]]] = {
    "detector": _check_detector,
    "pose": _check_model("cliff"),
    "smoother": _check_model("smoothnet"),
    "smpl": _check_smpl,
}


def _from_hub(part: _Part, value: str) -> Path | None:
    """What a Hub id means: for a detector one ONNX file, otherwise the whole model; None if there is no such thing."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if part.stage == "smpl":
        return None
    try:
        if part.stage == "detector":
            named = _HUB_FILE.fullmatch(value)
            if named is None and not _HUB_ID.fullmatch(value):
                return None
            return Path(hf_hub_download(*(named.groups() if named else (value, YOLOX_FILE))))
        if not _HUB_ID.fullmatch(value):
            return None
        return Path(snapshot_download(value, allow_patterns=["config.json", "model.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of a converted model."""
    if path.is_file():
        return sha256_of(path)
    parts = [sha256_of(path / name) for name in ("config.json", "model.safetensors")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()
