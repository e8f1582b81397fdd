"""What jieba brings: words with counts and tags, an embedding, a cutter.

They are read from the files of the installed package, whose sha256 is checked: nothing
is downloaded, and jieba itself is imported by ``segment`` alone.
"""

import hashlib
import re
import struct
import warnings
from collections import Counter
from functools import lru_cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from blogcore.checks import check_integer

VERSION = "0.42.1"
SHA256 = {
    "dict.txt": "7197c3211ddd98962b036cdf40324d1ea2bfaa12bd028e68faa70111a88e12a8",
    "lac_small/word.dic": (
        "0d21d1e11490c1f74b3dbb5d291213593dcf443dad742027551972f7ef0d9f25"
    ),
    "lac_small/model_baseline/word_emb": (
        "3b65cdc2d4ebd78f03bbfe8747162c1e63f5b1c821d08f0ec695248c40f8be38"
    ),
}
INITIAL_BOUND = 0.1
FLOAT32 = 5


class Dictionary(NamedTuple):
    """Words, how often each occurs (words,) int64, and the part of speech of each."""

    words: tuple[str, ...]
    counts: torch.Tensor
    tags: tuple[str, ...]


class TaggedWords(NamedTuple):
    """Words, and the class of each, which is its part of speech: labels (N,)."""

    words: list[str]
    labels: torch.Tensor
    classes: tuple[str, ...]


class CharacterVectors(NamedTuple):
    """Characters and their trained vectors (words, dimensions) float32."""

    words: tuple[str, ...]
    vectors: torch.Tensor


def dictionary(least: int = 4) -> Dictionary:
    """The words of jieba's dictionary that occur at least ``least`` times.

    They come by falling count, ties in the file's order. Counts 2 and 3 are
    placeholders (40,502 and 159,317 words), no word has fewer, and what remains from 4
    on are 149,226 words with 59,543,009 occurrences; ``least=1`` gives all 349,045.
    (The file has one line more: it says B超 twice.) Not every large count is right: 的
    has 318,825, behind eight other words, but occurs in the most documents.
    Raises ValueError if no word occurs that often, RuntimeError for another jieba.
    """
    check_integer("least", least, 1)
    words, counts, tags = _dictionary()
    kept = int((counts >= least).sum())
    if not kept:
        raise ValueError(f"least: {least!r} exceeds {counts[0]}, the largest count")
    return Dictionary(words[:kept], torch.tensor(counts[:kept]), tags[:kept])


def tagged_words(
    classes: int = 12, shortest: int = 2, longest: int | None = 4
) -> TaggedWords:
    """jieba's entries of so many ideographs that have one of the most frequent tags.

    With the defaults 317,685 words, by falling count; with ``tagged_words(8, 4, None)``
    85,323 phrases. Classes come in falling order of their size. Raises ValueError if
    there are fewer tags, RuntimeError for another jieba.
    """
    check_integer("classes", classes, 2)
    check_integer("shortest", shortest, 1)
    if longest is not None:
        check_integer("longest", longest, shortest)
    fits = re.compile(f"[\u4e00-\u9fff]{{{shortest},{longest or ''}}}").fullmatch
    words, _, tags = dictionary(least=1)  # placeholder counts do not matter here
    rows = [row for row in zip(words, tags, strict=True) if fits(row[0])]
    sizes = Counter(tag for _, tag in rows)
    if len(sizes) < classes:
        raise ValueError(f"classes: {classes} exceed {len(sizes)}, the number of tags")
    place = {tag: label for label, (tag, _) in enumerate(sizes.most_common(classes))}
    rows = [(word, place[tag]) for word, tag in rows if tag in place]
    labels = torch.tensor([label for _, label in rows])
    return TaggedWords([word for word, _ in rows], labels, tuple(place))


def embedding() -> CharacterVectors:
    """The trained character embedding of jieba's tagger: 16,033 × 128.

    The file holds 20,941 rows. Row 20,939 has no character; five stand for unknown
    input; 4,907 (among them row 20,939 and four of the five) were never trained: all
    their entries still lie in the ±0.1 of their uniform initialisation, where no
    trained row stays. All these are left out; what remains is in the file's order.
    Raises RuntimeError for another jieba.
    Source: ``lac_small/nets.py`` in jieba; Jiao et al. (2018), Chinese lexical analysis
    with a deep bi-GRU-CRF network.
    """
    words, vectors = _embedding()
    return CharacterVectors(words, torch.tensor(vectors))


