"""Bounds are bounds: against torch, against a known evidence, and NVAE's code."""

from dataclasses import replace
from functools import partial
from math import log, pi

import numpy as np
import pytest
import torch
from torch import distributions, nn

from blogcore import training
from blogcore.checkpoint import Checkpoint
from blogcore.data import Examples, full_batch, shuffled
from blogcore.elbo import (
    Batch,
    balanced,
    bits_per_dimension,
    drawn,
    importance_bound,
    negative_elbo,
    noisy,
    unweighted,
    warm_up,
)
from blogcore.latents import Gaussian, fresh
from blogcore.likelihoods import LogisticMixture, exact_bins
from blogcore.runtime import stream
from blogcore.vae import HierarchicalVAE, Hierarchy, Step, Walk

MIXTURE = LogisticMixture(exact_bins(17), 2)
SMALL = Hierarchy(outputs=MIXTURE.outputs, width=8, latent_channels=2, groups=(1, 2, 1))
ALPHA = (1, 2, 2, 16)  # 4^i / n_i over the least, of SMALL's four groups


def normal(*shape, seed=0) -> torch.Tensor:
    return torch.randn(shape, generator=stream(seed, "test"), dtype=torch.float64)


def model(seed: int = 0, hierarchy: Hierarchy = SMALL) -> HierarchicalVAE:
    machine = HierarchicalVAE(hierarchy, stream(seed, "init")).double().eval()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.add_(0.1 * normal(*parameter.shape, seed=seed))
    return machine


class Doubled:
    """A likelihood whose scaled images are float64, for exact comparisons."""

    def __init__(self, likelihood):
        self.log_prob, self._scaled = likelihood.log_prob, likelihood.scaled

    def scaled(self, images):
        return self._scaled(images).double()


def digits(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 17, (count, 1, 8, 8), generator=stream(0, "images"))


def test_the_negative_elbo_is_reconstruction_plus_torchs_kl():
    machine, images, likelihood = model(), digits(), Doubled(MIXTURE)
    loss, parts = negative_elbo(likelihood)(machine, Batch(images, (0, "n"), 0.3))
    walk = machine(likelihood.scaled(images), fresh(stream(0, "n")))
    kls = []
    for prior, posterior, _ in walk.steps:
        q, p = (
            distributions.Normal(g.mean, g.log_std.exp()) for g in (posterior, prior)
        )
        kls.append(distributions.kl_divergence(q, p).sum((1, 2, 3)).mean())
    surprise = -MIXTURE.log_prob(walk.output, images).mean()
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)
    close(parts["kl"], torch.stack(kls))
    close(parts["reconstruction"], surprise)
    close(parts["nats"], surprise + sum(kls))
    close(loss, surprise + 0.3 * sum(kls))
    close(parts["loss"], loss.detach())
    assert not any(part.requires_grad for part in parts.values())


class Chain(nn.Module):
    """A linear-Gaussian hierarchy in one dimension whose log p(x) is known.

    z₁ ~ N(0, 1), z₂|z₁ ~ N(a z₁, s²), and "pixels" with log p(x|z) = log N(x; z₂, t²);
    the posteriors are the exact ones, put off by ``error``.
    """

    def __init__(self, error: float):
        super().__init__()
        self.a, self.s, self.t, self.error = 0.8, 0.6, 0.5, error

    def features(self, x):
        return [x]

    def decoder(self, count, draw, features):
        x = features[0]
        a, s, t = self.a, self.s, self.t
        total = a**2 + s**2 + t**2
        steps = [
            self.step(0, draw, (0 * x, 1.0), (a * x / total, (s**2 + t**2) / total))
        ]
        above = a * steps[0].z
        gain = s**2 / (s**2 + t**2)
        posterior = (above + gain * (x - above), gain * t**2)
        steps.append(self.step(1, draw, (above, s**2), posterior))
        return Walk(steps[1].z, steps[1].z, steps)

    def step(self, index, draw, prior, posterior):
        prior, posterior = (
            Gaussian(mean, torch.full_like(mean, log(variance) / 2))
            for mean, variance in (prior, posterior)
        )
        posterior = Gaussian(posterior.mean + self.error, posterior.log_std)
        return Step(prior, posterior, draw(index, posterior))

    def forward(self, x, draw):
        return self.decoder(len(x), draw, self.features(x))


