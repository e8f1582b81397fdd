"""The sphere's closed forms against 40 digits, scipy's own, quadrature and dice."""

import tracemalloc
from itertools import pairwise
from math import cosh, exp, log, pi, sinh, sqrt, tanh

import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, stats

from blogcore.sphere import (
    cosine_density,
    cosine_quantile,
    cosine_tail,
    entropy_gap,
    frozen_exponent,
    log_partition,
    memorising_dimension,
    needed_dimension,
    offset,
    poisson_dirichlet_entropy,
    saddle,
    slope,
)

PHI = (1 + sqrt(5)) / 2
BETAS = [1e-12, 1e-8, 1e-4, 0.01, 0.3, 1, 2, 10, 100, 1e4]
close = pytest.approx


def from_series(n, beta):
    """log E and the gap by mpmath's ₀F₁; for κ that are not large."""
    kappa = mp.mpf(beta) * mp.mpf(n)
    whole = mp.hyp0f1(mp.mpf(n) / 2, kappa**2 / 4)
    cosine = mp.hyp0f1(mp.mpf(n) / 2 + 1, kappa**2 / 4) / whole * kappa / n
    return mp.log(whole), mp.log(whole) - kappa * cosine


def from_quadrature(n, beta):
    """The same by the trapezoidal rule over t, cosθ = tanh t, for n ≥ 2.

    The integrand is e^{κ tanh t} (cosh t)^{1−n}; within five steps a standard
    deviation, the rule has all 40 digits, since the integrand is analytic.
    """
    n, kappa = mp.mpf(n), mp.mpf(beta) * mp.mpf(n)
    ratio = kappa / (n - 1)
    c = 2 * ratio / (1 + mp.sqrt(1 + 4 * ratio**2))
    step = 1 / mp.sqrt((n - 1 + 2 * kappa * c) * (1 - c**2)) / 5
    start = mp.atanh(c)

    def logs(t):
        return kappa * mp.tanh(t) - (n - 1) * mp.log(mp.cosh(t))

    weights, cosines = [], []
    for sign, first in ((1, 0), (-1, 1)):
        i = first
        while (least := logs(start + sign * i * step) - logs(start)) > -110:
            weights.append(mp.exp(least))
            cosines.append(mp.tanh(start + sign * i * step))
            i += 1
    total = mp.fsum(weights)
    cosine = mp.fdot(weights, cosines) / total
    constant = mp.loggamma(n / 2) - mp.loggamma((n - 1) / 2) - mp.log(mp.pi) / 2
    whole = logs(start) + mp.log(total * step) + constant
    return whole, whole - kappa * cosine


def exactly(n, beta):
    with mp.workdps(60):  # for β = 1e-12 the gap lies 24 digits below what it is from
        return (from_series if beta * n < 200 or n < 2 else from_quadrature)(n, beta)


@pytest.mark.parametrize(("n", "beta"), [(3, 1), (8.5, 2), (96, 1), (40, 0.01)])
def test_the_two_references_agree(n, beta):
    with mp.workdps(50):
        for one, two in zip(
            from_series(n, beta), from_quadrature(n, beta), strict=True
        ):
            assert abs(one / two - 1) < 1e-22


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("n", [1, 1.25, 2, 3, 8, 31.5, 32.5, 96, 512, 4096, 1e5, 1e6])
def test_partition_and_gap_have_twelve_digits(n, beta):
    found = log_partition(n, beta), entropy_gap(n, beta)
    # Most are right to 15 digits; only β = 10⁴ costs the gap three of them.
    tolerances = (1e-14, 1e-14 if beta <= 100 else 1e-12)
    for value, true, rel in zip(found, exactly(n, beta), tolerances, strict=True):
        assert value == close(float(true), rel=rel, abs=0)


