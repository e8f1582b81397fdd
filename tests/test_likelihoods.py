"""Likelihoods sum to one, draw what they say, and are the published formulas."""

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import distributions

from blogcore.likelihoods import (
    Bernoulli,
    LogisticMixture,
    exact_bins,
    nvae_bins,
    vdvae_bins,
)
from blogcore.runtime import stream

MIXTURE = LogisticMixture(exact_bins(17), 2)


def normal(*shape, seed=0) -> torch.Tensor:
    return torch.randn(shape, generator=stream(seed, "test"), dtype=torch.float64)


def every_level(likelihood, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of random places, and for each of them all images of one pixel."""
    outputs = 2 * normal(places, likelihood.outputs, 1, 1)
    levels = torch.cartesian_prod(
        *[torch.arange(likelihood.levels)] * likelihood.channels
    )
    levels = levels.view(-1, likelihood.channels, 1, 1)
    images = levels.repeat(places, 1, 1, 1)
    return outputs.repeat_interleave(len(levels), 0), images


@pytest.mark.parametrize(
    "likelihood",
    [
        Bernoulli(),
        Bernoulli(3),
        *(LogisticMixture(exact_bins(levels), 3) for levels in (2, 5, 17, 32, 256)),
        LogisticMixture(exact_bins(6), 4, 3),
        LogisticMixture(vdvae_bins(8), 2),
        LogisticMixture(nvae_bins(5), 2),
    ],
)
def test_a_likelihood_sums_to_one_over_all_values(likelihood):
    outputs, images = every_level(likelihood, 40)
    sums = likelihood.log_prob(outputs, images).exp().view(40, -1).sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [-7.0, -4.0, 0.0, 3.0, 12.0])
@pytest.mark.parametrize("mean", [-1.5, -1.0, 0.013, 0.99, 40.0])
def test_a_logistic_sums_to_one_however_narrow_wide_or_far(mean, scale):
    likelihood = LogisticMixture(exact_bins(256), 1)
    outputs = torch.tensor([0.0, mean, scale], dtype=torch.float64)
    images = torch.arange(256).view(-1, 1, 1, 1)
    logs = likelihood.log_prob(outputs.view(1, 3, 1, 1).expand(256, -1, -1, -1), images)
    assert logs.isfinite().all()
    assert abs(logs.exp().sum() - 1) < 1e-10


def test_bernoulli_is_torchs():
    logits, x = normal(4, 3, 2, 2), (normal(4, 3, 2, 2, seed=1) > 0).long()
    reference = distributions.Bernoulli(logits=logits).log_prob(x.double())
    found = Bernoulli(3).log_prob(logits, x)
    torch.testing.assert_close(found, reference.sum((1, 2, 3)), rtol=0, atol=1e-10)


def published(x, parameters, half: float, low: float, high: float) -> torch.Tensor:
    """The mixture of PixelCNN++, NVAE and VDVAE as their public codes compute it.

    x (B, H, W, 3) in −1 … 1, parameters (B, H, W, 10 M) → log-likelihood (B,). The
    ends are found by comparing floats, and where the interval's mass is below 1e-5 the
    density at its middle is taken instead.
    """
    mixtures = parameters.shape[-1] // 10
    logits = parameters[..., :mixtures]
    table = parameters[..., mixtures:].reshape(*x.shape, 3 * mixtures)
    means = table[..., :mixtures]
    log_scales = table[..., mixtures : 2 * mixtures].clamp(min=-7)
    coefficients = table[..., 2 * mixtures :].tanh()
    x = x[..., None].expand_as(means)
    red = means[..., 0, :]
    green = means[..., 1, :] + coefficients[..., 0, :] * x[..., 0, :]
    blue = means[..., 2, :] + coefficients[..., 1, :] * x[..., 0, :]
    blue = blue + coefficients[..., 2, :] * x[..., 1, :]
    centred = x - torch.stack([red, green, blue], -2)
    inverse = (-log_scales).exp()
    plus, minus = inverse * (centred + half), inverse * (centred - half)
    mass = plus.sigmoid() - minus.sigmoid()
    middle = inverse * centred
    density = middle - log_scales - 2 * F.softplus(middle)
    inside = torch.where(
        mass > 1e-5, mass.clamp(min=1e-10).log(), density + log(2 * half)
    )
    logs = torch.where(x > high, -F.softplus(minus), inside)
    logs = torch.where(x < low, plus - F.softplus(plus), logs)
    mixed = logs.sum(-2) + logits.log_softmax(-1)
    return mixed.logsumexp(-1).sum((1, 2))


def rearranged(parameters: torch.Tensor) -> torch.Tensor:
    """From the published order of channels, (…, 10 M) last, to ours, second."""
    mixtures = parameters.shape[-1] // 10
    head, table = parameters[..., :mixtures], parameters[..., mixtures:]
    kinds = table.unflatten(-1, (3, 3, mixtures)).transpose(-3, -2).flatten(-3)
    return torch.cat([head, kinds], -1).permute(0, 3, 1, 2)


def golden() -> tuple[torch.Tensor, torch.Tensor]:
    x = (37 * torch.arange(54) + 11) % 256
    x[:3] = torch.tensor([0, 254, 255])
    m = torch.arange(360, dtype=torch.float64)
    return x.view(2, 3, 3, 3), (1.5 * (0.7 * m).sin()).view(2, 3, 3, 20)


def test_the_mixture_gives_the_numbers_of_the_published_code():
    levels, parameters = golden()
    outputs, images = rearranged(parameters), levels.permute(0, 3, 1, 2)
    expected = torch.tensor([7.0035173449, 6.9246344570], dtype=torch.float64)
    centred = levels.double() / 127.5 - 1
    reference = -published(centred, parameters, 1 / 255, -0.999, 0.999) / 27
    torch.testing.assert_close(reference, expected, rtol=0, atol=1e-9)
    exact = -LogisticMixture(exact_bins(256), 2, 3).log_prob(outputs, images) / 27
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-6)
    rule = -LogisticMixture(nvae_bins(8), 2, 3).log_prob(outputs, images) / 27
    assert abs(rule[0] - 6.7442040099) < 1e-6
    assert abs(rule[1] - exact[1]) < 1e-12


@pytest.mark.parametrize(
    ("bins", "half", "low", "high", "step"),
    [
        (exact_bins(256), 1 / 255, -0.999, 0.999, 1),
        (nvae_bins(8), 1 / 255, -0.999, 0.99, 1),
        (vdvae_bins(8), 1 / 255, -0.999, 0.999, 1),
        (vdvae_bins(5), 1 / 31, -0.999, 0.999, 8),
        (exact_bins(32), 1 / 31, -0.999, 0.999, 255 / 31),
        (nvae_bins(5), 1 / 31, -0.999, 0.99, 255 / 31),
    ],
)
def test_each_rule_of_bins_is_that_of_its_code(bins, half, low, high, step):
    """Wide scales, so that no interval falls below the published 1e-5."""
    mixture, count = LogisticMixture(bins, 3, 3), len(bins.centres)
    levels = torch.arange(4 * 25 * 3).mul(7).remainder(count).view(4, 5, 5, 3)
    parameters = normal(4, 5, 5, 30)
    parameters[..., 3:] = parameters[..., 3:] / 4 - 0.3
    x = levels.double() * step / 127.5 - 1
    reference = published(x, parameters, half, low, high)
    found = mixture.log_prob(rearranged(parameters), levels.permute(0, 3, 1, 2))
    torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-10)


def mass(bins, mean: float, log_scale: float) -> float:
    """Σ_v P(v) of one logistic under these bins."""
    levels = torch.arange(len(bins.centres)).view(-1, 1, 1, 1)
    outputs = torch.tensor([0, mean, log_scale], dtype=torch.float64).view(1, 3, 1, 1)
    outputs = outputs.expand(len(levels), -1, -1, -1)
    return LogisticMixture(bins, 1).log_prob(outputs, levels).exp().sum().item()


def test_nvaes_rule_sums_to_one_plus_the_last_level():
    for (mean, log_scale), expected in zip(
        [(0.9, -2), (1, -1), (3, -1)], [1.3296, 1.5027, 1.9957], strict=True
    ):
        found = mass(nvae_bins(8), mean, log_scale)
        tail = torch.tensor((254 / 127.5 - 1 + 1 / 255 - mean) * np.exp(-log_scale))
        assert abs(found - 1 - torch.sigmoid(-tail)) < 1e-10
        assert abs(found - expected) < 1e-4
    assert nvae_bins(8).top.nonzero().flatten().tolist() == [254, 255]
    assert nvae_bins(8).bottom.nonzero().flatten().tolist() == [0]


def test_vdvaes_rule_is_exact_for_eight_bits_and_not_for_five():
    for (mean, log_scale), expected in zip(
        [(0, -2), (0, -1), (1, -3)], [1.0275, 0.959, 0.395], strict=True
    ):
        assert abs(mass(vdvae_bins(5), mean, log_scale) - expected) < 5e-4
        assert abs(mass(vdvae_bins(8), mean, log_scale) - 1) < 1e-10
    five = vdvae_bins(5)
    spacing = five.centres.diff()
    assert abs(log(2 * five.half / spacing[0]) / log(2) - 0.0402) < 1e-4
    assert not five.top.any()


def test_exact_bins_tile_the_line():
    for levels in (2, 17, 256):
        bins = exact_bins(levels)
        edges = (bins.centres[1:] - bins.half) - (bins.centres[:-1] + bins.half)
        assert edges.abs().max() < 1e-12
        assert bins.centres[0] == -bins.centres[-1] == -1
        assert bins.bottom.tolist() == [True] + [False] * (levels - 1)
        assert bins.top.tolist() == [False] * (levels - 1) + [True]


@pytest.mark.parametrize(
    "likelihood",
    [
        Bernoulli(2),
        LogisticMixture(exact_bins(6), 2),
        LogisticMixture(exact_bins(3), 2, 3),
    ],
)
def test_samples_have_the_law_that_log_prob_says(likelihood):
    outputs, images = every_level(likelihood, 1)
    expected = likelihood.log_prob(outputs, images).exp()
    drawn = likelihood.sample(outputs[:1].expand(-1, -1, 200, 200), stream(0, "draw"))
    assert drawn.dtype == torch.uint8
    codes = torch.zeros(200, 200, dtype=torch.int64)
    for channel in drawn[0]:
        codes = codes * likelihood.levels + channel
    counts = codes.flatten().bincount(minlength=len(images)).double()
    likely = expected > 1e-4
    observed = torch.cat([counts[likely], counts[~likely].sum()[None]])
    wanted = 40_000 * torch.cat([expected[likely], expected[~likely].sum()[None]])
    kept = wanted > 0
    assert stats.chisquare(observed[kept], wanted[kept], sum_check=False).pvalue > 0.01


@pytest.mark.parametrize(
    "likelihood",
    [Bernoulli(), LogisticMixture(exact_bins(256), 2, 2)],
)
def test_halved_outputs_are_sampled_as_the_same_numbers_in_single(likelihood):
    outputs = normal(1, likelihood.outputs, 64, 64).bfloat16()
    halved, single = (
        likelihood.sample(given, stream(0, "draw"))
        for given in (outputs, outputs.float())
    )
    assert torch.equal(halved, single)


def test_what_is_improbable_is_not_drawn_in_half_precision():
    """Of mean grey: rounded to bfloat16, dice of 1 would give the brightest level."""
    law = LogisticMixture(exact_bins(256), 1)
    narrow = torch.tensor([0.0, 0.0, -6.0]).view(1, 3, 1, 1).expand(-1, -1, 200, 200)
    drawn = law.sample(narrow.bfloat16(), stream(0, "draw"))
    assert drawn.float().sub(127.5).abs().max() < 20


def test_means_are_those_of_the_samples():
    outputs = normal(1, 2, 1, 1).expand(-1, -1, 200, 200)
    drawn = Bernoulli(2).sample(outputs, stream(0, "draw")).double().mean((0, 2, 3))
    assert (drawn - Bernoulli(2).mean(outputs)[0, :, 0, 0]).abs().max() < 0.01
    narrow = torch.tensor([0, 1, 0.4, -0.2, 0.1, 0.3, -6.0, -6, -6, -6, 0.5, -0.7])
    mixture = LogisticMixture(exact_bins(256), 2, 2)
    outputs = narrow.double()[: mixture.outputs].view(1, -1, 1, 1)
    weights = torch.tensor([0, 1.0]).double().softmax(0)
    red = weights @ torch.tensor([0.4, -0.2]).double()
    green = weights @ (
        torch.tensor([0.1, 0.3]).double()
        + torch.tensor([0.5, -0.7]).double().tanh() * red
    )
    found = 2 * mixture.mean(outputs).flatten() - 1
    expected = torch.stack([red, green])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_means_and_scales_stay_within_their_limits():
    far = torch.tensor([0, 3.0, 0]).double().view(1, 3, 1, 1)
    mixture = LogisticMixture(exact_bins(17), 1)
    assert mixture.mean(far) == 1
    assert mixture.mean(-far) == 0
    levels = torch.arange(17).view(-1, 1, 1, 1)
    narrow, least = (
        torch.tensor([0, 0.01, s]).double().view(1, 3, 1, 1).expand(17, -1, -1, -1)
        for s in (-9.0, -7.0)
    )
    assert torch.equal(
        mixture.log_prob(narrow, levels), mixture.log_prob(least, levels)
    )


def test_pixels_are_scaled_to_the_places_of_their_bins():
    levels = torch.arange(17).view(1, 1, 1, 17).to(torch.uint8)
    expected = exact_bins(17).centres.float().view(1, 1, 1, 17)
    torch.testing.assert_close(MIXTURE.scaled(levels), expected)
    binary = torch.tensor([0, 1]).view(1, 1, 1, 2)
    assert Bernoulli().scaled(binary).flatten().tolist() == [-1, 1]


def test_bytes_count_as_the_same_numbers_in_any_integer_type():
    mixture = LogisticMixture(exact_bins(256), 2)
    levels = torch.arange(256).view(-1, 1, 1, 1)
    outputs = torch.randn(256, mixture.outputs, 1, 1, generator=stream(0, "outputs"))
    wide, bytes_ = levels, levels.to(torch.uint8)
    assert torch.equal(
        mixture.log_prob(outputs, wide), mixture.log_prob(outputs, bytes_)
    )


def test_a_mixture_has_so_many_outputs():
    assert LogisticMixture(exact_bins(256), 10, 3).outputs == 100
    assert LogisticMixture(exact_bins(17), 5).outputs == 15
    assert LogisticMixture(exact_bins(17), 1, 2).outputs == 6


def test_wrong_calls_are_refused_by_name():
    images = torch.zeros(6, 1, 8, 8, dtype=torch.int64)
    calls = [
        (ValueError, "channels: 0", lambda: Bernoulli(0)),
        (ValueError, "levels: 1", lambda: exact_bins(1)),
        (ValueError, "levels: 257 is not in 2 … 256", lambda: exact_bins(257)),
        (ValueError, "bits: 9", lambda: nvae_bins(9)),
        (ValueError, "bits: 0", lambda: vdvae_bins(0)),
        (ValueError, "components: 0", lambda: LogisticMixture(exact_bins(4), 0)),
        (
            ValueError,
            "outputs: shape (6, 5, 8, 8)",
            lambda: MIXTURE.log_prob(torch.zeros(6, 5, 8, 8), images),
        ),
        (
            ValueError,
            "outputs: shape (6, 5, 8, 8)",
            lambda: MIXTURE.sample(torch.zeros(6, 5, 8, 8), stream(0, "s")),
        ),
        (
            ValueError,
            "outputs: shape (6, 5, 8, 8)",
            lambda: MIXTURE.mean(torch.zeros(6, 5, 8, 8)),
        ),
        (
            ValueError,
            "outputs: shape (6, 5, 8, 8)",
            lambda: Bernoulli().log_prob(torch.zeros(6, 5, 8, 8), images.clamp(max=1)),
        ),
    ]
    for kind, words, call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value)
