"""Do dancers who see each other dance together better? Leave-two-trials-out on ten salsa trials.

    python -m benchmarks.duet_study MOCAP [--work runs/duets] [--folds 0,1,2,3,4]

MOCAP is the folder of :mod:`benchmarks.metrics_study`. The trials have no music: all models dance to silence, and the
seed motion is all they know. In each of five folds two trials are left out, and five models are trained on the
others, by the recipes called ``mocap``: a VQ-VAE, which also sees the modern solos, and one of relations; and from their
codes and from nothing else a solo Bailando, and a Bailando++ of the same size without and with relation codes, on the same
eight salsa trials, for as many steps, on as many windows of dancers (16 a step: 16 dancers, or 8 couples) and by the same
schedule. Folds may be trained by several
processes at once, each with its own ``--folds``; the last to end prints the table and writes ``benchmarks/duets.json``.

All dancers of the left-out trials start with their own true motion of about a second, which is not evaluated; then the
models go on for ten seconds, five times with other draws. What to bear in mind: two people danced all ten trials, so no couple is
new to the models; every model was trained once; steps and dropout were chosen with the losses of the first fold in view, and
the settings of relations on two trials (05 and 07) that the six others of the first fold's eight were tried on.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.metrics_study import load
from opendance_hf.data.windows import mirrored_joints
from opendance_hf.metrics import (
    PROTOCOLS,
    STD_FLOORS,
    Clip,
    FeatureSet,
    SetScores,
    compare_sets,
    compare_systems,
    foot_skate_ratio,
    frechet_difference,
    interpenetration,
    measure,
)
from opendance_hf.metrics.uncertainty import bootstrap_mean
from opendance_hf.modeling.bailando import BailandoForDanceGeneration, join_root, split_root
from opendance_hf.modeling.bailando_pp import (
    BailandoPPForDanceGeneration,
    facing,
    follow_relation,
    relation_of,
    turn,
)
from opendance_hf.motion.skeleton import PARENTS
from opendance_hf.training import stages
from opendance_hf.training.recipe import load_recipe

Joints = npt.NDArray[np.float64]

TRIALS = [f"salsa_{number:02d}" for number in range(1, 11)]
SEED_FRAMES, FRAMES = 64, 600
#: Dances of each model for each segment.
TAKES = 5
#: Subsets drawn for a difference of FID.
DRAWS = 200
#: Changes to the recipes of each stage.
CHANGES: dict[str, list[str]] = {
    "relation": [],
    "vqvae": ["trainer.max_steps=1600", "model.hidden_size=64"],
    "gpt": ["trainer.per_device_train_batch_size=16"],
    "bailando_pp": ["trainer.per_device_train_batch_size=8"],
}
RECIPES = {stage: load_recipe(stage, "mocap", changes) for stage, changes in CHANGES.items()}
TRUTH, CODES, ALONE, TOGETHER = "truth", "truth through the codes", "two independent Bailandos", "Bailando++"
COUPLE_CODES, COUPLE = "truth through the couple's codes", "Bailando++ with relation codes"
CLONE, MIRRORED, SHUFFLED = "clone", "mirrored clone", "shuffled partners"
ROWS = (TRUTH, CODES, COUPLE_CODES, CLONE, MIRRORED, SHUFFLED, ALONE, TOGETHER, COUPLE)
#: Rows that a fold writes; the others are made of the truth.
MODELS = (ALONE, TOGETHER, COUPLE)
WRITTEN = (TRUTH, CODES, COUPLE_CODES, *MODELS)
#: Scores of couples that the table shows.
MEASURED = ("motion_motion", "partner_f1", "hand_distance", "hand_hold")
#: What a hold must not be bought with: sliding feet, bodies inside each other, bones of another length.
BROKEN = ("foot_skate", "interpenetration_mm", "bone_error_mm")
OUT = Path(__file__).with_name("duets.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mocap", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/duets"))
    parser.add_argument("--folds", default="0,1,2,3,4")
    arguments = parser.parse_args()
    if missing := [name for name in TRIALS if not (arguments.mocap / f"{name}.npz").is_file()]:
        parser.error(f"{arguments.mocap} lacks {', '.join(missing)}")
    for fold in map(int, arguments.folds.split(",")):
        dance_fold(arguments.mocap, arguments.work, fold)
    folds = [arguments.work / f"fold{fold}.npz" for fold in range(5)]
    if all(path.is_file() for path in folds):
        report(folds)


def dance_fold(mocap: Path, work: Path, fold: int) -> None:
    """Train on eight trials, and let the others be danced in every way; writes ``fold{fold}.npz``."""
    target = work / f"fold{fold}.npz"
    if target.is_file():
        return
    left_out = TRIALS[2 * fold : 2 * fold + 2]
    folder = work / f"fold{fold}"

    losses: dict[str, dict[str, float]] = {}

    def trained(stage: str, name: str = "", **options: Any) -> str:
        place = folder / (name or stage)
        salsa = json.dumps([trial for trial in TRIALS if trial not in left_out])
        changes = [f"data.leave_out={json.dumps(left_out)}", *CHANGES[stage]]
        if not (place / "README.md").is_file():
            stages.run(
                stage,
                dataset=str(mocap),
                config="mocap",
                output_dir=str(place),
                overrides=changes if stage == "vqvae" else [*changes, f"data.only={salsa}"],
                **options,
            )
        card = (place / "README.md").read_text()
        measured = re.findall(
            r"^\| (loss|upper|lower|place|hands|reconstruction_mm) \| (\S+)", card, re.MULTILINE
        )
        losses[name or stage] = {part: float(value) for part, value in measured}
        return str(place)

    vqvae = trained("vqvae")
    alone = BailandoForDanceGeneration.from_pretrained(trained("gpt", vqvae=vqvae)).eval()
    together = BailandoPPForDanceGeneration.from_pretrained(trained("bailando_pp", vqvae=vqvae)).eval()
    held = BailandoPPForDanceGeneration.from_pretrained(
        trained("bailando_pp", "bailando_pp_relation", vqvae=vqvae, relation=trained("relation"))
    ).eval()

    names, segments = [], []
    for trial in left_out:
        joints = load(mocap / f"{trial}.npz")
        for start in range(0, joints.shape[1] - SEED_FRAMES - FRAMES + 1, FRAMES):
            names.append(f"{trial}/{start}")
            segments.append(joints[:, start : start + SEED_FRAMES + FRAMES])
    real = torch.from_numpy(np.stack(segments)).float()
    count, total = len(real), real.shape[2]
    silence = torch.zeros(count, total // 8, alone.config.gpt_config.music_dim)
    how = {"do_sample": True, "top_k": 20}
    seed = real[:, :, :SEED_FRAMES]
    both = seed.transpose(0, 1).flatten(0, 1)
    takes: dict[str, list[torch.Tensor]] = {ALONE: [], TOGETHER: [], COUPLE: []}
    for take in range(TAKES):
        # Drawn alike for all, and in the first take as before there were several.
        draws = fold + len(TRIALS) * take
        solos = alone.generate_dance(
            silence.repeat(2, 1, 1),
            total,
            seed_joints=both,
            generator=torch.Generator().manual_seed(draws),
            **how,
        ).joints
        takes[ALONE].append(solos.unflatten(0, (2, count)).transpose(0, 1))
        for name, model in ((TOGETHER, together), (COUPLE, held)):
            generator = torch.Generator().manual_seed(draws)
            dance = model.generate_dance(silence, total, seed_joints=seed, generator=generator, **how)
            takes[name].append(dance.joints)
    relative, _ = split_root(real.flatten(0, 1))
    with torch.no_grad():
        decoded, velocity = alone.vqvae.decode(*alone.vqvae.encode(relative))
    coded = join_root(decoded, velocity, real[:, :, 0, 0].flatten(0, 1)).unflatten(0, (count, 2))
    relation = held.relation.decode(*held.relation.encode(relation_of(real)))
    found = {
        TRUTH: real,
        CODES: coded,
        COUPLE_CODES: follow_relation(coded, relation, keep_start=True),
        **{name: torch.cat(dances) for name, dances in takes.items()},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".partial.npz")
    settings = json.dumps({"recipes": RECIPES, "losses": losses})
    arrays = {name: dances.numpy() for name, dances in found.items()}
    np.savez_compressed(part, names=np.array(names), settings=np.str_(settings), **arrays)
    part.replace(target)


def placed(joints: Joints, where: Joints) -> Joints:
    """A dancer (T, 24, 3) moved and turned to start where and as another does."""
    body, goal = torch.from_numpy(joints), torch.from_numpy(where[0])
    turned = turn(body, (facing(goal) - facing(body[0])).expand(body.shape[:2])).numpy()
    return turned - turned[0, 0] * [1, 0, 1] + where[0, 0] * [1, 0, 1]


def report(folds: list[Path]) -> None:
    """Score every row and print the table."""
    names: list[str] = []
    losses = []
    parts: dict[str, list[Joints]] = {name: [] for name in WRITTEN}
    danced: list[int] = []  # the segment of each dance of a model
    for path in folds:
        with np.load(path) as arrays:
            settings = json.loads(str(arrays["settings"]))
            if settings["recipes"] != RECIPES:
                raise SystemExit(f"{path}: made with other settings; delete it and its folder")
            losses.append(settings["losses"])
            segments_here = range(len(names), len(names) + len(arrays["names"]))
            danced += [*segments_here] * TAKES
            names += arrays["names"].tolist()
            for name, rows in parts.items():
                rows += list(arrays[name][:, :, SEED_FRAMES:].astype(np.float64))
    trials = [name.split("/")[0] for name in names]
    real = parts[TRUTH]
    # The partner of a dance of another trial, the same number of segments further on wherever that is another trial.
    other = [
        next(k % len(real) for k in range(i + 7, i + 7 + len(real)) if trials[k % len(real)] != trials[i])
        for i in range(len(real))
    ]
    partners: dict[str, Callable[[int], Joints]] = {
        CLONE: lambda i: real[i][0] + (real[i][1, 0, 0] - real[i][0, 0, 0]) * [1, 0, 1],
        MIRRORED: lambda i: placed(mirrored_joints(real[i][0]), real[i][1]),
        SHUFFLED: lambda i: placed(real[other[i]][1], real[i][1]),
    }
    dances = parts | {
        name: [np.stack([pair[0], partner(i)]) for i, pair in enumerate(real)]
        for name, partner in partners.items()
    }

    # The segment that each dance of a row belongs to.
    segments = {name: danced if name in MODELS else range(len(names)) for name in ROWS}
    groups = {name: [trials[i] for i in segments[name]] for name in ROWS}

    def clips(name: str) -> list[Clip]:
        return [
            Clip(f"{names[i]}#{k}", dance, None, group=trials[i])
            for k, (i, dance) in enumerate(zip(segments[name], dances[name], strict=True))
        ]

    rule = PROTOCOLS["corrected"]
    measured = {name: measure(clips(name), rule) for name in ROWS}
    results = {name: compare_sets(found, measured[TRUTH], rule) for name, found in measured.items()}
    rows = {
        name: row(result.predictions) | {"fid_cd": asdict(result.fid_at_n["cd"])}
        for name, result in results.items()
    }
    for name in ROWS:
        broken = [
            broken_bodies(dance, real[i]) for i, dance in zip(segments[name], dances[name], strict=True)
        ]
        for part in BROKEN:
            interval = bootstrap_mean([values[part] for values in broken], groups=groups[name])
            rows[name][part] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    # Of the truth against itself: disjoint halves.
    rows[TRUTH]["fid_cd"] = asdict(results[TRUTH].floor_at_n["cd"])
    tests = {
        name: compare_systems(results[name].predictions, results[ALONE].predictions)
        for name in (TOGETHER, COUPLE)
    }
    # Which of two models is nearer the truth, drawn alike.
    sets = {name: FeatureSet(found.features["cd"], found.groups["cd"]) for name, found in measured.items()}
    nearer = {
        name: frechet_difference(
            sets[name],
            sets[ALONE],
            sets[TRUTH],
            n=results[name].fid_at_n["cd"].n,
            draws=DRAWS,
            floor=STD_FLOORS["cd"],
        )
        for name in tests
    }
    study = {
        "what": f"{len(names)} segments of {FRAMES / 60:g} s of ten left-out salsa trials, danced {TAKES} times by each "
        "model; intervals over trials",
        "recipes": RECIPES,
        "held_out_losses": losses,
        "rows": rows,
        "minus_alone": {
            name: {score: asdict(test[score]) for score in MEASURED} | {"fid_cd": asdict(nearer[name])}
            for name, test in tests.items()
        },
    }
    OUT.write_text(json.dumps(study, indent=2) + "\n")
    print("| partners | " + " | ".join((*MEASURED, "fid_cd", *BROKEN)) + " |")
    print("|---" * (len(MEASURED) + len(BROKEN) + 2) + "|")
    for name, scores in rows.items():
        cells = [cell(scores[score], "mean", 2) for score in MEASURED]
        cells.append(cell(scores["fid_cd"], "median", 0))
        cells += [f"{scores[part]['mean']:.{3 if part == 'foot_skate' else 1}f}" for part in BROKEN]
        print(f"| {name} | {' | '.join(cells)} |")
    print(json.dumps({name: study[name] for name in ("minus_alone", "held_out_losses")}, indent=2))


def broken_bodies(dance: Joints, real: Joints) -> dict[str, float]:
    """Return the means of :data:`BROKEN` over the frames of a dance (2, T, 24, 3) by the dancers of another."""
    bones, own = (
        np.linalg.norm(joints[..., 1:, :] - joints[..., list(PARENTS[1:]), :], axis=-1)
        for joints in (dance, real)
    )
    return {
        "foot_skate": float(np.mean([foot_skate_ratio(dancer) for dancer in dance])),
        "interpenetration_mm": 1000 * float(interpenetration(*dance).mean()),
        "bone_error_mm": 1000 * float(np.abs(bones - np.median(own, axis=1, keepdims=True)).mean()),
    }


def cell(score: dict[str, Any], middle: str, digits: int) -> str:
    """A number and, where there is one (not where all values are equal), its interval."""
    if score["low"] is None:
        return f"{score[middle]:.{digits}f}"
    return f"{score[middle]:.{digits}f} [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"


def row(scores: SetScores) -> dict[str, Any]:
    """Mean and interval of each."""
    return {
        name: {
            "mean": scores.means[name].mean,
            "low": scores.means[name].low,
            "high": scores.means[name].high,
        }
        for name in MEASURED
    }


if __name__ == "__main__":
    main()
