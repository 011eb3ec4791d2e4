"""Against the official modules' outputs, weights by rule.

Names: fixtures `vqvae`, `vqvae_mix`, `gpt`, `gpt_ac` and `gpt_mw` of the reference folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendance_hf.modeling.bailando import (
    BailandoActorCritic,
    BailandoActorCriticConfig,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
    BailandoVQVAEConfig,
    beat_rewards,
    join_root,
    window_mask,
)
from opendance_hf.modeling.bailando.actor_critic import actor_loss, critic_loss, td_errors
from opendance_hf.modeling.bailando.convert_bailando import (
    convert_actor_critic_state,
    convert_gpt_state,
    convert_vqvae_state,
)
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import BailandoCodebook
from tests.modeling.official import official_state

pytestmark = pytest.mark.shared


def load(shared: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts = json.loads((shared / "reference" / f"{name}.json").read_text())
    with np.load(shared / "reference" / f"{name}.npz", allow_pickle=False) as data:
        return facts, dict(data)


def vqvae(facts: dict[str, Any], keys: str) -> BailandoVQVAE:
    state, report = convert_vqvae_state(official_state(facts[keys], facts["mode"]))
    assert not report["unmatched"]
    model = BailandoVQVAE(BailandoVQVAEConfig())
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.startswith("root_decoder") for key in missing)
    return model.eval()


@pytest.fixture(scope="module")
def fixture(shared: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return load(shared, "vqvae")


def relative(pose: np.ndarray) -> torch.Tensor:
    pose = pose.copy()
    pose[..., :3] = 0
    return torch.from_numpy(pose).unflatten(-1, (24, 3))


def test_parity_vqvae(fixture: Any) -> None:
    facts, data = fixture
    model = vqvae(facts, "keys_SepVQVAE")
    case = facts["cases"]["SepVQVAE"]
    with torch.no_grad():
        output = model(relative(data["pose"]))
    np.testing.assert_array_equal(output.upper_codes, data["sep_codes_up"])
    np.testing.assert_array_equal(output.lower_codes, data["sep_codes_down"])
    np.testing.assert_allclose(output.joints.flatten(2), data["sep_recon"], atol=1e-4)
    assert output.pose_loss.item() == pytest.approx(case["loss"], rel=1e-4)
    for half, metrics in (("upper", case["metrics_up"]), ("lower", case["metrics_down"])):
        for ours, theirs in (
            ("reconstruction", "recons_loss"),
            ("commitment", "commit_loss"),
            ("velocity", "velocity_loss"),
            ("acceleration", "acceleration_loss"),
        ):
            assert output.metrics[f"{half}_{ours}"].item() == pytest.approx(metrics[theirs], rel=1e-4)
    codes = model.encode(relative(data["pose"]))
    np.testing.assert_array_equal(codes[0], data["sep_codes_up"])
    count = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("root_decoder"))
    assert count == case["n_params"]


def test_parity_vqvae_root(fixture: Any) -> None:
    facts, data = fixture
    model = vqvae(facts, "keys_SepVQVAER")
    velocity = torch.from_numpy(data["root_input"][..., :3].copy())
    model.freeze_pose()
    with torch.no_grad():
        output = model(relative(data["root_input"]), velocity)
        joints, decoded = model.decode(output.upper_codes, output.lower_codes)
    np.testing.assert_array_equal(output.upper_codes, data["root_codes_up"])
    np.testing.assert_array_equal(output.lower_codes, data["root_codes_down"])
    expected = data["root_recon"].reshape(2, 240, 24, 3)
    np.testing.assert_allclose(decoded, expected[:, :, 0], atol=1e-4)
    np.testing.assert_allclose(joints[:, :, 1:], expected[:, :, 1:], atol=1e-4)
    # The official total is the velocity's L1 plus that of its first difference, not halved.
    down = facts["cases"]["SepVQVAER"]["metrics_down"]
    assert output.root_loss.item() == pytest.approx(
        down["velocity_loss"] + down["acceleration_loss"], rel=1e-4
    )
    assert output.loss.item() == pytest.approx(facts["cases"]["SepVQVAER"]["loss"], rel=1e-4)
    root = join_root(torch.zeros_like(joints), decoded)[:, :, 0]
    np.testing.assert_allclose(root, data["root_decode_integrated_xyz"], atol=1e-3)


def test_parity_codebook_update(fixture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = fixture
    config = BailandoVQVAEConfig(hidden_size=8, codebook_size=16)
    book = BailandoCodebook(config)
    book.codes.copy_(torch.from_numpy(data["ema_k0"]))
    book.code_sum.copy_(torch.from_numpy(data["ema_k_sum0"]))
    book.code_count.copy_(torch.from_numpy(data["ema_k_elem0"]))
    vectors = torch.from_numpy(data["ema_x"])
    indices = book.quantize(vectors)
    np.testing.assert_array_equal(indices, data["ema_codes"])
    monkeypatch.setattr(book, "_permutation", lambda count: torch.from_numpy(data["ema_perm"]))
    book.update(vectors, indices, book.draw(vectors))
    np.testing.assert_allclose(book.codes, data["ema_k1"], atol=1e-6)
    np.testing.assert_allclose(book.code_sum, data["ema_k_sum1"], atol=1e-6)
    np.testing.assert_allclose(book.code_count, data["ema_k_elem1"], atol=1e-6)


@pytest.fixture(scope="module")
def gpt(shared: Path) -> tuple[BailandoGPT, dict[str, Any], dict[str, np.ndarray]]:
    facts, data = load(shared, "gpt")
    state, report = convert_gpt_state(official_state(facts["keys_CrossCondGPT2"], facts["mode"]))
    assert not report["unmatched"]
    model = BailandoGPT(BailandoGPTConfig())
    model.load_state_dict(state)
    return model.eval(), facts["cases"]["CrossCondGPT2"], data


def test_parity_gpt_logits(gpt: Any) -> None:
    model, case, data = gpt
    up, down, music = (torch.from_numpy(data[k]) for k in ("codes_up", "codes_down", "cond"))
    output = model(up[:, :-1], down[:, :-1], music, up[:, 1:], down[:, 1:])
    np.testing.assert_allclose(output.upper_logits.detach(), data["logits_up"], atol=1e-4)
    np.testing.assert_allclose(output.lower_logits.detach(), data["logits_down"], atol=1e-4)
    assert output.loss.item() == pytest.approx(case["loss"], rel=1e-4)
    assert sum(p.numel() for p in model.parameters()) == case["n_params"]


def test_parity_gpt_greedy(gpt: Any) -> None:
    model, case, data = gpt
    music = torch.from_numpy(data["greedy_cond"])[None]
    start = [torch.tensor([[code]]) for code in case["greedy"]["start"]]
    steps = case["greedy"]["steps"]  # far past the 28 of the context, where the window begins to slide
    up, down = model.generate_codes(music, *start, steps=steps)
    np.testing.assert_array_equal(up, data["greedy_up"])
    np.testing.assert_array_equal(down, data["greedy_down"])


def test_parity_gpt_gradients(gpt: Any) -> None:
    model, case, data = gpt
    up, down, music = (torch.from_numpy(data[k]) for k in ("codes_up", "codes_down", "cond"))
    model.zero_grad()
    model(up[:, :-1], down[:, :-1], music, up[:, 1:], down[:, 1:]).loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    wanted = {
        k: v for k, v in case["grad_norm"].items() if not k.endswith("key.bias")
    }  # those are zero but for rounding
    names, _ = convert_gpt_state({key: torch.zeros(1, 87, 1) for key in wanted})
    for name, norm in zip(names, wanted.values(), strict=True):
        assert grads[name].norm().item() == pytest.approx(norm, rel=1e-4), name
    model.zero_grad()


@pytest.fixture(scope="module")
def mix(shared: Path) -> tuple[BailandoVQVAE, dict[str, Any], dict[str, np.ndarray]]:
    facts, data = load(shared, "vqvae_mix")
    state, report = convert_vqvae_state(official_state(facts["keys"], facts["mode"]))
    assert not report["unmatched"]
    model = BailandoVQVAE(BailandoVQVAEConfig(rotation_head=True))
    model.load_state_dict(state)
    return model, facts, data


def test_parity_rotation_head(mix: Any) -> None:
    model, facts, data = mix
    codes = model.upper.codebook.codes.clone()
    model.freeze_all_but_rotation()
    model.train()
    target = torch.from_numpy(data["x_rot"])[..., 3:].unflatten(-1, (24, 3, 3))
    output = model(relative(data["x"]), rotations=target)
    np.testing.assert_array_equal(output.upper_codes, data["codes_up"])
    np.testing.assert_array_equal(output.lower_codes, data["codes_down"])
    assert output.loss.item() == pytest.approx(facts["loss"], rel=1e-4)
    for half, metrics in (("upper", facts["metrics_up"]), ("lower", facts["metrics_down"])):
        for ours, theirs in (
            ("reconstruction", "recons_loss"),
            ("velocity", "velocity_loss"),
            ("acceleration", "acceleration_loss"),
        ):
            assert output.metrics[f"{half}_rotation_{ours}"].item() == pytest.approx(
                metrics[theirs], rel=1e-4
            )
    np.testing.assert_allclose(output.root_velocity.detach(), data["recon"][..., :3], atol=1e-4)
    np.testing.assert_allclose(output.rotations.detach().flatten(2), data["recon"][..., 3:], atol=1e-4)
    assert sum(p.numel() for p in model.parameters()) == facts["n_params"]
    output.loss.backward()
    learning = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    official = {"vqvae_up.decoders_rot": "upper", "vqvae_down.decoders_rot": "lower"}
    assert learning == {f"{official[name]}_rotation_decoder" for name in facts["modules_with_gradient"]}
    torch.testing.assert_close(model.upper.codebook.codes, codes, rtol=0, atol=0)


def test_parity_rotation_decode(mix: Any) -> None:
    model, _, data = mix
    codes = [torch.from_numpy(data[name]) for name in ("codes_up", "codes_down")]
    _, velocity = model.decode(*codes)
    np.testing.assert_allclose(velocity[:, ::4], data["decoded_sub"][..., :3], atol=1e-4)
    rotations = model.decode_rotations(*codes)
    u, _, vt = np.linalg.svd(data["decoded_sub"][..., 3:].reshape(1, 60, 24, 3, 3).astype(np.float64))
    u[..., 2] *= np.linalg.det(u @ vt)[..., None]
    # Where two singular values nearly agree, the nearest rotation hangs on the last digits.
    np.testing.assert_allclose(rotations[:, ::4], u @ vt, atol=1e-2)
    assert np.mean(np.abs(rotations[:, ::4].numpy() - u @ vt) < 1e-4) > 0.99
    assert torch.linalg.det(rotations).sub(1).abs().max() < 1e-4


@pytest.fixture(scope="module")
def actor_critic(shared: Path) -> tuple[BailandoActorCritic, dict[str, Any], dict[str, np.ndarray]]:
    facts, data = load(shared, "gpt_ac")
    state, report = convert_actor_critic_state(official_state(facts["keys_CrossCondGPT2AC"], facts["mode"]))
    assert not report["unmatched"]
    model = BailandoActorCritic(BailandoActorCriticConfig())
    model.load_state_dict(state)
    return model.train(), facts["cases"]["CrossCondGPT2AC"], data


def test_parity_actor_critic(actor_critic: Any) -> None:
    model, case, data = actor_critic
    up, down = (torch.from_numpy(data[k])[:, :29] for k in ("codes_up", "codes_down"))
    rewards, mask = torch.from_numpy(data["td_reward"]), torch.from_numpy(data["td_mask"])
    output = model(up, down, torch.from_numpy(data["cond"]), rewards, mask)
    np.testing.assert_allclose(output.state_values.detach(), data["critic_value"][..., 0], atol=1e-4)
    np.testing.assert_allclose(output.upper_logits[:1].detach(), data["actor_logits_up"], atol=1e-4)
    np.testing.assert_allclose(output.token_losses.detach().flatten(), data["actor_token_loss"], atol=1e-4)
    np.testing.assert_allclose(output.entropies.detach().flatten(), data["actor_entropy"], atol=1e-4)
    np.testing.assert_allclose(output.td_errors.detach(), data["td_error"], atol=1e-4)
    assert output.actor_loss.item() == pytest.approx(case["actor_loss"], rel=1e-4)
    assert output.critic_loss.item() == pytest.approx(case["critic_loss"], rel=1e-4)
    assert sum(p.numel() for p in model.parameters()) == case["n_params"]
    np.testing.assert_array_equal(window_mask(torch.tensor([0, 5]), 28), data["td_mask"])
    output.loss.backward()
    learning = {".".join(n.split(".")[:2]) for n, p in model.named_parameters() if p.grad is not None}
    assert learning == {
        "gpt.head", "gpt.ln_f", "gpt.upper_head", "gpt.lower_head",
        "critic.blocks", "critic.ln_f", "critic.upper_head", "critic.lower_head",
    }  # fmt: skip


def test_parity_actor_critic_losses(actor_critic: Any) -> None:
    _, case, data = actor_critic
    rewards, values = torch.from_numpy(data["td_reward"]), torch.from_numpy(data["critic_value"][..., 0])
    errors = td_errors(rewards, values)
    np.testing.assert_allclose(errors, data["td_error"], atol=1e-5)
    losses = torch.from_numpy(data["actor_token_loss"]).view(2, 28)
    mask = torch.from_numpy(data["td_mask"])
    assert actor_loss(losses, errors, mask).item() == pytest.approx(case["actor_loss"], rel=1e-5)
    assert critic_loss(errors).item() == pytest.approx(case["critic_loss"], rel=1e-5)


def test_parity_rewards(actor_critic: Any) -> None:
    _, _, data = actor_critic
    joints = torch.from_numpy(data["reward_pose"]).unflatten(-1, (24, 3))
    beats = torch.from_numpy(data["reward_beats"])
    np.testing.assert_array_equal(beat_rewards(joints, beats, form="committed"), data["reward_cvpr_code"])
    np.testing.assert_array_equal(beat_rewards(joints, beats), data["reward_paper"])


@pytest.fixture(scope="module")
def music_window(shared: Path) -> tuple[BailandoGPT, dict[str, Any], dict[str, np.ndarray]]:
    facts, data = load(shared, "gpt_mw")
    state, report = convert_gpt_state(official_state(facts["keys_CrossCondGPT2MW"], facts["mode"]))
    assert not report["unmatched"]
    model = BailandoGPT(BailandoGPTConfig(music_dim=55, music_window=40))
    model.load_state_dict(state)
    return model.eval(), facts["cases"]["CrossCondGPT2MW"], data


def test_parity_music_window_logits(music_window: Any) -> None:
    model, case, data = music_window
    up, down, music = (torch.from_numpy(data[k]) for k in ("codes_up", "codes_down", "cond"))
    with torch.no_grad():
        heard = model.music_transformer(music)
        output = model(up[:, :-1], down[:, :-1], music, up[:, 1:], down[:, 1:])
    np.testing.assert_allclose(heard[:1], data["music_trans"], atol=1e-4)
    np.testing.assert_allclose(output.upper_logits[:1], data["logits_up"], atol=1e-4)
    np.testing.assert_allclose(output.lower_logits[:1], data["logits_down"], atol=1e-4)
    assert output.loss.item() == pytest.approx(case["loss"], rel=1e-4)
    # The official module also holds positions for the music that it never uses.
    assert sum(p.numel() for p in model.parameters()) == case["n_params"] - 312 * 768


def test_parity_music_window_greedy(music_window: Any) -> None:
    model, case, data = music_window
    start = [torch.tensor([[code]]) for code in case["greedy"]["start"]]
    music = torch.from_numpy(data["greedy_cond"])[None]
    up, down = model.generate_codes(music, *start, steps=case["greedy"]["steps"])
    np.testing.assert_array_equal(up, data["greedy_up"])
    np.testing.assert_array_equal(down, data["greedy_down"])


def test_parity_music_window_keys_of_actor_critic(shared: Path) -> None:
    keys = json.loads((shared / "reference" / "gpt_mw_ac_keys.json").read_text())
    state = {f"module.{row['key']}": torch.empty(row["shape"], device="meta") for row in keys}
    converted, report = convert_actor_critic_state(state)
    assert not report["unmatched"]
    gpt = BailandoGPTConfig(music_dim=55, music_window=40)
    with torch.device("meta"):
        ours = BailandoActorCritic(BailandoActorCriticConfig(gpt)).state_dict()
    assert {name: value.shape for name, value in converted.items()} == {n: v.shape for n, v in ours.items()}