@pytest.mark.parametrize("beta", [1e-5, 0.1, 1, 3, 300])
def test_in_one_and_three_dimensions_the_gap_is_elementary(beta):
    assert entropy_gap(1, beta) == close(log(cosh(beta)) - beta * tanh(beta), abs=1e-13)
    if beta < 10:
        kappa = 3 * beta
        mean = 1 / tanh(kappa) - 1 / kappa
        gap = log(sinh(kappa) / kappa) - kappa * mean
        assert entropy_gap(3, beta) == close(gap, abs=1e-10)


def test_the_gaps_that_the_post_speaks_of():
    table = {
        1: -0.327813325473,
        3: -0.809150768538082,
        8: -2.00437818270374,
        32: -7.77470513066730,
        64: -15.4734001602341,
        96: -23.1725593524102,
        128: -30.8718338322844,
        256: -61.6692189226215,
        512: -123.264246843547,
        1024: -246.454431258821,
        20000: -4812.19218684274,
    }
    for n, gap in table.items():
        assert entropy_gap(n) == close(gap, rel=2e-13)


@pytest.mark.parametrize("n", [2, 3, 10, 64, 500])
@pytest.mark.parametrize("beta", [0.1, 1, 4])
def test_the_gap_is_scipys_entropy_of_von_mises_and_fisher(n, beta):
    north = np.eye(n)[0]
    area = log(2) + n / 2 * log(pi) - float(mp.loggamma(n / 2))
    expected = stats.vonmises_fisher(north, beta * n).entropy() - area
    assert entropy_gap(n, beta) == close(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "beta"), [(3, 1), (5.5, 2), (40, 0.5), (300, 1)])
def test_the_gap_is_minus_a_divergence_of_the_cosines_law(n, beta):
    kappa, whole = beta * n, log_partition(n, beta)

    def divergence(c):
        return (
            float(cosine_density(c, n)) * exp(kappa * c - whole) * (kappa * c - whole)
        )

    found, _ = integrate.quad(divergence, -1, 1, points=[saddle(beta)], epsabs=1e-12)
    assert entropy_gap(n, beta) == close(-found, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2.5, 96, 1e4])
@pytest.mark.parametrize("beta", [0.02, 1, 7])
def test_the_gap_is_the_partition_less_its_derivative(n, beta):
    """h = log E − β ∂ log E/∂β, the mean energy being the derivative times β."""
    step = 1e-4
    up, down = (log_partition(n, beta * (1 + s)) for s in (step, -step))
    expected = log_partition(n, beta) - (up - down) / (2 * step)
    assert entropy_gap(n, beta) == close(expected, rel=1e-6)


def test_the_gap_is_negative_and_falls_with_dimension_and_length():
    dimensions, betas = np.geomspace(1, 1e5, 40), np.geomspace(1e-6, 10, 40)
    for beta in (1e-6, 0.1, 1, 30):
        gaps = [entropy_gap(n, beta) for n in dimensions]
        assert gaps[0] < 0
        assert (np.diff(gaps) < 0).all()
    for n in (1, 2, 17.5, 1e4):
        assert (np.diff([entropy_gap(n, beta) for beta in betas]) < 0).all()


def test_without_length_nothing_is_known():
    assert log_partition(7, 0) == entropy_gap(7, 0) == 0
    assert log_partition(7, 1e-200) == entropy_gap(7, 1e-200) == 0
    assert saddle(0) == slope(0) == offset(0) == 0


def test_a_million_dimensions_and_huge_concentrations_are_cheap():
    tracemalloc.start()
    for n, kappa in ((1e6, 1e9), (2, 1e9), (1e6, 1e6), (1e12, 1e6)):
        assert 0 < log_partition(n, kappa / n) < kappa
        assert entropy_gap(n, kappa / n) < 0
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


