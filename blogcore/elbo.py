"""What is asked of a VAE: −ELBO with warm-up and balancing, and a sharper bound.

A ``Batch`` is images, the name of the noise that belongs to them, and β. All three are
functions of the step, so that a resumed training sees the same ones, and whoever asks
twice about one batch gets the same answer. Everything in nats an image.
"""

from collections.abc import Callable
from functools import cache
from math import log
from typing import NamedTuple

import torch

from blogcore.asking import Objective, Parts
from blogcore.checks import check_integer, check_number
from blogcore.data import Batches
from blogcore.latents import Draw, fresh, given
from blogcore.likelihoods import Likelihood
from blogcore.runtime import stream
from blogcore.vae import HierarchicalVAE, Hierarchy

Schedule = Callable[[int], float]
Weights = Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor]
LEAST_BETA = 1e-4
LEAST_KL = 0.01


class Batch(NamedTuple):
    """Integer images (N, channels, H, W), their noise, and the KL's weight β.

    ``noise`` is (seed, name): it names the ``runtime.stream`` that each z is drawn from
    and is opened anew by each objective, on a GPU where the images are (whose draws are
    its own). Or it is what was drawn already, and β a tensor (see ``drawn``).
    """

    images: torch.Tensor
    noise: tuple[int, str] | tuple[torch.Tensor, ...]
    beta: float | torch.Tensor = 1.0


def noisy(
    batches: Batches, seed: int, beta: Schedule = lambda step: 1.0
) -> Callable[[int], Batch]:
    """Batches for an ELBO: images, the noise (seed, "noise/step") and β(step).

    The images are the inputs of ``batches(step)``; axes before (N, C, H, W), such as
    the one member of ``data.shuffled``, join N.
    """

    def batch(step: int) -> Batch:
        images = batches(step).inputs
        if images.ndim < 4:
            raise ValueError(f"inputs: {tuple(images.shape)} is not (…, N, C, H, W)")
        return Batch(images.flatten(0, -4), (seed, f"noise/{step}"), beta(step))

    return batch


def drawn(
    batches: Callable[[int], Batch], hierarchy: Hierarchy
) -> Callable[[int], Batch]:
    """The same batches as tensors alone: the noise of every group drawn, and β.

    The numbers are those that the objective would draw. Without names and Python's
    numbers a step is the same operations every time (``captured``).
    """
    sizes = [size for size, _, count in hierarchy.scales() for _ in range(count)]

    def batch(step: int) -> Batch:
        images, noise, beta = batches(step)
        source, where = _source(noise, images.device), images.device
        noise = tuple(
            torch.randn(
                (len(images), hierarchy.latent_channels, size, size),
                generator=source,
                device=source.device,
            ).to(where)
            for size in sizes
        )
        return Batch(images, noise, torch.full((), beta, device=where))

    return batch


def warm_up(steps: int) -> Schedule:
    """β_t = min(t / steps, 1), but at least 10⁻⁴: the KL counts little at first.

    Source: the public code of NVAE, where ``steps`` is 30 % of the training.
    """
    check_integer("steps", steps, 1)
    return lambda step: max(min(step / steps, 1.0), LEAST_BETA)


def unweighted(kl: torch.Tensor, beta: float | torch.Tensor) -> torch.Tensor:
    """Every group counts 1: the ELBO as it is."""
    return kl.new_ones(kl.shape[1])


def balanced(hierarchy: Hierarchy) -> Weights:
    """NVAE's weights while β < 1: γ_l ∝ (E|KL_l| + 0.01) / α_l, of mean 1, constants.

    α_l = 4^i / n_i for the n_i groups of scale i (coarsest 0), divided by the least of
    them. A group with little KL pays little for more of it. At β = 1 every γ_l is 1.
    Source: Vahdat and Kautz (2020), appendix A; α and 0.01 from the public code.
    """
    counts = [count for count in hierarchy.groups if count]
    scales = [i for i, count in enumerate(hierarchy.groups) if count]
    alpha = torch.cat(
        [torch.full((n,), 4.0**i / n) for i, n in zip(scales, counts, strict=True)]
    )
    alpha = alpha / alpha.min()
    # To bring it to a GPU at every step would wait for the GPU.
    brought = cache(lambda where, kind: alpha.to(where, kind))

    def weights(kl: torch.Tensor, beta: float | torch.Tensor) -> torch.Tensor:
        known = not isinstance(beta, torch.Tensor)
        if known and beta >= 1:
            return unweighted(kl, beta)
        shares = (kl.detach().abs().mean(0) + LEAST_KL) / brought(kl.device, kl.dtype)
        shares = shares / shares.mean()
        return shares if known else torch.where(beta >= 1, 1.0, shares)

    return weights


