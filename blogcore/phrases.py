"""Short real texts with their kind, cut into characters and into words.

jieba's dictionary holds names, idioms and compounds of four characters and more, each
with its part of speech: labelled Chinese texts that come with the package.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from blogcore.lexicon import dictionary, embedding
from blogcore.runtime import stream
from blogcore.tokens import SPECIALS, Vocabulary
from blogcore.words import PathCut, averaging

ARMS = {
    "characters from nothing": "characters",
    "words from nothing": "words",
    "characters trained": "characters",
    "words = mean": "words",
    "words random": "words",
    "words small": "words",
    "words shuffled": "words",
}
SMALL = 0.03  # what suits tables that start from nothing, of the trained ones' spread
PHRASE = re.compile("[\u4e00-\u9fff]{4,}")
LONGEST = 3  # so that no phrase is a token of its own


class Phrases(NamedTuple):
    """Texts (N,), labels (N,), and ids padded by −1: characters, words (N, L).

    ``base`` is the vocabulary of characters, ``vocabulary`` that with words behind.
    """

    texts: list[str]
    labels: torch.Tensor
    classes: tuple[str, ...]
    characters: torch.Tensor
    words: torch.Tensor
    base: Vocabulary
    vocabulary: Vocabulary


def phrases(size: int = 20_000, classes: int = 8) -> Phrases:
    """jieba's entries of four or more known ideographs with a frequent tag.

    85,237 of them with eight classes. Words are the ``size`` most frequent ones of two
    or three characters; a phrase is cut by the most probable path through them. Raises
    ValueError if there are fewer words.
    """
    words, counts, tags = dictionary(least=1)
    base = Vocabulary([*SPECIALS, *embedding().words])
    known = set(base.tokens)
    short = [w for w in words if 2 <= len(w) <= LONGEST and known.issuperset(w)]
    if not 0 <= size <= len(short):
        raise ValueError(f"size: {size} is not in 0 … {len(short)}")
    vocabulary = Vocabulary([*base.tokens, *short[:size]])
    table = zip(words, counts.tolist(), strict=True)
    cut = PathCut({word: count for word, count in table if word in vocabulary})
    texts, labels, kinds = _labelled(words, tags, known, classes)
    characters = padded([[base.ids[c] for c in text] for text in texts])
    pieces = padded([[vocabulary.ids[w] for w in cut(text)] for text in texts])
    return Phrases(texts, labels, kinds, characters, pieces, base, vocabulary)


def starts(data: Phrases, seed: int) -> dict[str, torch.Tensor]:
    """Where the tables of ``ARMS`` start: (tokens, 128) each.

    «From nothing» is normal, SMALL of the trained vectors' spread. The others have
    jieba's trained characters; their words are the means of these, normal with the
    trained spread or SMALL of it, or the means dealt to the wrong words.
    """
    letters, source = embedding().vectors, stream(seed, "tables")
    spread, width = float(letters.std()), letters.shape[1]
    old, new = len(data.base), len(data.vocabulary) - len(data.base)
    trained = torch.cat([torch.zeros(len(SPECIALS), width), letters])
    means = averaging(data.vocabulary, data.base).float() @ trained
    random = spread * torch.randn(len(data.vocabulary), width, generator=source)
    dealt = means[old:][torch.randperm(new, generator=source)]
    return {
        "characters from nothing": SMALL * random[:old],
        "words from nothing": SMALL * random,
        "characters trained": trained,
        "words = mean": means,
        "words random": torch.cat([trained, random[old:]]),
        "words small": torch.cat([trained, SMALL * random[old:]]),
        "words shuffled": torch.cat([trained, dealt]),
    }


def owners(data: Phrases) -> torch.Tensor:
    """The token of words that covers each character: (N, L) as ``characters`` is."""
    sizes = [1] * len(data.base) + [
        len(w) for w in data.vocabulary.tokens[len(data.base) :]
    ]
    tokens = data.words[data.words >= 0]
    covering = data.characters.clone()
    there = covering >= 0
    covering[there] = tokens.repeat_interleave(torch.tensor(sizes)[tokens])
    return covering


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Lists of ids as one tensor (N, longest), −1 where a list has ended.

    Raises ValueError if there is no list, or an empty one.
    """
    if not len(rows) or not all(len(row) for row in rows):
        raise ValueError(f"rows: {len(rows)} lists, one of them empty or none at all")
    return nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], True, -1)


def _labelled(words, tags, known: set[str], classes: int):
    rows = [
        (word, tag)
        for word, tag in zip(words, tags, strict=True)
        if PHRASE.fullmatch(word) and known.issuperset(word)
    ]
    kinds = [tag for tag, _ in Counter(tag for _, tag in rows).most_common(classes)]
    rows = [row for row in rows if row[1] in kinds]
    labels = torch.tensor([kinds.index(tag) for _, tag in rows])
    return [word for word, _ in rows], labels, tuple(kinds)