@pytest.mark.parametrize("beta", [1e-9, 0.05, 0.3, 1, 2, 30, 1e6, 1e150])
def test_the_saddle_solves_its_equation(beta):
    c = saddle(beta)
    with mp.workdps(400):  # 1 − c² is 1e-150 at the end
        b = mp.mpf(beta)
        true = 2 * b / (1 + mp.sqrt(1 + 4 * b**2))
        assert mp.almosteq(b * (1 - true**2), true, 1e-30)
        assert c == close(float(true), rel=1e-15)
        bend = -mp.log(1 - true**2) / 2
        constant = -mp.log(1 - true**4) / 2 - 2 * true**4 / (1 + true**2) ** 2
        assert slope(beta) == close(float(bend), rel=1e-14, abs=0)
        assert offset(beta) == close(float(constant), rel=1e-14, abs=0)


def test_the_golden_ratio_appears_at_length_one():
    assert saddle() == close(1 / PHI, abs=1e-15)
    assert slope() == close(log(PHI) / 2, abs=1e-15)
    assert slope() == close(0.24060591252980172, abs=1e-15)
    golden = log(PHI) - log(5) / 4 - (3 - sqrt(5)) / 5
    assert (
        offset() == close(golden, abs=1e-15) == close(-0.07393405754896371, abs=1e-14)
    )


@pytest.mark.parametrize("beta", [0.05, 0.3, 1, 2, 5, 30])
def test_slope_and_offset_are_the_expansion_of_40_digit_gaps(beta):
    """Richardson's extrapolation removes 1/n … 1/n⁵ from h_n + a n."""
    with mp.workdps(50):
        b = mp.mpf(beta)
        c = 2 * b / (1 + mp.sqrt(1 + 4 * b**2))
        dimensions = [500 * 2**i for i in range(6)]
        row = [from_quadrature(n, b)[1] - mp.log(1 - c**2) / 2 * n for n in dimensions]
        assert slope(beta) == close(float(-mp.log(1 - c**2) / 2), rel=1e-14)
        first = (row[-1] - row[-2]) * -2 * dimensions[-2]
        for order in range(1, 6):
            power = 2**order
            row = [(power * b - a) / (power - 1) for a, b in pairwise(row)]
    assert offset(beta) == close(float(row[0]), rel=1e-13)
    if beta == 1:
        assert float(first) == close((103 - 49 * sqrt(5)) / 150, rel=1e-4)


@pytest.mark.parametrize(
    ("count", "pair", "row"),
    [
        (512, None, 25.613),
        (1e3, 57.109, None),
        (1e4, 76.250, None),
        (1e5, 95.390, 47.539),
        (5e6, 127.909, None),
    ],
)
def test_needed_dimensions_are_the_roots(count, pair, row):
    for entropy, expected in ((2 * log(count), pair), (log(count), row)):
        n = needed_dimension(entropy)
        assert entropy_gap(n) == close(-entropy, rel=1e-12)
        if expected:
            assert n == close(expected, abs=5e-4)
        assert n == close((entropy + offset()) / slope(), abs=0.02)


def test_needed_dimensions_at_the_edges():
    assert needed_dimension(0) == needed_dimension(0.3) == needed_dimension(0, 0) == 1
    assert needed_dimension(0.33) > 1
    assert needed_dimension(1e6) == close((1e6 + offset()) / slope(), rel=1e-9)
    # For small β the gap is −nβ²/2, since log E e^{κ cosθ} ≈ κ²/2n.
    assert needed_dimension(1.0, 1e-5) == close(2e10, rel=1e-8)
    for beta in (1e-7, 0, 1e-300):
        with pytest.raises(
            ValueError, match=r"beta: .* needs more than 10¹² dimensions"
        ):
            needed_dimension(1.0, beta)


