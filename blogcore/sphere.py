"""Random vectors on the sphere: the law of their cosine, entropies, thresholds.

Two independent vectors of length √(βn), uniform in direction, have the inner product
κ cosθ with κ = βn. Everything here is a closed form of that one random variable;
entropies are in nats, dimensions n may be any real number ≥ 1 where no vector is drawn.
"""

from math import ceil, log, log1p, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv, digamma, gammaln

from blogcore.checks import check_number

LARGEST_DIMENSION = 1e12


def log_partition(n: float, beta: float = 1.0) -> float:
    """log E exp(κ cosθ), κ = βn: the logarithm of the mean weight of a pair.

    = log ₀F₁(n/2; κ²/4) = log[Γ(n/2) (2/κ)^ν I_ν(κ)], ν = n/2 − 1, summed as the power
    series of the Bessel function: its terms are positive, so nothing cancels, and its
    logarithms neither overflow nor underflow. Raises ValueError for n < 1 or β < 0.
    """
    top, _, weights = _series(n, beta)
    return top + log(weights.sum()) if top else log1p(weights[1:].sum())


def mean_cosine(n: float, beta: float = 1.0) -> float:
    """E[e^{κ cosθ} cosθ] / E[e^{κ cosθ}] = I_{n/2}(κ) / I_{n/2−1}(κ), κ = βn.

    The mean cosine under the von Mises–Fisher distribution of concentration κ; from
    the series of ``log_partition``, whose mean exponent is κ times it.
    """
    _, orders, weights = _series(n, beta)
    return 2 * float(orders @ weights / weights.sum()) / (beta * n) if beta else 0.0


def entropy_gap(n: float, beta: float = 1.0) -> float:
    """h_n(β) = log E e^{κ cosθ} − κ E_tilted cosθ = −KL(vMF_n(κ) ‖ uniform) ≤ 0, nats.

    What the entropy of a softmax over random vectors lies below the logarithm of the
    number of its cells, as long as sums may be replaced by means.
    Source: post 7695, equation for H; h_n there is this with β = 1.
    """
    return log_partition(n, beta) - beta * n * mean_cosine(n, beta)


def saddle(beta: float = 1.0) -> float:
    """c(β), the cosine that dominates E e^{κ cosθ} as n → ∞: β(1 − c²) = c.

    c = 2β / (1 + √(1 + 4β²)); 1/φ = 0.618… at β = 1, φ the golden ratio.
    """
    check_number("beta", beta, 0)
    return 2 * beta / (1 + sqrt(1 + 4 * beta**2))


def slope(beta: float = 1.0) -> float:
    """a(β) = lim −h_n/n = −½ log(1 − c²): nats a dimension; ½ log φ at β = 1."""
    return -log1p(-(saddle(beta) ** 2)) / 2


