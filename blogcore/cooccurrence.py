"""Which words stand together: joint distributions, counts of pairs.

A joint distribution is a dense float64 tensor (rows, columns) that sums to 1.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from blogcore import lexicon
from blogcore.checks import check_integer, check_number

SUM_TOLERANCE = 1e-9


class CharacterPairs(NamedTuple):
    """Characters by falling frequency, and the joint distribution of first, second."""

    characters: tuple[str, ...]
    joint: torch.Tensor


def planted(
    size: int, rank: int, spread: float, generator: torch.Generator
) -> torch.Tensor:
    """A joint distribution (size, size) whose logits have a known rank.

    p(i, j) ∝ exp(c xᵢ·yⱼ) / ((i + 1)(j + 1)) with directions xᵢ, yⱼ uniform on the unit
    sphere of ``rank`` dimensions; c > 0 makes the standard deviation of c xᵢ·yⱼ over
    all pairs equal ``spread``. Hence ln p, and the pointwise mutual information too,
    has rank ``rank`` (at most size − 1) up to a constant for each row and each column.
    Raises ValueError for a size below 2, or if in rank 1 all directions drawn agree.
    """
    check_integer("size", size, 2)
    check_integer("rank", rank, 1)
    check_number("spread", spread, 0)
    normal = torch.randn(2, size, rank, generator=generator, dtype=torch.float64)
    x, y = normal / normal.norm(dim=-1, keepdim=True)
    logits = x @ y.T
    deviation = logits.std(correction=0)
    if deviation == 0:
        raise ValueError(f"rank: with {rank!r}, all {size} directions drawn agree")
    zipf = -torch.arange(1, size + 1, dtype=torch.float64).log()
    scores = logits * (spread / deviation) + zipf[:, None] + zipf
    return scores.flatten().softmax(0).view(size, size)


def dictionary_pairs(size: int) -> CharacterPairs:
    """How likely a character follows another inside a word of jieba's dictionary.

    Every adjacent pair in a word counts as often as the word occurs; words counted
    fewer than four times are left out. The characters are the ``size`` most frequent as
    members of a pair (ties by code point): of 5,705 characters with 134,737 distinct
    pairs and 38,656,235 occurrences, 80 % of which lie within the first thousand.
    Raises ValueError if there are not so many.
    """
    check_integer("size", size, 1)
    characters, firsts, seconds, counts = _pairs_in_words()
    if size > len(characters):
        raise ValueError(f"size: {size!r} exceeds {len(characters)}, all characters")
    kept = (firsts < size) & (seconds < size)
    table = _tally(firsts[kept] * size + seconds[kept], size, counts[kept])
    return CharacterPairs(characters[:size], normalized(table))


def normalized(counts: torch.Tensor) -> torch.Tensor:
    """The joint distribution counts / Σ counts (…, rows, columns), in float64.

    Raises ValueError for negative or non-finite counts, or if there are none.
    """
    tensor = isinstance(counts, torch.Tensor)
    if not tensor or counts.ndim < 2 or not counts.numel():
        raise ValueError(
            f"counts: {_described(counts)} is no tensor (…, rows, columns) with entries"
        )
    counts = counts.double()
    total = counts.sum((-2, -1), keepdim=True)
    if not (counts.isfinite().all() and (counts >= 0).all() and (total > 0).all()):
        raise ValueError(
            f"counts: {counts.min():g} … {counts.max():g}, total {total.min():g}; "
            "need finite counts ≥ 0 with a total above 0"
        )
    return counts / total


def sample_counts(
    joint: torch.Tensor, pairs: int, generator: torch.Generator
) -> torch.Tensor:
    """How often each pair occurs among ``pairs`` independent draws: (rows, columns).

    One multinomial draw, float64; what has probability 0 never occurs.
    Raises ValueError for what is no joint distribution, and for a number of pairs
    outside 1 … 2⁵³, the last that float64 can count.
    """
    _check_distribution("joint", joint, 2)
    check_integer("pairs", pairs, 1)
    if pairs > 2**53:
        raise ValueError(f"pairs: {pairs!r} exceeds 2**53")
    if joint.ndim != 2:
        raise ValueError(f"joint: shape {tuple(joint.shape)} is not (rows, columns)")
    seed = int(torch.randint(2**62, (), generator=generator))
    flat = joint.detach().cpu().flatten().numpy()
    # numpy gives the last outcome whatever rounding leaves over. In rising order that
    # is the most probable one, never an impossible one.
    order = flat.argsort(kind="stable")
    drawn = np.random.default_rng(seed).multinomial(pairs, flat[order] / flat.sum())
    counts = np.empty_like(flat)
    counts[order] = drawn
    return torch.from_numpy(counts).view(joint.shape).to(joint.device)


def word_ids(
    documents: Iterable[Sequence[str]], words: Sequence[str], gap: int
) -> torch.Tensor:
    """The place in ``words`` of each word of the documents, −1 for all others: (n,).

    After each document come ``gap`` times −1; a window up to ``gap`` sees one document.
    A text is a document of characters. Raises ValueError if a word is listed twice or
    if the documents hold nothing, TypeError for one text instead of several.
    """
    check_integer("gap", gap, 0)
    if isinstance(documents, str):
        raise TypeError(f"documents: {documents!r} is one text, not several")
    places = {word: place for place, word in enumerate(words)}
    if len(places) < len(words):
        twice = next(word for place, word in enumerate(words) if places[word] != place)
        raise ValueError(f"words: {twice!r} is listed twice")
    found = []
    for document in documents:
        if document:
            found += [places.get(word, -1) for word in document] + [-1] * gap
    if not found:
        raise ValueError("documents: there is no word in them")
    return torch.tensor(found)


def windowed(ids: torch.Tensor, size: int, window: int) -> torch.Tensor:
    """How often j stands within ``window`` places of i: (size, size) float64.

    Every ordered pair (centre, context) at a distance of 1 … ``window`` in the sequence
    ids (n,) counts 1, so the table is symmetric. An id of −1 is a word out of the
    vocabulary: it keeps its place, but is neither centre nor context.
    Raises ValueError for an id outside −1 … size − 1, or an empty sequence.
    """
    check_integer("size", size, 1)
    check_integer("window", window, 1)
    _check_ids(ids, size)
    sequence = ids.detach().cpu().long().numpy()
    table = torch.zeros(size, size, dtype=torch.float64)
    for distance in range(1, min(window, len(sequence) - 1) + 1):
        left, right = sequence[:-distance], sequence[distance:]
        known = (left >= 0) & (right >= 0)
        table += _tally(left[known] * size + right[known], size)
    return table + table.T


def marginals(joint: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The distributions of the first and of the second: (…, rows), (…, columns)."""
    _check_distribution("joint", joint, 2)
    return joint.sum(-1), joint.sum(-2)


