"""Define the steps that all stages of training share, from a recipe to a finished model with its card."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from torch import Tensor, nn
from transformers import PreTrainedModel

from opendance_hf.dance import Dancer
from opendance_hf.data import NoWindowsError, is_npz_folder, names_tars
from opendance_hf.disk import MIN_ROOM, DiskError, check_room, describe_disk_error
from opendance_hf.files import names_a_folder, staged_folder
from opendance_hf.hub import push
from opendance_hf.model_card import ModelFacts, describe_dataset, write_model_card
from opendance_hf.modeling.loading import hide_progress_bars, load_model
from opendance_hf.modeling.models import extractor_for
from opendance_hf.training.callbacks import undisturbed
from opendance_hf.training.checkpoints import check_run_folder, remove_incomplete
from opendance_hf.training.cpu import choose_threads
from opendance_hf.training.fingerprint import hash_of_model
from opendance_hf.training.loop import MORE_OPTIONS, Learned, move, train
from opendance_hf.training.recipe import (
    RecipeError,
    RunArguments,
    check_names,
    checked,
    checked_trainer,
    load_recipe,
    parse,
    readable_errors,
    using_section,
)
from opendance_hf.training.validation import (
    Validation,
    dance_to,
    held_out,
    mean_loss,
    score_dances,
    songs_of,
)

logger = logging.getLogger(__name__)


class Stage:
    """One stage of training; a subclass says what differs from stage to stage.

    Attributes:
        name: of the stage, and the beginning of the names of its recipes.
        arguments_class: of its command line.
        model_section: class whose keyword arguments are the section ``model`` of a recipe; None for an empty section.
        data_section: class whose keyword arguments are the section ``data``; its instances have ``fingerprint()``.
        given: arguments of this class that the stage passes itself.
        dancers: number of dancers in the dances that are scored at the end; 0 if the model does not dance.
        takes_tars: True if it can learn from tars of a dataset.
        recipe: as it is used.
        validation: the section ``validation``.
        base: folder or Hub id of the model that the stage starts from; empty without one.
        base_model: that model, or None.
        model: the model that learns.
        data: the items that it learns from.
        others: held-out items, or None.
        split: name of the held-out data, or None.
    """

    name: ClassVar[str]
    arguments_class: ClassVar[type[RunArguments]] = RunArguments
    model_section: ClassVar[Any] = None
    data_section: ClassVar[Any]
    given: ClassVar[tuple[str, ...]] = ()
    dancers: int = 1
    takes_tars: ClassVar[bool] = True

    base: str = ""
    base_model: PreTrainedModel | None = None
    model: Any
    data: Any
    others: Any = None
    split: str | None = None

    def __init__(self, arguments: Any) -> None:
        self.arguments = arguments
        package = sys.modules[type(self).__module__].__package__ or __package__
        self.recipe = load_recipe(self.name, arguments.config, arguments.overrides, package=package)
        self.check_recipe()
        self.validation = Validation(**self.recipe["validation"])

    def check_recipe(self) -> None:
        """Check the names of all options of the recipe, and the types of those of validation and the Trainer.

        Raises:
            RecipeError: if an option does not exist, or has another type.
        """
        if self.model_section is None:
            check_names(self.recipe["model"], (), "model")
        else:
            checked(self.model_section, self.recipe["model"], "model")
        checked(self.data_section, self.recipe["data"], "data", self.given)
        checked(Validation, self.recipe["validation"], "validation")
        self.check_trainer_section()

    def check_trainer_section(self) -> None:
        """Check the names of the options in the section ``trainer``, and which are numbers."""
        checked_trainer(self.recipe["trainer"], MORE_OPTIONS)

    def run(self, *, set_threads: bool = False) -> Any:
        """Train as the recipe says, write the finished model to ``output_dir`` and return it.

        Args:
            set_threads: choose the number of CPU threads, see :func:`opendance_hf.training.cpu.choose_threads`.

        Raises:
            RecipeError: if the recipe or the data cannot be used.
            OutputError: if the folder is an input, or has files that no training wrote.
            DiskError: if the folder cannot be written; what was not finished is removed.
            ModelError: if a model that the stage starts from cannot be used.
        """
        if names_tars(self.arguments.dataset) and not self.takes_tars:
            raise RecipeError(
                f"{self.arguments.dataset}: {self.name} does not read tars; docs/training.md says what it learns from"
            )
        folder = Path(self.arguments.output_dir)
        is_new = not folder.exists()
        check_run_folder(folder, [self.arguments.dataset, *self.base_names()])
        try:
            return self._run(set_threads=set_threads)
        except Exception as error:
            message = describe_disk_error(error, [folder])
            if message is None:
                raise
            remove_incomplete(folder, is_new=is_new)
            raise DiskError(message) from error

    def _run(self, *, set_threads: bool) -> Any:
        with hide_progress_bars():
            with readable_errors():
                self.load_base()
                torch.manual_seed(self.recipe["trainer"].get("seed", 42))
                with using_section("model"):
                    self.model = self.build_model()
                if set_threads:
                    choose_threads(self.model)
                logger.info("preparing windows of %s ...", self.arguments.dataset)
                with using_section("data"):
                    self.data = self.build_data(self.recipe["data"])
                    self.others, self.split = self.build_held_out()
            logger.info("%s", self.trained_on())
            self.check_room()
            learned = self.learn()
            whole = self.finished_model().eval()
            if learned.writes:
                self.save(whole, learned)
        return whole.cpu()

    def base_names(self) -> list[str]:
        """Return the folders and Hub ids of the models that the options of the command line name."""
        options = ("vqvae", "bailando", "relation")
        return [name for option in options if (name := getattr(self.arguments, option, ""))]

    def check_room(self) -> None:
        """Check that the disk has room for the model, and for a checkpoint if any is written.

        Raises:
            DiskError: naming the folder and the missing space.
        """
        weights = sum(value.numel() * value.element_size() for value in self.model.parameters())
        saves = self.recipe["trainer"].get("save_strategy", "steps") not in ("no", False)
        # A checkpoint of Adam has two more numbers for each weight.
        check_room(
            Path(self.arguments.output_dir),
            max(MIN_ROOM, (4 if saves else 1) * weights),
            option="--output-dir",
        )

    def load_base(self) -> None:
        """Load the models that the stage starts from; most start from random weights."""

    def build_model(self) -> nn.Module:
        """Make the model that learns, by the section ``model``."""
        raise NotImplementedError

    def build_data(self, options: dict[str, Any]) -> Any:
        """Make the items of training, or the held-out ones, by a section ``data``."""
        raise NotImplementedError

    def held_out_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Change a section ``data`` for validation: all of the split; a subclass also cuts one window after another.

        ``subset`` is the size of the training set.
        """
        return {name: value for name, value in options.items() if name != "subset"}

    def trained_on(self) -> str:
        """Describe the amount of training data in one line."""
        return f"{len(self.data):,} windows."

    def build_held_out(self) -> tuple[Any, str | None]:
        """Make the held-out items, and return them with the name of their split; None where there are none."""
        options, split = held_out(self.arguments.dataset, self.recipe["data"], self.validation.split)
        if options is None:
            return None, None
        try:
            return self.build_data(self.held_out_options(options)), split
        except NoWindowsError:
            return None, split  # all of its sequences are shorter than a window; they may still be danced to

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes this run from others; a run with another identity is not resumed."""
        return {
            "stage": self.name,
            "model": self.recipe["model"],
            "data": {**self.recipe["data"], "sha256": self.data.fingerprint()},
            "base": None if self.base_model is None else hash_of_model(self.base_model),
        }

    def learn(self) -> Learned:
        """Train the model."""
        return train(
            self.model,
            self.data,
            self.collate,
            self.recipe["trainer"],
            self.arguments,
            self.identity(),
            validate=None if self.others is None else self.validate,
            eval_steps=self.validation.eval_steps,
        )

    @staticmethod
    def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Make the inputs of the model from items."""
        return stack(items)

    def validate(self, model: Any) -> dict[str, float]:
        """Measure a model, which is in evaluation mode, on the held-out items."""
        return mean_loss(model, self.others, self.collate, windows=self.validation.windows)

    def finished_model(self) -> PreTrainedModel:
        """Return the model to save."""
        model: PreTrainedModel = self.model
        return model

    def extractor(self, whole: PreTrainedModel) -> Any:
        """Return the feature extractor to save with the model, or None if it needs none."""
        return extractor_for(whole.config)

    def evaluate(self, whole: Any) -> dict[str, float]:
        """Measure the finished model: let it dance to held-out songs, and score these dances."""
        dataset, options = self.arguments.dataset, self.validation
        if not (self.dancers and self.split and options.songs) or is_npz_folder(dataset):
            return {}
        logger.info("dancing to songs of the split %s ...", self.split)
        move(whole)
        dancer = Dancer.of(whole)
        with undisturbed(whole):
            configs = self.recipe["data"].get("configs")
            songs = songs_of(dataset, configs, self.split, options, dancers=self.dancers)
            songs = [song for song in songs if song.num_frames > whole.seed_frames]
            folder = Path(self.arguments.output_dir)
            return score_dances(songs, lambda song: dance_to(dancer, song, options), folder, options)

    def save(self, whole: PreTrainedModel, learned: Learned) -> None:
        """Write the finished model, its recipe and its card, and publish them if wanted; one process calls this."""
        arguments, folder = self.arguments, Path(self.arguments.output_dir)
        metrics = {**learned.metrics, **self.evaluate(whole)}
        recipe = yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True)
        facts = ModelFacts(
            name=arguments.push_to_hub or folder.resolve().name,
            model_class=type(whole).__name__,
            model_type=str(whole.config.model_type),
            stage=self.name,
            recipe=recipe,
            parameters=sum(p.numel() for p in whole.parameters()),
            dataset=describe_dataset(arguments.dataset),
            trained_on=self.trained_on(),
            steps=learned.steps,
            metrics=metrics,
            split=self.split,
            base=public_name(self.base),
            licence=arguments.licence,
            summary=(type(whole).__doc__ or "").strip().partition("\n")[0],
            module=type(whole).__module__,
        )
        with staged_folder(folder) as staging:
            whole.cpu().save_pretrained(staging)
            extractor = self.extractor(whole)
            if extractor is not None:
                extractor.save_pretrained(staging)
            (staging / "recipe.yaml").write_text(recipe, encoding="utf-8")
            write_model_card(staging, facts)
        if arguments.push_to_hub:
            push(folder, arguments.push_to_hub, private=arguments.private)

    def load_start(self, option: str, *expected: str) -> Any:
        """Load the model that an option of the command line names.

        Args:
            option: name of the option.
            expected: kinds of models (``model_type``) that the stage can start from.

        Raises:
            RecipeError: if the option is missing.
            ModelError: if the model cannot be loaded or is of another kind.
        """
        self.base = getattr(self.arguments, option)
        if not self.base:
            raise RecipeError(f"{self.name} needs --{option}: the folder or Hub id of a trained model")
        self.base_model = load_model(self.base, expected=expected)
        logger.info("starting from %s, a model of type %s", self.base, self.base_model.config.model_type)
        return self.base_model

    @classmethod
    def main(cls, argv: list[str] | None = None) -> Any:
        """Run the stage from the command line of a launcher, and print its log; one of several processes prints."""
        logging.basicConfig(format="%(message)s", stream=sys.stdout)
        first = int(os.environ.get("RANK", 0)) == 0
        logging.getLogger("opendance_hf").setLevel(logging.INFO if first else logging.WARNING)
        return cls(parse(cls.arguments_class, argv)).run(set_threads=True)


def public_name(model: str) -> str:
    """Return the Hub id of a model, or the last name of its folder: a path on this machine is private."""
    return Path(model).expanduser().resolve().name if model and names_a_folder(model) else model


def stack(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the tensors of items by name."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}
