"""Word vectors: block-wise softmaxes against naive and 40-digit ones, drawn vectors."""

import weakref
from math import exp, log, sqrt

import mpmath as mp
import pytest
import torch
from scipy.special import ive
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blogcore.runtime import stream
from blogcore.sphere import (
    cosine_quantile,
    cosine_tail,
    entropy_gap,
    frozen_exponent,
    log_partition,
    memorising_dimension,
    poisson_dirichlet_entropy,
)
from blogcore.wordvec import Softmax, on_sphere, pmi, row_softmax

close = pytest.approx


def vectors(rows=37, columns=23, dimension=5, scale=1.0, seed=0):
    """Two sets of Gaussian vectors, float64."""
    dice = stream(seed, "vectors")
    shapes = ((rows, dimension), (columns, dimension))
    return [
        scale * torch.randn(*s, generator=dice, dtype=torch.float64) for s in shapes
    ]


def naive(energies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log Z and the entropy −Σ p log p along the last axis, straightforwardly."""
    weights = energies.exp()
    total = weights.sum(-1)
    p = weights / total[..., None]
    return total.log(), -(p * p.log()).sum(-1)


def figures(softmax: Softmax) -> tuple[torch.Tensor, torch.Tensor]:
    return softmax.log_partition, softmax.entropy()


def assert_same(found, expected, atol=1e-12):
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=atol)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 2.0])
def test_a_row_is_the_naive_softmax(scale):
    centre, context = vectors(scale=scale)
    energies = centre @ context.T
    found = row_softmax(centre, context)
    assert_same(figures(found), naive(energies))
    mean = (energies.softmax(-1) * energies).sum(-1)
    torch.testing.assert_close(found.mean_energy, mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 2.0])
def test_joined_is_the_softmax_of_all_pairs(scale):
    centre, context = vectors(scale=scale)
    joint = row_softmax(centre, context, 10).joined()
    flat = (centre @ context.T).flatten()
    assert_same(figures(joint), naive(flat))
    mean = (flat.softmax(-1) * flat).sum(-1)
    torch.testing.assert_close(joint.mean_energy, mean, rtol=0, atol=1e-12)


def test_joined_works_along_the_last_axis_only():
    rows = [row_softmax(*vectors(seed=seed)) for seed in range(3)]
    together = Softmax(*(torch.stack(values) for values in zip(*rows, strict=True)))
    for member, row in enumerate(rows):
        for one, two in zip(together.joined(), row.joined(), strict=True):
            assert torch.equal(one[member], two)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("block", [1, 2, 7, 36, 37, 1000])
def test_the_block_does_not_matter(block, scale):
    centre, context = vectors(scale=scale)
    whole, cut = row_softmax(centre, context), row_softmax(centre, context, block)
    # A product of matrices rounds by its shape: energies, of size scale², by ε times
    # their size, weights by as much, and a mean of energies by ε · scale⁴.
    atol = 1e-12 + 1e-14 * scale**4
    assert_same(whole, cut, atol)
    assert_same(figures(whole), figures(cut), atol)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 100.0])
def test_extreme_energies_against_40_digits(scale):
    """Up to energies of ±50 000, where a single pair has all the weight or none."""
    centre, context = vectors(4, 9, 5, scale)
    found = row_softmax(centre, context, 3)
    whole, cells = found.joined(), []
    rounding = 1e-15 * float((centre @ context.T).abs().max()) + 1e-14
    with mp.workdps(40):

        def compare(softmax, energies):
            total = mp.fsum(map(mp.exp, energies))
            shares = [mp.exp(e) / total for e in energies]
            entropy = -mp.fsum(p * mp.log(p) for p in shares)
            expected = mp.log(total), entropy
            for value, true in zip(figures(softmax), expected, strict=True):
                assert value.item() == close(float(true), rel=0, abs=rounding)

        for i, u in enumerate(centre.tolist()):
            row = [mp.fdot(map(mp.mpf, u), map(mp.mpf, v)) for v in context.tolist()]
            compare(Softmax(*(value[i] for value in found)), row)
            cells += row
        compare(whole, cells)


def test_no_entropy_is_negative():
    for scale in (10.0, 30.0, 100.0, 1000.0):
        found = row_softmax(*vectors(400, 300, 3, scale))
        for softmax in (found, found.joined()):
            assert (softmax.entropy() >= 0).all()
            assert softmax.entropy().isfinite().all()
    one = row_softmax(*vectors(5, 1))
    assert (one.entropy() == 0).all()


def test_equal_energies_spread_the_weight_evenly():
    found = row_softmax(*vectors(scale=0))
    assert_same(
        figures(found.joined()), naive(torch.zeros(37 * 23, dtype=torch.float64)), 1e-14
    )
    assert found.entropy().tolist() == close([log(23)] * 37, rel=1e-14)


def test_the_type_of_the_vectors_stays():
    centre, context = vectors()
    single = row_softmax(centre.float(), context.float())
    assert {value.dtype for value in single} == {torch.float32}
    expected = row_softmax(centre, context).entropy().float()
    torch.testing.assert_close(single.entropy(), expected, rtol=0, atol=1e-5)


class Storages(TorchDispatchMode):
    """How many numbers live at most in tensors made while this is entered."""

    def __init__(self):
        super().__init__()
        self.now = self.most = self.largest = 0
        self.seen = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run it, and follow the storage of every tensor that it returns."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            storage = tensor.untyped_storage() if torch.is_tensor(tensor) else None
            if storage is not None and storage not in self.seen:
                self.seen.add(storage)
                size = storage.nbytes() // 8
                self.now += size
                self.most = max(self.most, self.now)
                self.largest = max(self.largest, size)
                weakref.finalize(storage, self.free, size)
        return out

    def free(self, size):
        """Count a storage as gone."""
        self.now -= size


def test_memory_is_that_of_a_block():
    centre, context = vectors(640, 500, 4)
    with Storages() as used:
        row_softmax(centre, context, 16)
    assert used.largest == 16 * 500
    assert used.most <= 4 * 16 * 500 + 8 * 640
    with Storages() as all_at_once:
        row_softmax(centre, context, 640)
    assert all_at_once.most > 20 * used.most, "the meter measures nothing"


@pytest.mark.parametrize("beta", [0.0, 0.05, 1.0, 7.0])
@pytest.mark.parametrize("dimension", [1, 2, 50])
def test_vectors_have_the_length_asked_for(dimension, beta):
    drawn = on_sphere(200, dimension, stream(0, "sphere"), beta)
    assert drawn.shape == (200, dimension)
    assert drawn.dtype == torch.float64
    expected = torch.full((200,), sqrt(beta * dimension), dtype=torch.float64)
    torch.testing.assert_close(drawn.norm(dim=1), expected, rtol=1e-14, atol=0)


def test_directions_are_uniform():
    """Second moments are 1/n, fourth ones 3/n(n+2) and 1/n(n+2), odd ones nought."""
    count, n = 40000, 6
    x = on_sphere(count, n, stream(1, "sphere"), 1 / n)
    squares = x.square()
    tolerance = 5 / sqrt(count)
    assert x.mean(0).abs().max() < tolerance * sqrt(1 / n)
    assert (x.T @ x / count - torch.eye(n) / n).abs().max() < tolerance / n
    fourth = squares.T @ squares / count
    expected = (torch.ones(n, n) + 2 * torch.eye(n)) / (n * (n + 2))
    assert (fourth - expected).abs().max() < tolerance * 3 / (n * (n + 2))
    for c in (0.1, 0.4, 0.7):
        assert (x[:, 2] > c).double().mean() == close(cosine_tail(c, n), abs=0.01)


def test_a_draw_is_its_streams_own():
    one, again = (on_sphere(50, 32, stream(3, "u")) for _ in range(2))
    other, seed = on_sphere(50, 32, stream(3, "v")), on_sphere(50, 32, stream(4, "u"))
    assert torch.equal(one, again)
    for drawn in (other, seed):
        cosines = (one @ drawn.T).flatten() / 32
        assert cosines.abs().max() < 0.8
        assert cosines.mean().abs() < 5 / sqrt(32 * 2500)
    dice = stream(3, "u")
    first, second = on_sphere(50, 32, dice), on_sphere(50, 32, dice)
    assert torch.equal(first, one)
    assert not torch.equal(first, second)


def random_rows(count: int, n: int, beta=1.0, seed=0) -> Softmax:
    centre = on_sphere(count, n, stream(seed, "centre"), beta)
    return row_softmax(centre, on_sphere(count, n, stream(seed, "context"), beta))


@pytest.mark.parametrize(("n", "beta"), [(8, 1), (30, 0.3), (500, 0.05)])
def test_while_it_is_warm_the_entropy_is_the_annealed_one(n, beta):
    rows = random_rows(1024, n, beta)
    gap = entropy_gap(n, beta)
    assert rows.joined().entropy().item() == close(2 * log(1024) + gap, abs=0.05)
    assert rows.entropy().mean().item() == close(log(1024) + gap, abs=0.1)
    partition = rows.joined().log_partition.item() - 2 * log(1024)
    assert partition == close(log_partition(n, beta), abs=0.05)
    energy, kappa = rows.joined().mean_energy.item(), beta * n
    cosine = ive(n / 2, kappa) / ive(n / 2 - 1, kappa)
    assert energy == close(kappa * cosine, rel=0.01)


@pytest.mark.parametrize("n", [96, 128])
def test_frozen_rows_have_poisson_dirichlet_weights(n):
    """Beyond twice the dimension that is needed, 28 here; one in twenty."""
    rows = random_rows(1024, n)
    exponent = frozen_exponent(n, 1024)
    expected = poisson_dirichlet_entropy(exponent)
    assert rows.entropy().mean().item() == close(expected, rel=0.06)
    assert entropy_gap(n) + log(1024) < -10, "no softmax has this entropy"


@pytest.mark.parametrize("n", [48, 96])
def test_the_largest_cosine_is_the_quantile(n):
    count = 1024
    u, v = (on_sphere(count, n, stream(0, name), 1 / n) for name in "uv")
    most = (u @ v.T).max().item()
    assert most == close(cosine_quantile(1 / count**2, n), abs=0.04)


@pytest.mark.parametrize("count", [256, 1024])
def test_a_word_finds_itself_at_the_memorising_dimension(count):
    found = {}
    middle = memorising_dimension(count)
    for n in (round(0.7 * middle), round(middle), round(1.5 * middle)):
        words = on_sphere(count, n, stream(0, "words"))
        own = (words.square().sum(1) - row_softmax(words, words).log_partition).exp()
        found[n] = own.mean().item()
        expected = 1 / (1 + count * exp(log_partition(n) - n))
        assert found[n] == close(expected, abs=0.03)
    low, _, high = found.values()
    assert low < 0.35
    assert high > 0.8


def joints(members=(), rows=5, columns=7):
    return torch.rand(*members, rows, columns, generator=stream(0, "joint")).double()


@pytest.mark.parametrize("members", [(), (3,), (2, 3)])
def test_pmi_is_the_logarithm_of_a_ratio(members):
    joint = joints(members)
    p = joint / joint.sum((-2, -1), keepdim=True)
    ratio = p / (p.sum(-1)[..., :, None] * p.sum(-2)[..., None, :])
    found = pmi(joint)
    torch.testing.assert_close(found, ratio.log(), rtol=0, atol=1e-14)
    torch.testing.assert_close(pmi(joint * 1000), found, rtol=0, atol=1e-13)
    torch.testing.assert_close(pmi(joint.mT), found.mT, rtol=0, atol=1e-14)


def test_pmi_of_independent_words_is_nought_and_its_mean_the_information():
    joint = joints()
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    assert pmi(product).abs().max() < 1e-14
    p = joint / joint.sum()
    marginals = sum(-(m * m.log()).sum() for m in (p.sum(0), p.sum(1)))
    information = marginals + (p * p.log()).sum()
    assert (p * pmi(p)).sum().item() == close(information.item(), abs=1e-14)


def test_pmi_of_a_pair_that_never_occurs_is_minus_infinity():
    found = pmi(torch.eye(3) / 3)
    assert torch.equal(found.isneginf(), ~torch.eye(3, dtype=torch.bool))
    assert found.diagonal() == close(log(3), rel=1e-6)
