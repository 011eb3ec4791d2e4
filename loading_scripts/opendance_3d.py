"""Load a folder of ``{id}.npz`` annotations, as the pipeline writes them, as a dataset.

    builder = OpenDance3D(config_name="collaborative", data_dir="annotations")
    builder.download_and_prepare()
    builder.as_dataset(split="train")

    OpenDance3D(data_dir="annotations").as_streaming_dataset(split="train")

Use it to load annotations without packing them. To publish them, :func:`opendance_hf.storage.pack` writes a folder that
``load_dataset`` reads without this code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import datasets

from opendance_hf.errors import OpenDanceError
from opendance_hf.schema import SCHEMA_VERSION, config_of, features, to_row, validate
from opendance_hf.storage.npz import SUFFIX, load_header, load_sequence
from opendance_hf.storage.splits import SPLITS, assign_splits

#: Largest number of dancers that has a configuration here; packed datasets have no such limit.
MAX_DANCERS: Final = 16


class LoadingError(OpenDanceError, FileNotFoundError):
    """Raised for a folder without sequences of the configuration; the message has what was found."""


def _sequence_files(folder: Path) -> list[Path]:
    """Return the sequence files of a folder and its subfolders, sorted by id, without hidden files."""
    return sorted(folder.rglob(f"[!.]*{SUFFIX}"), key=lambda path: path.stem)


def _fingerprint(folder: Path) -> str:
    """Hash names, sizes and modification times of the sequence files, which is much faster than hashing their content."""
    total = hashlib.sha256()
    for path in _sequence_files(folder):
        stat = path.stat()
        total.update(f"{path.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return total.hexdigest()


@dataclass
class OpenDance3DConfig(datasets.BuilderConfig):
    """Configuration with the sequences of ``num_dancers`` dancers."""

    num_dancers: int = 1

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None
    ) -> str:
        """Return the name of the cache folder, which depends on the sequence files and their folder.

        By default `datasets` reuses the rows cached for ``data_dir`` even if files there were added, changed or removed.
        """
        if self.data_dir is not None:
            config_kwargs = {**config_kwargs, "content": _fingerprint(Path(self.data_dir))}
        identifier: str = super().create_config_id(config_kwargs, custom_features)
        return identifier


class OpenDance3D(datasets.GeneratorBasedBuilder):
    """Dataset of the sequences in ``data_dir`` and its subfolders, by default solos (``individual``).

    Splits are assigned by :func:`opendance_hf.storage.assign_splits` over the sequences of all configurations, so a song is
    in the same split of each, as in a dataset packed for the first time. Packing to the same folder also keeps earlier
    training groups in ``train``; this class does not.

    Raises:
        LoadingError: if ``data_dir`` is not given or has no sequence of the configuration.
        SchemaError: if a file is not a valid sequence.
    """

    VERSION = datasets.Version(f"{SCHEMA_VERSION}.0")
    BUILDER_CONFIG_CLASS = OpenDance3DConfig
    BUILDER_CONFIGS = [  # noqa: RUF012 (datasets declares it so)
        OpenDance3DConfig(
            name=config_of(count), version=datasets.Version(f"{SCHEMA_VERSION}.0"), num_dancers=count
        )
        for count in range(1, MAX_DANCERS + 1)
    ]
    DEFAULT_CONFIG_NAME = config_of(1)
    # A row has several megabytes, so the default of 1,000 rows would take gigabytes of memory.
    DEFAULT_WRITER_BATCH_SIZE = 16

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Music-driven 3D dance: SMPL motion and music features at 60 FPS.",
            features=features(self.config.num_dancers),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if self.config.data_dir is None:
            raise LoadingError(
                "data_dir is missing: give the folder of annotations, OpenDance3D(data_dir=...)"
            )
        paths = _sequence_files(Path(self.config.data_dir))
        headers = {path: load_header(path) for path in paths}
        split_of = assign_splits(header.group for header in headers.values())
        files: dict[str, list[str]] = {split: [] for split in SPLITS}
        for path, header in headers.items():
            if header.num_dancers == self.config.num_dancers:
                files[split_of[header.group]].append(str(path))
        if not any(files.values()):
            raise LoadingError(
                f"{self.config.data_dir} has {len(paths)} sequence file(s), but none with {self.config.num_dancers} "
                f"dancer(s), which the configuration {self.config.name!r} requires"
            )
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"files": part})
            for split, part in files.items()
            if part
        ]

    # ``files`` is a list, so that datasets can distribute it over num_proc processes.
    def _generate_examples(self, files: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in files:
            seq = validate(load_sequence(file))
            yield seq.id, to_row(seq)
