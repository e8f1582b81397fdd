"""Random vectors on the sphere: the law of their cosine, entropies, thresholds.

Two independent vectors of length √(βn), uniform in direction, have the inner product
κ cosθ with κ = βn. Everything here is a closed form of that one random variable;
entropies are in nats, dimensions n may be any real number ≥ 1 where no vector is drawn.
"""

from math import ceil, hypot, log, log1p, pi, sqrt
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, betainccinv, digamma, gammaln

from blogcore.checks import check_number

LARGEST = 1e12  # dimension, and concentration κ, that is computed with


def log_partition(n: float, beta: float = 1.0) -> float:
    """log E exp(κ cosθ), κ = βn: the logarithm of the mean weight of a pair.

    = log ₀F₁(n/2; κ²/4) = log[Γ(n/2) (2/κ)^ν I_ν(κ)], ν = n/2 − 1, summed as the power
    series of the Bessel function: its terms are positive, so nothing cancels, and its
    logarithms neither overflow nor underflow. Raises ValueError for n < 1, β < 0 or
    n or κ > 10¹²; so does ``entropy_gap``.
    """
    series = _series(n, beta)
    return series.excess + 2 * series.peak + series.log_sum


def entropy_gap(n: float, beta: float = 1.0) -> float:
    """h_n(β) = log E e^{κ cosθ} − κ E_tilted cosθ = −KL(vMF_n(κ) ‖ uniform) ≤ 0, nats.

    What the entropy of a softmax over random vectors lies below the logarithm of the
    number of its cells, as long as sums may be replaced by means. What both terms
    share, twice the order of the largest term, is never added: no digits are lost.
    Source: post 7695, equation for H; h_n there is this with β = 1.
    """
    series = _series(n, beta)
    return series.excess + series.log_sum - 2 * series.shift


def saddle(beta: float = 1.0) -> float:
    """c(β), the cosine that dominates E e^{κ cosθ} as n → ∞: β(1 − c²) = c.

    c = 2β / (1 + √(1 + 4β²)); 1/φ = 0.618… at β = 1, φ the golden ratio.
    """
    check_number("beta", beta, 0)
    return 2 * beta / (1 + hypot(1, 2 * beta))


def slope(beta: float = 1.0) -> float:
    """a(β) = lim −h_n/n = −½ log(1 − c²) = ½ log(1 + βc): nats a dimension.

    ½ log φ at β = 1.
    """
    return log1p(beta * saddle(beta)) / 2


def offset(beta: float = 1.0) -> float:
    """lim h_n + a(β) n = −½ log(1 − c⁴) − 2c⁴ / (1 + c²)², c = c(β): h_n = −a n + this.

    Laplace's method at cosθ = c with f = β cosθ + log sinθ, f″ = −(1 + c²)/(1 − c²),
    and Γ(n/2) / (√π Γ((n−1)/2)) → √(n/2π) gives log E e^{κ cosθ} = n f(c) + g + O(1/n),
    g = −½ log(1 − c⁴). As h_n is this less its β-derivative times β, the constant is
    g − β dg/dβ, with β dc/dβ = c (1 − c²)/(1 + c²). The next term is O(1/n);
    log φ − ¼ log 5 − (3 − √5)/5 at β = 1.
    """
    c = saddle(beta)
    # 1 / (1 − c⁴) = 1 + βc³ / (1 + c²), since β(1 − c²) = c: exact for c near 0 and 1.
    return log1p(beta * c**3 / (1 + c**2)) / 2 - 2 * c**4 / (1 + c**2) ** 2


def needed_dimension(entropy: float, beta: float = 1.0) -> float:
    """The dimension n ≥ 1 at which ``entropy`` + h_n(β) = 0, a real number.

    ``entropy`` is what the vectors have to take away: 2 log N for the joint softmax of
    the post, log N for one row of it, 2 log N − H̃ if a language of entropy H̃ is to be
    met. Where even n = 1 suffices, 1. Raises ValueError for a negative entropy, for
    β < 0, and where β is so small that more than 10¹² dimensions are needed.
    """
    check_number("entropy", entropy, 0)
    check_number("beta", beta, 0)
    return _crossing(lambda n: entropy + entropy_gap(n, beta), beta)


def memorising_dimension(count: float, beta: float = 1.0) -> float:
    """The dimension at which one of N words finds itself with probability one half.

    For u_i = v_i of squared length κ = βn the row softmax gives
    p(i|i) ≈ 1 / (1 + N E e^{κ(cosθ − 1)}); the half is where log N + log E e^{κ cosθ}
    = κ. Raises ValueError for N < 1, β < 0 or a result beyond 10¹².
    """
    check_number("count", count, 1)
    check_number("beta", beta, 0)
    return _crossing(lambda n: log(count) + log_partition(n, beta) - beta * n, beta)


def cosine_density(cosine: np.ndarray, n: float) -> np.ndarray:
    """p(cosθ) = Γ(n/2) / (√π Γ((n−1)/2)) · (1 − cos²θ)^{(n−3)/2}, −1 < cosθ < 1.

    Raises ValueError for n ≤ 1, where the cosine is ±1 and has no density, and for
    other cosines.
    """
    check_number("n", n, 1)
    if n == 1:
        raise ValueError("n: 1 has no density, its cosine is −1 or 1")
    if not (np.abs(cosine) < 1).all():
        raise ValueError(f"cosine: {cosine!r} is not between −1 and 1")
    constant = gammaln(n / 2) - gammaln((n - 1) / 2) - log(pi) / 2
    return np.exp(constant + (n - 3) / 2 * np.log1p(-np.square(cosine)))