def offset(beta: float = 1.0) -> float:
    """lim h_n + a(β) n, the constant in h_n = −a n + offset + O(1/n).

    ½ log((1 + c²)⁻¹(1 − c²)) − (half the κ-derivative of the same logarithm), derived
    by Laplace's method; log φ − ¼ log 5 − (3 − √5)/5 at β = 1.
    """
    c = saddle(beta)
    # log of the prefactor, (1 − c²)^{−½} … (1 + c²)^{−½}, and κ d/dκ of it.
    prefactor = -log1p(c**2) / 2 - log1p(-(c**2)) / 2
    steepness = c * (1 - c**2) / (1 + c**2)
    return prefactor - steepness * (-c / (1 + c**2) + c / (1 - c**2))


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

    Raises ValueError for n ≤ 1, where the cosine is ±1 and has no density.
    """
    check_number("n", n, 1)
    if n == 1:
        raise ValueError("n: 1 has no density, its cosine is −1 or 1")
    constant = gammaln(n / 2) - gammaln((n - 1) / 2) - log(np.pi) / 2
    return np.exp(constant + (n - 3) / 2 * np.log1p(-np.square(cosine)))


def cosine_tail(cosine: float, n: float) -> float:
    """P(cosθ > c) for 0 ≤ c ≤ 1: half a regularised incomplete beta function."""
    check_number("cosine", cosine, 0, 1)
    check_number("n", n, 1)
    return float(betainc((n - 1) / 2, 0.5, 1 - cosine**2)) / 2 if n > 1 else 0.5


def cosine_quantile(tail: float, n: float) -> float:
    """The cosine that two random vectors exceed with probability ``tail`` ≤ ½."""
    check_number("tail", tail, 0, 0.5)
    check_number("n", n, 1)
    return sqrt(1 - betaincinv((n - 1) / 2, 0.5, 2 * tail)) if n > 1 else 1.0


def frozen_exponent(n: float, count: float, beta: float = 1.0) -> float:
    """m of the Poisson–Dirichlet weights that a frozen softmax over N cells has.

    Near its largest value the energy E = κ cosθ has exponentially many neighbours:
    N P(energy > E) ≈ e^{−m (E − E_max)}. With c the cosine of tail 1/N,
    m = (n − 3) c / (κ (1 − c²)). Frozen where m < 1. Raises ValueError for n ≤ 3.
    """
    check_number("count", count, 2)
    check_number("beta", beta, 0)
    if not (n > 3 and beta > 0):
        raise ValueError(f"n: {n!r} must exceed 3, and beta: {beta!r} must exceed 0")
    cosine = cosine_quantile(1 / count, n)
    return (n - 3) * cosine / (beta * n * (1 - cosine**2))


def poisson_dirichlet_entropy(exponent: float) -> float:
    """E H = ψ(1) − ψ(1 − m) of Poisson–Dirichlet weights PD(m, 0), in nats.

    And E Σp² = 1 − m. Raises ValueError unless 0 ≤ m < 1. Source: Derrida (1981).
    """
    check_number("exponent", exponent, 0, 1)
    if exponent == 1:
        raise ValueError("exponent: 1 is where freezing begins, H is infinite there")
    return float(digamma(1) - digamma(1 - exponent))


def _series(n: float, beta: float) -> tuple[float, np.ndarray, np.ndarray]:
    """(log of the largest term, k, terms / largest), of Σ (κ²/4)^k / (k! (n/2)_k).

    Only the orders within twelve standard deviations of the largest term are summed.
    """
    check_number("n", n, 1)
    check_number("beta", beta, 0)
    half, quarter = n / 2, (beta * n / 2) ** 2
    # Successive terms have the ratio quarter / (k (half + k − 1)): one at the peak.
    peak = int(max(0.0, quarter / (half / 2 + sqrt(half**2 / 4 + quarter)) - 1))
    reach = 40 + ceil(12 * sqrt(peak + 1))
    orders = np.arange(max(0, peak - reach), peak + reach + 1, dtype=float)
    with np.errstate(divide="ignore"):
        ratios = np.log(quarter) - np.log(orders[1:]) - np.log(half + orders[1:] - 1)
    logs = np.concatenate([[0.0], np.cumsum(ratios)])
    top = int(logs.argmax())
    return _log_term(half, quarter, orders[top]), orders, np.exp(logs - logs[top])


def _log_term(half: float, quarter: float, order: float) -> float:
    if order == 0:
        return 0.0
    if order <= 10_000:  # a difference of two log-gammas would lose digits
        k = np.arange(1, order + 1)
        return float(np.sum(log(quarter) - np.log(k) - np.log(half + k - 1)))
    rising = gammaln(half + order) - gammaln(half)
    return float(order * log(quarter) - gammaln(order + 1) - rising)


def _crossing(left, beta: float) -> float:
    if left(1.0) <= 0:
        return 1.0
    high = 2.0
    while left(high) > 0:
        high *= 2
        if high > LARGEST_DIMENSION:
            raise ValueError(f"beta: {beta!r} needs more than 10¹² dimensions")
    return float(brentq(left, high / 2, high, xtol=1e-10))