def entropy(joint: torch.Tensor, axes: int = 2) -> torch.Tensor:
    """H = −Σ p ln p over the last ``axes`` axes, in nats; 0 ln 0 = 0.

    With axes=1 for a marginal. Leading axes are a batch. Raises ValueError for what is
    no distribution over these axes.
    """
    check_integer("axes", axes, 1)
    _check_distribution("joint", joint, axes)
    return torch.special.entr(joint).sum(tuple(range(-axes, 0)))


@lru_cache(maxsize=1)
def _pairs_in_words() -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Characters by falling frequency; of each adjacent pair two places, a count."""
    words, counts, _ = lexicon.dictionary()
    codes = np.frombuffer("".join(words).encode("utf-32-le"), "<u4")
    owner = np.repeat(np.arange(len(words)), [len(word) for word in words])
    inside = owner[:-1] == owner[1:]
    weights = counts.numpy()[owner[:-1][inside]]
    both = np.stack([codes[:-1][inside], codes[1:][inside]])
    found, places = np.unique(both, return_inverse=True)
    places = places.reshape(both.shape)
    order = np.argsort(-np.bincount(places.ravel(), np.tile(weights, 2)), kind="stable")
    rank = np.argsort(order)
    return tuple(map(chr, found[order])), rank[places[0]], rank[places[1]], weights


def _tally(cells: np.ndarray, size: int, weights=None) -> torch.Tensor:
    table = np.bincount(cells, weights, minlength=size * size).astype(np.float64)
    return torch.from_numpy(table).view(size, size)


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return repr(value)


def _check_distribution(name: str, value: object, axes: int) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
        raise TypeError(f"{name}: {_described(value)} is no float64 tensor")
    if value.ndim < axes or not value.numel():
        raise ValueError(f"{name}: {_described(value)}, needs {axes} axes with entries")
    total = value.sum(tuple(range(-axes, 0)))
    # NaN fails every comparison, and ∞ the sum.
    if not ((value >= 0).all() and ((total - 1).abs() <= SUM_TOLERANCE).all()):
        raise ValueError(
            f"{name}: entries {value.min():g} … {value.max():g} that sum to "
            f"{total.min():.12g} … {total.max():.12g}; need entries ≥ 0 that sum to 1"
        )


def _check_ids(ids: object, size: int) -> None:
    integers = isinstance(ids, torch.Tensor) and ids.dtype in (torch.int32, torch.int64)
    if not integers or ids.ndim != 1:
        raise ValueError(f"ids: {_described(ids)} is no tensor of integers (n,)")
    if not len(ids):
        raise ValueError("ids: empty, needs at least one")
    if not -1 <= ids.min() <= ids.max() < size:
        raise ValueError(f"ids: {ids.min()} … {ids.max()} are not in -1 … {size - 1}")
