"""Make training pairs of the lifter in several processes; an interrupted run continues."""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_folder
from opendance_hf.pipeline.backends import make_backend
from opendance_hf.synthetic.pairs import CLIPS_PER_SHARD, Recipe, write_shard

#: The recipe of the pairs of a folder.
RECIPE_FILE: Final = "synthesize.json"
_ROOM: Final = 10_000_000


class SynthesizeError(OpenDanceError, ValueError):
    """Raised for a folder of another recipe; nothing has been written."""


@dataclass(frozen=True)
class SynthesizeOptions:
    """Options of a run: the seeds ``seed`` to ``seed + clips - 1`` with a recipe, in so many processes."""

    recipe: Recipe
    clips: int
    seed: int = 0
    workers: int = 1


def run_synthesize(out: Path, options: SynthesizeOptions, console: Console) -> None:
    """Write ``out/pairs_SEED.npz`` for every eight seeds; see :func:`opendance_hf.synthetic.pairs.write_shard`.

    Shards that exist are kept, so the same call continues an interrupted one, and further seeds may be added.

    Raises:
        SynthesizeError: if the folder has pairs of another recipe.
        OutputError, DiskError: if the folder has other files, holds an input, or cannot be written.
        BackendError: if the estimator is unknown or cannot be loaded.
        MotionsError: if a captured trial cannot be read.
    """
    known = out / RECIPE_FILE
    make_backend("pose", options.recipe.estimator)
    check_folder(out, options.recipe.motions, overwrite=known.is_file(), option="OUT", need_bytes=_ROOM)
    recipe = json.dumps(options.recipe.describe(), indent=2) + "\n"
    if not known.is_file():
        with atomic_write(known) as partial:
            partial.write_text(recipe, encoding="utf-8")
    elif known.read_text(encoding="utf-8") != recipe:
        raise SynthesizeError(
            f"{out}: its pairs were made with other motions or options ({known}); choose another folder"
        )
    shards = _shards(out, options)
    started = time.monotonic()
    # Spawn: threads of the estimator do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        waiting = {pool.submit(write_shard, path, seeds, options.recipe): path for path, seeds in shards}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                made = future.result()
                state = f"{made} clips" if made else "there already"
                text = f"{waiting[future].name}  {state}  ({done} of {len(shards)}, {time.monotonic() - started:.0f} s)"
                console.print(text, markup=False, highlight=False)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shards(out: Path, options: SynthesizeOptions) -> list[tuple[Path, range]]:
    """Return the file and the seeds of each shard."""
    end = options.seed + options.clips
    starts = range(options.seed, end, CLIPS_PER_SHARD)
    return [
        (out / f"pairs_{start:07d}.npz", range(start, min(start + CLIPS_PER_SHARD, end))) for start in starts
    ]
