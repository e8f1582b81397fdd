"""Words as tokens: WoBERT's tokenizer, its vocabulary, and where new vectors start.

A sentence is cut into words first. What the vocabulary knows is one token; the rest is
cut as BERT cuts it, so that no text is lost and nothing is unknown that was known.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from math import inf, log

import torch

from blogcore.checks import check_integer
from blogcore.lexicon import segment
from blogcore.tokens import SPECIALS, BertTokenizer, Vocabulary
from blogcore.tokens import words as separated

Cut = Callable[[str], Sequence[str]]
_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")


def dictionary_cut(text: str) -> list[str]:
    """jieba's words, and nothing that its dictionary does not hold: HMM off.

    The post's ``pre_tokenize``; ``rjieba.cut(text, hmm=False)``, where it is installed,
    gives the same and may be handed to ``WordTokenizer`` instead.
    """
    return segment(text, hmm=False)


class PathCut:
    """Cuts text into the words whose counts have the largest product.

    jieba's rule for a text of ideographs: the path that maximises Σ log(count / total),
    an unknown character counting once, ties to the longer first word. Raises ValueError
    if there is no word, one is empty, or a count is not an integer ≥ 1.
    """

    def __init__(self, counts: Mapping[str, int], total: int | None = None):
        for word, count in counts.items():
            if not word:
                raise ValueError("counts: the empty text is no word")
            check_integer(f"counts[{word!r}]", count, 1)
        if not counts:
            raise ValueError("counts: holds no word")
        self.total = log(sum(counts.values()) if total is None else total)
        self.scores = {word: log(count) - self.total for word, count in counts.items()}
        self.longest = max(map(len, counts))

    def __call__(self, text: str) -> list[str]:
        best, ends = [0.0] * (len(text) + 1), [0] * len(text)
        for first in range(len(text) - 1, -1, -1):
            best[first], ends[first] = max(self._steps(text, first, best))
        found, first = [], 0
        while first < len(text):
            found.append(text[first : ends[first]])
            first = ends[first]
        return found

    def _steps(self, text: str, first: int, best: Sequence[float]):
        """(score of the rest of the text, where the first word ends) of each word."""
        alone = self.scores.get(text[first], -self.total)
        yield alone + best[first + 1], first + 1
        for end in range(first + 2, min(first + self.longest, len(text)) + 1):
            score = self.scores.get(text[first:end], -inf)
            if score > -inf:
                yield score + best[end], end


class WordTokenizer(BertTokenizer):
    """WoBERT's tokenizer: words that the vocabulary knows, the rest as BERT cuts it.

    ``cut`` takes a text without capitals and accents and returns its words in order;
    joined they must be that text, or ValueError says where they differ. A special
    token in the text stays whole. Between two kept words everything goes to BERT at
    once, so that a foreign word is not torn where the cutter tears it. Source: Su
    (2020), «Tokenizer».
    """

    def __init__(self, vocabulary: Vocabulary, cut: Cut = dictionary_cut):
        super().__init__(vocabulary)
        self.cut = cut

    def tokenize(self, text: str) -> list[str]:
        """The words and pieces of a text, without [CLS] and [SEP]."""
        found = []
        for kept, run in groupby(self.segments(text), self._is_kept):
            parts = list(run)
            found += parts if kept else super().tokenize("".join(parts))
        return found

    def segments(self, text: str) -> list[str]:
        """What the cutter makes of a text, the special tokens in it left whole."""
        if not isinstance(text, str):
            raise TypeError(f"text: {text!r} is not a text")
        found = []
        for part in _SPECIAL.split(text):
            part = part if part in SPECIALS else _plain(part)
            cut = [part] if part in SPECIALS else list(self.cut(part))
            _check_nothing_lost(part, cut)
            found += filter(None, cut)
        return found

    def _is_kept(self, segment: str) -> bool:
        # A single character is BERT's: where it stands in a word, it is a “##” piece.
        return len(segment) > 1 and segment in self.vocabulary


def word_vocabulary(base: Vocabulary, frequent: Iterable[str], size: int) -> Vocabulary:
    """What BERT's cut can reach of ``base``, then the first ``size`` words not in it.

    ``frequent`` names words by falling count, say ``lexicon.dictionary().words``. Of
    the 21,128 tokens of the Chinese BERT the published vocabulary drops 7,542: the
    7,322 pieces “##” + ideograph, which no text ever yields since BERT puts spaces
    around every ideograph, 119 pieces “##” + punctuation, and about a hundred unused
    places. Raises ValueError if there are fewer words.
    """
    check_integer("size", size, 0)
    kept = [token for token in base.tokens if _is_reachable(token)]
    known, added = set(kept), []
    for word in frequent:
        if len(added) == size:
            break
        if word not in known:
            known.add(word)
            added.append(word)
    if len(added) < size:
        raise ValueError(f"size: {size} exceeds {len(added)}, the number of new words")
    return Vocabulary([*kept, *added])


def averaging(vocabulary: Vocabulary, base: Vocabulary) -> torch.Tensor:
    """A, sparse (new tokens, old tokens): new rows as means of old ones, E' = A E.

    A token of ``base`` is its own row; another has 1/k at each of the k pieces into
    which BERT cuts it ([UNK] among them, if a character is unknown). Rows sum to 1.
    Source: Su (2020), and ``load_embeddings`` of bert4keras.
    """
    old = BertTokenizer(base)
    rows, columns, values = [], [], []
    for row, token in enumerate(vocabulary.tokens):
        pieces = [token] if token in base else old.tokenize(token)
        if not pieces:
            raise ValueError(f"vocabulary: nothing is left of {token!r} when BERT cuts")
        rows += [row] * len(pieces)
        columns += [base.ids[piece] for piece in pieces]
        values += [1 / len(pieces)] * len(pieces)
    shape = (len(vocabulary), len(base))
    places = torch.tensor([rows, columns])
    values = torch.tensor(values, dtype=torch.float64)
    return torch.sparse_coo_tensor(
        places, values, shape, check_invariants=True
    ).coalesce()


def _plain(text: str) -> str:
    """Without capitals and accents."""
    apart = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in apart if unicodedata.category(c) != "Mn")


def _is_reachable(token: str) -> bool:
    """Can BERT's cut yield it? A “##” piece follows a letter in the same word."""
    inner = token.startswith("##") and len(token) > 2
    word = "a" + token[2:] if inner else token
    return token in SPECIALS or separated(word) == [word]


def _check_nothing_lost(text: str, cut: Sequence[str]) -> None:
    joined = "".join(cut)
    if joined != text:
        pairs = enumerate(zip(joined, text, strict=False))
        ends = min(len(joined), len(text))
        place = next((i for i, (a, b) in pairs if a != b), ends)
        raise ValueError(
            f"cut: its words are not the text; from character {place} on they say "
            f"{joined[place : place + 10]!r}, the text {text[place : place + 10]!r}"
        )
