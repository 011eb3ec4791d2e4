"""Actor-critic fine-tuning of Bailando's GPT: dances that keep the beat (Siyao et al., CVPR 2022, section 3.3).

The GPT dances, a critic judges every state of the dance, and codes that turn out better than judged become likelier.
Notable:

- the GPT's base is frozen and nothing drops out; the actor learns in the head's blocks, the critic in blocks of its own;
- windows follow each other at every code of a dance, so that each code counts once: see :func:`window_mask`;
- the published programs reward a code in two ways, see :func:`beat_rewards`; a third is ours. The further published term, for
  upper and lower bodies that face the same way, has weight zero in all published settings and is not here;
- critics start from small normal weights; the official one, by a slip, from large positive ones.

B is a batch of windows, S the steps of a window (28 as published), each a choice of one upper and one lower code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from opendance_hf.metrics.beats import motion_beats
from opendance_hf.metrics.steps import foot_events
from opendance_hf.modeling.bailando.configuration_bailando import BailandoActorCriticConfig, BailandoGPTConfig
from opendance_hf.modeling.bailando.modeling_bailando import BailandoGPT
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import (
    BailandoPreTrainedModel,
    BailandoVQVAE,
    join_root,
)
from opendance_hf.modeling.layers import DanceBlock, Rotary
from opendance_hf.motion.phase import beat_phase, phase_score

REWARD = 5.0

#: Which of the two published rewards, or ours, see :func:`beat_rewards`.
RewardForm = Literal["paper", "committed", "steps"]


@dataclass
class BailandoActorCriticOutput(ModelOutput):
    """Output of :class:`BailandoActorCritic`.

    Attributes:
        loss: actor loss plus critic loss; no weight is moved by both.
        actor_loss: see :func:`actor_loss`; None without rewards, like the critic's and the errors.
        critic_loss: see :func:`critic_loss`.
        td_errors: (B, S), see :func:`td_errors`.
        state_values: (B, S + 1) of the states before each step and after the last.
        token_losses: (B, S) cross-entropy of the upper plus that of the lower code that was danced.
        entropies: (B, S) of the two distributions that these were chosen from, added.
        upper_logits: (B, S, codebook_size).
        lower_logits: (B, S, codebook_size).
    """

    loss: Tensor | None = None
    actor_loss: Tensor | None = None
    critic_loss: Tensor | None = None
    td_errors: Tensor | None = None
    state_values: Tensor | None = None
    token_losses: Tensor | None = None
    entropies: Tensor | None = None
    upper_logits: Tensor | None = None
    lower_logits: Tensor | None = None


def beat_rewards(
    joints: Tensor, music_beats: Tensor, *, form: RewardForm = "paper", frames_per_code: int = 8
) -> Tensor:
    """Compute the reward of each code of a dance for keeping the beat.

    A code has a dance beat if one of its frames is a beat of the motion (:func:`~opendance_hf.metrics.beats.motion_beats`)
    and a music beat if one is a beat of the music.

    Args:
        joints: (B, T, 24, 3) at 60 FPS, T a multiple of ``frames_per_code``; published with the pelvis' velocity in
            its place, see :func:`reward_joints`.
        music_beats: (B, T), nonzero at beats.
        form: ``"paper"`` is the reward as the paper has it and the journal version's program: -5 where the music has a
            beat and the dance has none, 5 elsewhere. ``"committed"`` is that of the program published with the
            conference paper: 5 where both have a beat, -5 elsewhere, even where neither has. ``"steps"``, ours, is 5 times
            the step beat of the landings and take-offs in a code (:func:`~opendance_hf.metrics.step_beat`): from -5 to 5, 0
            where no foot does either. It needs whole joints, with the pelvis in its place.
        frames_per_code: of the VQ-VAE.

    Returns:
        (B, T / frames_per_code).
    """
    if form == "steps":
        return _step_rewards(joints, music_beats, frames_per_code)
    dance = torch.zeros(joints.shape[:2], dtype=torch.bool)
    for window, motion in zip(dance, joints.detach().float().cpu().numpy(), strict=True):
        window[torch.from_numpy(motion_beats(motion))] = True
    danced = dance.to(joints.device).unflatten(1, (-1, frames_per_code)).any(-1)
    heard = (music_beats != 0).unflatten(1, (-1, frames_per_code)).any(-1)
    good = danced & heard if form == "committed" else danced | ~heard
    return torch.where(good, REWARD, -REWARD).to(joints.dtype)


def _step_rewards(joints: Tensor, music_beats: Tensor, frames_per_code: int) -> Tensor:
    rewards = torch.zeros(len(joints), joints.shape[1] // frames_per_code)
    windows = zip(rewards, joints.detach().double().cpu().numpy(), music_beats.cpu().numpy(), strict=True)
    for row, dance, heard in windows:
        beats, events = np.flatnonzero(heard), np.concatenate(foot_events(dance))
        if len(beats) < 2 or not len(events):
            continue
        worth = phase_score(beat_phase(events, beats))
        codes = events // frames_per_code
        counts = np.bincount(codes, minlength=len(row))
        row += torch.from_numpy(np.bincount(codes, worth, minlength=len(row)) / np.maximum(counts, 1))
    return (REWARD * rewards).to(joints.device, joints.dtype)


def reward_joints(
    vqvae: BailandoVQVAE, upper_codes: Tensor, lower_codes: Tensor, form: RewardForm = "paper"
) -> Tensor:
    """Decode (B, S) codes to what a reward measures: (B, 8 S, 24, 3) joints.

    For the published rewards the pelvis is replaced by its velocity; for ``"steps"`` the joints move through the room.
    """
    joints, velocity = vqvae.decode(upper_codes, lower_codes)
    if form == "steps":
        return join_root(joints, velocity)
    joints[:, :, 0] = velocity
    return joints


def td_errors(rewards: Tensor, values: Tensor, discount: float = 1.0) -> Tensor:
    """Compute temporal-difference errors (B, S) from (B, S) rewards and (B, S + 1) values.

    r[t] + discount * V[t + 1] - V[t]. Only V[t] is to learn from it; the state that follows is taken as it is judged.
    """
    return rewards + discount * values[:, 1:].detach() - values[:, :-1]


def actor_loss(token_losses: Tensor, errors: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean of cross-entropy times temporal-difference error, (B, S) each, over the steps that count.

    What went better than judged becomes likelier, what went worse less likely; the errors themselves do not learn here.
    """
    mask = mask.to(token_losses.dtype)
    return (token_losses * errors.detach() * mask).sum() / mask.sum().clamp(min=1)