class Noise:
    """log N(x; output, t²) of continuous "images"."""

    def scaled(self, images):
        return images

    def log_prob(self, outputs, images):
        squares = (images - outputs) ** 2 / 0.25
        return -(squares + log(2 * pi * 0.25)).sum((1, 2, 3)) / 2


def evidence(x: torch.Tensor) -> torch.Tensor:
    """Exact −log p(x) of the chain."""
    variance = 0.8**2 + 0.6**2 + 0.5**2
    return (x**2 / variance + log(2 * pi * variance)).sum((1, 2, 3)) / 2


def test_with_exact_posteriors_every_single_draw_gives_the_evidence():
    x = normal(5, 1, 1, 1)
    parts = importance_bound(Noise(), 3)(Chain(0.0), Batch(x, (0, "n")))[1]
    torch.testing.assert_close(parts["each"], evidence(x), rtol=0, atol=1e-10)
    assert abs(parts["nats"] - evidence(x).mean()) < 1e-10


def test_the_gap_of_the_elbo_is_the_kl_of_the_posteriors():
    x, error = normal(40_000, 1, 1, 1), 0.3
    parts = negative_elbo(Noise())(Chain(error), Batch(x, (0, "n")))[1]
    # Both posteriors are Gaussians moved by the error: KL = error² / (2 variance) each.
    total = 0.8**2 + 0.6**2 + 0.5**2
    first = (0.6**2 + 0.5**2) / total
    second = 0.6**2 * 0.5**2 / (0.6**2 + 0.5**2)
    gap = error**2 / 2 * (1 / first + 1 / second)
    assert abs(parts["nats"] - evidence(x).mean() - gap) < 0.02


def test_importance_bounds_fall_towards_the_evidence():
    x, machine = normal(4000, 1, 1, 1), Chain(0.3)
    gaps = []
    for count in (1, 2, 8, 64):
        bound = importance_bound(Noise(), count)
        parts = bound(machine, Batch(x, (0, "n")))[1]
        gaps.append((parts["nats"] - evidence(x).mean()).item())
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 0.1 * gaps[0]


