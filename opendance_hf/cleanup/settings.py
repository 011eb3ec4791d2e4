"""Define the thresholds of the clean-up."""

from __future__ import annotations

from dataclasses import dataclass

from opendance_hf.motion.contacts import RestLimits


@dataclass(frozen=True)
class SteadyLimits:
    """Hold the settings of the filter that removes jitter.

    Attributes:
        cutoff_hz: cutoff frequency for noise of ``noise_m`` at 60 FPS, in Hz.
        noise_m: standard deviation of noise per coordinate, metres.
        min_cutoff_hz: lowest cutoff frequency, in Hz.
        max_cutoff_hz: highest cutoff frequency, in Hz.
        max_rate_share: a cutoff above this fraction of the frame rate is not applied.
        spike_m: a joint further than this from the median of five frames is replaced by it, metres.
        max_speed_mps: a pelvis that is faster between two frames has been cut, m/s.
    """

    cutoff_hz: float = 8.0
    noise_m: float = 0.01
    min_cutoff_hz: float = 5.0
    max_cutoff_hz: float = 12.0
    max_rate_share: float = 0.4
    spike_m: float = 0.04
    max_speed_mps: float = 30.0


@dataclass(frozen=True)
class FeetLimits(RestLimits):
    """Hold the thresholds that find feet on the ground, and how far they may be corrected.

    Attributes:
        toe_height_m: height of a resting toe joint above the ground, metres.
        ankle_height_m: height of the ankle joint of a flat foot above the ground, metres; each dancer's own may differ
            by ``ankle_range_m``.
        ankle_range_m: see ``ankle_height_m``. Ankles of feet on tiptoe are higher and have no contact.
        tolerance_m: a toe is on the ground up to this height above its height at rest, metres.
        hover_m: largest height of a foot in contact above its height at rest, metres.
        max_glide_m: distance over which a resting foot is held, metres; a longer glide is several contacts.
        max_support_m: distance over which a sliding foot is held while no foot stands, metres.
        max_support_height_m: a slow foot up to this height hovers while no other foot stands, and is put down, metres.
    """

    toe_height_m: float = 0.025
    ankle_height_m: float = 0.085
    ankle_range_m: float = 0.03
    tolerance_m: float = 0.05
    hover_m: float = 0.02
    max_glide_m: float = 0.06
    max_support_m: float = 0.2
    max_support_height_m: float = 0.12
    rest_mps: float = 0.15
    leave_mps: float = 0.25
    step_mps: float = 0.35
    blend_s: float = 0.08


@dataclass(frozen=True)
class PushLimits:
    """Hold the settings that take limbs out of bodies and bodies out of the floor.

    Attributes:
        rounds: largest number of rounds; each corrects what the rounds before have left.
        smooth_s: standard deviation of the Gaussian over which a push fades in and out, seconds.
        margin_m: distance that is left between surfaces, metres.
    """

    rounds: int = 8
    smooth_s: float = 0.06
    margin_m: float = 0.003


@dataclass(frozen=True)
class CleanSettings:
    """Hold all settings of :func:`opendance_hf.cleanup.clean_motion`.

    Attributes:
        steady: of the filter.
        feet: of contacts.
        push: of collisions.
        natural_jitter: jitter of captured dancers, m/s³ (CMU's salsas have 240 to 500 at 60 FPS). Up to it, holding feet
            may add jitter to a motion that has less.
        max_depth_growth_m: a depth in the floor, in the own body or in partners may grow by this on average, metres: capsules
            are coarser than that.
        max_mean_move_m: largest mean distance of a dancer's joints from the input, metres, in addition to the measured
            noise; steps that move them further are left out.
    """

    steady: SteadyLimits = SteadyLimits()
    feet: FeetLimits = FeetLimits()
    push: PushLimits = PushLimits()
    natural_jitter: float = 400.0
    max_depth_growth_m: float = 0.0001
    max_mean_move_m: float = 0.05