def critic_loss(errors: Tensor) -> Tensor:
    """Compute the mean square of all temporal-difference errors (B, S), of steps that count for the actor or not."""
    return errors.square().mean()


def window_mask(starts: Tensor, steps: int) -> Tensor:
    """Return the steps that count for the actor: (B, steps) booleans, from the (B,) first codes of windows.

    Windows start at every code of a dance. All steps of the first count, and the last step of every other: the one step
    that no window before it had.
    """
    last = torch.arange(steps, device=starts.device) == steps - 1
    return (starts == 0)[:, None] | last


class BailandoCritic(nn.Module):
    """The value of a state, from the base's features."""

    def __init__(self, config: BailandoGPTConfig, num_layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DanceBlock(config, dropout=0.0) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size)
        self.upper_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.lower_head = nn.Linear(config.hidden_size, 1, bias=False)

    def forward(self, features: Tensor, mask: Tensor, rotary: Rotary | None = None) -> Tensor:
        """Compute values (B, S) from base features (B, 3 S, C)."""
        for block in self.blocks:
            features = block(features, mask, rotary=rotary)
        _, upper, lower = self.ln_f(features).unflatten(1, (3, -1)).unbind(1)
        return (self.upper_head(upper) + self.lower_head(lower))[..., 0]


class BailandoActorCritic(BailandoPreTrainedModel):
    """GPT that learns to keep the beat, and its critic.

    ``gpt`` becomes part of a :class:`~opendance_hf.modeling.bailando.BailandoForDanceGeneration` after training.

    >>> sizes = {"codebook_size": 8, "hidden_size": 8, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1}
    >>> model = BailandoActorCritic(BailandoActorCriticConfig(gpt_config=sizes)).eval()
    >>> codes = torch.zeros(1, 5, dtype=torch.long)
    >>> model(codes, codes, torch.zeros(1, 5, 438), rewards=torch.ones(1, 4)).td_errors.shape
    torch.Size([1, 4])
    """

    config_class = BailandoActorCriticConfig
    config: BailandoActorCriticConfig
    base_model_prefix = "actor_critic"
    main_input_name = "upper_codes"

    def __init__(self, config: BailandoActorCriticConfig) -> None:
        super().__init__(config)
        self.gpt = BailandoGPT(config.gpt_config)
        self.critic = BailandoCritic(config.gpt_config, config.num_critic_layers)
        self.gpt.requires_grad_(False)
        for part in (self.gpt.head, self.gpt.ln_f, self.gpt.upper_head, self.gpt.lower_head):
            part.requires_grad_(True)
        self.post_init()

    def train(self, mode: bool = True) -> BailandoActorCritic:
        """Set the training mode; the actor stays without dropout, as in generation (and without gradient checkpointing)."""
        super().train(mode)
        self.gpt.eval()
        return self

    def forward(
        self,
        upper_codes: Tensor,
        lower_codes: Tensor,
        music: Tensor,
        rewards: Tensor | None = None,
        mask: Tensor | None = None,
        return_loss: bool = True,
    ) -> BailandoActorCriticOutput:
        """Compute values and losses of windows of the GPT's own dances.

        The actor's head and the critic share no weights; with one optimiser, both learn from the same batches. To take
        turns, as published (five batches each), set the gradients of the other to zero or give each its optimiser.

        Args:
            upper_codes: (B, S + 1) codes that were danced.
            lower_codes: (B, S + 1) likewise.
            music: S + 1 entries, see :class:`~opendance_hf.modeling.bailando.BailandoGPT`.
            rewards: (B, S) of code 1 to code S, see :func:`beat_rewards`.
            mask: (B, S) steps that count for the actor, see :func:`window_mask`; all by default.
            return_loss: always true with rewards; there for ``transformers.Trainer``.
        """
        with torch.no_grad():
            features = self.gpt.base_features(upper_codes, lower_codes, music)
        steps = upper_codes.shape[1]
        attention = self.gpt.attention_mask(steps, features.device)
        values = self.critic(features, attention, self.gpt.rotary(steps, features))
        # Causal: the features of the first S codes are the same without the last (but for a music window with absolute
        # positions, whose last codes then hear 8 frames more).
        acting = features.unflatten(1, (3, steps))[:, :, :-1].flatten(1, 2)
        upper_logits, lower_logits = self.gpt.head_logits(acting)
        token_losses = entropies = torch.zeros_like(values[:, :-1])
        for logits, codes in ((upper_logits, upper_codes), (lower_logits, lower_codes)):
            scores = logits.float().log_softmax(-1)
            token_losses = token_losses + F.nll_loss(scores.mT, codes[:, 1:], reduction="none")
            entropies = entropies - (scores.exp() * scores).sum(-1)
        output = BailandoActorCriticOutput(
            state_values=values,
            token_losses=token_losses,
            entropies=entropies,
            upper_logits=upper_logits,
            lower_logits=lower_logits,
        )
        if rewards is not None:
            output.td_errors = td_errors(rewards, values, self.config.discount)
            counts = torch.ones_like(rewards) if mask is None else mask
            output.actor_loss = actor_loss(token_losses, output.td_errors, counts)
            output.critic_loss = critic_loss(output.td_errors)
            output.loss = output.actor_loss + output.critic_loss
        return output
