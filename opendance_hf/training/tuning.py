"""Tune a Bailando with actor and critic: settings, songs, and rounds of dancing and learning."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from accelerate.utils import gather_object  # type: ignore[import-untyped]
from torch import Tensor

from opendance_hf.data import is_npz_folder
from opendance_hf.modeling.bailando import (
    BailandoActorCritic,
    BailandoActorCriticConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoVQVAE,
    beat_rewards,
    reward_joints,
    window_mask,
)
from opendance_hf.training.checkpoints import remove_old
from opendance_hf.training.codes import Dances, Piece, coded, followed_music, music_window
from opendance_hf.training.loop import default_reports

logger = logging.getLogger(__name__)


@dataclass
class Settings:
    """The ``trainer`` section of a recipe of this stage; the defaults are the official ones.

    Attributes:
        rounds: number of times that the model dances to all songs; the official model is that of round 10.
        batches_per_round: number of batches; by default as many as the windows of a round fill.
        turn: number of batches of the actor before as many of the critic.
        per_device_train_batch_size: number of windows in a batch.
        gradient_accumulation_steps: number of batches that make one step.
        learning_rate: constant learning rate of Adam.
        adam_beta1: first beta of Adam.
        adam_beta2: second beta of Adam.
        reward: ``paper``, ``committed`` or ``steps``, see :func:`~opendance_hf.modeling.bailando.beat_rewards`.
        discount: factor of the value of the next state; 1 as published, less gives nearer rewards more weight.
        save_rounds: interval of checkpoints in rounds; 0 for none.
        logging_steps: interval of logs in batches.
        generate_batch_size: number of songs that the model dances to at a time.
        bf16: True for bfloat16 autocast.
        report_to: tracker; TensorBoard by default where it is installed.
        seed: of the critic's weights and of the draws of windows.
    """

    rounds: int = 10
    batches_per_round: int | None = None
    turn: int = 5
    per_device_train_batch_size: int = 128
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-5
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    reward: str = "paper"
    discount: float = 1.0
    save_rounds: int = 1
    logging_steps: int = 10
    generate_batch_size: int = 16
    bf16: bool = False
    report_to: str | None = None
    seed: int = 42

    def restored(self) -> dict[str, Any]:
        """Return the settings that a run cannot be resumed without; others may change between its parts."""
        names = ("turn", "learning_rate", "adam_beta1", "adam_beta2", "reward", "discount", "seed")
        return {name: getattr(self, name) for name in names}


class Songs:
    """Songs that are long enough, with the first codes of their real dances.

    Args:
        dataset: folder or Hub id of a dataset.
        whole: the Bailando that is tuned.
        selection: ``configs``, ``split``, ``subset``, ``only`` and ``leave_out`` of ``SequenceReader``.

    Raises:
        ValueError: if the dataset has no music, or no sequence is long enough.
    """

    def __init__(
        self,
        dataset: str,
        whole: BailandoForDanceGeneration,
        **selection: Any,
    ) -> None:
        if is_npz_folder(dataset):
            raise ValueError(
                f"{dataset}: motions without music, whose beats the reward is about: give a dataset"
            )
        self.config = whole.gpt.config
        self.per_code = whole.vqvae.config.frames_per_code
        #: The critic judges a state after every code that is read: rewards need one code more than a window has steps.
        self.steps = self.config.max_codes - 1
        self.pieces: list[Piece] = []
        self.dances = Dances(dataset, **selection)
        for piece in coded(self.dances, whole.vqvae, self.config):
            if piece.upper.shape[1] >= self.steps + 2:
                music = followed_music(piece.music, piece.upper.shape[1], self.config)
                self.pieces.append(piece._replace(joints=piece.joints[:, :0], music=music))
        if not self.pieces:
            raise ValueError(f"{dataset}: no sequence has {(self.steps + 2) * self.per_code} frames")
        self.windows = [
            (number, start)
            for number, piece in enumerate(self.pieces)
            for start in range(piece.upper.shape[1] - self.steps - 1)
        ]

    def fingerprint(self) -> str:
        """Return the SHA-256 of the motion and the music, as hex digits."""
        return self.dances.fingerprint()

    @torch.no_grad()
    def dance(self, gpt: BailandoGPT, numbers: list[int], batch_size: int) -> dict[int, Tensor]:
        """Choose (2, n) codes greedily for some of the songs, each from the first code of the first real dancer."""
        found: dict[int, Tensor] = {}
        numbers = sorted(numbers, key=lambda n: -self.pieces[n].upper.shape[1])
        for first in range(0, len(numbers), batch_size):
            chosen = numbers[first : first + batch_size]
            pieces = [self.pieces[n] for n in chosen]
            # The dances to shorter songs continue in silence, and are cut.
            music = torch.nn.utils.rnn.pad_sequence([p.music for p in pieces], batch_first=True).to(
                gpt.device
            )
            upper, lower = (
                torch.stack([c[:1] for c in codes]).to(gpt.device)
                for codes in ([p.upper[0] for p in pieces], [p.lower[0] for p in pieces])
            )
            codes = torch.stack(
                gpt.generate_codes(music, upper, lower, pieces[0].upper.shape[1] - 1), dim=1
            ).cpu()
            found |= {n: codes[i, :, : self.pieces[n].upper.shape[1]] for i, n in enumerate(chosen)}
        return found

    def batch(
        self, indices: list[int], danced: dict[int, Tensor], vqvae: BailandoVQVAE, reward: Any
    ) -> dict[str, Tensor]:
        """Cut windows of dances, with the rewards of all codes but the first."""
        chosen, steps = [self.windows[i] for i in indices], self.steps
        codes = torch.stack([danced[n][:, s : s + steps + 1] for n, s in chosen])
        upper, lower = codes.to(vqvae.device).unbind(1)
        beats = torch.zeros(len(chosen), steps * self.per_code)
        for row, (number, start) in zip(beats, chosen, strict=True):
            at = self.pieces[number].music_beats - self.per_code * (start + 1)
            row[at[(at >= 0) & (at < len(row))]] = 1
        music = [music_window(self.pieces[n].music, s, steps + 1, self.config) for n, s in chosen]
        joints = reward_joints(vqvae, upper[:, 1:], lower[:, 1:], form=reward)
        return {
            "upper_codes": upper,
            "lower_codes": lower,
            "music": torch.stack(music).to(vqvae.device),
            "rewards": beat_rewards(
                joints, beats.to(vqvae.device), form=reward, frames_per_code=self.per_code
            ),
            "mask": window_mask(torch.tensor([s for _, s in chosen]), steps).to(vqvae.device),
        }


class Tuning:
    """Model, optimisers and progress of the tuning; saved between rounds."""

    def __init__(self, whole: BailandoForDanceGeneration, settings: Settings, folder: Path) -> None:
        reports = default_reports() if settings.report_to is None else settings.report_to
        self.settings, self.folder = settings, folder
        AcceleratorState._reset_state()  # of an earlier stage in this process, as Trainer does
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if settings.bf16 else "no",
            log_with=None if reports == "none" else reports,
            project_dir=os.fspath(folder / "runs"),
        )
        torch.manual_seed(settings.seed)
        model = BailandoActorCritic(BailandoActorCriticConfig(whole.gpt.config, discount=settings.discount))
        model.gpt.load_state_dict(whole.gpt.state_dict())
        learned = [p for p in model.gpt.parameters() if p.requires_grad], list(model.critic.parameters())
        betas = (settings.adam_beta1, settings.adam_beta2)
        optimizers = [torch.optim.Adam(part, lr=settings.learning_rate, betas=betas) for part in learned]
        self.model, self.actor, self.critic = self.accelerator.prepare(model, *optimizers)
        self.vqvae = whole.vqvae.eval().to(self.accelerator.device)
        self.round, self.step = 0, 0
        if self.accelerator.log_with:
            self.accelerator.init_trackers("actor_critic")

    @property
    def gpt(self) -> BailandoGPT:
        """Return the actor."""
        return self.accelerator.unwrap_model(self.model).gpt

    def save(self, keep: int = 2) -> None:
        """Write a checkpoint, ``trainer_state.json`` last: without it a checkpoint counts as cut off."""
        target = self.folder / f"checkpoint-{self.step}"
        self.accelerator.save_state(os.fspath(target))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            (target / "trainer_state.json").write_text(
                json.dumps({"round": self.round, "global_step": self.step})
            )
            remove_old(self.folder, keep)

    def load(self, checkpoint: str) -> None:
        """Load a checkpoint to continue from it."""
        self.accelerator.load_state(checkpoint)
        state = json.loads(Path(checkpoint, "trainer_state.json").read_text())
        self.round, self.step = state["round"], state["global_step"]

    def play(self, songs: Songs) -> None:
        """Play one round: dance to all songs, then learn from windows of these dances."""
        settings, accelerator = self.settings, self.accelerator
        rank, ranks = accelerator.process_index, accelerator.num_processes
        self.model.eval()
        mine = songs.dance(
            self.gpt, list(range(rank, len(songs.pieces), ranks)), settings.generate_batch_size
        )
        danced = dict(gather_object(list(mine.items()))) if ranks > 1 else mine
        self.model.train()
        size, parts = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
        whole_batch = size * parts * ranks
        batches = settings.batches_per_round or max(1, len(songs.windows) // whole_batch)
        # Drawn with replacement, as published; the same on every rank, whatever their number.
        draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.round)
        for number in range(batches):
            indices = torch.randint(len(songs.windows), (parts, ranks, size), generator=draw)[:, rank]
            logs = self._learn(songs, danced, indices.tolist(), acting=number // settings.turn % 2 == 0)
            self.step += 1
            if self.step % settings.logging_steps == 0:
                accelerator.log(logs, step=self.step)
                if accelerator.is_main_process:
                    told = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
                    logger.info(
                        "round %d/%d, step %s: %s", self.round + 1, settings.rounds, f"{self.step:,}", told
                    )
        self.round += 1

    def _learn(
        self, songs: Songs, danced: dict[int, Tensor], parts: list[list[int]], *, acting: bool
    ) -> dict[str, float]:
        """Take one step of the actor or of the critic with one batch, which comes in parts."""
        accelerator = self.accelerator
        batches = [songs.batch(indices, danced, self.vqvae, self.settings.reward) for indices in parts]
        # The actor's loss is a mean over the steps in the mask, whose number differs between parts and processes.
        counts = torch.stack([batch["mask"].sum().float() for batch in batches])
        everywhere = accelerator.reduce(counts.sum(), "sum").clamp(min=1)
        logs = {"actor_loss": 0.0, "critic_loss": 0.0, "reward": 0.0}
        for batch, count in zip(batches, counts, strict=True):
            output = self.model(**batch)
            actor = output.actor_loss * count * accelerator.num_processes / everywhere
            critic = output.critic_loss / len(batches)
            # Both losses, so that every process has all gradients; only one of the optimisers takes a step.
            accelerator.backward(actor + critic)
            logs["actor_loss"] += float(actor.detach())
            logs["critic_loss"] += float(critic.detach())
            logs["reward"] += float(batch["rewards"].mean()) / len(batches)
        (self.actor if acting else self.critic).step()
        self.actor.zero_grad()
        self.critic.zero_grad()
        return logs
