"""Store sequences in single ``.npz`` files, sharded Parquet and WebDataset tars, and pack dataset folders."""

from opendance_hf.storage.card import dataset_card
from opendance_hf.storage.npz import load_sequence, save_sequence
from opendance_hf.storage.pack import PackError, PackReport, pack, pack_files
from opendance_hf.storage.parquet import (
    ParquetWriter,
    SplitNotFoundError,
    list_splits,
    read_parquet,
    read_rows,
    read_scalars,
    write_parquet,
)
from opendance_hf.storage.splits import assign_splits
from opendance_hf.storage.upgrade import upgrade
from opendance_hf.storage.webdataset import WebDatasetWriter, read_webdataset, write_webdataset

__all__ = [
    "PackError",
    "PackReport",
    "ParquetWriter",
    "SplitNotFoundError",
    "WebDatasetWriter",
    "assign_splits",
    "dataset_card",
    "list_splits",
    "load_sequence",
    "pack",
    "pack_files",
    "read_parquet",
    "read_rows",
    "read_scalars",
    "read_webdataset",
    "save_sequence",
    "upgrade",
    "write_parquet",
    "write_webdataset",
]
