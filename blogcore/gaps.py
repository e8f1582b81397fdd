"""Exact gaps of Gaussian machines on one-dimensional data: nothing is trained.

A gap is −ELBO − H, in nats. Everything is quadrature on a fine line. A ``Law`` is a
mixture of two normal distributions with mean 0 and variance 1.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.interpolate import CubicHermiteSpline
from scipy.stats import norm

from blogcore.checks import check_integer, check_number

LINE = np.linspace(-7, 7, 2801)
STEP = LINE[1] - LINE[0]
LEFT = 1e-3  # share of the data's variance that a chain leaves at its end
NODES, SHARES = hermegauss(32)
SHARES = SHARES / SHARES.sum()
START = np.linspace(-5.5, 5.5, 301)  # z₀, with x = f(z₀)
CROWD = norm.pdf(START) / norm.pdf(START).sum()


class Law(NamedTuple):
    """A mixture of normals: weights, means and widths, each (2,)."""

    weights: np.ndarray
    means: np.ndarray
    widths: np.ndarray

    def density(self, x: np.ndarray) -> np.ndarray:
        """p(x) at every x."""
        return norm.pdf(x[:, None], self.means, self.widths) @ self.weights


def two_bumps(generator: torch.Generator) -> Law:
    """A standardised mixture of two bumps, drawn at random."""
    u = torch.rand(3, generator=generator, dtype=torch.float64).numpy()
    weights = np.array([0.35 + 0.3 * u[0], 0.65 - 0.3 * u[0]])
    return standardised(weights, [0, 2.6 + u[2]], [1, 0.8 + 0.4 * u[1]])


def standardised(weights, means, widths) -> Law:
    """The mixture, moved and scaled to mean 0 and variance 1."""
    weights, widths = np.asarray(weights, float), np.asarray(widths, float)
    means = np.asarray(means, float)
    means = means - weights @ means
    scale = np.sqrt(weights @ (widths**2 + means**2))
    return Law(weights, means / scale, widths / scale)


def negentropy(law: Law) -> float:
    """How many nats the entropy of the law lies below ½ log 2πe, that of a normal."""
    p = law.density(LINE)
    return math.log(2 * math.pi * math.e) / 2 + STEP * (p @ np.log(p))


def floor(law: Law, sigma: float, rounds: int) -> float:
    """The least KL(law ‖ any distribution of means, blurred by σ), from below.

    EM on a grid of means comes from above; what it may still be off is subtracted.
    """
    check_number("sigma", sigma, 0)
    check_integer("rounds", rounds, 1)
    x = LINE[::8]
    p = law.density(x) / law.density(x).sum()
    kernel = norm.pdf(x[:, None], np.linspace(-3, 3, 201), sigma)
    shares = np.full(201, 1 / 201)
    for _ in range(rounds):
        shares = shares * (kernel.T @ (p / (kernel @ shares)))
    reached = p @ np.log(law.density(x) / (kernel @ shares))
    better = norm.pdf(x[:, None], LINE, sigma).T @ (p / (kernel @ shares))
    return reached - math.log(better.max())


def transport(law: Law) -> CubicHermiteSpline:
    """f = F⁻¹∘Φ, which carries N(0, 1) onto the law; f′ = φ(z) / p(f(z))."""
    z = np.linspace(-7, 7, 4001)
    x, side = np.zeros_like(z), np.where(z < 0, 1, -1)  # the smaller tail: no loss
    for half in 8.0 / 2 ** np.arange(60):
        tail = norm.cdf(side[:, None] * (x[:, None] - law.means) / law.widths)
        x = x + half * np.sign(side * (norm.cdf(side * z) - tail @ law.weights))
    return CubicHermiteSpline(z, x, norm.pdf(z) / law.density(x))


def one_latent_gap(law: Law, f: Callable, sigma: float) -> float:
    """−ELBO − H of the decoder N(f(z), σ²) with the best Gaussian q(z|x) for each x.

    The best q has E_q[U′] = 0 and precision E_q[U″]; halved steps find it.
    """
    check_number("sigma", sigma, 0)
    x, mean, var = f(START), START.copy(), 1 / (1 + f(START, 1) ** 2 / sigma**2)
    for _ in range(60):
        z = mean[:, None] + np.sqrt(var)[:, None] * NODES
        off, slope = x[:, None] - f(z), f(z, 1)
        bend = 1 + ((slope**2 - off * f(z, 2)) / sigma**2) @ SHARES
        var = 1 / (0.5 / var + 0.5 * np.maximum(bend, 0.5 / var))
        mean = mean - 0.5 * var * ((z - off * slope / sigma**2) @ SHARES)
    surprise = (off**2 @ SHARES / sigma**2 + math.log(2 * math.pi * sigma**2)) / 2
    kl = (mean**2 + var - 1 - np.log(var)) / 2
    return CROWD @ (surprise + kl + np.log(law.density(x)))


def constant(f: Callable) -> float:
    """¾ E[(f″/f′²)²]: times σ² it is the gap for small σ."""
    return 0.75 * CROWD @ (f(START, 2) / f(START, 1) ** 2) ** 2


def kept(steps: int) -> np.ndarray:
    """ᾱ²_0 … ᾱ²_T of a chain with equal factors, from 1 down to ``LEFT``."""
    check_integer("steps", steps, 1)
    return np.exp(np.linspace(0, math.log(LEFT), steps + 1))


def reverse_step(law: Law, before: float, after: float) -> tuple:
    """p(x_t) on the line and Var(x_{t−1} | x_t), where ᾱ² falls to ``after``."""
    (weights, means, widths), keep = law, math.sqrt(after / before)
    m, v = math.sqrt(before) * means, before * widths**2 + 1 - before
    later = keep**2 * v + 1 - keep**2
    joint = weights * norm.pdf(LINE[:, None], keep * m, np.sqrt(later))
    p = joint.sum(1)
    share = joint / np.maximum(p, 1e-300)[:, None]
    inner = m + keep * v / later * (LINE[:, None] - keep * m)
    square = (share * (v * (1 - keep**2) / later + inner**2)).sum(1)
    return p, square - (share * inner).sum(1) ** 2


def chain_gap(law: Law, steps: int) -> np.ndarray:
    """The gap of T best Gaussian steps: a variance for every x_t, and one a step.

    J(x₀) − ½ Σ_t E log (1 − a_t²) / V_t, with the law's negentropy J.
    """
    paid = np.zeros(2)
    for before, after in pairwise(kept(steps)):
        p, var = reverse_step(law, before, after)
        alive = p > 1e-14
        each = STEP * (p[alive] @ np.log(var[alive]))
        whole = np.array([each, np.log(STEP * (p[alive] @ var[alive]))])
        paid += (math.log(1 - after / before) - whole) / 2
    return negentropy(law) - paid


def reverse_conditional(law: Law, before: float, after: float) -> tuple:
    """KL from its best Gaussian, density and width of p(x_{t−1} | x_t = 0)."""
    keep = math.sqrt(after / before)
    spread = np.sqrt(before * law.widths**2 + 1 - before)
    p = norm.pdf(LINE[:, None], math.sqrt(before) * law.means, spread) @ law.weights
    p = p * norm.pdf(0, keep * LINE, math.sqrt(1 - keep**2))
    p = p / (STEP * p.sum())
    mean = STEP * (p @ LINE)
    width = math.sqrt(STEP * (p @ (LINE - mean) ** 2))
    alive = p > 1e-300
    far = norm.logpdf(LINE[alive], mean, width)
    return STEP * (p[alive] @ (np.log(p[alive]) - far)), p, width
