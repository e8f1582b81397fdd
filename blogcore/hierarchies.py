"""The bench of the pages on NVAE: small hierarchies of latents that draw 8 × 8 digits.

All have NVAE's cells, about the same number of latents, and 17 grey levels to explain.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch.optim import AdamW

from blogcore import elbo, vae
from blogcore.asking import in_eval_mode
from blogcore.cells import EncoderCell, GenerativeCell
from blogcore.data import Examples, shuffled, split
from blogcore.images import digits
from blogcore.latents import fresh
from blogcore.likelihoods import Likelihood, LogisticMixture, exact_bins
from blogcore.optim import linear_decay
from blogcore.runtime import stream
from blogcore.training import Probe, evaluate, settled, train

PIXELS = LogisticMixture(exact_bins(17), 1)
NVAE_CELLS = {
    "encoder_cell": EncoderCell,
    "decoder_cell": partial(GenerativeCell, expansion=3, size=3),
}
PYRAMID = vae.Hierarchy(
    outputs=PIXELS.outputs, groups=(1, 1, 1), width=8, latent_channels=2, **NVAE_CELLS
)
# The control for depth has as many cells on every scale as two groups have.
SHAPES = {
    "three scales": PYRAMID,
    "two groups": replace(PYRAMID, groups=(2, 0), latent_channels=5),
    "one group": replace(PYRAMID, groups=(1, 0), latent_channels=10, cells=2),
}
RATE, BATCH = 0.015, 64


class Trained(NamedTuple):
    """A hierarchy after its training, its digits, and what was seen on the way."""

    model: vae.HierarchicalVAE
    seed: int
    train: Examples
    test: Examples
    kl: torch.Tensor  # of each group at each step, (steps, L), nats
    halfway: float  # what BatchNorm's running averages cost at half-time, nats

    def bound(self, draws: int = 16) -> torch.Tensor:
        """The importance-weighted bound on −log p(x) of the test digits, in nats."""
        return bound(self.model, self.test, self.seed, draws)

    def lag(self) -> torch.Tensor:
        """What BatchNorm's running averages cost now, in nats."""
        return lag(self.model, self.train, self.test, self.seed)


def trained(
    shape: vae.Hierarchy,
    seed: int,
    steps: int,
    parts: Sequence[int],
    weights: elbo.Weights = elbo.unweighted,
) -> Trained:
    """Train one hierarchy on digits: AdamW, the rate down to 0, β up over 30 %.

    ``parts`` are the sizes of the training and the test set, split by the seed.
    """
    known, unseen = split(digits(), parts, stream(seed, "split"))
    model = vae.HierarchicalVAE(shape, stream(seed, "init"))
    beta = elbo.warm_up(max(steps * 3 // 10, 1))
    batches = elbo.noisy(shuffled(known, BATCH, [seed]), seed, beta)
    optimizer = AdamW(model.parameters(), lr=RATE, fused=True)
    half = Probe((steps + 1) // 2, lambda: {"lag": lag(model, known, unseen, seed)})
    hooks = [linear_decay(optimizer, steps), half]
    asked = elbo.negative_elbo(PIXELS, weights)
    history = train(model, batches, asked, optimizer, steps, hooks)
    cost = half.history()["lag"][-1].item()
    return Trained(model, seed, known, unseen, history["kl"], cost)


def bound(
    model: vae.HierarchicalVAE, test: Examples, seed: int, draws: int
) -> torch.Tensor:
    """The importance-weighted bound on −log p(x), the mean over images, in nats."""
    batch = elbo.Batch(test.inputs, (seed, "test noise"))
    return evaluate(model, elbo.importance_bound(PIXELS, draws), batch)["nats"]


def lag(
    model: vae.HierarchicalVAE, known: Examples, unseen: Examples, seed: int
) -> torch.Tensor:
    """The bound with BatchNorm's running averages minus with settled statistics."""
    draw = fresh(stream(seed, "settle"))
    twin = settled(model, PIXELS.scaled(known.inputs), draw)
    return bound(model, unseen, seed, 1) - bound(twin, unseen, seed, 1)


def samples(
    decoder: vae.Decoder,
    count: int,
    seed: int,
    temperature: float,
    law: Likelihood = PIXELS,
) -> torch.Tensor:
    """Images drawn from the prior, whose standard deviation the temperature scales.

    ``law`` is the likelihood that draws the pixels.
    """
    source = stream(seed, "samples")
    with in_eval_mode(decoder), torch.no_grad():
        output = decoder(count, fresh(source, temperature)).output
    return law.sample(output, source)


def resettled(decoder: vae.Decoder, seed: int, temperature: float) -> vae.Decoder:
    """A copy with BatchNorm statistics of a thousand samples of its own."""
    return settled(decoder, 1000, fresh(stream(seed, "own samples"), temperature))


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Euclidean distances between all pairs of images, in grey levels: (N, M)."""
    return torch.cdist(a.flatten(1).double(), b.flatten(1).double())


def energy_distance(
    a: torch.Tensor, b: torch.Tensor, unit: float = PIXELS.levels - 1
) -> torch.Tensor:
    """2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖ without bias, in units of the grey range.

    X, X′ are different images of ``a``, Y, Y′ of ``b``; ``unit`` is the distance that
    counts as one. Zero for equal distributions, and only for those; an estimate may be
    slightly negative.
    """
    within = [distances(u, u).sum() / (len(u) * (len(u) - 1)) for u in (a, b)]
    return (2 * distances(a, b).mean() - sum(within)) / unit


def energies(
    drawn: torch.Tensor, known: torch.Tensor, unseen: torch.Tensor
) -> torch.Tensor:
    """Energy distances of drawn to unseen images: plain, and whitened by known ones."""
    white = [whitened(images, known) for images in (drawn, unseen)]
    return torch.stack(
        [energy_distance(drawn, unseen), energy_distance(*white, unit=1)]
    )


def whitened(images: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Images in coordinates that are uncorrelated, of variance 1, on ``known``.

    x W with W Wᵀ = (C + I/12)⁻¹, where C is the covariance of ``known``, (N, …) grey
    levels. A whole number stands for an interval of length 1, whose variance 1/12 is
    what a pixel that never changes is taken to have. Returns (N, pixels).
    """
    kept = torch.cov(known.flatten(1).double().T)
    kept.diagonal().add_(1 / 12)
    root = torch.linalg.cholesky(kept)
    flat = images.flatten(1).double()
    return torch.linalg.solve_triangular(root, flat.T, upper=False).T