def negative_elbo(likelihood: Likelihood, weights: Weights = unweighted) -> Objective:
    """An objective: −log p(x|z) + β Σ_l γ_l KL_l, the mean over the batch.

    Parts: ``loss``; ``nats``, the same with β = γ = 1, the bound on −log p(x);
    ``reconstruction`` −log p(x|z); ``kl`` (L,), each group's own.
    Source: Vahdat and Kautz (2020), eq. 1.
    """

    def objective(model: HierarchicalVAE, batch: Batch) -> tuple[torch.Tensor, Parts]:
        if not isinstance(batch.beta, torch.Tensor):  # to look at one would wait
            check_number("beta", batch.beta, 0)
        walk = model(likelihood.scaled(batch.images), _draw(batch))
        kl = walk.kl()
        reconstruction = -likelihood.log_prob(walk.output, batch.images).mean()
        paid = kl.mean(0) @ weights(kl, batch.beta)
        loss = reconstruction + batch.beta * paid
        each = kl.detach().mean(0)
        surprise = reconstruction.detach()
        parts = {"loss": loss.detach(), "nats": surprise + each.sum()}
        return loss, parts | {"reconstruction": surprise, "kl": each}

    return objective


def importance_bound(likelihood: Likelihood, count: int) -> Objective:
    """An objective: −log 1/K Σ_k p(x, z_k) / q(z_k|x), the mean over the batch.

    Falls with K = ``count`` towards −log p(x); K = 1 is −ELBO with a drawn KL. Parts:
    ``nats``, and ``each`` (N,). Raises ValueError for K > 1 draws of noise that is
    ``drawn`` already: it would be K times the same. Source: Burda, Grosse and
    Salakhutdinov (2016), eq. 8.
    """
    check_integer("count", count, 1)

    def objective(model: HierarchicalVAE, batch: Batch) -> tuple[torch.Tensor, Parts]:
        if count > 1 and _is_drawn(batch.noise):
            raise ValueError(f"noise: tensors are one draw, not count: {count} of them")
        features = model.features(likelihood.scaled(batch.images))
        draw, ratios = _draw(batch), []
        for _ in range(count):
            walk = model.decoder(len(batch.images), draw, features)
            surprise = likelihood.log_prob(walk.output, batch.images)
            ratios.append(surprise + walk.log_ratio().sum(1))
        each = log(count) - torch.stack(ratios).logsumexp(0)
        parts = {"nats": each.detach().mean(), "each": each.detach()}
        return each.mean(), parts

    return objective


def bits_per_dimension(
    nats: torch.Tensor | float, dimensions: int
) -> torch.Tensor | float:
    """Nats an image as bits a pixel and channel: nats / (D log 2)."""
    check_integer("dimensions", dimensions, 1)
    return nats / (dimensions * log(2))


def _draw(batch: Batch) -> Draw:
    if _is_drawn(batch.noise):
        return given(batch.noise)
    return fresh(_source(batch.noise, batch.images.device))


def _is_drawn(noise: object) -> bool:
    parts = noise if isinstance(noise, tuple) else ()
    return any(isinstance(part, torch.Tensor) for part in parts)


def _source(noise: object, where: torch.device) -> torch.Generator:
    """Where noise of this name comes from.

    On a GPU it is drawn there: three million normals from the CPU take longer than the
    step itself.
    """
    if not (isinstance(noise, tuple) and len(noise) == 2):
        raise TypeError(f"noise: {noise!r} is not (seed, name)")
    return stream(*noise, where if where.type == "cuda" else "cpu")
