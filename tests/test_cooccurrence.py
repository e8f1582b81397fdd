"""Joint distributions are what they claim to be, counts agree with counting by hand."""

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
from scipy import stats

from blogcore import cooccurrence, lexicon
from blogcore.cooccurrence import (
    dictionary_pairs,
    entropy,
    marginals,
    normalized,
    planted,
    sample_counts,
    windowed,
    word_ids,
)
from blogcore.runtime import stream

DICE = stream(0, "cooccurrence")
UNIFORM = torch.full((2, 3), 1 / 6, dtype=torch.float64)
HALF = torch.tensor([[0.5, 0], [0.25, 0.25]], dtype=torch.float64)
IDS = torch.tensor([0, 1, -1])


def logits(joint: torch.Tensor) -> torch.Tensor:
    """The logits up to a constant: what ln p has beside the two Zipf weights."""
    rank = torch.arange(1, len(joint) + 1, dtype=torch.float64).log()
    return joint.log() + rank[:, None] + rank


def centred(table: torch.Tensor) -> torch.Tensor:
    """The table less what depends on the row or on the column alone."""
    return table - table.mean(0) - table.mean(1, keepdim=True) + table.mean()


@pytest.mark.parametrize(("size", "rank"), [(2, 2), (30, 1), (30, 4), (5, 9), (60, 8)])
@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_planted_logits_have_the_rank_and_the_spread_asked_for(size, rank, spread):
    joint = planted(size, rank, spread, stream(size, "planted"))
    assert joint.shape == (size, size)
    assert joint.dtype == torch.float64
    assert abs(joint.sum() - 1) < 1e-12
    assert abs(logits(joint).std(correction=0) - spread) < 1e-10
    pmi = joint.log() - joint.sum(0).log() - joint.sum(1, keepdim=True).log()
    for table in (logits(joint), joint.log(), pmi):
        sizes = torch.linalg.svdvals(centred(table))
        assert (sizes > 1e-9 * sizes[0]).sum() == min(rank, size - 1)


def test_planted_directions_are_uniform_on_the_sphere():
    # In three dimensions x·y is uniform in ±1, with a standard deviation of 1/√3.
    found = logits(planted(400, 3, 1, stream(0, "planted")))
    cosines = (found - found.mean()) / 3**0.5
    assert cosines.abs().max() < 1.02
    assert stats.kstest(cosines.flatten(), "uniform", (-1, 2)).statistic < 0.02
    signs = logits(planted(50, 1, 1, stream(0, "planted")))
    assert abs((signs - signs.max()) * (signs - signs.min())).max() < 1e-12


def test_planted_without_spread_is_independent_and_zipfian():
    joint = planted(4, 2, 0, stream(0, "planted"))
    zipf = torch.tensor([12, 6, 4, 3], dtype=torch.float64) / 25
    torch.testing.assert_close(joint, torch.outer(zipf, zipf), rtol=1e-12, atol=0)


