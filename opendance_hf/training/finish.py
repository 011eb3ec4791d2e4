"""The end of every stage: the model, its recipe and its card on disk and, if wanted, on the Hub."""

from __future__ import annotations

from pathlib import Path

import yaml
from transformers import PreTrainedModel

from opendance_hf.hub import ModelFacts, describe_dataset, push, write_model_card
from opendance_hf.modeling.models import extractor_for
from opendance_hf.training.recipe import Recipe, RunArguments


def finish(
    model: PreTrainedModel,
    stage: str,
    recipe: Recipe,
    arguments: RunArguments,
    *,
    trained_on: str,
    steps: int,
    metrics: dict[str, float],
    split: str | None,
    base: str = "",
) -> None:
    """Write what one process has trained; the main process alone calls it.

    Args:
        model: whole, in evaluation mode.
        stage: name of the script.
        recipe: as it was used.
        arguments: of the command line.
        trained_on: how much of the dataset: one line.
        steps: of the optimiser.
        metrics: what was measured on held-out data.
        split: that data's split.
        base: folder or Hub id of the model that this stage started from.
    """
    folder = Path(arguments.output_dir)
    model.save_pretrained(folder)
    extractor = extractor_for(model.config)
    if extractor is not None:
        extractor.save_pretrained(folder)
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    facts = ModelFacts(
        name=arguments.push_to_hub or folder.resolve().name,
        model_class=type(model).__name__,
        model_type=str(model.config.model_type),
        stage=stage,
        recipe=text,
        parameters=sum(p.numel() for p in model.parameters()),
        dataset=describe_dataset(arguments.dataset),
        trained_on=trained_on,
        steps=steps,
        metrics=metrics,
        split=split,
        # A folder's place on this machine is nobody's business.
        base=Path(base).resolve().name if base and Path(base).exists() else base,
        licence=arguments.licence,
    )
    write_model_card(folder, facts)
    if arguments.push_to_hub:
        push(folder, arguments.push_to_hub, private=arguments.private)
