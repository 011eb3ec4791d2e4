"""Fine-tune a Bailando so that its dances keep the beat (Siyao et al., CVPR 2022, section 3.3).

    opendance train actor_critic --dataset opendance-3d --bailando runs/bailando --output-dir runs/bailando_ac

Round by round the GPT dances to whole songs of the training split, greedily; windows of these dances are rewarded for
keeping the beat, and actor and critic learn from them in turns. Writes a whole Bailando. The official program tunes on the songs
it is then tested on; this one does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opendance_hf.modeling.bailando import BailandoForDanceGeneration
from opendance_hf.training.codes import hash_of
from opendance_hf.training.finish import finish
from opendance_hf.training.gpt import dances
from opendance_hf.training.recipe import (
    RecipeError,
    RunArguments,
    checked,
    last_checkpoint,
    load_recipe,
    parse,
    same_run,
    told,
)
from opendance_hf.training.tuning import Settings, Songs, Tuning
from opendance_hf.training.validation import Validation, held_out


@dataclass
class ActorCriticArguments(RunArguments):
    """Adds the model to be tuned."""

    bailando: str = field(default="", metadata={"help": "Folder or Hub id of a trained Bailando."})


def run(arguments: ActorCriticArguments) -> BailandoForDanceGeneration:
    """Tune as the recipe says, write the whole Bailando to ``output_dir`` and return it."""
    recipe = load_recipe("actor_critic", arguments.config, arguments.overrides)
    options = Validation(**checked(Validation, recipe["validation"], "validation"))
    settings = Settings(**checked(Settings, recipe["trainer"], "trainer"))
    if recipe["model"]:
        raise RecipeError("recipe section 'model': nothing to say here, the Bailando is as it is")
    if not arguments.bailando:
        raise RecipeError("actor_critic needs --bailando, the model to be tuned")
    folder, data = Path(arguments.output_dir), checked(Songs, recipe["data"], "data")
    with told():
        loaded: Any = BailandoForDanceGeneration.from_pretrained(arguments.bailando, output_loading_info=True)
        if loaded[1]["missing_keys"]:
            raise ValueError(
                f"{arguments.bailando}: not a whole Bailando; give what `opendance train gpt` wrote"
            )
        whole: BailandoForDanceGeneration = loaded[0].eval()
        songs = Songs(arguments.dataset, whole, **data)
        _, split = held_out(arguments.dataset, data, options.split)
    tuning = Tuning(whole, settings, folder)
    state = whole.gpt.state_dict()
    identity = {
        "stage": "actor_critic",
        "codes": hash_of([piece.upper for piece in songs.pieces]),
        "gpt": hash_of([state[name].cpu() for name in sorted(state)]),
        "data": recipe["data"],
    }
    last = last_checkpoint(folder) if arguments.resume else None
    same_run(folder, identity, resuming=last is not None, writes=tuning.accelerator.is_main_process)
    if last is not None:
        tuning.load(last)
    while tuning.round < settings.rounds:
        tuning.play(songs)
        if settings.save_rounds and tuning.round % settings.save_rounds == 0:
            tuning.save()
    whole.cpu().gpt.load_state_dict({name: value.cpu() for name, value in tuning.gpt.state_dict().items()})
    if tuning.accelerator.is_main_process:
        metrics: dict[str, float] = {}
        if split and options.songs:
            metrics = dances(
                whole, arguments.dataset, data.get("configs"), split, options, arguments.output_dir
            )
        finish(
            whole.cpu(),
            "actor_critic",
            recipe,
            arguments,
            trained_on=f"The model's own dances to the music of {len(songs.pieces):,} sequences, {settings.rounds} times.",
            steps=tuning.step,
            metrics=metrics,
            split=split,
            base=arguments.bailando,
        )
    tuning.accelerator.end_training()
    return whole


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(ActorCriticArguments, argv))


if __name__ == "__main__":
    main()
