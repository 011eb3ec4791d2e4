"""Define the pipelines, lists of stages in the order they run, and the table of all stages.

To add a stage, write one file with a subclass of :class:`~opendance_hf.pipeline.stage.Stage` and add it to ``STAGES``. Add
it to a pipeline too if every build should run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opendance_hf.pipeline.backends.blazepose import BlazePose
from opendance_hf.pipeline.backends.cliff import CLIFF
from opendance_hf.pipeline.backends.results import GVHMR, Results
from opendance_hf.pipeline.backends.skeleton import Skeleton
from opendance_hf.pipeline.backends.smoothnet import SmoothNet
from opendance_hf.pipeline.backends.smplify import SMPLify
from opendance_hf.pipeline.backends.yolox import YOLOX
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.stages.clean import Clean
from opendance_hf.pipeline.stages.complete import Complete
from opendance_hf.pipeline.stages.confidence import Confidence
from opendance_hf.pipeline.stages.cut import Cut
from opendance_hf.pipeline.stages.dancers import Dancers
from opendance_hf.pipeline.stages.depth import Depth
from opendance_hf.pipeline.stages.detect import Detect
from opendance_hf.pipeline.stages.fingerprint import Fingerprint
from opendance_hf.pipeline.stages.fit import FitSkeleton
from opendance_hf.pipeline.stages.gate import Gate
from opendance_hf.pipeline.stages.genre import Genre
from opendance_hf.pipeline.stages.lift import Lift
from opendance_hf.pipeline.stages.music import Music
from opendance_hf.pipeline.stages.pose import Pose
from opendance_hf.pipeline.stages.poses import Poses
from opendance_hf.pipeline.stages.preview import Preview
from opendance_hf.pipeline.stages.probe import Probe
from opendance_hf.pipeline.stages.repair import Repair
from opendance_hf.pipeline.stages.reprojection import Reprojection
from opendance_hf.pipeline.stages.retime import Retime
from opendance_hf.pipeline.stages.segment import Segment
from opendance_hf.pipeline.stages.sequence import Sequence
from opendance_hf.pipeline.stages.shots import Shots
from opendance_hf.pipeline.stages.smooth import Smooth
from opendance_hf.pipeline.stages.steady import Steady
from opendance_hf.pipeline.stages.track import Track
from opendance_hf.pipeline.stages.trim import Trim

Pipeline = tuple[Stage, ...]

#: Name to class of every stage that a configuration may use.
STAGES: Final[dict[str, type[Stage]]] = {
    stage.name: stage
    for stage in (
        Probe,
        Detect,
        Shots,
        Track,
        Segment,
        Pose,
        Poses,
        Dancers,
        Lift,
        Repair,
        Complete,
        Steady,
        Depth,
        Smooth,
        Trim,
        Cut,
        FitSkeleton,
        Retime,
        Gate,
        Clean,
        Confidence,
        Reprojection,
        Music,
        Genre,
        Sequence,
        Fingerprint,
        Preview,
    )
}


def default_pipeline() -> Pipeline:
    """Return the pipeline whose models come from package registries, without files of the user."""
    return (
        Probe(),
        Detect(),
        Shots(),
        Track(),
        Segment(),
        Pose(),
        Repair(),
        Complete(),
        Steady(),
        Depth(),
        Smooth(),
        Trim(),
        Cut(),
        FitSkeleton(),
        Retime(),
        Gate(),
        Clean(),
        Confidence(),
        Reprojection(),
        Music(),
        Genre(),
        Sequence(),
        Fingerprint(),
        Preview(),
    )


def fast_pipeline() -> Pipeline:
    """Return the default pipeline with the smaller network for landmarks, whose depth is not corrected."""
    fitter = Skeleton(steps=(200, 120, 80), landmark_weight=0.02, hidden_landmark_share=0.03)
    changed = {"pose": Pose(estimator=BlazePose()), "fit": FitSkeleton(fitter)}
    return tuple(changed.get(stage.name, stage) for stage in default_pipeline() if stage.name != "depth")


def paper_pipeline() -> Pipeline:
    """Return the pipeline with the paper's models (section 3.1), whose files the user provides."""
    return (
        Probe(),
        Detect(detector=YOLOX()),
        Shots(),
        Track(),
        Segment(),
        Pose(),
        Lift(lifter=CLIFF()),
        Repair(),
        Complete(),
        Steady(),
        Smooth(smoother=SmoothNet()),
        Trim(),
        Cut(),
        FitSkeleton(fitter=SMPLify()),
        Retime(),
        Gate(max_back_to_camera=0.95),
        Confidence(),
        Reprojection(),
        Music(),
        Genre(),
        Sequence(),
        Fingerprint(),
        Preview(),
    )


def results_pipeline(results: Results | None = None) -> Pipeline:
    """Return the default pipeline with the people that another program found, in place of our detector and landmarks."""
    found = (Probe(), Poses(results or GVHMR()), Shots(), Dancers())
    names = [stage.name for stage in default_pipeline()]
    rest = default_pipeline()[names.index("repair") :]
    return (*found, *(stage for stage in rest if stage.name != "depth"))


#: Pipelines by the name that ``--profile`` takes.
PROFILES: Final[dict[str, Callable[[], Pipeline]]] = {
    "default": default_pipeline,
    "fast": fast_pipeline,
    "paper": paper_pipeline,
}
