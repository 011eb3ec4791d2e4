"""Pack annotated sequences into a dataset folder that ``load_dataset`` reads:

    out/README.md                                               dataset card with the configurations
    out/figures/statistics.png                                  statistics as in the paper's figure 3, optional
    out/statistics.json                                         statistics; also marks the folder as an OpenDance-HF dataset
    out/data/{config}/{split}-00000-of-0000N.parquet
    out/webdataset/{config}/{split}-00000.tar

The same sequences in any order give the same bytes. The folder is written atomically.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub.utils.tqdm import tqdm

from opendance_hf import __version__
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import in_use, naming_errors, new_folder, replace_folder
from opendance_hf.render.statistics import Sample, draw_statistics
from opendance_hf.schema import SCHEMA_VERSION, DanceSequence, sorted_configs, validate
from opendance_hf.storage.card import dataset_card
from opendance_hf.storage.contents import FIGURE, publishable, published_files
from opendance_hf.storage.npz import Header, load_header, load_sequence, save_sequence
from opendance_hf.storage.parquet import SHARD_BYTES, IncompleteError, ParquetWriter, count_rows
from opendance_hf.storage.splits import RATIOS, SPLITS, assign_splits, subset_ranks
from opendance_hf.storage.statistics import SplitStatistics, statistics_of
from opendance_hf.storage.webdataset import WebDatasetWriter

STATISTICS: Final = "statistics.json"
_MARKER: Final = "opendance-hf dataset"
_CARD: Final = "README.md"
_TAR: Final = re.compile(r"webdataset/[\w.-]+/[\w.-]+\.tar")
#: What :func:`pack` writes, and what systems and the Hub's client leave beside it.
_OURS: Final = frozenset({_CARD, STATISTICS, "data", "webdataset", "figures"})
_NOTES: Final = frozenset({".gitattributes", ".cache", ".DS_Store", "Thumbs.db"})


class PackError(OpenDanceError, RuntimeError):
    """Raised if the dataset cannot be written; the message has the remedy. Nothing was changed on disk."""


@dataclass(frozen=True)
class PackReport:
    """Result of :func:`pack`: statistics by configuration and split, and every file with its size in bytes."""

    folder: Path
    statistics: dict[str, dict[str, SplitStatistics]]
    files: dict[str, int]

    @property
    def num_sequences(self) -> int:
        """Number of sequences in all configurations and splits."""
        return sum(split.sequences for splits in self.statistics.values() for split in splits.values())


def pack(sequences: Iterable[DanceSequence], out: Path | str, **options: Any) -> PackReport:
    """Validate ``sequences`` and write them as a dataset folder.

    Sequences are spooled to disk, and only one is in memory at a time, so a generator over thousands can be given. For
    sequences that are files already, :func:`pack_files` needs no spool.

    Args:
        sequences: sequences in any order, with unique ids.
        out, options: of :func:`pack_files`.

    Raises:
        SchemaError, PackError, ContentError: see :func:`pack_files`.
    """
    out = Path(out).absolute()
    check_replaceable(out)
    with naming_errors(out), new_folder(out.parent), _staging(out) as spool:
        files = (
            save_sequence(spool / f"{number:08d}.npz", validate(seq)) for number, seq in enumerate(sequences)
        )
        return pack_files(files, out, **options)


def pack_files(
    files: Iterable[Path],
    out: Path | str,
    *,
    licence: str = "other",
    splits: Mapping[str, float | str] = RATIOS,
    shard_bytes: int = SHARD_BYTES,
    webdataset: bool = True,
    figure: bool = False,
    title: str = "",
) -> PackReport:
    """Validate sequences that :func:`save_sequence` wrote and pack them as a dataset folder.

    The headers of all files are read first; then each file is read once, for all formats. One row group is in memory.

    Args:
        files: sequence files in any order, with unique ids.
        out: the dataset folder, for example ``opendance-3d``. An existing OpenDance-HF dataset is replaced; groups in its
            ``train`` split stay in ``train``. To assign all splits again, write to another folder.
        licence: a licence identifier of the Hub for the whole dataset; ``other`` refers to the provenance of each row.
        splits: share of each split by group, see :func:`assign_splits`; and the split of each sequence that has one of its
            own, by id, whatever its group is. Without shares those of :data:`RATIOS` count for the others.
        shard_bytes: uncompressed size at which a new Parquet or tar shard starts.
        webdataset: True to write WebDataset tars too.
        figure: True to draw the statistics (figure 3) for the card.
        title: title of the card; derived from the folder's name if empty.

    Raises:
        SchemaError: if a sequence violates the schema or a file cannot be read.
        PackError: if there are no sequences, an id occurs twice, or ``out`` is not an OpenDance-HF dataset or cannot be
            read.
        ContentError: if a file was written that a dataset must not contain.
    """
    out = Path(out).absolute()
    check_replaceable(out)
    with naming_errors(out), new_folder(out.parent), _staging(out) as staging:
        fresh = staging / "dataset"
        fresh.mkdir()
        file_of = _headers(files)
        entries = list(file_of)
        split_of = _splits(entries, splits, _known_train(out, entries))
        statistics, parts = _split_entries(entries, split_of)
        kinds: list[type[ParquetWriter | WebDatasetWriter]] = [ParquetWriter]
        kinds += [WebDatasetWriter] if webdataset else []
        _write_parts(parts, file_of, [partial(kind, fresh, shard_bytes=shard_bytes) for kind in kinds])
        if figure:
            _draw_figure(entries, fresh / FIGURE)
        described = _statistics_json(fresh, entries, statistics, licence, webdataset=webdataset)
        described |= _given_splits(entries, splits, split_of)
        (fresh / STATISTICS).write_text(json.dumps(described, indent=2) + "\n")
        dataset_card(described, out.name, title=title).save(fresh / _CARD)
        contents = _check_files(fresh)
        check_replaceable(out)
        replace_folder(fresh, out)
    return PackReport(out, statistics, contents)


def check_replaceable(out: Path, *, pulled: bool = False) -> None:
    """Check that ``out`` may be replaced: it is absent, empty, or a dataset that :func:`pack` wrote, and nothing else.

    Args:
        out: the folder.
        pulled: True to allow other files that a dataset of the Hub may have, such as a further ``.md``.

    Raises:
        PackError: otherwise.
    """
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise PackError(f"{out} is not a folder: choose another output folder")
    if not any(out.iterdir()):
        return
    check_dataset(out)
    for path in sorted(out.iterdir()):
        known = path.name in _OURS | _NOTES and not path.is_symlink()
        if not known and not (pulled and path.is_file() and publishable(path.name, "dataset")):
            raise PackError(
                f"{out}: has {path.name}, which OpenDance-HF did not write and which would be removed; move it out, or choose "
                "another output folder"
            )


def check_dataset(out: Path) -> None:
    """Check that a folder is a dataset that :func:`pack` wrote.

    Raises:
        PackError: otherwise.
    """
    try:
        marker = json.loads((out / STATISTICS).read_text())["format"]
    except (OSError, ValueError, KeyError, TypeError):
        marker = None
    if marker != _MARKER:
        raise PackError(
            f"{out} is not empty and is not an OpenDance-HF dataset (its {STATISTICS} is missing or of another program): "
            "choose another output folder or empty this one"
        )


def check_complete(folder: Path) -> None:
    """Check that a dataset folder has all its Parquet shards, and as many rows and tars as its ``statistics.json`` states.

    Without numbers in ``statistics.json`` only the names of the shards are compared. Tars may be missing all together.

    Raises:
        IncompleteError: naming the shard, or the configuration and split with both numbers.
        SchemaError: naming the shard, if one is damaged.
    """
    rows = count_rows(folder)
    try:
        described = json.loads((folder / STATISTICS).read_text(encoding="utf-8"))
        tars = {name: int(size) for name, size in described.get("tars", {}).items() if _TAR.fullmatch(name)}
        stated = {
            (config, split): int(numbers["sequences"])
            for config, splits in described["configs"].items()
            for split, numbers in splits.items()
        }
    except (FileNotFoundError, AttributeError, ValueError, KeyError, TypeError):
        return
    for (config, split), number in stated.items():
        found = rows.get((config, split), 0)
        if found != number:
            raise IncompleteError(
                f"{folder / 'data' / config}: has {found:,} sequences of the split {split!r}, but {STATISTICS} states "
                f"{number:,}; restore the missing shards from a copy, or write the dataset again"
            )
    remedy = "restore it from a copy, write the dataset again, or remove the whole folder webdataset"
    for name, size in tars.items() if any(folder.glob("webdataset/*/*.tar")) else ():
        tar = folder / name
        if not tar.is_file():
            raise IncompleteError(f"{tar}: is missing; {remedy}")
        if tar.stat().st_size != size:
            raise IncompleteError(
                f"{tar}: has {tar.stat().st_size:,} bytes, but {STATISTICS} states {size:,}; {remedy}"
            )


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``, on the same file system; it is removed at the end."""
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        with in_use(staging):
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _headers(files: Iterable[Path]) -> dict[Header, Path]:
    """Read the header of every file; return the files by header, sorted by id."""
    found: dict[str, tuple[Header, Path]] = {}
    for file in files:
        header = load_header(file)
        if header.id in found:
            raise PackError(f"two sequences have the id {header.id!r}: ids must be unique")
        found[header.id] = header, file
    if not found:
        raise PackError("no sequences to pack")
    return dict(found[key] for key in sorted(found))