@pytest.mark.parametrize("beta", [0.3, 1, 4])
@pytest.mark.parametrize("count", [10, 1e3, 1e6, 1e300])
def test_half_of_the_memory_is_where_both_weights_are_equal(count, beta):
    n = memorising_dimension(count, beta)
    own, others = exp(0), count * exp(log_partition(n, beta) - beta * n)
    assert own / (own + others) == close(0.5, abs=1e-9)
    assert 1 / (1 + others) == close(0.5, abs=1e-9)
    c = saddle(beta)
    exponent = beta - beta * c + slope(beta)
    constant = -log(1 - c**4) / 2
    assert n == close((log(count) + constant) / exponent, rel=0.05 / log(count))


def test_memorising_at_the_edges():
    assert memorising_dimension(1) == 1
    assert memorising_dimension(1, 0) == 1
    assert memorising_dimension(1e5) == close(1.606 * log(1e5) + 0.127, abs=0.01)
    with pytest.raises(ValueError, match="beta: 0 needs more than"):
        memorising_dimension(2, 0)


@pytest.mark.parametrize("n", [1.5, 2, 3, 4.5, 96, 1000])
def test_the_cosines_law_against_quadrature(n):
    with mp.workdps(30):

        def mass(a, b):  # x = sin²(θ/2) would be singular too: split at the middle
            return mp.quad(lambda t: mp.sin(t) ** (mp.mpf(n) - 2), [a, b])

        half = mass(0, mp.pi / 2)
        scale = min(1.0, 3 / sqrt(n))
        for c in (0.0, 1e-6, 0.1 * scale, 0.5 * scale, 0.9 * scale):
            true = mass(0, mp.acos(c)) / half / 2 if c else 0.5
            assert cosine_tail(c, n) == close(float(true), rel=1e-6 if n < 2 else 1e-11)
            density = (1 - mp.mpf(c) ** 2) ** ((mp.mpf(n) - 3) / 2) / half / 2
            found = cosine_density(np.array([c, -c]), n)
            assert found == close(float(density), rel=1e-6 if n < 2 else 1e-12)


def test_the_cosines_law_against_dice():
    rng = np.random.default_rng(1)
    for n in (2, 3, 10, 50):
        drawn = rng.standard_normal((20000, n))
        cosines = drawn[:, 0] / np.linalg.norm(drawn, axis=1)
        for c in (0.05, 0.2, 0.4):
            expected = cosine_tail(c, n)
            error = sqrt(expected * (1 - expected) / 20000) + 1e-4
            assert (cosines > c).mean() == close(expected, abs=4 * error)


@pytest.mark.parametrize("n", [1.2, 2, 3, 8, 96, 1e5, 1e12])
def test_quantile_and_tail_undo_each_other(n):
    assert cosine_quantile(0.5, n) == 0
    assert cosine_quantile(0, n) == 1
    assert cosine_tail(0, n) == 0.5
    assert cosine_tail(1, n) == 0
    for tail in (0.499, 0.25, 1e-3, 1e-10, 1e-60):
        cosine = cosine_quantile(tail, n)
        if 1 - cosine > 1e-7:  # nearer to one, a float cannot hold the cosine
            assert cosine_tail(cosine, n) == close(tail, rel=1e-7)
    for nearly in (1e-7, 1e-9):  # the cosine is small, but not nought
        expected = nearly / cosine_density(0.0, n)
        assert cosine_quantile(0.5 - nearly, n) == close(expected, rel=1e-6)


def test_the_line_of_one_dimension():
    assert cosine_tail(0.3, 1) == cosine_tail(1, 1) == 0.5
    assert cosine_quantile(0.2, 1) == 1


@pytest.mark.parametrize("n", [4, 17.5, 96])
@pytest.mark.parametrize("count", [2, 100, 1e5])
@pytest.mark.parametrize("beta", [0.3, 1, 4])
def test_the_frozen_exponent_is_the_slope_of_the_log_density(n, count, beta):
    cosine, kappa, step = cosine_quantile(1 / count, n), beta * n, 1e-6
    if count == 2:
        assert frozen_exponent(n, count, beta) == close(0, abs=1e-12)
        return
    assert cosine_tail(cosine, n) == close(1 / count, rel=1e-9)
    step *= 1 - cosine
    logs = np.log(cosine_density(np.array([cosine + step, cosine - step]), n))
    expected = -(logs[0] - logs[1]) / (2 * step * kappa)
    assert frozen_exponent(n, count, beta) == close(expected, rel=1e-6)