def cosine_tail(cosine: float, n: float) -> float:
    """P(cosθ > c) for 0 ≤ c ≤ 1: cos²θ has the distribution Beta(½, (n−1)/2).

    For n = 1, cosθ being −1 or 1, P(cosθ ≥ c) = ½.
    """
    check_number("cosine", cosine, 0, 1)
    check_number("n", n, 1)
    return float(betaincc(0.5, (n - 1) / 2, cosine**2)) / 2 if n > 1 else 0.5


def cosine_quantile(tail: float, n: float) -> float:
    """The cosine that two random vectors exceed with probability ``tail`` ≤ ½."""
    check_number("tail", tail, 0, 0.5)
    check_number("n", n, 1)
    return sqrt(betainccinv(0.5, (n - 1) / 2, 2 * tail)) if n > 1 else 1.0


def frozen_exponent(n: float, count: float, beta: float = 1.0) -> float:
    """m of the Poisson–Dirichlet weights that a frozen softmax over N cells has.

    Near its largest value the energy E = κ cosθ has exponentially many neighbours: its
    density falls as e^{−m (E − E_max)}. With c the cosine that one of N exceeds, in the
    mean, m = −d log p(c) / (κ dc) = (n − 3) c / (κ (1 − c²)). Frozen where m < 1.
    Raises ValueError for n ≤ 3, β = 0 or N < 2.
    """
    check_number("n", n, 1)
    check_number("count", count, 2)
    check_number("beta", beta, 0)
    if not (n > 3 and beta > 0):
        raise ValueError(f"n: {n!r} must exceed 3, and beta: {beta!r} must exceed 0")
    cosine = cosine_quantile(1 / count, n)
    return (n - 3) * cosine / (beta * n * (1 - cosine**2))


def poisson_dirichlet_entropy(exponent: float) -> float:
    """E H = ψ(1) − ψ(1 − m) of Poisson–Dirichlet weights PD(m, 0), in nats.

    And E Σp² = 1 − m: a weight that is drawn with the weights as probabilities has the
    distribution Beta(1 − m, m), and these are its mean −log and its mean. Raises
    ValueError unless 0 ≤ m < 1. Source: Derrida (1981); Pitman and Yor (1997).
    """
    check_number("exponent", exponent, 0, 1)
    if exponent == 1:
        raise ValueError("exponent: 1 is where freezing begins, H is infinite there")
    return float(digamma(1) - digamma(1 - exponent))


class _Series(NamedTuple):
    """The series Σ t_k, t_k = (κ²/4)^k / (k! (n/2)_k), told from its largest.

    ``peak`` its order, ``excess`` its logarithm less 2 peak, ``log_sum`` the logarithm
    of Σ t_k over it, ``shift`` the mean order under the weights t_k, less ``peak``.
    """

    peak: float
    excess: float
    log_sum: float
    shift: float


def _series(n: float, beta: float) -> _Series:
    """Only orders within nine standard deviations of the largest term are summed."""
    check_number("n", n, 1, LARGEST)
    check_number("beta", beta, 0, LARGEST / n)
    half, quarter = n / 2, (beta * n / 2) ** 2
    # Successive terms have the ratio quarter / (k (half + k − 1)): one at the peak.
    peak = int(max(0.0, quarter / (half / 2 + sqrt(half**2 / 4 + quarter)) - 1))
    reach = 40 + ceil(9 * sqrt(peak * (half + peak) / (half + 2 * peak)))
    steps = np.arange(-min(peak, reach), reach + 1, dtype=float)
    orders = peak + steps[1:]
    with np.errstate(divide="ignore"):
        ratios = np.log(quarter / (orders * (half + orders - 1)))
    # Summed outward from the peak: rounding is least where the weight is.
    at = min(peak, reach)
    above, below = np.cumsum(ratios[at:]), -np.cumsum(ratios[:at][::-1])[::-1]
    weights = np.exp(np.concatenate([below, [0.0], above]))
    others = float(weights[:at].sum() + weights[at + 1 :].sum())
    shift = float(steps @ weights) / (1 + others)
    return _Series(float(peak), _excess(half, quarter, peak), log1p(others), shift)


def _excess(half: float, quarter: float, k: float) -> float:
    """log t_k − 2k by Stirling's formula, whose large terms cancel on paper."""
    if k == 0:
        return 0.0
    main = k * log(quarter / (k * (half + k))) - (half - 0.5) * log1p(k / half)
    rest = _stirling(half) - _stirling(k) - _stirling(half + k)
    return main - log(2 * pi * k) / 2 + rest


def _stirling(x: float) -> float:
    """log Γ(x) − (x − ½) log x + x − ½ log 2π, what Stirling's formula leaves out."""
    if x < 16:
        return float(gammaln(x)) - (x - 0.5) * log(x) + x - log(2 * pi) / 2
    coefficients = (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
    return float(np.polyval(coefficients, x**-2)) / x


def _crossing(left, beta: float) -> float:
    if left(1.0) <= 0:
        return 1.0
    high = 2.0
    while left(high) > 0:
        high *= 2
        if high > LARGEST:
            raise ValueError(f"beta: {beta!r} needs more than 10¹² dimensions")
    return float(brentq(left, high / 2, high, xtol=1e-10))
