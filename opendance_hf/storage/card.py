"""The README.md of a dataset folder: YAML that ``load_dataset`` reads, then what a person wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import jinja2
import yaml

TEMPLATE: Final = "dataset_card.md.jinja"
_SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(described: Mapping[str, Any], *, name: str = "OpenDance-3D", repo: str | None = None) -> str:
    """The dataset card of a folder from its ``statistics.json``.

    Args:
        described: what :func:`opendance_hf.storage.pack` writes to ``statistics.json``.
        name: title of the dataset.
        repo: Hub id, or any path, that the loading examples name; the folder's usual name if None.

    Raises:
        KeyError: if ``described`` lacks a part.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    front_matter = yaml.safe_dump(card_metadata(described, name=name), sort_keys=False, allow_unicode=True)
    return environment.from_string(template).render(
        front_matter=front_matter,
        name=name,
        repo=repo or "opendance-3d",
        default=next(iter(described["configs"])),
        **described,
    )


def card_metadata(described: Mapping[str, Any], *, name: str = "OpenDance-3D") -> dict[str, Any]:
    """The YAML front matter. The first configuration that has data, ``individual`` if it has, is the default."""
    configs: list[dict[str, Any]] = []
    for config, splits in described["configs"].items():
        files = [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits]
        default = {"default": True} if not configs else {}
        # `datasets` caches a local folder by its name and this YAML, not by its files: without a mark of the content
        # a rebuilt dataset would go on loading its predecessor's rows.
        content = f"rows sha256:{described['contents'][config][:16]}"
        configs.append({"config_name": config, **default, "description": content, "data_files": files})
    count = sum(split["sequences"] for splits in described["configs"].values() for split in splits.values())
    return {
        "pretty_name": name,
        "license": described["licence"],
        "task_categories": ["other"],
        "tags": ["dance", "music", "motion", "smpl", "3d", "opendance-hf"],
        "size_categories": [next((label for limit, label in _SIZES if count < limit), "n>1M")],
        "configs": configs,
    }