def test_the_frozen_exponent_is_nearly_the_slope_of_the_tail():
    """log N P(energy > E) falls with it up to a correction of 1/(n c²)."""
    n, count, step = 96, 1e12, 1e-5
    cosine = cosine_quantile(1 / count, n)
    up, down = (log(cosine_tail(cosine + s, n)) for s in (step, -step))
    tail_slope = -(up - down) / (2 * step * n)
    found = frozen_exponent(n, count)
    assert found < tail_slope < found * (1 + 3 / (n * cosine**2))


def test_one_is_where_freezing_begins():
    """m = 1 at the dimension where the entropy of a row is used up, for many cells."""
    for count in (1e20, 1e100, 1e300):
        n = needed_dimension(log(count))
        assert 1 - 5 / log(count) < frozen_exponent(n, count) < 1
        assert frozen_exponent(1.2 * n, count) < 1 < frozen_exponent(n / 1.2, count)


@pytest.mark.parametrize("exponent", [0.2, 0.4])
def test_poisson_dirichlet_entropy_against_broken_sticks(exponent):
    """Pitman and Yor: p_i = V_i Π_{j<i} (1 − V_j), V_i ~ Beta(1 − m, i m)."""
    rng, draws, sticks = np.random.default_rng(0), 4000, 400
    broken = rng.beta(
        1 - exponent, exponent * np.arange(1, sticks + 1), (draws, sticks)
    )
    left = np.cumprod(1 - broken, axis=1)
    weights = broken * np.concatenate([np.ones((draws, 1)), left[:, :-1]], axis=1)
    entropies = stats.entropy(weights, axis=1)
    error = entropies.std() / sqrt(draws)
    lost = left[:, -1].mean() * log(1e5)  # what the sticks not broken would add
    expected = poisson_dirichlet_entropy(exponent)
    assert entropies.mean() == close(expected, abs=3 * error + lost)
    assert 3 * error + lost < 0.05 * expected + 0.02
    assert np.square(weights).sum(1).mean() == close(1 - exponent, abs=0.02)


def test_poisson_dirichlet_entropy_against_the_frozen_energies():
    """Energies −log(arrival)/m: the Poisson process of density e^{−m E}."""
    rng, exponent = np.random.default_rng(2), 0.3
    arrivals = np.cumsum(rng.exponential(size=(4000, 1000)), axis=1)
    entropies = stats.entropy(arrivals ** (-1 / exponent), axis=1)
    error = entropies.std() / sqrt(4000)
    assert poisson_dirichlet_entropy(exponent) == close(entropies.mean(), abs=3 * error)
    assert error < 0.01


@pytest.mark.parametrize("exponent", [0.01, 0.3, 0.6, 0.9])
def test_poisson_dirichlet_entropy_is_the_mean_of_a_beta(exponent):
    """A weight drawn by weight is Beta(1 − m, m): E H is its mean −log, E Σp² it."""
    law = mp.beta(1 - exponent, exponent)

    def weighed(x):  # the weight is e^{−x}
        power = exponent - 1
        return x * mp.exp(-x * (1 - exponent)) * (-mp.expm1(-x)) ** power / law

    expected = mp.quad(weighed, [0, 1, 10, mp.inf])
    assert poisson_dirichlet_entropy(exponent) == close(float(expected), rel=1e-9)


def test_poisson_dirichlet_entropy_where_it_is_known():
    assert poisson_dirichlet_entropy(0) == 0
    assert poisson_dirichlet_entropy(0.5) == close(2 * log(2), rel=1e-14)
