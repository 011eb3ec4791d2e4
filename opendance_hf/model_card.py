"""Write the cards of trained models, and read the facts that they state of a dataset from its card."""

from __future__ import annotations

import math
import platform
import re
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import jinja2
import yaml
from huggingface_hub import DatasetCard, EvalResult, ModelCard, ModelCardData

from opendance_hf import __version__


@dataclass(frozen=True)
class DatasetFacts:
    """Facts from the card of a dataset.

    Attributes:
        name: display name.
        hub_id: ``user/name``; empty for a folder.
        licence: licence in the card; empty if there is none.
        credit: whom to credit, from the card's section on credits or citation; empty if there is none.
        splits: configuration, split and number of sequences.
    """

    name: str
    hub_id: str = ""
    licence: str = ""
    credit: str = ""
    splits: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class ModelFacts:
    """Facts for the card of a trained model.

    Attributes:
        name: title, and name in loading examples.
        model_class: name of the class in ``opendance_hf.modeling``.
        model_type: type in the model's configuration.
        stage: training script.
        recipe: complete recipe as YAML.
        parameters: number of parameters.
        dataset: training dataset.
        trained_on: amount of training data, one line.
        steps: number of optimiser steps.
        metrics: metrics on held-out data.
        split: split of the held-out data; None if there is none.
        base: model that training started from; empty if training started from random weights.
        licence: licence of the model; the dataset's if empty.
        summary: description of the model in one line, for types that this module does not describe.
        module: Python module of the class.
    """

    name: str
    model_class: str
    model_type: str
    stage: str
    recipe: str
    parameters: int
    dataset: DatasetFacts
    trained_on: str
    steps: int
    metrics: dict[str, float]
    split: str | None = None
    base: str = ""
    licence: str = ""
    summary: str = ""
    module: str = ""


def describe_dataset(dataset: Path | str) -> DatasetFacts:
    """Read the card of a dataset, a folder, a Hub id or its tars (``DATASET/webdataset/CONFIG/*.tar``); missing facts stay empty."""
    text = str(dataset)
    if text.endswith(".tar"):
        remote = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@[^/]+)?/.*", text)
        if not remote and "://" in text:
            return DatasetFacts(name=text.rpartition("/")[2])
        dataset = remote[1] if remote else Path(text).absolute().parents[2]
    folder = Path(dataset)
    if folder.is_dir():
        card, name, hub_id = folder / "README.md", folder.resolve().name, ""
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
    else:
        name = hub_id = str(dataset)
        text = _remote_card(hub_id)
    known, body = _front_matter(text)
    licence = known.get("license", "")
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\d+) \|", body, flags=re.MULTILINE)
    return DatasetFacts(
        name=str(known.get("pretty_name", name)),
        hub_id=hub_id,
        licence=str(licence[0] if isinstance(licence, list) and licence else licence or ""),
        credit=_credit(body),
        splits=tuple((config, split, int(count)) for config, split, count in rows),
    )


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Split a card into its metadata and its body; unreadable metadata count as none."""
    if not text.startswith("---\n"):
        return {}, text
    try:
        card = DatasetCard(text, ignore_metadata_errors=True)
        return dict(card.data.to_dict()), card.text
    except (ValueError, TypeError, yaml.YAMLError):
        return {}, text


def _credit(body: str) -> str:
    """Find whom to credit in the section "Credits" or "Citation" of a card.

    That is the title of the paper if the section begins with one in italics, as in the cards of ``opendance build``, where
    a disclaimer follows it; author, title and year of a BibTeX entry; or else the first paragraph.
    """
    section = re.search(
        r"^## (?:Credits?|Citation)[ \t]*\n(.*?)(?=^#|\Z)",
        body,
        flags=re.MULTILINE | re.DOTALL | re.IGNORECASE,
    )
    if section is None:
        return ""
    text = section[1].strip()
    if title := re.match(r"\*([^*]+)\*(?!\*)", text):
        return " ".join(title[1].split())
    if re.search(r"^@\w+\s*\{", text, flags=re.MULTILINE):
        fields = dict(
            re.findall(r"^\s*(author|title|year)\s*=\s*[{\"]+(.+?)[}\"]+,?\s*$", text, flags=re.MULTILINE)
        )
        return ", ".join(
            " ".join(fields[name].split()) for name in ("author", "title", "year") if name in fields
        )
    return " ".join(text.partition("\n\n")[0].split())


def _remote_card(repo_id: str) -> str:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id, "README.md", repo_type="dataset")).read_text(encoding="utf-8")
    except Exception:  # no card, network or repository: this must not prevent saving a trained model
        return ""


_LOADING_EXAMPLE: Final = """from {module} import {model_class}

