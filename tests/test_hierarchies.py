"""The bench of the pages on NVAE: equal sizes, equal runs, meaningful distances."""

import pytest
import torch

from blogcore import elbo, hierarchies
from blogcore.images import digits
from blogcore.runtime import stream
from blogcore.training import Probe


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_control_has_as_many_latents_and_parameters_as_two_groups():
    two, one = (hierarchies.SHAPES[name] for name in ("two groups", "one group"))
    assert two.dimensions() == one.dimensions() == 160
    models = [hierarchies.vae.HierarchicalVAE(s, stream(0, "x")) for s in (two, one)]
    assert 0.95 < count(models[0]) / count(models[1]) < 1.05


@pytest.mark.slow
def test_a_run_is_its_seeds_own_and_balancing_changes_it():
    weights = elbo.balanced(hierarchies.PYRAMID)
    runs = [
        hierarchies.trained(hierarchies.PYRAMID, seed, 20, (64, 20), given)
        for seed, given in ((3, elbo.unweighted), (3, elbo.unweighted), (3, weights))
    ]
    first, again, balanced = (run.bound(2) for run in runs)
    assert first == again != balanced
    assert runs[0].kl.shape == (20, 3)
    assert runs[0].bound(16) < runs[0].bound(1) + 1
    assert runs[0].halfway == runs[1].halfway


def test_energy_distance_is_zero_for_one_distribution_and_not_for_two():
    dice = stream(1, "images")
    a, b = torch.randint(17, (2, 300, 1, 8, 8), generator=dice)
    assert abs(hierarchies.energy_distance(a, b)) < 0.02
    assert hierarchies.energy_distance(a, b // 2) > 0.1


def test_whitened_pixels_are_uncorrelated_and_of_variance_one():
    known = digits().inputs
    white = hierarchies.whitened(known, known)
    moving = known.flatten(1).double().std(0) > 2  # the rest is mostly rounding
    inner = torch.cov(white.T)[moving][:, moving]
    assert inner.diagonal().min() > 0.9
    assert (inner - inner.diagonal().diag()).abs().max() < 0.1
    assert inner.diagonal().max() <= 1


def test_only_the_whitened_distance_sees_that_pixels_belong_together():
    known, unseen = digits().inputs[:1000], digits().inputs[1000:]
    order = torch.rand(known.shape, generator=stream(0, "mixed")).argsort(0)
    mixed = known.gather(0, order)  # each pixel shuffled by itself
    raw = hierarchies.energy_distance(mixed, unseen)
    white = (hierarchies.whitened(images, known) for images in (mixed, unseen))
    assert hierarchies.energy_distance(*white, unit=1) > 10 * raw


def test_resettling_leaves_the_decoder_as_it_is():
    model = hierarchies.vae.HierarchicalVAE(hierarchies.PYRAMID, stream(0, "x"))
    before = hierarchies.samples(model.decoder, 5, 2, 1.0)
    hierarchies.resettled(model.decoder, 2, 0.7)
    after = hierarchies.samples(model.decoder, 5, 2, 1.0)
    assert torch.equal(before, after)
    assert after.shape == (5, 1, 8, 8)
    assert after.max() <= 16


def test_sampling_leaves_the_decoder_in_the_mode_it_had():
    decoder = hierarchies.vae.HierarchicalVAE(
        hierarchies.PYRAMID, stream(0, "x")
    ).decoder
    still = decoder.head.eval()
    before = hierarchies.samples(decoder, 5, 2, 1.0)
    assert decoder.training
    assert not still.training
    assert torch.equal(before, hierarchies.samples(decoder.eval(), 5, 2, 1.0))


@pytest.mark.parametrize(("steps", "half"), [(1, 0), (2, 1), (4, 2), (5, 3)])
def test_halfway_is_in_the_middle_of_any_number_of_steps(monkeypatch, steps, half):
    seen = []

    class Seen(Probe):
        def __call__(self, step, parts):
            super().__call__(step, parts)
            seen[:] = self.steps

    monkeypatch.setattr(hierarchies, "Probe", Seen)
    monkeypatch.setattr(hierarchies, "lag", lambda *_: torch.tensor(len(seen)))
    run = hierarchies.trained(hierarchies.PYRAMID, 3, steps, (64, 20))
    assert seen[-1] == half
    assert run.halfway == len(seen) - 1
