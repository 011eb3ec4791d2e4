"""Write the dataset card, README.md: YAML front matter for ``load_dataset``, then a description for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import jinja2

from opendance_hf.columns import markdown_table
from opendance_hf.schema import DanceSequence
from opendance_hf.terms import terms_of

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard  # takes half a second to import

TEMPLATE: Final = "dataset_card.md.jinja"
#: Template of the section "Load", which :func:`card_for_hub` replaces.
LOAD_TEMPLATE: Final = "dataset_card_load.md.jinja"
#: Title of every card before schema 1.2.
_OLD_TITLE: Final = "OpenDance-3D"
_CHANGELOG: Final = re.compile(r"^## Changelog\n.*?(?=^## |\Z)", flags=re.MULTILINE | re.DOTALL)
_SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(described: Mapping[str, Any], repo: str, *, title: str = "") -> DatasetCard:
    """Write the dataset card of a folder from its ``statistics.json``.

    Args:
        described: content of ``statistics.json``, written by :func:`opendance_hf.storage.pack`.
        repo: name of the folder, or Hub id (``user/name``), for the loading examples.
        title: title of the dataset; derived from ``repo`` if empty, see :func:`title_of`.

    Raises:
        KeyError: if ``described`` is incomplete.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    title = title or title_of(repo)
    terms = [terms_of(licence) for licence in described["row_licences"] if terms_of(licence) != licence]
    body = _render(TEMPLATE, described, repo, title=title, columns=markdown_table(DanceSequence), terms=terms)
    front_matter = DatasetCardData(**card_metadata(described, title=title)).to_yaml()
    return DatasetCard(f"---\n{front_matter}\n---\n{body}")


def card_for_hub(
    card: DatasetCard, described: Mapping[str, Any], repo_id: str, folder_name: str
) -> DatasetCard:
    """Rename a dataset card for a Hub repository; all other edits of its author are kept.

    Title and loading examples get the name ``user/name``. The section "Load" is replaced, as loading from the Hub is
    different; examples in other sections are renamed.

    Args:
        card: card of the folder; it is not changed.
        described: content of the folder's ``statistics.json``.
        repo_id: ``user/name``.
        folder_name: name of the folder, used in the examples of the card.
    """
    renamed = type(card)(str(card))
    if renamed.data.get("pretty_name") in (None, title_of(folder_name), _OLD_TITLE):
        renamed.data["pretty_name"] = title_of(repo_id)
    text = re.sub(r"^# .*$", lambda _: f"# {repo_id}", renamed.text, count=1, flags=re.MULTILINE)
    old = re.search(r"^## Load\n.*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if old:
        names = {folder_name, *re.findall(r'load_dataset\("([^"]+)"', old[0])} - {"webdataset", "parquet"}
        text = text.replace(old[0], _render(LOAD_TEMPLATE, described, repo_id))
        for name in names:
            text = text.replace(f'load_dataset("{name}"', f'load_dataset("{repo_id}"')
    renamed.text = text
    return renamed


def keep_changelog(text: str, earlier: str) -> str:
    """Return a card with the section "Changelog" of an earlier one, if that has one."""
    found = _CHANGELOG.search(earlier)
    return text if found is None else _with_changelog(text, found[0])


def keep_gate(text: str, earlier: str, default_prompt: str = "") -> str:
    """Return the card of a dataset or model with the conditions of access (``extra_gated_*``) of an earlier one.

    A card with conditions of its own is returned unchanged.

    Args:
        text: the card.
        earlier: the earlier card; may be empty.
        default_prompt: ``extra_gated_prompt`` where neither card has conditions; empty to add none.
    """
    import yaml
    from huggingface_hub import RepoCard  # a DatasetCard has other rules for the metadata of a model

    try:
        card, before = RepoCard(text), RepoCard(earlier).data.to_dict() if earlier else {}
    except (ValueError, TypeError, yaml.YAMLError):
        return text
    gate = {key: value for key, value in before.items() if key.startswith("extra_gated_")}
    if not gate and default_prompt:
        gate = {"extra_gated_prompt": default_prompt}
    if not gate or any(key.startswith("extra_gated_") for key in card.data.to_dict()):
        return text
    for key, value in gate.items():
        card.data[key] = value
    return str(card)


def add_version(
    text: str, described: Mapping[str, Any], repo_id: str, version: str, date: str, notes: str
) -> str:
    """Return a card with one more version in its section "Changelog", above the others.

    A line of the same version is replaced: a push that was stopped before its tag is repeated.

    Args:
        text: the card.
        described: content of ``statistics.json``.
        repo_id: ``user/name``, for the loading example.
        version: three numbers.
        date: date of the version.
        notes: what changed; may be empty.
    """
    count = sum(split["sequences"] for splits in described["configs"].values() for split in splits.values())
    line = f"- **{version}** ({date}): schema {described['schema_version']}, {count:,} sequences"
    line += f". {' '.join(notes.split())}\n" if notes else "\n"
    found = _CHANGELOG.search(text)
    section = (
        found[0].rstrip("\n") + "\n"
        if found
        else "## Changelog\n\n```python\nfrom datasets import load_dataset\n\n"
        f'dances = load_dataset("{repo_id}", revision="v{version}")\n```\n\n'
    )
    section = re.sub(rf"^- \*\*{re.escape(version)}\*\* .*\n", "", section, flags=re.MULTILINE)
    section = re.sub(r'revision="v[^"]*"', f'revision="v{version}"', section, count=1)
    newest = re.search(r"^- \*\*", section, flags=re.MULTILINE)
    place = newest.start() if newest else len(section)
    return _with_changelog(text, section[:place] + line + section[place:])


def _with_changelog(text: str, section: str) -> str:
    rest = _CHANGELOG.sub("", text).rstrip("\n")
    return f"{rest}\n\n{section.strip()}\n"


def title_of(repo: str) -> str:
    """Derive a title from the name of a folder or Hub repository: ``my-dances`` becomes "My Dances"."""
    name = re.sub(r"[-_\s]+", " ", repo.rpartition("/")[2]).strip()
    return name.title() or "Dances"


def _render(template: str, described: Mapping[str, Any], repo: str, **more: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("opendance_hf.storage", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(repo=repo, on_hub="/" in repo, **described, **more)


def card_metadata(described: Mapping[str, Any], *, title: str) -> dict[str, Any]:
    """Return the YAML front matter. The default is the first configuration, that of the fewest dancers."""
    configs: list[dict[str, Any]] = []
    for config, splits in described["configs"].items():
        files = [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits]
        default = {"default": True} if not configs else {}
        # `datasets` caches a local folder by its name and this YAML, not by its files. The hash of the content prevents
        # that a rebuilt dataset loads the cached rows of the previous one.
        content = f"rows sha256:{described['contents'][config][:16]}"
        configs.append({"config_name": config, **default, "description": content, "data_files": files})
    count = sum(split["sequences"] for splits in described["configs"].values() for split in splits.values())
    return {
        "pretty_name": title,
        "license": described["licence"],
        "task_categories": ["other"],
        "tags": ["dance", "music", "motion", "smpl", "3d", "opendance-hf"],
        "size_categories": [next((label for limit, label in _SIZES if count < limit), "n>1M")],
        "configs": configs,
    }