def segment(text: str, hmm: bool = True) -> list[str]:
    """Cut Chinese text into words, as ``jieba.cut`` does: joined they are the text.

    The most probable path through the dictionary, unknown words by a hidden Markov
    model, or character by character without ``hmm``. The cutter is private: it knows
    nothing of words that others add, says nothing, and writes no cache into the shared
    temporary folder.
    Raises TypeError for what is no text, RuntimeError for another jieba.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: {text!r} is not a text")
    return list(_cutter().cut(text, HMM=hmm))


@lru_cache(maxsize=1)
def _dictionary() -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    fields = " ".join(dict.fromkeys(_lines("dict.txt"))).split(" ")
    words, counts, tags = fields[::3], np.array(fields[1::3], np.int64), fields[2::3]
    order = np.argsort(-counts, kind="stable")
    return _at(order, words), counts[order], _at(order, tags)


def _at(order: np.ndarray, texts: list[str]) -> tuple[str, ...]:
    return tuple([texts[place] for place in order.tolist()])


@lru_cache(maxsize=1)
def _embedding() -> tuple[tuple[str, ...], np.ndarray]:
    table = _paddle_tensor(_content("lac_small/model_baseline/word_emb"))
    trained = np.abs(table).max(axis=1) > INITIAL_BOUND
    rows, words = [], []
    for line in _lines("lac_small/word.dic"):
        row, word = line.split("\t")
        # The entries for unknown input have names: OOV, OOV_NUM, …
        if len(word) == 1 and trained[int(row)]:
            rows.append(int(row))
            words.append(word)
    return tuple(words), table[rows]


@lru_cache(maxsize=1)
def _cutter():
    # Only who needs it pays for the import. Where it is compiled afresh, its source
    # warns of invalid escapes, which no reader of the book can mend.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba

    if jieba.__version__ != VERSION:
        raise RuntimeError(f"jieba: {jieba.__version__} is not {VERSION}")
    _content("dict.txt")
    cutter = jieba.Tokenizer()
    # What initialize() would do, less its cache file and its messages.
    with open(_folder() / "dict.txt", "rb") as file:
        cutter.FREQ, cutter.total = cutter.gen_pfdict(file)
    cutter.initialized = True
    return cutter


def _folder() -> Path:
    """Where jieba lies, found without importing it."""
    found = find_spec("jieba")
    if found is None:
        raise RuntimeError(f"jieba: not installed, needs jieba {VERSION}")
    return Path(found.submodule_search_locations[0])


def _content(name: str) -> bytes:
    content = (_folder() / name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise RuntimeError(
            f"{name}: sha256 {found} is not {SHA256[name]} (jieba {VERSION}'s copy)"
        )
    return content


def _text(name: str) -> str:
    return _content(name).decode("utf-8")


def _lines(name: str) -> list[str]:
    return _text(name).removesuffix("\n").split("\n")


def _paddle_tensor(content: bytes) -> np.ndarray:
    """The float32 array in a file of PaddlePaddle 1.x.

    Version 0 (uint32), levels of detail 0 (uint64), version 0 (uint32), size of the
    description (int32), the description (a protocol buffer: field 1 the type, field 2
    an extent each), the values; all little-endian. Raises ValueError for another file.
    Source: PaddlePaddle 1.8, ``SerializeToStream`` in ``lod_tensor.cc``.
    """
    start = struct.calcsize("<IQIi")
    if len(content) < start:
        raise ValueError(f"content: {len(content)} bytes are less than a header")
    *zeros, size = struct.unpack_from("<IQIi", content)
    fields, values = _varints(content[start : start + size]), content[start + size :]
    kinds, numbers = fields[::2], fields[1::2]
    # A varint field's key is its number × 8.
    if any(zeros) or kinds != [8] + [16] * (len(kinds) - 1) or numbers[:1] != [FLOAT32]:
        raise ValueError(f"content: {content[:32].hex()} … is no header of float32")
    if len(values) != 4 * prod(numbers[1:]):
        raise ValueError(f"content: {len(values)} bytes do not fill {numbers[1:]}")
    return np.frombuffer(values, "<f4").reshape(numbers[1:])


def _varints(content: bytes) -> list[int]:
    """The integers of base 128, lowest digit first; all but its last have bit 7 set."""
    numbers, value, shift = [], 0, 0
    for byte in content:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(value)
            value, shift = 0, 0
    return numbers