def test_planted_is_a_function_of_the_stream():
    one, again, other = (planted(5, 2, 1, stream(s, "planted")) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.allclose(one, one.T)


def agrees(generator: torch.Generator) -> bool:
    signs = torch.randn(2, 2, 1, generator=generator, dtype=torch.float64).sign()
    return bool((signs[:, 0] == signs[:, 1]).all())


def test_planted_refuses_directions_that_all_agree():
    seed = next(s for s in range(99) if agrees(torch.Generator().manual_seed(s)))
    with pytest.raises(ValueError, match="rank: with 1, all 2 directions drawn agree"):
        planted(2, 1, 1, torch.Generator().manual_seed(seed))


@pytest.fixture
def small(monkeypatch):
    """A dictionary of four words in place of jieba's."""
    counts = torch.tensor([9, 5, 5, 4])
    words = ("中", "乙丙丙", "甲乙", "𠀀甲")
    small = lexicon.Dictionary(words, counts, ("n",) * 4)
    monkeypatch.setattr(lexicon, "dictionary", lambda: small)
    cooccurrence._pairs_in_words.cache_clear()
    yield
    cooccurrence._pairs_in_words.cache_clear()


def test_dictionary_pairs_of_four_words(small):
    # As members of pairs: 丙 15, 乙 10, 甲 9, 𠀀 4; 中 is in none.
    characters, joint = dictionary_pairs(3)
    assert characters == ("丙", "乙", "甲")
    expected = torch.tensor([[5, 0, 0], [5, 0, 0], [0, 5, 0]], dtype=torch.float64) / 15
    assert torch.equal(joint, expected)
    assert dictionary_pairs(4).joint[3, 2] == 4 / 19
    with pytest.raises(ValueError, match="size: 5 exceeds 4, all characters"):
        dictionary_pairs(5)


@pytest.mark.slow
def test_dictionary_pairs_are_those_of_the_dictionary():
    words, counts, _ = lexicon.dictionary()
    pairs, members = Counter(), Counter()
    for word, count in zip(words, counts.tolist(), strict=True):
        for first, second in pairwise(word):
            pairs[first, second] += count
            members[first] += count
            members[second] += count
    assert sum(pairs.values()) == 38_656_235
    assert len(members) == 5_705
    characters, joint = dictionary_pairs(60)
    expected = sorted(members, key=lambda c: (-members[c], c))
    assert list(characters) == expected[:60]
    assert list(cooccurrence._pairs_in_words()[0]) == expected
    table = [[pairs[first, second] for second in characters] for first in characters]
    table = torch.tensor(table, dtype=torch.float64)
    torch.testing.assert_close(joint, table / table.sum(), rtol=1e-15, atol=0)


def test_normalized_counts_sum_to_one():
    found = normalized(torch.tensor([[[1, 3], [0, 4]], [[2, 0], [0, 0]]]))
    expected = [[[0.125, 0.375], [0, 0.5]], [[1, 0], [0, 0]]]
    assert found.tolist() == expected
    assert found.dtype == torch.float64


def test_sampled_counts_follow_the_joint_distribution():
    joint = planted(20, 3, 1.5, stream(0, "planted"))
    counts = sample_counts(joint, 10**6, stream(1, "pairs"))
    assert counts.sum() == 10**6
    assert (counts.dtype, counts.shape) == (torch.float64, joint.shape)
    assert torch.equal(counts, counts.round())
    expected = (joint * 10**6).flatten().numpy()
    assert 0.001 < stats.chisquare(counts.flatten().numpy(), expected).pvalue < 0.999
    sizes = [sample_counts(UNIFORM, 60, DICE).std(correction=0) for _ in range(300)]
    # Draws differ from one another as much as independent ones do.
    assert 0.9 < torch.stack(sizes).square().mean() / (60 * 5 / 36) < 1.1


def test_sampled_counts_are_a_function_of_the_stream():
    generator = stream(0, "pairs")
    first, second = (sample_counts(HALF, 10**6, generator) for _ in range(2))
    assert torch.equal(first, sample_counts(HALF, 10**6, stream(0, "pairs")))
    assert not torch.equal(first, second)


def test_what_is_impossible_is_never_sampled():
    # Rounding in 1 − 0.1 − … − 0.1 must not leave anything for the last outcome.
    joint = torch.tensor([[0.1] * 10 + [0.0]], dtype=torch.float64)
    for seed in range(50):
        counts = sample_counts(joint, 2**53, stream(seed, "pairs"))
        assert counts[0, -1] == 0
        assert counts.sum() == 2**53


def test_word_ids_are_places_in_the_list():
    documents = [["乙", "甲", "丁"], [], ["丙"]]
    assert word_ids(documents, ("甲", "乙", "丙"), 0).tolist() == [1, 0, -1, 2]
    found = word_ids(documents, ("甲", "乙", "丙"), 2).tolist()
    assert found == [1, 0, -1, -1, -1, 2, -1, -1]
    assert word_ids(("甲乙", "丙"), "乙甲", 1).tolist() == [1, 0, -1, -1, -1]


def test_a_window_up_to_the_gap_stays_in_its_document():
    ids = word_ids(["ab", "cd"], "abcd", gap=3)
    near, far = windowed(ids, 4, 3), windowed(ids, 4, 4)
    assert near[:2, 2:].sum() == 0
    assert far[1, 2] == far[2, 1] == 1
    assert near[0, 1] == near[1, 0] == near[2, 3] == 1


@pytest.mark.parametrize("window", [1, 2, 5, 50])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_windowed_counts_as_two_loops_do(window, kind):
    ids = torch.randint(-1, 4, (40,), generator=stream(window, "ids")).to(kind)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for here, centre in enumerate(ids.tolist()):
        for there, context in enumerate(ids.tolist()):
            if 1 <= abs(here - there) <= window and min(centre, context) >= 0:
                expected[centre, context] += 1
    found = windowed(ids, 5, window)
    assert torch.equal(found, expected)
    assert torch.equal(found, found.T)
    assert found.dtype == torch.float64


def test_an_unknown_word_keeps_its_place():
    ids = torch.tensor([0, -1, 1])
    assert windowed(ids, 2, 1).sum() == 0
    assert windowed(ids, 2, 2).tolist() == [[0, 1], [1, 0]]
    assert windowed(torch.tensor([0]), 1, 3).tolist() == [[0]]


def test_marginals_are_those_of_the_first_and_of_the_second():
    rows, columns = marginals(HALF)
    assert (rows.tolist(), columns.tolist()) == ([0.5, 0.5], [0.75, 0.25])
    rows, columns = marginals(torch.stack([UNIFORM, UNIFORM]))
    assert (rows.shape, columns.shape) == ((2, 2), (2, 3))


def test_entropy_in_nats():
    assert abs(entropy(UNIFORM) - math.log(6)) < 1e-15
    assert abs(entropy(HALF) - 1.5 * math.log(2)) < 1e-15
    rows, _ = marginals(HALF)
    assert abs(entropy(rows, axes=1) - math.log(2)) < 1e-15
    certain = torch.tensor([[1.0, 0]], dtype=torch.float64)
    assert entropy(certain) == 0
    both = torch.stack([HALF, HALF.T.flip(0)])
    torch.testing.assert_close(entropy(both), entropy(HALF).expand(2))


NAN, INF = math.nan, math.inf
WRONG = [
    (lambda: planted(1, 2, 1.5, DICE), "size: 1 "),
    (lambda: planted(4.0, 2, 1.5, DICE), "size: 4.0 "),
    (lambda: planted(4, 0, 1.5, DICE), "rank: 0 "),
    (lambda: planted(4, True, 1.5, DICE), "rank: True "),
    (lambda: planted(4, 2, -1, DICE), "spread: -1 "),
    (lambda: planted(4, 2, NAN, DICE), "spread: nan "),
    (lambda: dictionary_pairs(0), "size: 0 "),
    (lambda: dictionary_pairs(2.0), "size: 2.0 "),
    (lambda: normalized(torch.zeros(2, 2)), "counts: 0 … 0, total 0"),
    (lambda: normalized(torch.tensor([[1.0, -1], [0, 9]])), "counts: -1 … 9"),
    (lambda: normalized(torch.tensor([[1.0, NAN]])), "counts: nan"),
    (lambda: normalized(torch.tensor([[1.0, INF]])), "counts: 1 … inf"),
    (lambda: normalized(torch.ones(3)), "counts: torch.float32 of shape (3,)"),
    (lambda: normalized([[1]]), "counts: [[1]]"),
    (lambda: normalized(torch.ones(0, 3)), "shape (0, 3) is no tensor (…, rows, col"),
    (lambda: normalized(torch.ones(2, 3, 0)), "shape (2, 3, 0) is no tensor"),
    (lambda: sample_counts(HALF, 0, DICE), "pairs: 0 "),
    (lambda: sample_counts(HALF, 1e6, DICE), "pairs: 1000000.0 "),
    (lambda: sample_counts(HALF, 2**53 + 1, DICE), "pairs: 9007199254740993 "),
    (lambda: sample_counts(HALF * 2, 5, DICE), "that sum to 2 … 2"),
    (lambda: sample_counts(HALF[None], 5, DICE), "joint: shape (1, 2, 2)"),
    (lambda: word_ids(["ab"], "aba", 0), "words: 'a' is listed twice"),
    (lambda: word_ids([], "ab", 0), "documents: "),
    (lambda: word_ids([[], ""], "ab", 1), "documents: "),
    (lambda: word_ids("ab", "ab", 1), "documents: 'ab' is one text"),
    (lambda: word_ids(["ab"], "ab", -1), "gap: -1 "),
    (lambda: windowed(IDS, 0, 1), "size: 0 "),
    (lambda: windowed(IDS, 2, 0), "window: 0 "),
    (lambda: windowed(IDS, 1, 1), "ids: -1 … 1 are not in -1 … 0"),
    (lambda: windowed(IDS - 1, 2, 1), "ids: -2 … 0 are not in -1 … 1"),
    (lambda: windowed(IDS[:0], 2, 1), "ids: empty"),
    (lambda: windowed(IDS.double(), 2, 1), "ids: torch.float64 of shape (3,)"),
    (lambda: windowed(IDS[None], 2, 1), "ids: torch.int64 of shape (1, 3)"),
    (lambda: windowed([0, 1], 2, 1), "ids: [0, 1]"),
    (lambda: marginals(HALF.float()), "joint: torch.float32 of shape (2, 2)"),
    (lambda: marginals(HALF[0]), "joint: torch.float64 of shape (2,), needs 2 axes"),
    (lambda: marginals(HALF[:0]), "joint: torch.float64 of shape (0, 2), needs 2 axes"),
    (lambda: marginals([[1.0]]), "joint: [[1.0]]"),
    (lambda: marginals(HALF * NAN), "joint: entries nan … nan"),
    (lambda: entropy(1.5 * HALF - UNIFORM[:, :2] * 0.75), "joint: entries -0.125"),
    (lambda: entropy(HALF * (1 + 1e-6)), "that sum to 1.000001 … 1.000001"),
    (lambda: entropy(torch.stack([HALF, HALF / 2])), "that sum to 0.5 … 1"),
    (lambda: entropy(HALF, axes=1), "that sum to 0.5 … 0.5"),
    (lambda: entropy(HALF, axes=0), "axes: 0 "),
]


@pytest.mark.parametrize(("call", "words"), [pytest.param(*r, id=r[1]) for r in WRONG])
def test_a_wrong_call_is_refused_by_name(call, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert words in str(caught.value)
