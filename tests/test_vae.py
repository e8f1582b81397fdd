"""One walk: what is inferred, played again, drawn and tempered is the same network."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import distributions, nn

from blogcore import cells
from blogcore.cells import EncoderCell, GenerativeCell, SqueezeExcitation
from blogcore.latents import (
    Gaussian,
    absolute,
    bounded,
    fresh,
    relative,
    replay,
    residual_kl,
)
from blogcore.runtime import stream
from blogcore.training import settled
from blogcore.vae import HierarchicalVAE, Hierarchy

SMALL = Hierarchy(outputs=3, width=8, latent_channels=2, groups=(1, 2, 1))
KINDS = {
    "nvae": SMALL,
    "absolute": replace(SMALL, decoder_cell=EncoderCell, relation=absolute),
    "plain": replace(SMALL, groups=(1, 0, 0, 0)),
    "gaps": replace(SMALL, groups=(2, 0, 1), channels=3, cells=2, growth=1),
}


def machine(kind: str = "nvae", seed: int = 0) -> HierarchicalVAE:
    """A model in float64 whose every number is random: nothing is zero by luck."""
    model = HierarchicalVAE(KINDS[kind], stream(seed, "init")).double()
    dice = stream(seed, "scramble")
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=dice)
            parameter.add_(0.1 * noise.to(parameter))
    return model.eval()


def pictures(kind: str = "nvae", count: int = 3) -> torch.Tensor:
    shape = (count, KINDS[kind].channels, KINDS[kind].size, KINDS[kind].size)
    return 2 * torch.rand(shape, generator=stream(0, "x")).double() - 1


def same(walk, other) -> bool:
    pairs = zip(walk.latents, other.latents, strict=True)
    return (
        torch.equal(walk.stream, other.stream)
        and torch.equal(walk.output, other.output)
        and all(torch.equal(z, again) for z, again in pairs)
    )


each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_replaying_what_was_inferred_repeats_the_stream_bit_for_bit(kind, dtype):
    model, x = machine(kind).to(dtype), pictures(kind).to(dtype)
    inferred = model(x, fresh(stream(0, "noise")))
    again = model.decoder(len(x), replay(inferred.latents))
    assert same(inferred, again)
    for step, other in zip(inferred.steps, again.steps, strict=True):
        assert torch.equal(step.prior.mean, other.prior.mean)
        assert torch.equal(step.prior.log_std, other.prior.log_std)
        assert other.posterior is None


@each_kind
def test_a_walk_has_a_step_a_group_of_the_shapes_announced(kind):
    hierarchy, model = KINDS[kind], machine(kind)
    walk = model(pictures(kind), fresh(stream(0, "noise")))
    expected = []
    for size, _, count in hierarchy.scales():
        expected += [(3, hierarchy.latent_channels, size, size)] * count
    assert [tuple(z.shape) for z in walk.latents] == expected
    assert sum(z[0].numel() for z in walk.latents) == hierarchy.dimensions()
    assert walk.output.shape == (3, hierarchy.outputs, 8, 8)
    assert walk.kl().shape == walk.log_ratio().shape == (3, sum(hierarchy.groups))


def test_one_deep_group_has_the_cells_of_two_on_every_scale():
    """The control for depth: it differs from two groups in nothing but latents."""

    def cells_by_scale(**shape):
        half = HierarchicalVAE(replace(SMALL, **shape), stream(0, "init"))
        made = (EncoderCell, GenerativeCell)
        return [
            [sum(isinstance(m, made) for m in scale.modules()) for scale in way.scales]
            for way in (half.tower, half.decoder)
        ]

    deep = cells_by_scale(groups=(1, 0), cells=2)
    assert deep == cells_by_scale(groups=(2, 0)) == [[1, 2], [2, 1]]


def test_the_papers_budget_of_latents():
    ffhq = Hierarchy(outputs=100, channels=3, size=256, latent_channels=20, width=1)
    groups = (4, 4, 4, 8, 16, 0)
    assert replace(ffhq, groups=groups).dimensions() == 6_005_760
    cifar = replace(ffhq, size=32, groups=(30, 0))
    assert cifar.dimensions() == 153_600
    assert cifar.scales() == [(16, 2, 30), (32, 1, 0)]


@each_kind
def test_kl_is_that_of_torch_at_the_latents_drawn(kind):
    walk = machine(kind)(pictures(kind), fresh(stream(0, "noise")))
    for column, (prior, posterior, z) in enumerate(walk.steps):
        p, q = (
            distributions.Normal(g.mean, g.log_std.exp()) for g in (prior, posterior)
        )
        kl = distributions.kl_divergence(q, p).sum((1, 2, 3))
        ratio = (p.log_prob(z) - q.log_prob(z)).sum((1, 2, 3))
        torch.testing.assert_close(walk.kl()[:, column], kl, rtol=0, atol=1e-10)
        torch.testing.assert_close(
            walk.log_ratio()[:, column], ratio, rtol=0, atol=1e-10
        )
        assert kl.min() > 0


@pytest.mark.parametrize("kind", ["nvae", "gaps"])
def test_the_first_prior_is_standard_and_the_others_depend_on_what_is_above(kind):
    model = machine(kind)
    walk = model.decoder(2, fresh(stream(0, "noise")))
    first, second = walk.steps[0].prior, walk.steps[1].prior
    assert not first.mean.any()
    assert not first.log_std.any()
    assert not torch.equal(second.mean[0], second.mean[1])


@pytest.mark.parametrize("relation", [relative, absolute])
def test_before_training_every_prior_and_every_posterior_is_standard(relation):
    model = HierarchicalVAE(replace(SMALL, relation=relation), stream(0, "init"))
    walk = model(pictures().float(), fresh(stream(0, "n")))
    for step in walk.steps:
        for gaussian in (step.prior, step.posterior):
            assert not gaussian.mean.any()
            assert not gaussian.log_std.any()
    assert not walk.kl().any()
    assert walk.output.std() > 0.1


def test_inference_draws_from_the_posterior_not_from_the_prior():
    walk = machine()(pictures(), fresh(stream(0, "noise"), 0.0))
    for prior, posterior, z in walk.steps:
        assert torch.equal(z, posterior.mean)
        assert not torch.allclose(z, prior.mean)


@pytest.mark.parametrize(("relation", "follows"), [(relative, True), (absolute, False)])
def test_a_group_relates_posterior_and_prior_as_it_is_told(relation, follows):
    model, x = machine(), pictures()
    for group in model.decoder.scales[1].groups:
        group.relation = relation
    before = model(x, fresh(stream(0, "noise")))
    with torch.no_grad():
        model.decoder.scales[1].groups[0].prior[-1].bias += 0.25
    after = model(x, replay(before.latents)).steps[1]
    change = after.posterior.mean - before.steps[1].posterior.mean
    expected = torch.full_like(change, 0.25 * follows)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-12)
    assert Hierarchy(outputs=1, relation=absolute).relation is absolute
    built = HierarchicalVAE(replace(SMALL, relation=relation), stream(0, "init"))
    assert built.decoder.scales[1].groups[1].relation is relation


def test_a_posterior_sees_its_image_and_every_latent_above_it():
    model, x = machine(), pictures(count=1)
    walk = model(x, fresh(stream(0, "noise")))
    other = model(x.roll(1, -1), replay(walk.latents))
    for step, changed in zip(walk.steps, other.steps, strict=True):
        assert not torch.allclose(step.posterior.mean, changed.posterior.mean)
        assert torch.equal(step.prior.mean, changed.prior.mean)
    for index in range(3):
        moved = [z + (level == index) for level, z in enumerate(walk.latents)]
        changed = model(x, replay(moved))
        for level, (one, two) in enumerate(zip(walk.steps, changed.steps, strict=True)):
            equal = torch.equal(one.posterior.mean, two.posterior.mean)
            assert equal == (level <= index)


def test_relative_posteriors_move_with_the_prior_and_absolute_ones_do_not():
    prior = Gaussian(torch.tensor(0.7), torch.tensor(-0.3))
    moved = Gaussian(prior.mean + 2, prior.log_std + 1)
    change = (torch.tensor(0.4), torch.tensor(-0.1))
    assert relative(prior, *change) == (prior.mean + 0.4, prior.log_std - 0.1)
    assert relative(moved, *change).mean - relative(prior, *change).mean == 2
    assert absolute(prior, *change) == absolute(moved, *change) == change


def test_the_kl_has_no_gradient_for_the_prior_mean_in_relative_coordinates():
    mean = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    prior = Gaussian(mean, torch.tensor(-0.3, dtype=torch.float64))
    change = (torch.tensor(0.4).double(), torch.tensor(0.2).double())
    (slope,) = torch.autograd.grad(relative(prior, *change).kl(prior), mean)
    assert slope == 0
    target = torch.tensor(1.1).double()
    (slope,) = torch.autograd.grad(absolute(prior, target, change[1]).kl(prior), mean)
    expected = -(1.1 - 0.7) / torch.tensor(-0.6, dtype=torch.float64).exp()
    assert abs(slope - expected) < 1e-6  # −0.72885
    assert abs(slope + 0.72885) < 1e-5


def test_residual_kl_is_the_papers_equation_and_torchs_number():
    draws = torch.randn(4, 1000, generator=stream(0, "kl"), dtype=torch.float64)
    mean, change, log_change, log_std = draws
    sigma, delta = log_std.exp(), log_change.exp()
    paper = (change**2 / sigma**2 + delta**2 - (delta**2).log() - 1) / 2
    p, q = (
        distributions.Normal(mean, sigma),
        distributions.Normal(mean + change, sigma * delta),
    )
    found = residual_kl(change, log_change, log_std)
    torch.testing.assert_close(found, paper, rtol=1e-12, atol=1e-10)
    reference = distributions.kl_divergence(q, p)
    torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-10)
    generic = Gaussian(mean + change, log_std + log_change).kl(Gaussian(mean, log_std))
    torch.testing.assert_close(found, generic, rtol=1e-12, atol=1e-10)
    golden = residual_kl(*torch.tensor([0.5, -0.3, -0.4], dtype=torch.float64))
    assert abs(golden - 0.3525984341) < 1e-10
    one, two = (
        Gaussian(*torch.tensor(pair, dtype=torch.float64))
        for pair in ((0.3, -0.5), (-0.7, 0.4))
    )
    assert abs(one.kl(two) - 0.7073139262) < 1e-10


def test_heads_cannot_reach_beyond_e_to_the_five():
    log_std = torch.tensor([-1e6, -0.01, 0, 0.01, 3, 1e6], dtype=torch.float64)
    expected = [-5, -0.01, 0, 0.01, 5 * torch.tanh(torch.tensor(0.6).double()), 5]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(bounded(log_std), expected, rtol=0, atol=1e-7)
    model = machine()
    with torch.no_grad():
        for group in (g for scale in model.decoder.scales for g in scale.groups):
            group.answer[-1].bias += 1e4
            if not isinstance(
                group.prior, type(model.decoder.scales[0].groups[0].prior)
            ):
                group.prior[-1].bias -= 1e4
    for prior, posterior, _ in model(pictures(), fresh(stream(0, "noise"))).steps[1:]:
        assert abs(prior.log_std + 5).max() < 1e-6
        assert abs(posterior.log_std - prior.log_std - 5).max() < 1e-6


def test_fresh_draws_have_mean_and_spread_times_temperature():
    wide = Gaussian(torch.full((200_000,), 2.0), torch.full((200_000,), -0.5))
    for temperature in (0.0, 0.5, 1.0, 1.5):
        z = fresh(stream(0, "noise"), temperature)(0, wide)
        assert abs(z.mean() - 2) < 0.01
        assert abs(z.std() - temperature * wide.log_std[0].exp()) < 0.01
    assert torch.equal(fresh(stream(0, "noise"), 0)(0, wide), wide.mean)


def test_temperature_zero_is_a_walk_along_the_means():
    walk = machine().decoder(2, fresh(stream(0, "noise"), 0.0))
    assert all(torch.equal(step.z, step.prior.mean) for step in walk.steps)
    assert torch.equal(walk.output[0], walk.output[1])


def test_the_same_stream_draws_the_same_and_another_does_not():
    model = machine()
    walks = [model.decoder(2, fresh(stream(seed, "noise"))) for seed in (0, 0, 1)]
    assert same(walks[0], walks[1])
    assert not same(walks[0], walks[2])


def test_the_top_can_be_kept_and_the_rest_drawn_anew():
    model = machine()
    seen = model(pictures(), fresh(stream(0, "noise")))
    for kept in range(5):
        draw = replay(seen.latents[:kept], then=fresh(stream(1, "noise")))
        walk = model.decoder(3, draw)
        equal = [
            torch.equal(z, w) for z, w in zip(walk.latents, seen.latents, strict=True)
        ]
        assert equal == [True] * kept + [False] * (4 - kept)


def test_the_plain_vae_is_its_textbook_form():
    """One vector z ~ N(0, 1): a generic KL, and an output that only z decides."""
    model = machine("plain")
    assert KINDS["plain"].dimensions() == 2
    walk = model(pictures("plain"), fresh(stream(0, "noise")))
    ((_, (mean, log_std), _),) = walk.steps
    textbook = (mean**2 + (2 * log_std).exp() - 2 * log_std - 1).sum((1, 2, 3)) / 2
    torch.testing.assert_close(walk.kl()[:, 0], textbook, rtol=0, atol=1e-12)
    other = KINDS["plain"].relation
    assert other is relative  # and absolute says the same, as the prior is standard
    model.decoder.scales[0].groups[0].relation = absolute
    again = model(pictures("plain"), fresh(stream(0, "noise")))
    assert same(walk, again)


def test_members_of_a_batch_do_not_meet():
    model, x = machine(), pictures()
    together = model(x, fresh(stream(0, "n"), 0))
    alone = model(x[1:2], fresh(stream(0, "n"), 0))
    torch.testing.assert_close(together.output[1:2], alone.output, rtol=0, atol=1e-12)


def test_initial_weights_come_from_the_stream_alone():
    one, same_again, other = (
        HierarchicalVAE(SMALL, stream(seed, "init")).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same_again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    weight = one["tower.scales.0.way_in.0.weight"]
    assert weight.abs().max() <= (3 / 9) ** 0.5
    assert abs(weight.std() - 1 / 3) < 0.1
    assert not one["tower.scales.0.way_in.0.bias"].any()


def test_gradients_reach_every_parameter():
    for kind in KINDS:
        model = machine(kind).train()
        walk = model(pictures(kind), fresh(stream(0, "noise")))
        (walk.output.square().sum() + walk.kl().sum()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_a_posterior_asks_the_stream_and_not_the_image_alone():
    """Its gradient by what stands above it; a question times zero would have none."""
    model, x = machine(), pictures()
    walk = model(x, fresh(stream(0, "noise")))
    for index in (1, 2, 3):
        above = [z.clone().requires_grad_() for z in walk.latents]
        mean = model(x, replay(above)).steps[index].posterior.mean
        prior = model.decoder(3, replay(above)).steps[index].prior.mean
        slopes = torch.autograd.grad((mean - prior).square().sum(), above[:index])
        assert all(slope.abs().max() > 1e-6 for slope in slopes)


@pytest.mark.parametrize(
    "make",
    [EncoderCell, GenerativeCell, partial(GenerativeCell, expansion=2)],
)
def test_a_cell_is_a_residual(make):
    cell = make(6).double()
    cells.draw_weights(cell, stream(0, "init"))
    x = torch.randn(5, 6, 4, 4, generator=stream(0, "x")).double()
    expected = x + 0.1 * cell.branch(x)
    torch.testing.assert_close(cell(x), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(expected, x)


def test_the_cells_layers_are_the_papers():
    def layers(cell):
        names = {nn.BatchNorm2d: "BN", nn.SiLU: "swish"}
        found = []
        for layer in cell.branch:
            if isinstance(layer, nn.Conv2d):
                depthwise = "depthwise" if layer.groups > 1 else "conv"
                shape = f"{layer.in_channels}→{layer.out_channels}"
                found.append(f"{depthwise}{layer.kernel_size[0]} {shape}")
            else:
                found.append(names.get(type(layer), "SE"))
        return " ".join(found)

    assert layers(EncoderCell(8)) == ("BN swish conv3 8→8 BN swish conv3 8→8 SE")
    assert layers(GenerativeCell(8)) == (
        "BN conv1 8→48 BN swish depthwise5 48→48 BN swish conv1 48→8 BN SE"
    )
    moments = [
        m.momentum for m in GenerativeCell(8).modules() if hasattr(m, "momentum")
    ]
    assert moments == [0.05] * 4


def test_squeeze_and_excitation_gates_channels_by_the_image_mean():
    gate = SqueezeExcitation(40).double()
    x = torch.randn(3, 40, 5, 5, generator=stream(0, "x")).double()
    first, _, second, _ = gate.gate
    assert first.out_features == 4
    assert SqueezeExcitation(160).gate[0].out_features == 10
    hidden = (x.mean((2, 3)) @ first.weight.T + first.bias).clamp(min=0)
    gains = 1 / (1 + (-(hidden @ second.weight.T + second.bias)).exp())
    expected = x * gains[:, :, None, None]
    torch.testing.assert_close(gate(x), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_batchnorm_settles_on_what_the_prior_makes_before_sampling():
    model = machine()
    draw = partial(fresh, temperature=0.7)
    ready = settled(model.decoder, 256, draw(stream(0, "settle")))
    in_training = model.decoder.train()(256, draw(stream(0, "settle")))
    # With the same draws, the settled network in eval mode repeats the training mode.
    repeated = ready.eval()(256, draw(stream(0, "settle")))
    settled_error = (repeated.output - in_training.output).abs().max()
    stale = model.decoder.eval()(256, draw(stream(0, "settle")))
    stale_error = (stale.output - in_training.output).abs().max()
    assert settled_error < 0.02 * stale_error


def test_the_network_keeps_the_fast_memory_layout():
    model = machine()
    walk = model(pictures(), fresh(stream(0, "noise")))
    layout = torch.channels_last
    assert model.features(pictures())[-1].is_contiguous(memory_format=layout)
    assert walk.stream.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outputs": 0}, "outputs: 0"),
        ({"channels": 1.0}, "channels: 1.0"),
        ({"size": 6}, "size: 6 is not divisible by 4"),
        ({"groups": ()}, "groups: ()"),
        ({"groups": (0, 1, 1)}, "groups: (0, 1, 1)"),
        ({"groups": (1, -1)}, "groups: -1"),
        ({"width": 0}, "width: 0"),
        ({"latent_channels": True}, "latent_channels: True"),
        ({"cells": 0}, "cells: 0"),
        ({"growth": 0.5}, "growth: 0.5"),
    ],
)
def test_a_hierarchy_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError) as caught:
        replace(SMALL, **change)
    assert words in str(caught.value)


def test_a_walk_refuses_what_does_not_fit():
    model, x = machine(), pictures()
    latents = model(x, fresh(stream(0, "noise"))).latents
    wrong = [*latents[:2], latents[2][:, :1], latents[3]]
    calls = [
        (ValueError, "x: shape (0, 1, 8, 8)", lambda d: model(x[:0], d)),
        (ValueError, "x: shape (3, 1, 8, 4)", lambda d: model(x[..., :4], d)),
        (ValueError, "x: shape (3, 8, 8)", lambda d: model(x[:, 0], d)),
        (ValueError, "x: shape (3, 2, 8, 8)", lambda d: model(torch.cat([x, x], 1), d)),
        (TypeError, "x: torch.uint8", lambda d: model(x.to(torch.uint8), d)),
        (ValueError, "count: 0", lambda d: model.decoder(0, d)),
        (ValueError, "temperature: -0.1", lambda d: fresh(stream(0, "n"), -0.1)),
        (ValueError, "temperature: nan", lambda d: fresh(stream(0, "n"), float("nan"))),
        (
            ValueError,
            "latents: 3 given, group 3 has none",
            lambda d: model.decoder(3, replay(latents[:3])),
        ),
        (
            ValueError,
            "latents: (3, 1, 4, 4) for group 2, which has (3, 2, 4, 4)",
            lambda d: model.decoder(3, replay(wrong)),
        ),
        (ValueError, "latents: (3, 2", lambda d: model.decoder(2, replay(latents))),
        (
            ValueError,
            "features: 3 given for [3] images",
            lambda d: model.decoder(3, d, model.features(x)[1:]),
        ),
        (
            ValueError,
            "features: 4 given for [3] images, not one a group (4) for 2",
            lambda d: model.decoder(2, d, model.features(x)),
        ),
        (ValueError, "features: None", lambda d: model.decoder(3, d).kl()),
        (ValueError, "features: None", lambda d: model.decoder(3, d).log_ratio()),
    ]
    for kind, words, call in calls:
        with pytest.raises(kind) as caught:
            call(fresh(stream(0, "noise")))
        assert words in str(caught.value)


def test_gaussians_are_torchs():
    mean, log_std, z = torch.randn(3, 50, generator=stream(0, "g")).double()
    reference = distributions.Normal(mean, log_std.exp()).log_prob(z)
    found = Gaussian(mean, log_std).log_prob(z)
    torch.testing.assert_close(found, reference, rtol=0, atol=1e-10)
