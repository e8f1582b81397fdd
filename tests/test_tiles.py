"""The bench of faces: tiles fit together, arms differ by σ, edges are a measure."""

import pytest
import torch

from blogcore import tiles
from blogcore.runtime import stream


@pytest.fixture(scope="module")
def seen() -> tiles.Painted:
    arms = [
        tiles.Arm(1.0, 4, [0, 1]),
        tiles.Arm(None, 4, [0, 1]),
        tiles.Arm(0.1, 2, [1]),
    ]
    return tiles.painted(arms, 30)


def test_tiles_are_cut_and_put_together(seen):
    assert torch.equal(tiles.assembled(tiles.cut(seen.face)), seen.face)
    assert seen.grey(seen.face).aminmax().max <= 255


def test_a_copy_has_all_edges_a_flat_grey_none_and_noise_less(seen):
    truth = tiles.cut(seen.face)
    assert seen.edges(truth) == 100
    assert abs(seen.edges(torch.zeros_like(truth))) < 1e-4
    noise = torch.randn(truth.shape, generator=stream(0, "noise")) * seen.face.std()
    assert seen.edges(noise) < -100
    assert seen.edges(truth / 2).isclose(torch.tensor(75.0))


def test_every_arm_has_a_member_a_seed_and_only_learned_sigmas_move(seen):
    assert [len(found) for found in seen.returned] == [2, 2, 1]
    assert torch.equal(seen.sigmas[0], torch.ones(2))
    assert seen.sigmas[2].isclose(torch.tensor(0.1))
    assert (seen.sigmas[1] < 1).all()


def test_equal_seeds_begin_equal():
    arms = [tiles.Arm(1.0, 4, [3]), tiles.Arm(0.5, 4, [3])]
    first, second = tiles.painted(arms, 0).returned
    assert torch.equal(first, second)


def test_unused_latents_are_silent():
    model = tiles.FlatVAE([tiles.Arm(1.0, 2, [0]), tiles.Arm(1.0, 4, [0])])
    x = torch.randn(2, 5, 64, generator=stream(0, "x"))
    quiet, loud = (model(x, torch.full((1,), noise))[1] for noise in (0.0, 9.0))
    assert torch.equal(quiet.mean[0, :, 2:], torch.zeros(5, 2))
    assert torch.equal(loud.log_std[0, :, 2:], torch.zeros(5, 2))


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="steps"):
        tiles.painted([tiles.Arm(1.0, 4, [0])], -1)


def test_all_arms_move_as_a_whole_and_their_state_is_what_they_learn():
    model = tiles.FlatVAE([tiles.Arm(1.0, 2, [0]), tiles.Arm(None, 4, [0])])
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    x = torch.zeros(2, 5, 64, device="meta")
    mean, q, log_sigma = model.to("meta")(x, torch.zeros(1, device="meta"))
    assert {mean.device.type, q.mean.device.type, log_sigma.device.type} == {"meta"}
    assert {part.device.type for part in (model.used, model.free, model.fixed)} == {
        "meta"
    }