model = {model_class}.from_pretrained("{name}").eval()
{then}"""


def model_card(facts: ModelFacts) -> ModelCard:
    """Write the card of a model, with its metrics as ``model-index`` in the metadata."""
    from opendance_hf.modeling.models import DANCE_LIMITS, MODELS  # loads torch

    kind, entry = facts.model_type, MODELS.get(facts.model_type)
    data = ModelCardData(
        license=facts.licence or facts.dataset.licence or "other",
        library_name="opendance-hf",
        pipeline_tag="other",
        tags=["dance", "music", "motion", "smpl", "3d", "opendance-hf", kind],
        datasets=[facts.dataset.hub_id] if facts.dataset.hub_id else None,
        base_model=facts.base if _is_hub_id(facts.base) else None,
        model_name=facts.name,
        eval_results=_eval_results(facts) or None,
    )
    rows = [
        (name, value, facts.metrics.get(f"real_{name}"))
        for name, value in facts.metrics.items()
        if not name.startswith("real_")
    ]
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = resources.files("opendance_hf.training").joinpath("model_card.md.jinja").read_text("utf-8")
    body = environment.from_string(template).render(
        facts=facts,
        rows=rows,
        compared=any(real is not None for _, _, real in rows),
        what=facts.summary if entry is None else entry.description,
        usage=_usage(facts, "" if entry is None else entry.usage),
        command=f"opendance generate song.mp3 --model {facts.name} --out dance.mp4\n"
        "opendance view dance.npz song.mp3 --out dance.html  # on a 3D stage, in any browser"
        if entry is not None and entry.dances
        else "",
        limits=DANCE_LIMITS if entry is None else entry.limits,
        version=__version__,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "accelerate")},
        },
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def _is_hub_id(name: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).exists()


def _eval_results(facts: ModelFacts) -> list[EvalResult]:
    """Return the metrics of the model for the ``model-index``; those of the real dances are in the text alone."""
    task = "audio-classification" if facts.model_type == "music_genre" else "music-to-dance"
    return [
        EvalResult(
            task_type=task,
            task_name=task.replace("-", " "),
            dataset_type=facts.dataset.hub_id or "local",
            dataset_name=facts.dataset.name,
            dataset_split=facts.split,
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=value,
        )
        for name, value in facts.metrics.items()
        if not name.startswith("real_") and math.isfinite(value)
    ]


def _usage(facts: ModelFacts, then: str) -> str:
    """Return an example in Python that loads the model, followed by the lines that use it."""
    # The packages of this project's models export them.
    own = facts.module.startswith("opendance_hf.modeling.")
    return _LOADING_EXAMPLE.format(
        module=facts.module.rpartition(".")[0] if own else facts.module,
        model_class=facts.model_class,
        name=facts.name,
        then=then.replace("{name}", facts.name),
    ).rstrip()


def write_model_card(folder: Path | str, facts: ModelFacts) -> None:
    """Write the card of a model into its folder."""
    Path(folder, "README.md").write_text(str(model_card(facts)), encoding="utf-8")


def model_card_for_hub(folder: Path, repo_id: str) -> str:
    """Return the card of a model folder with the name of a repository in its title, metadata and examples.

    A card that OpenDance-HF did not write is returned unchanged.
    """
    text = (folder / "README.md").read_text(encoding="utf-8")
    front, rule, body = text.partition("\n---\n") if text.startswith("---\n") else ("", "", text)
    title = re.search(r"^# (\S+)$", body, flags=re.MULTILINE)
    used = re.search(r"^## Use\n.*?(?=^## |\Z)", body, flags=re.MULTILINE | re.DOTALL)
    if title is None or used is None:
        return text
    body = body.replace(title[0], f"# {repo_id}", 1)
    # The name in the model-index.
    front = re.sub(rf"^- name: {re.escape(title[1])}$", f"- name: {repo_id}", front, flags=re.MULTILINE)
    for name in {title[1], *re.findall(r'from_pretrained\("([^"]+)"', used[0])}:
        body = body.replace(f'from_pretrained("{name}"', f'from_pretrained("{repo_id}"')
        body = re.sub(rf"(--(?:genre-)?model) {re.escape(name)}(?!\S)", rf"\1 {repo_id}", body)
    return front + rule + body
