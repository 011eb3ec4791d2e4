"""Running median by elementwise minima and maxima, which numpy computes many times faster than sorted windows.

Sixteen consecutive windows of 31 values have sixteen values in common. These are sorted once. Then the group of
sixteen windows is halved, and halved again. Each half merges in the run of values that all its windows also contain,
and drops as many of the smallest and of the largest values, which can no longer be the median. A group of one window
has one candidate left, the median.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_WIDTH: Final = 31
_BLOCK: Final = 16
# Tiles of this size stay in the processor cache for about 500 operations.
_TILE_ROWS: Final = 64
_TILE_COLUMNS: Final = 128


def running_median(values: Floats) -> Floats:
    """Compute the median of each value and the 15 on either side of it along the first axis; ends are mirrored.

    Args:
        values: (n, columns), finite.

    Returns:
        (n, columns), equal to ``scipy.ndimage.median_filter(values, (31, 1))``.
    """
    n, columns = values.shape
    mirrored = np.pad(np.arange(n), _WIDTH // 2, mode="symmetric")
    num_blocks = -(-n // _BLOCK)
    # Shifted by one value, the sixteen values common to sixteen windows are one block. The first and the last
    # block have no windows of their own.
    padded = np.zeros((num_blocks + 2, _BLOCK, columns), dtype=np.float32)
    np.take(values, mirrored, axis=0, mode="clip", out=padded.reshape(-1, columns)[1 : 1 + len(mirrored)])
    medians = np.empty((num_blocks, _BLOCK, columns), dtype=np.float32)
    # Allocate once: allocation would take longer than the computation.
    space = np.empty(
        (8, _BLOCK, min(num_blocks, _TILE_ROWS) + 2, min(columns, _TILE_COLUMNS)), dtype=np.float32
    )
    for row in range(0, num_blocks, _TILE_ROWS):
        for column in range(0, columns, _TILE_COLUMNS):
            tile = slice(column, column + _TILE_COLUMNS)
            out = medians[row : row + _TILE_ROWS, :, tile]
            values_of_tile = padded[row : row + _TILE_ROWS + 2, :, tile]
            _fill(out, values_of_tile, space[:, :, : len(values_of_tile), : out.shape[2]])
    return medians.reshape(-1, columns)[:n]


def _fill(medians: Floats, padded: Floats, space: Floats) -> None:
    """Compute medians (blocks, 16, columns) of values (blocks + 2, 16, columns), with work space for eight times them."""
    *sorted_runs, ours, theirs, spare = space
    sorted_runs[0][:] = padded.swapaxes(0, 1)
    runs = dict(zip((1, 2, 4, 8, 16), sorted_runs, strict=True))
    for length in (1, 2, 4, 8):
        pairs, merged = (x.reshape(-1, 2, length, *x.shape[1:]) for x in (runs[length], runs[2 * length]))
        rising, falling = pairs[:, 0], pairs[:, 1, ::-1]
        np.minimum(rising, falling, out=merged[:, 0])
        np.maximum(rising, falling, out=merged[:, 1])
        _sort(runs[2 * length], length // 2, spare)

    num_blocks = len(medians)

    def run(length: int, start: int) -> Floats:
        """Return the sorted run (length, blocks, columns) that starts ``start`` values after the first one of a block."""
        block, phase = divmod(start, _BLOCK)
        return runs[length][phase : phase + length, 1 + block : 1 + block + num_blocks]

    ours, theirs, spare = (x[:, :num_blocks] for x in (ours, theirs, spare))
    # (groups of windows, values, blocks, columns): sorted candidates for the medians of a group.
    candidates = run(_BLOCK, 0)[None]
    for half in (8, 4, 2, 1):
        halves = ours.reshape(-1, 2, half, *ours.shape[1:])
        for k, group in enumerate(candidates):
            first = 1 - _BLOCK + 2 * half * k
            # Merge with the run that is new to half of the windows, drop the smallest values, then the largest.
            np.maximum(group[:half], run(half, first + half - 1)[::-1], out=halves[k, 0])
            np.maximum(group[:half], run(half, first + _WIDTH)[::-1], out=halves[k, 1])
        _sort(ours, half // 2, spare)
        np.minimum(halves, candidates[:, None, : half - 1 : -1], out=halves)
        _sort(ours, half // 2, spare)
        candidates = halves.reshape(-1, half, *ours.shape[1:])
        ours, theirs = theirs, ours
    medians[:] = candidates[:, 0].swapaxes(0, 1)


def _sort(values: Floats, reach: int, spare: Floats) -> None:
    """Sort runs of 2 * reach values that first rise and then fall, or the other way round (Batcher 1968)."""
    while reach > 0:
        pairs = values.reshape(-1, 2, reach, *values.shape[1:])
        low, high = pairs[:, 0], pairs[:, 1]
        smaller = spare[: len(values) // 2].reshape(low.shape)
        np.minimum(low, high, out=smaller)
        np.maximum(low, high, out=high)
        low[:] = smaller
        reach //= 2
