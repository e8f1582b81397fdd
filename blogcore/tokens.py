"""Text to numbers and back: vocabularies, and BERT's way of cutting text into pieces.

A character tokenizer is the same thing with a vocabulary of characters.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from blogcore.checks import check_integer

PAD, UNK, CLS, SEP, MASK = SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 100
TEXTS = (torch.int64, torch.bool, torch.int64)  # ids, valid, segments
IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True, eq=False)
class Texts:
    """N texts as a model reads them: ``model(texts.ids, texts.valid, texts.segments)``.

    ``ids`` (N, T) int64; ``valid`` (N, T) bool is False at padding; ``segments`` (N, T)
    int64 says which sentence of a pair a token is in, or is None where all are in the
    first. ``len(texts)`` is N; ``texts[rows]`` are those texts, for rows a slice, a
    list, or a tensor. Raises TypeError or ValueError for tensors that do not fit.
    """

    ids: torch.Tensor
    valid: torch.Tensor
    segments: torch.Tensor | None = None

    def __post_init__(self):
        for name, kind in zip(("ids", "valid", "segments"), TEXTS, strict=True):
            found = getattr(self, name)
            if found is None and name == "segments":
                continue
            if not isinstance(found, torch.Tensor) or found.dtype != kind:
                raise TypeError(f"{name}: {found!r} is no tensor of {kind}")
            if found.shape != self.ids.shape or found.ndim < 2:
                shapes = f"{tuple(found.shape)} is not (N, T), {tuple(self.ids.shape)}"
                raise ValueError(f"{name}: shape {shapes} as ids")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows) -> "Texts":
        if isinstance(rows, int):
            raise TypeError(f"rows: {rows} is one text; [{rows}] is a list of one")
        return self._each(lambda tensor: tensor[rows])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.ids.device

    def to(self, device: torch.device) -> "Texts":
        """The same texts on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def trimmed(self) -> "Texts":
        """The same texts without the last places, where all of them are padding."""
        used = self.valid.flatten(0, -2).any(0).nonzero()
        last = used.max().item() + 1 if len(used) else 1
        return self._each(lambda tensor: tensor[..., :last])

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Texts":
        tensors = (self.ids, self.valid, self.segments)
        return Texts(*(None if t is None else change(t) for t in tensors))


