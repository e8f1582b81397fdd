"""Word vectors: softmax models over drawn vectors, and skip-grams fitted to pairs.

A skip-gram gives the pair (centre word i, context word j) the energy ⟨u_i, v_j⟩, and
the joint softmax over all N² pairs makes it a distribution. Fitted skip-grams are
populations as in ``networks``: the first axis runs over S independent members.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from blogcore.checks import check_integer, check_number


class Softmax(NamedTuple):
    """What of the distributions p ∝ e^energy is needed, one entry a distribution.

    ``log_partition`` log Z = log Σ e^energy, and ``mean_energy`` Σ p·energy.
    """

    log_partition: torch.Tensor
    mean_energy: torch.Tensor

    def entropy(self) -> torch.Tensor:
        """H = log Z − Σ p·energy, in nats, but for the rounding of log Z; never < 0."""
        return (self.log_partition - self.mean_energy).clamp(min=0)

    def joined(self) -> "Softmax":
        """The softmax over all cells of the distributions along the last axis."""
        share = self.log_partition.softmax(-1)
        return Softmax(
            self.log_partition.logsumexp(-1), (share * self.mean_energy).sum(-1)
        )


def on_sphere(
    count: int, dimension: int, generator: torch.Generator, beta: float = 1.0
) -> torch.Tensor:
    """Vectors (N, n), float64, uniform in direction and of length √(βn).

    Normalised Gaussian rows; two independent ones have the energy βn cosθ. Raises
    ValueError for a count or dimension < 1 or β < 0.
    """
    check_integer("count", count, 1)
    check_integer("dimension", dimension, 1)
    check_number("beta", beta, 0)
    drawn = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    return drawn / drawn.norm(dim=-1, keepdim=True) * (beta * dimension) ** 0.5


def row_softmax(
    centre: torch.Tensor, context: torch.Tensor, block: int = 512
) -> Softmax:
    """The N distributions p(j|i) ∝ e^{⟨u_i, v_j⟩}, exactly, ``block`` rows at a time.

    centre (N, n), context (M, n), of one floating type → entries (N,) of that type. No
    array is larger than block × M, and no more than four such are held; the largest
    energy is subtracted before anything is exponentiated. ``.joined()`` is the joint
    distribution of the pairs. Raises ValueError for shapes or types that do not fit, no
    row, a value that is not finite, or energies that overflow.
    """
    check_integer("block", block, 1)
    _check_vectors(centre, context)
    parts = [_exact(rows @ context.T) for rows in centre.split(block)]
    found = Softmax(*(torch.cat(values) for values in zip(*parts, strict=True)))
    if not found.log_partition.isfinite().all():
        raise ValueError("centre: the energies ⟨u_i, v_j⟩ overflow")
    return found


class SkipGram(nn.Module):
    """log p(i, j) = ⟨u_i, v_j⟩ + a_i + b_j − log Z for S members.

    Called, it returns the energies (S, N, N); the objectives ``joint_softmax`` and
    ``negative_sampling`` normalise them. u, v start Gaussian with ⟨u, v⟩ of standard
    deviation ``scale``; a and b start as the logarithms of the marginals (S, N) or (N,)
    given. Raises ValueError for a dimension < 1, no generator, or marginals that are
    not positive or of another shape.
    """

    def __init__(
        self,
        centre_marginal: torch.Tensor,
        context_marginal: torch.Tensor,
        dimension: int,
        generators: Sequence[torch.Generator],
        scale: float = 0.25,
    ):
        super().__init__()
        check_integer("dimension", dimension, 1)
        check_number("scale", scale, 0)
        if not generators:
            raise ValueError("generators: one a member is needed, got none")
        members = len(generators)
        self.centre_bias = _log_marginal("centre_marginal", centre_marginal, members)
        self.context_bias = _log_marginal("context_marginal", context_marginal, members)
        spread = (scale / dimension**0.5) ** 0.5
        rows, columns = self.centre_bias.shape[1], self.context_bias.shape[1]
        self.centre = _gaussian((rows, dimension), spread, generators)
        self.context = _gaussian((columns, dimension), spread, generators)

    def forward(self) -> torch.Tensor:
        biases = self.centre_bias[:, :, None] + self.context_bias[:, None, :]
        return torch.baddbmm(biases, self.centre, self.context.transpose(1, 2))

    def log_joint(self) -> torch.Tensor:
        """log p(i, j), (S, N, N)."""
        energies = self()
        return energies - energies.flatten(1).logsumexp(1)[:, None, None]


def pmi(joint: torch.Tensor) -> torch.Tensor:
    """Pointwise mutual information log p(i,j) − log p(i) p(j), in nats.

    joint (…, N, M) → the same shape, −∞ where a pair never occurs. A skip-gram with k
    negative samples and enough dimensions ends at pmi − log k. Raises ValueError for
    no entries, negative or infinite ones, or a row or column that is all zero.
    Source: Levy and Goldberg (2014), eq. 7 to 11.
    """
    if joint.ndim < 2 or not joint.numel():
        raise ValueError(f"joint: shape {tuple(joint.shape)} is not (…, N, M) ≥ 1")
    if not joint.isfinite().all() or (joint < 0).any():
        raise ValueError("joint: holds an entry that is negative or not finite")
    rows, columns = joint.sum(-1, keepdim=True), joint.sum(-2, keepdim=True)
    if not ((rows > 0).all() and (columns > 0).all()):
        raise ValueError("joint: a row or column is all zero, its words never occur")
    total = joint.sum((-2, -1), keepdim=True)
    return (joint * total).log() - rows.log() - columns.log()


def _exact(energies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    log_z = energies.logsumexp(-1)
    shares = (energies - log_z[:, None]).exp()
    return log_z, (shares * energies).sum(-1)


def _check_vectors(centre: torch.Tensor, context: torch.Tensor) -> None:
    for name, vectors in (("centre", centre), ("context", context)):
        if vectors.ndim != 2 or not len(vectors) or not vectors.shape[1]:
            raise ValueError(f"{name}: shape {tuple(vectors.shape)} is not (N, n) ≥ 1")
        if not vectors.is_floating_point():
            raise ValueError(f"{name}: {vectors.dtype} is not a floating type")
        if not vectors.isfinite().all():
            raise ValueError(f"{name}: holds a value that is not finite")
    if centre.shape[1] != context.shape[1]:
        raise ValueError(
            f"context: {context.shape[1]} dimensions, centre has {centre.shape[1]}"
        )
    if centre.dtype != context.dtype:
        raise ValueError(f"context: {context.dtype}, but centre is {centre.dtype}")


def _log_marginal(name: str, marginal: torch.Tensor, members: int) -> nn.Parameter:
    if not (marginal.isfinite().all() and (marginal > 0).all() and marginal.numel()):
        raise ValueError(f"{name}: needs at least one word, all of them positive")
    if marginal.ndim not in (1, 2) or marginal.shape[:-1] not in ((), (members,)):
        shape = tuple(marginal.shape)
        raise ValueError(f"{name}: shape {shape} is neither (N,) nor ({members}, N)")
    logs = marginal.log().expand(members, -1).to(torch.get_default_dtype())
    return nn.Parameter(logs.contiguous())


def _gaussian(shape, spread: float, generators) -> nn.Parameter:
    draws = [torch.randn(shape, generator=generator) for generator in generators]
    return nn.Parameter(spread * torch.stack(draws))