def _write_parts(
    parts: Mapping[tuple[str, str], list[Header]],
    file_of: Mapping[Header, Path],
    formats: Sequence[Callable[[str, str], ParquetWriter | WebDatasetWriter]],
) -> None:
    """Read every sequence once, validate it, and write it in all formats to its configuration and split."""
    bar = tqdm(total=len(file_of), desc="packing", unit="sequence", delay=5, disable=None, leave=False)
    with bar:
        for (config, split), part in parts.items():
            ranks = subset_ranks(header.id for header in part)
            writers = [open_writer(config, split) for open_writer in formats]
            with ExitStack() as opened:
                for writer in writers:
                    opened.enter_context(writer)
                for header in part:
                    seq = replace(load_sequence(file_of[header]), subset_rank=ranks[header.id])
                    validate(seq)
                    for writer in writers:
                        writer.write(seq)
                    bar.update()


def _known_train(out: Path, entries: list[Header]) -> set[str]:
    """Return the groups with sequences in ``train`` of the existing dataset at ``out``; empty without a dataset.

    Groups are matched by name and by the ids of their sequences, since a new video may merge groups and rename them.
    """
    ids, groups = set[str](), set[str]()
    for shard in sorted(out.glob("data/*/train-*.parquet")):
        try:
            table = pq.read_table(shard, columns=["id", "group"], partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise PackError(
                f"{shard}: cannot be read ({error}), so the groups that must stay in train are unknown; "
                f"move {out} away to assign all splits again"
            ) from None
        ids.update(table["id"].to_pylist())
        groups.update(table["group"].to_pylist())
    return groups | {entry.group for entry in entries if entry.id in ids}


def _splits(
    entries: list[Header], splits: Mapping[str, float | str], known_train: set[str]
) -> dict[str, str]:
    """Return the split of every sequence by its id.

    Raises:
        PackError: if a split is unknown.
        ValueError: see :func:`assign_splits`.
    """
    ratios = {name: share for name, share in splits.items() if not isinstance(share, str)}
    given = {key: split for key, split in splits.items() if isinstance(split, str)}
    if unknown := set(given.values()) - set(SPLITS):
        raise PackError(f"unknown split {min(unknown)!r}: expected one of {', '.join(SPLITS)}")
    others = [entry.group for entry in entries if entry.id not in given]
    split_of = assign_splits(others, ratios or RATIOS, known_train)
    # Held-out splits come last, so that they win: no sequence trains on a song that another of its group is tested on.
    for split in ("train", "validation", "test"):
        split_of |= {entry.group: split for entry in entries if given.get(entry.id) == split}
    return {entry.id: given.get(entry.id) or split_of[entry.group] for entry in entries}


def _given_splits(
    entries: list[Header], splits: Mapping[str, float | str], split_of: Mapping[str, str]
) -> dict[str, int]:
    """Return how many sequences have a split of their own, and how many groups are in several; empty if none has."""
    given = sum(isinstance(splits.get(entry.id), str) for entry in entries)
    if not given:
        return {}
    pairs = {(entry.group, split_of[entry.id]) for entry in entries}
    shared = sum(count > 1 for count in Counter(group for group, _ in pairs).values())
    return {"given_splits": given, "shared_groups": shared}


def _split_entries(
    entries: list[Header], split_of: Mapping[str, str]
) -> tuple[dict[str, dict[str, SplitStatistics]], dict[tuple[str, str], list[Header]]]:
    """Return the statistics and the headers by configuration and split, without empty ones."""
    statistics: dict[str, dict[str, SplitStatistics]] = {}
    parts: dict[tuple[str, str], list[Header]] = {}
    for config in sorted_configs(entry.config for entry in entries):
        for split in SPLITS:
            part = [e for e in entries if e.config == config and split_of[e.id] == split]
            if part:
                statistics.setdefault(config, {})[split] = _statistics(part)
                parts[config, split] = part
    return statistics, parts


def _statistics(part: list[Header]) -> SplitStatistics:
    return statistics_of(
        groups=[entry.group for entry in part],
        dancers=[entry.num_dancers for entry in part],
        durations_s=[entry.num_frames / entry.fps for entry in part],
        bpm=[entry.bpm for entry in part],
        velocities=[entry.motion_velocity for entry in part],
        genres=[entry.genre for entry in part],
        with_smpl_betas=sum(entry.has_betas for entry in part),
    )


def _draw_figure(entries: list[Header], path: Path) -> None:
    path.parent.mkdir()
    samples = []
    for config in sorted_configs(entry.config for entry in entries):
        part = [entry for entry in entries if entry.config == config]
        seconds, bpm, velocity = np.array(
            [(e.num_frames / e.fps, e.bpm, e.motion_velocity) for e in part], np.float64
        ).T
        samples.append(Sample(config, seconds, bpm, velocity, tuple(e.genre for e in part)))
    draw_statistics(samples, path)


def _statistics_json(
    folder: Path,
    entries: list[Header],
    statistics: dict[str, dict[str, SplitStatistics]],
    licence: str,
    *,
    webdataset: bool,
) -> dict[str, Any]:
    """Return the content of statistics.json."""
    backends = Counter(backend for entry in entries for backend in set(entry.backends))
    licences = Counter(entry.licence for entry in entries)
    return {
        "format": _MARKER,
        "schema_version": SCHEMA_VERSION,
        "opendance_version": __version__,
        "licence": licence,
        "webdataset": webdataset,
        "tars": {
            tar.relative_to(folder).as_posix(): tar.stat().st_size
            for tar in sorted(folder.glob("webdataset/*/*.tar"))
        },
        "figure": FIGURE if (folder / FIGURE).is_file() else "",
        "row_licences": dict(sorted(licences.items())),
        "backends": [
            {"stage": stage, "name": name, "version": version, "sequences": count}
            for (stage, name, version), count in sorted(backends.items())
        ],
        "contents": {config: _digest(folder / "data" / config) for config in statistics},
        "configs": {
            config: {split: asdict(numbers) for split, numbers in splits.items()}
            for config, splits in statistics.items()
        },
    }


def _digest(folder: Path) -> str:
    """Compute the SHA-256 over the files of a folder, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _check_files(folder: Path) -> dict[str, int]:
    """Return every file with its size; raise ContentError for files that a dataset must not contain."""
    files = published_files(folder, "dataset")
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