class Vocabulary:
    """Tokens in an order; a token's place is its id.

    Raises ValueError, naming them, for tokens that occur twice, are empty, hold a line
    break, or are missing: the five specials must be there.
    """

    def __init__(self, tokens: Iterable[str]):
        self.tokens = tuple(tokens)
        for place, token in enumerate(self.tokens):
            if not isinstance(token, str) or not token or set(token) & {"\n", "\r"}:
                raise ValueError(f"tokens: {token!r} at {place} is no line of text")
        self.ids = {token: place for place, token in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = [t for t, count in Counter(self.tokens).items() if count > 1]
            raise ValueError(f"tokens: {twice[:5]} occur more than once")
        missing = [special for special in SPECIALS if special not in self.ids]
        if missing:
            raise ValueError(f"tokens: {missing} are missing among {len(self)} tokens")

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self.ids

    @property
    def specials(self) -> list[int]:
        """The ids of [PAD], [UNK], [CLS], [SEP], [MASK], in this order."""
        return [self.ids[special] for special in SPECIALS]


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a ``vocab.txt``: UTF-8, one token a line.

    A byte order mark, which some editors write first, is no part of it. Raises
    ValueError, naming the file, if it is not UTF-8 or no vocabulary.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return Vocabulary(text.removesuffix("\n").split("\n"))
    except ValueError as error:
        raise ValueError(f"path: {path} is no vocabulary ({error})") from error


def character_vocabulary(texts: Iterable[str], least: int = 1) -> Vocabulary:
    """The specials, then every character seen ``least`` times, frequent ones first.

    A character inside a word, after another, counts as a token of its own, “##c”.
    """
    check_integer("least", least, 1)
    cut = Counter(word for text in texts for word in words(text))
    counts: Counter[str] = Counter()
    for word, times in cut.items():
        if word not in SPECIALS:
            for place, character in enumerate(word):
                counts["##" + character if place else character] += times
    seen = [token for token, count in counts.items() if count >= least]
    if not seen:
        raise ValueError(f"texts: no character occurs {least} times")
    return Vocabulary([*SPECIALS, *sorted(seen, key=lambda t: (-counts[t], t))])


def words(text: str, lowercase: bool = True) -> list[str]:
    """BERT's first cut: at white space, around ideographs, punctuation and specials.

    Control characters vanish; with ``lowercase``, capitals and accents do too. Source:
    ``BasicTokenizer`` of google-research/bert, as Hugging Face's BertTokenizer has it
    (which keeps unassigned code points, and drops those for private use).
    """
    if not isinstance(text, str):
        raise TypeError(f"text: {text!r} is not a text")
    found = []
    for place, part in enumerate(_SPECIAL.split(text)):
        if place % 2:
            found.append(part)
            continue
        clean = part.translate(_CLEAN)
        if lowercase:
            clean = unicodedata.normalize("NFD", clean).translate(_PLAIN)
        found += clean.translate(_APART).split()
    return found


def pieces(word: str, vocabulary: Vocabulary) -> list[str]:
    """BERT's second cut: the longest known beginning, again and again.

    Pieces inside the word begin with “##”. A word of more than 100 characters, or with
    a rest that nothing fits, is one [UNK]. Source: ``WordpieceTokenizer`` of
    google-research/bert.
    """
    if len(word) > LONGEST_WORD:
        return [UNK]
    found, first = [], 0
    while first < len(word):
        prefix = "##" if first else ""
        for last in range(len(word), first, -1):
            if prefix + word[first:last] in vocabulary:
                break
        else:
            return [UNK]
        found.append(prefix + word[first:last])
        first = last
    return found


class BertTokenizer:
    """BERT's tokenizer: words, then pieces, between [CLS] and [SEP].

    Equal to Hugging Face's on everything that both Unicode tables know alike.
    """

    def __init__(self, vocabulary: Vocabulary, lowercase: bool = True):
        self.vocabulary, self.lowercase = vocabulary, lowercase
        self._known = {special: [special] for special in SPECIALS}

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text, without [CLS] and [SEP]."""
        found = []
        for word in words(text, self.lowercase):
            if word not in self._known:
                self._known[word] = pieces(word, self.vocabulary)
            found += self._known[word]
        return found

    def encode(
        self, first: str, second: str | None = None, *, length: int | None = None
    ) -> list[int]:
        """Ids of [CLS] first [SEP], or of [CLS] first [SEP] second [SEP].

        What is too long for ``length`` ids loses its end; of a pair the longer one, and
        then both, until they share the room by halves.
        """
        return self._joined(first, second, length)[0]

    def batch(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        length: int | None = None,
    ) -> Texts:
        """The texts, or pairs of them, encoded: padded to the longest of them, (N, T).

        A pair's second text and the [SEP] after it are of segment 1.
        """
        pairs = _paired(first, second)
        rows, starts = zip(
            *(self._joined(*pair, length) for pair in pairs), strict=True
        )
        ids = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row) for row in rows], True, self.vocabulary.ids[PAD]
        )
        sizes = torch.tensor([len(row) for row in rows])[:, None]
        place = torch.arange(ids.shape[1])
        valid = place < sizes
        if second is None:
            return Texts(ids, valid)
        return Texts(
            ids, valid, (valid & (place >= torch.tensor(starts)[:, None])).long()
        )

    def _joined(self, first, second, length) -> tuple[list[int], int]:
        """The ids of a text or a pair, and where the second begins."""
        texts = (first,) if second is None else (first, second)
        parts = [self.tokenize(text) for text in texts]
        if length is not None:
            check_integer("length", length, 1 + len(parts))
            _shorten(parts, length - 1 - len(parts))
        tokens = [CLS]
        for part in parts:
            start = len(tokens)
            tokens += [*part, SEP]
        return [self.vocabulary.ids[token] for token in tokens], start

    def decode(self, ids: Sequence[int] | torch.Tensor) -> str:
        """A text to read: pieces joined, spaces between words, none around ideographs.

        [PAD], [CLS] and [SEP] are left out. What cutting lost stays lost. Raises
        ValueError for what is no list of ids of the vocabulary.
        """
        text = ""
        for place in ids.tolist() if isinstance(ids, torch.Tensor) else ids:
            check_integer("ids", place, 0)
            if place >= len(self.vocabulary):
                last = len(self.vocabulary) - 1
                raise ValueError(f"ids: {place} is not in 0 … {last}")
            token = self.vocabulary.tokens[place]
            if token in (PAD, CLS, SEP):
                continue
            inner = token.startswith("##") and len(token) > 2
            wide = text and max(text[-1], token[0]) >= "\u2e80"
            closes = len(token) == 1 and _is_punctuation(token)
            text += "" if inner or wide or closes or not text else " "
            text += token[2:] if inner else token
        return text


def _paired(first, second) -> list[tuple[str, str | None]]:
    for name, texts in (
        ("first", first),
        ("second", [""] if second is None else second),
    ):
        if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
            raise ValueError(f"{name}: {texts!r} is not a list of at least one text")
    if second is not None and len(first) != len(second):
        raise ValueError(f"second: {len(second)} texts for {len(first)} first ones")
    return list(zip(first, second or [None] * len(first), strict=True))


def _shorten(parts: list[list[str]], room: int) -> None:
    """Cut a part or two at their ends: the shorter keeps at most half of the room.

    An odd place goes to the longer, or to the second of two that are equally long.
    """
    if sum(map(len, parts)) > room:
        *shorter, longer = sorted(parts, key=len)
        for part in shorter:
            del part[room // 2 :]
        del longer[room - sum(map(len, shorter)) :]


class _Table(dict):
    """What ``str.translate`` makes of a character, found when it first occurs."""

    def __init__(self, rule: Callable[[str], str]):
        super().__init__()
        self.rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = self.rule(chr(code))
        return self[code]


def _is_punctuation(character: str) -> bool:
    ascii_sign = "!" <= character <= "~" and not character.isalnum()
    return ascii_sign or unicodedata.category(character)[0] == "P"


def _clean(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if character == "\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
        return ""
    if any(first <= ord(character) <= last for first, last in IDEOGRAPHS):
        return f" {character} "
    return character


def _plain(character: str) -> str:
    return "" if unicodedata.category(character) == "Mn" else character.lower()


def _apart(character: str) -> str:
    return f" {character} " if _is_punctuation(character) else character


_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")
_CLEAN, _PLAIN, _APART = _Table(_clean), _Table(_plain), _Table(_apart)
