"""How well 18 bits describe 8 frames of a dance that nobody trained on: the table and figure of docs/training.md.

    python -m benchmarks.vqvae_study MOCAP CHECKPOINT [--figure docs/figures/vqvae-mocap.png]

MOCAP is the folder of :mod:`benchmarks.metrics_study`, CHECKPOINT what the recipe ``vqvae_mocap`` made of it. The
joint error is the mean distance of the 24 joints, relative to the pelvis (whose own error is 0), over the trials that
the recipe leaves out, in windows of 240 frames. The recipe was chosen with these trials in view. Beside it, on the same trials:

- the mean pose of the training motions;
- k-means (the best of three starts): the nearest of 512 blocks of 8 frames for each half of the body. As many bits as
  the VQ-VAE has, but no decoder that knows what comes before and after. Plain and mirrored blocks, every 4 frames.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import yaml
from matplotlib.figure import Figure
from sklearn.cluster import KMeans

from opendance_hf.data import MotionWindows
from opendance_hf.modeling.bailando import BailandoVQVAE, BailandoVQVAEOutput, split_root
from opendance_hf.motion.skeleton import PARENTS

Floats = npt.NDArray[np.float32]
WINDOW = 240
OUT = Path(__file__).with_name("vqvae.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mocap", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/vqvae-mocap.png"))
    arguments = parser.parse_args()
    model = BailandoVQVAE.from_pretrained(arguments.checkpoint).eval()
    left_out = yaml.safe_load((arguments.checkpoint / "recipe.yaml").read_text())["data"]["leave_out"]
    per_code = model.config.frames_per_code
    blocks = relative(
        MotionWindows(arguments.mocap, per_code, per_code // 2, leave_out=left_out, mirror=True)
    )
    truth = relative(MotionWindows(arguments.mocap, WINDOW, WINDOW, only=left_out))

    with torch.no_grad():
        output = model(torch.from_numpy(truth))
        others = relative(MotionWindows(arguments.mocap, WINDOW, WINDOW, leave_out=left_out))
        trained = model(torch.from_numpy(others))
    guesses = {
        "mean pose": np.broadcast_to(blocks.reshape(-1, 24, 3).mean(axis=0), truth.shape),
        "k-means, 512 blocks a half": nearest_blocks(model, blocks, truth),
        "VQ-VAE, 512 codes a half": decoded(output),
    }
    errors = {
        name: 1000 * np.linalg.norm(guess - truth, axis=-1).mean(axis=-1) for name, guess in guesses.items()
    }
    used = {
        half: {"left out": len(found.unique()), "all": len(torch.cat([found, known]).unique())}
        for half, found, known in zip(
            ("upper", "lower"),
            (output.upper_codes, output.lower_codes),
            (trained.upper_codes, trained.lower_codes),
            strict=True,
        )
    }
    study = {
        "what": f"mean joint error on {truth.shape[0] * WINDOW} frames of {', '.join(left_out)}",
        "error_mm": {name: float(error.mean()) for name, error in errors.items()},
        "error_by_trial_mm": by_trial(model, arguments.mocap, left_out),
        "training_error_mm": float(1000 * np.linalg.norm(decoded(trained) - others, axis=-1).mean()),
        "codes_used": used,
        "codebook_size": model.config.codebook_size,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    OUT.write_text(json.dumps(study, indent=2) + "\n")
    print(json.dumps(study, indent=2))
    draw(arguments.figure, truth, guesses, errors)


def relative(windows: MotionWindows) -> Floats:
    """(N, T, 24, 3) all windows, relative to the pelvis, metres."""
    joints = torch.stack([windows[i]["joints"] for i in range(len(windows))])
    return split_root(joints)[0].numpy()


def decoded(output: BailandoVQVAEOutput) -> Floats:
    """(N, T, 24, 3) joints, the pelvis where it belongs."""
    joints = output.joints.numpy()
    return joints - joints[:, :, :1]


def by_trial(model: BailandoVQVAE, mocap: Path, trials: list[str]) -> dict[str, float]:
    """The VQ-VAE's error on each trial by itself, millimetres."""
    found = {}
    for trial in trials:
        truth = relative(MotionWindows(mocap, WINDOW, WINDOW, only=[trial]))
        with torch.no_grad():
            output = model(torch.from_numpy(truth))
        found[trial] = float(1000 * np.linalg.norm(decoded(output) - truth, axis=-1).mean())
    return found


def nearest_blocks(model: BailandoVQVAE, blocks: Floats, truth: Floats) -> Floats:
    """(N, T, 24, 3) with each half of every block replaced by the nearest mean of k-means."""
    per_code, out = model.config.frames_per_code, np.empty_like(truth)
    for half in model.joints_of.values():
        means = KMeans(model.config.codebook_size, n_init=3, random_state=0)
        means.fit(blocks[:, :, half].reshape(len(blocks), -1))
        cut = truth[:, :, half].reshape(-1, per_code * len(half) * 3)
        found = means.cluster_centers_[means.predict(cut)]
        out[:, :, half] = found.reshape(*truth.shape[:2], len(half), 3)
    return out


def draw(path: Path, truth: Floats, guesses: dict[str, Floats], errors: dict[str, Floats]) -> None:
    """Poses of the left-out window of median error, and how the errors of all frames are distributed."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    colours = dict(zip(guesses, ("0.4", "tab:orange", "tab:blue"), strict=True))
    shown = list(guesses)[1:]
    best = shown[-1]
    window = int(np.argsort(errors[best].mean(axis=1))[len(truth) // 2])
    for axes_row, name in zip(top.subplots(2, 8, sharex=True, sharey=True), shown, strict=True):
        for axes, frame in zip(axes_row, range(8, WINDOW, WINDOW // 8), strict=False):
            for joints, shade in (
                (truth[window, frame], "0.65"),
                (guesses[name][window, frame], colours[name]),
            ):
                for joint, parent in enumerate(PARENTS):
                    if parent >= 0:
                        axes.plot(*joints[[joint, parent]][:, :2].T, color=shade, lw=1.6)
            axes.set_aspect("equal")
            axes.set_axis_off()
            axes.set_title(f"{errors[name][window, frame]:.0f} mm", size=8)
        axes_row[0].text(-1.3, 0, name.split(",")[0], rotation=90, va="center", color=colours[name])
    top.suptitle("A left-out dance: truth in grey, frames half a second apart", size=10)
    axes = bottom.subplots()
    for name, error in errors.items():
        ordered = np.sort(error.ravel())
        axes.plot(
            ordered,
            np.linspace(0, 1, ordered.size),
            label=f"{name}: {error.mean():.0f} mm",
            color=colours[name],
        )
    axes.set(xlabel="mean joint error of a frame, mm", ylabel="share of frames", xlim=(0, 300), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
