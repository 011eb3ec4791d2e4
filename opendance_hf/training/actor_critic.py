"""Fine-tune a Bailando so that its dances keep the beat (Siyao et al., CVPR 2022, section 3.3).

    opendance train actor_critic --dataset opendance-3d --bailando runs/bailando --output-dir runs/bailando_ac

In every round the GPT dances to whole songs of the training split, greedily; windows of these dances are rewarded for
keeping the beat, and actor and critic learn from them in turns. Writes a whole Bailando, with the feature extractor and the
generation defaults of the one that it started from. The official program tunes on the songs it is then tested on; this one
does not.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from opendance_hf.modeling.bailando import BailandoForDanceGeneration, BailandoGPT
from opendance_hf.modeling.loading import load_extractor
from opendance_hf.training.callbacks import duration
from opendance_hf.training.checkpoints import open_run
from opendance_hf.training.loop import Learned
from opendance_hf.training.recipe import RunArguments, checked
from opendance_hf.training.stage import Stage
from opendance_hf.training.tuning import Settings, Songs, Tuning
from opendance_hf.training.validation import held_out

logger = logging.getLogger(__name__)


@dataclass
class ActorCriticArguments(RunArguments):
    """Adds the model to be tuned."""

    bailando: str = field(default="", metadata={"help": "Folder or Hub id of a trained Bailando."})


class ActorCriticStage(Stage):
    """Learn dances that keep the beat, with a loop of its own instead of the Trainer's."""

    name = "actor_critic"
    arguments_class = ActorCriticArguments
    data_section = Songs
    given = ("whole",)
    whole: BailandoForDanceGeneration

    def check_trainer_section(self) -> None:
        """Check names and types of the options in the section ``trainer``."""
        checked(Settings, self.recipe["trainer"], "trainer")

    def load_base(self) -> None:
        """Load the Bailando with its feature extractor."""
        self.whole = self.load_start("bailando", "bailando")
        self.base_extractor = load_extractor(self.base, self.whole.config)

    def build_model(self) -> BailandoGPT:
        """Return the GPT of the Bailando."""
        return self.whole.gpt

    def build_data(self, options: dict[str, Any]) -> Songs:
        """Read the songs, with the first codes of their real dances."""
        return Songs(self.arguments.dataset, self.whole, **options)

    def build_held_out(self) -> tuple[None, str | None]:
        """Return the name of the held-out split; the dances to its songs are measured, but no losses."""
        return None, held_out(self.arguments.dataset, self.recipe["data"], self.validation.split)[1]

    def trained_on(self) -> str:
        """Describe the songs."""
        songs, rounds = len(self.data.pieces), Settings(**self.recipe["trainer"]).rounds
        return f"The model's own dances to the music of {songs:,} sequences, {rounds} times."

    def learn(self) -> Learned:
        """Dance and learn, round by round."""
        settings, folder = Settings(**self.recipe["trainer"]), Path(self.arguments.output_dir)
        identity = {**self.identity(), "trainer": settings.restored()}
        tuning = Tuning(self.whole, settings, folder)
        writes = tuning.accelerator.is_main_process
        last = open_run(folder, identity, resume=self.arguments.resume, writes=writes)
        if last is not None:
            tuning.load(last)
        start, first = time.monotonic(), tuning.round + 1
        while tuning.round < settings.rounds:
            tuning.play(self.data)
            if tuning.round == first < settings.rounds:
                left = settings.rounds - first
                logger.info("%d rounds left: %s", left, duration(left * (time.monotonic() - start)))
            if settings.save_rounds and tuning.round % settings.save_rounds == 0:
                tuning.save()
        self.whole.cpu().gpt.load_state_dict(tuning.gpt.state_dict())
        tuning.accelerator.end_training()
        return Learned(tuning.step, {}, writes)

    def finished_model(self) -> BailandoForDanceGeneration:
        """Return the Bailando with the tuned GPT."""
        return self.whole

    def extractor(self, whole: PreTrainedModel) -> Any:
        """Return the extractor of the Bailando that was tuned, whose GPT learned from features of its engine."""
        return self.base_extractor


def run(arguments: ActorCriticArguments) -> BailandoForDanceGeneration:
    """Tune as the recipe says, write the whole Bailando to ``output_dir`` and return it."""
    return ActorCriticStage(arguments).run()


if __name__ == "__main__":
    ActorCriticStage.main()