def test_the_importance_bound_is_its_formula():
    machine = HierarchicalVAE(SMALL, stream(0, "init")).double()
    images, likelihood = digits(3), Doubled(MIXTURE)
    batch = Batch(images, (0, "n"))
    loss, parts = importance_bound(likelihood, 4)(machine, batch)
    noise, weights = stream(0, "n"), []
    for _ in range(4):
        walk = machine(likelihood.scaled(images), fresh(noise))
        joint = MIXTURE.log_prob(walk.output, images)
        for prior, posterior, z in walk.steps:
            p, q = (
                distributions.Normal(g.mean, g.log_std.exp())
                for g in (prior, posterior)
            )
            joint = joint + (p.log_prob(z) - q.log_prob(z)).sum((1, 2, 3))
        weights.append(joint)
    shift = weights[0]  # e^−1000 is 0 in floating point
    ratios = torch.stack([weight - shift for weight in weights]).exp()
    expected = -ratios.mean(0).log() - shift
    torch.testing.assert_close(parts["each"], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(loss, expected.mean(), rtol=0, atol=1e-10)
    loss.backward()


def test_warm_up_rises_to_one_and_stays():
    beta = warm_up(200)
    assert [beta(step) for step in (0, 50, 100, 200, 5000)] == [1e-4, 0.25, 0.5, 1, 1]


def test_balanced_weights_are_nvaes():
    hierarchy = replace(SMALL, groups=(2, 0, 4))
    kl = normal(10, 6).abs() * torch.arange(1, 7)
    found = balanced(hierarchy)(kl, 0.5)
    # kl_balancer and kl_balancer_coeff(fun="square") of the public code, in numpy
    alpha = np.array([1 / 2] * 2 + [16 / 4] * 4)
    alpha = alpha / alpha.min()
    coefficients = np.abs(kl.numpy()).mean(0) + 0.01
    coefficients = coefficients / alpha * coefficients.sum()
    expected = coefficients / coefficients.mean()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert balanced(hierarchy)(kl, 1.0).tolist() == [1] * 6
    ffhq = balanced(replace(SMALL, size=256, groups=(4, 4, 4, 8, 16, 0)))
    alpha = ffhq(torch.ones(1, 36, dtype=torch.float64), 0.1).reciprocal()
    ratios = (alpha / alpha[0])[[0, 4, 8, 12, 20]]
    torch.testing.assert_close(ratios, torch.tensor([1.0, 4, 16, 32, 64]).double())


def test_balancing_weights_are_constants_of_the_gradient():
    """β Σ γ_l ∇KL_l: with γ_l differentiated too, large groups would be held down."""
    machine, likelihood = model(), Doubled(MIXTURE)
    parameters = list(machine.parameters())

    def slopes(loss):
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat([s.flatten() for s in found if s is not None])

    batch = Batch(digits(), (0, "n"), 0.3)
    found = slopes(negative_elbo(likelihood, balanced(SMALL))(machine, batch)[0])
    walk = machine(likelihood.scaled(batch.images), fresh(stream(0, "n")))
    kl = walk.kl()
    shares = [(e.item() + 0.01) / a for e, a in zip(kl.mean(0), ALPHA, strict=True)]
    gamma = torch.tensor(shares).double() / (sum(shares) / 4)
    surprise = -MIXTURE.log_prob(walk.output, batch.images).mean()
    expected = slopes(surprise + 0.3 * (gamma * kl.mean(0)).sum())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert kl.mean(0).std() > 0.1


def test_a_batch_gives_the_same_value_whenever_it_is_asked():
    machine, batch = model(), Batch(digits(), (0, "n"), 0.3)
    for objective in (negative_elbo(MIXTURE), importance_bound(MIXTURE, 2)):
        asked = [objective(machine.float(), batch)[0] for _ in range(2)]
        assert torch.equal(*asked)
    other = negative_elbo(MIXTURE)(machine, batch._replace(noise=(1, "n")))[0]
    assert not torch.equal(other, negative_elbo(MIXTURE)(machine, batch)[0])


def test_balancing_weighs_the_loss_and_leaves_the_bound_alone():
    machine, images, likelihood = model(), digits(), Doubled(MIXTURE)
    batches = [Batch(images, (0, "n"), 0.3) for _ in range(2)]
    loss, parts = negative_elbo(likelihood, balanced(SMALL))(machine, batches[0])
    plain = negative_elbo(likelihood)(machine, batches[1])[1]
    weights = balanced(SMALL)(parts["kl"][None], 0.3)
    expected = parts["reconstruction"] + 0.3 * (weights * parts["kl"]).sum()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
    assert torch.equal(parts["nats"], plain["nats"])
    assert not torch.allclose(loss, plain["loss"])
    assert unweighted(parts["kl"][None], 0.3).tolist() == [1] * 4


def test_bits_per_dimension():
    assert abs(bits_per_dimension(64 * log(2), 64) - 1) < 1e-15
    assert (
        abs(bits_per_dimension(torch.tensor(0.69 * 196_608 * log(2)), 196_608) - 0.69)
        < 1e-6
    )


def test_a_batch_is_a_function_of_the_step():
    data = Examples(digits(20), torch.arange(20))
    batches = noisy(shuffled(data, 5, [3]), 3, warm_up(4))
    ahead = [batches(step) for step in range(9)]
    for step in (8, 1, 0):
        again = batches(step)
        assert torch.equal(again.images, ahead[step].images)
        assert again.images.shape == (5, 1, 8, 8)
        assert again.noise == ahead[step].noise == (3, f"noise/{step}")
        assert again.beta == min(max(step / 4, 1e-4), 1)
    assert noisy(full_batch(data), 0)(7).beta == 1
    assert noisy(full_batch(data), 0)(7).images.shape == (20, 1, 8, 8)


@pytest.mark.slow
def test_a_short_training_lowers_the_bound_and_resumes_bit_for_bit(tmp_path):
    data = Examples(digits(32) // 4, torch.zeros(32, dtype=torch.int64))
    batches = noisy(shuffled(data, 16, [0]), 0, warm_up(8))

    def run(steps, path):
        machine = HierarchicalVAE(SMALL, stream(0, "init"))
        optimizer = torch.optim.AdamW(machine.parameters(), 5e-3)
        keep = Checkpoint(path, 8, "digits")
        return machine, training.train(
            machine, batches, negative_elbo(MIXTURE), optimizer, steps, checkpoint=keep
        )

    whole, history = run(16, tmp_path / "one")
    run(8, tmp_path / "two")
    resumed, same = run(16, tmp_path / "two")
    assert history["kl"].shape == (16, 4)
    assert history["nats"][-3:].mean() < history["nats"][:3].mean() - 20
    assert all(torch.equal(history[name], same[name]) for name in history)
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_evaluation_bounds_the_trained_model_from_above():
    machine, images = HierarchicalVAE(SMALL, stream(0, "init")), digits(32)
    bound = training.evaluate(machine, negative_elbo(MIXTURE), Batch(images, (0, "e")))
    sharper = training.evaluate(
        machine, importance_bound(MIXTURE, 16), Batch(images, (0, "e"))
    )
    assert sharper["nats"] < bound["nats"]
    assert sharper["each"].shape == (32,)


def test_wrong_calls_are_refused_by_name():
    machine = HierarchicalVAE(SMALL, stream(0, "init"))
    bound = negative_elbo(MIXTURE)

    def ask(images, beta=1.0, objective=bound):
        return objective(machine, Batch(images, (0, "n"), beta))

    images = digits()
    calls = [
        (
            ValueError,
            "images: 0 … 17 are not all in 0 … 16",
            lambda: ask(images + (images == 16)),
        ),
        (ValueError, "images: -1 …", lambda: ask(images - 1)),
        (TypeError, "images: torch.float32", lambda: ask(images.float())),
        (TypeError, "images: torch.bool", lambda: ask(images > 3)),
        (ValueError, "images: shape (0, 1, 8, 8)", lambda: ask(images[:0])),
        (ValueError, "images: shape (6, 8, 8)", lambda: ask(images[:, 0])),
        (
            ValueError,
            "images: shape (6, 2, 8, 8)",
            lambda: ask(images.repeat(1, 2, 1, 1)),
        ),
        (ValueError, "x: shape (6, 1, 16, 16)", lambda: ask(images.repeat(1, 1, 2, 2))),
        (
            TypeError,
            "noise: <torch",
            lambda: bound(machine, Batch(images, stream(0, "n"))),
        ),
        (ValueError, "beta: -0.1", lambda: ask(images, -0.1)),
        (ValueError, "beta: nan", lambda: ask(images, float("nan"))),
        (ValueError, "steps: 0", lambda: warm_up(0)),
        (ValueError, "count: 0", lambda: importance_bound(MIXTURE, 0)),
        (ValueError, "dimensions: 0", lambda: bits_per_dimension(1.0, 0)),
        (
            ValueError,
            "inputs: (10, 4)",
            lambda: noisy(full_batch(Examples(torch.zeros(10, 4), torch.zeros(10))), 0)(
                0
            ),
        ),
    ]
    for kind, words, call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_training():
    machine = HierarchicalVAE(SMALL, stream(0, "init"))
    with torch.no_grad():
        machine.decoder.head[-1].bias.fill_(float("nan"))
    optimizer = torch.optim.SGD(machine.parameters(), 0.1)
    batches = noisy(full_batch(Examples(digits(), torch.zeros(6))), 0)
    with pytest.raises(FloatingPointError, match="step 0: loss is not finite"):
        training.train(machine, batches, negative_elbo(MIXTURE), optimizer, 1)


@pytest.mark.parametrize("beta", [warm_up(3), lambda step: 1.0])
def test_batches_as_tensors_alone_train_alike_bit_for_bit(beta):
    known = Examples(digits(20), torch.zeros(20))
    named = noisy(shuffled(known, 6, [0]), 0, beta)
    found = []
    for batches in (named, drawn(named, SMALL)):
        machine = HierarchicalVAE(SMALL, stream(0, "init"))
        adam = torch.optim.AdamW(machine.parameters(), lr=0.01)
        asked = negative_elbo(MIXTURE, balanced(SMALL))
        history = training.train(machine, batches, asked, adam, 5)
        found.append([*history.values(), *machine.state_dict().values()])
    assert all(map(torch.equal, *found))


def test_one_draw_as_tensors_is_no_importance_bound():
    named = noisy(full_batch(Examples(digits(), torch.zeros(6))), 0)
    machine, batch = HierarchicalVAE(SMALL, stream(0, "init")), drawn(named, SMALL)(0)
    with pytest.raises(ValueError, match="noise: tensors are one draw, not count: 2"):
        importance_bound(MIXTURE, 2)(machine, batch)
    alone, same = (importance_bound(MIXTURE, 1)(machine, b) for b in (batch, named(0)))
    assert torch.equal(alone[0], same[0])
